//! Arguments that do not match a tool's schema: an error that the model can read and correct
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#error-handling>).

use crate::mcp::{
    error::ErrorKind,
    methods::tools::{explain, write_call_result},
    outcome::Call,
};
use crate::{
    call::Reply,
    http1::Status,
    json::Node,
    registry::Snapshot,
    schema::{Validation, Validator},
};

/// Why arguments are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidArguments {
    /// The arguments violate the schema.
    Violations,
    /// Validation would take more work than the limit allows.
    BudgetExceeded,
}

impl InvalidArguments {
    /// The kind of the error.
    #[must_use]
    pub fn reason(self) -> ErrorKind {
        match self {
            Self::Violations => ErrorKind::InvalidArguments,
            Self::BudgetExceeded => ErrorKind::ValidationWork,
        }
    }
}

/// Validates the input of a call against the schema of its tool.
///
/// # Errors
/// If the input violates the schema, or cannot be validated within the limit.
#[inline]
pub fn validate(schema: &Validator, input: Node<'_>) -> Result<(), InvalidArguments> {
    match schema.validate(input) {
        Validation::Valid => Ok(()),
        Validation::Invalid => Err(InvalidArguments::Violations),
        Validation::BudgetExceeded => Err(InvalidArguments::BudgetExceeded),
    }
}

/// The text of the error for invalid arguments. Names the path of each violation.
#[must_use]
pub fn invalid_arguments_text(schema: &Validator, input: Node<'_>, invalid: InvalidArguments) -> String {
    match invalid {
        InvalidArguments::Violations => {
            format!("Invalid arguments: {}", explain(&schema.violations(input)))
        }
        InvalidArguments::BudgetExceeded => "Invalid arguments: too many values to validate".to_owned(),
    }
}

/// Encodes the reply to a call whose arguments are invalid.
pub fn write_invalid_arguments(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    call: &Call<'_>,
    schema: &Validator,
    invalid: InvalidArguments,
) -> Status {
    let mut reply = Reply::default();
    reply.error(&invalid_arguments_text(schema, call.input, invalid));
    write_call_result(out, snapshot, call.id, call.revision, &reply);
    invalid.reason().status(call.revision)
}
