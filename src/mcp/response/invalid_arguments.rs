//! Arguments that do not match a tool's schema: an error that the model can read and correct
//! (<https://modelcontextprotocol.io/specification/draft/server/tools#error-handling>).

use crate::mcp::{
    methods::tools::{explain, write_call_result},
    outcome::Call,
    refusal::Refused,
};
use crate::{
    http1::Status,
    registry::{Reply, Snapshot},
    schema::Verdict,
};

/// Why a call does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidArguments {
    /// The arguments violate the schema.
    Violations,
    /// Validation would take more work than the limit allows.
    TooMuchWork,
}

impl InvalidArguments {
    /// The error that the call is counted as.
    #[must_use]
    pub fn reason(self) -> Refused {
        match self {
            Self::Violations => Refused::InvalidArguments,
            Self::TooMuchWork => Refused::ValidationWork,
        }
    }
}

/// Validates the input of a call against the schema of its tool.
///
/// # Errors
/// If the input violates the schema, or cannot be validated within the limit.
#[inline]
pub fn validate(call: &Call<'_>) -> Result<(), InvalidArguments> {
    match call.schema.map_or(Verdict::Fits, |schema| schema.judge(call.input)) {
        Verdict::Fits => Ok(()),
        Verdict::Unfit => Err(InvalidArguments::Violations),
        Verdict::TooMuchWork => Err(InvalidArguments::TooMuchWork),
    }
}

/// Writes the answer to a call whose arguments are invalid. It names the path of each violation.
pub fn write_invalid_arguments(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    call: &Call<'_>,
    invalid: InvalidArguments,
) -> Status {
    let text = match (invalid, call.schema) {
        (InvalidArguments::Violations, Some(schema)) => {
            format!("Invalid arguments: {}", explain(&schema.violations(call.input)))
        }
        _ => "Invalid arguments: too many values to validate".to_owned(),
    };
    let mut reply = Reply::default();
    reply.error(&text);
    write_call_result(out, snapshot, call.id, call.revision, &reply);
    invalid.reason().status(call.revision)
}
