//! Encoding of results and errors of all methods.

pub(super) mod call_answers;
pub(super) mod invalid_arguments;
pub(super) mod error;
