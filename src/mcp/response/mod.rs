//! Answers that do not depend on a method.

pub(super) mod call_answers;
pub(super) mod invalid_arguments;
pub(super) mod refuse;
