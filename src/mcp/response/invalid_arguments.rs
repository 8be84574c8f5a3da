//! Arguments that do not match a tool's schema: an error that the model can read and correct
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#error-handling>).

use crate::mcp::error::ErrorKind;
use crate::{
    json::Node,
    schema::{Validation, Validator, Violation},
};

/// Why arguments are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidArguments {
    /// The arguments violate the schema.
    Violations,
    /// Validation would take more work than `validation_work_max`.
    BudgetExceeded,
    /// Validation of the calls of a batch would take more work than `validation_inline_work_max`.
    BatchBudgetExceeded,
    /// The arguments violate the schema, and listing the violations would take more work than `validation_inline_work_max`.
    UnlistedViolations,
}

impl InvalidArguments {
    /// Why a validation failed; `None` if the arguments are valid.
    #[must_use]
    pub fn of(validation: Validation) -> Option<Self> {
        match validation {
            Validation::Valid => None,
            Validation::Invalid => Some(Self::Violations),
            Validation::BudgetExceeded => Some(Self::BudgetExceeded),
        }
    }

    /// The kind of the error.
    #[must_use]
    pub fn reason(self) -> ErrorKind {
        match self {
            Self::Violations | Self::UnlistedViolations => ErrorKind::InvalidArguments,
            Self::BudgetExceeded | Self::BatchBudgetExceeded => ErrorKind::ValidationWork,
        }
    }
}

/// The text of the error for invalid arguments. Names the path of each violation.
#[must_use]
pub fn invalid_arguments_text(schema: &Validator, input: Node<'_>, invalid: InvalidArguments) -> String {
    match invalid {
        InvalidArguments::Violations => {
            format!("Invalid arguments: {}", Violation::join(&schema.violations(input)))
        }
        InvalidArguments::BudgetExceeded => {
            "Invalid arguments: their validation takes more work than the limit validation_work_max allows; remedy: fewer \
             values, or shorter strings"
                .to_owned()
        }
        InvalidArguments::BatchBudgetExceeded => {
            "Invalid arguments: the validation of this batch takes more work than the limit validation_inline_work_max \
             allows; remedy: a request of their own"
                .to_owned()
        }
        InvalidArguments::UnlistedViolations => {
            "Invalid arguments: too large to list their violations in a batch; remedy: a request of their own".to_owned()
        }
    }
}
