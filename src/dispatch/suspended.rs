//! The state of a call whose arguments are being validated off the shard, or that waits for another call of its connection.

use std::sync::{Arc, OnceLock};

use crate::{
    call::{CallDetails, Capabilities},
    http1::RequestHead,
    json::{Digits, OwnedDocument},
    mcp::InvalidArguments,
    schema::Validator,
};

/// The state to resume a call with after its arguments were validated.
pub(super) struct SuspendedCall {
    pub(super) capabilities: Capabilities,
    pub(super) details: Option<Box<CallDetails>>,
    pub(super) schema: Validator,
    /// A copy of the head of the HTTP request.
    pub(super) head: Option<(RequestHead, Vec<u8>)>,
    /// `None` while it is being dispatched. Calls of one batch share it.
    pub(super) document: Option<StoredDocument>,
    /// The position of the call in a batch.
    pub(super) position: Option<usize>,
    pub(super) result: ValidationResult,
}

/// The result of a validation, with the text of the answer if the arguments are invalid. Written once, on the pool.
pub(super) type ValidationResult = Arc<OnceLock<Result<(), (InvalidArguments, String)>>>;

/// A document whose bytes are no longer there, with the digits of its wide numbers.
#[derive(Clone)]
pub(super) struct StoredDocument {
    pub(super) document: Arc<OwnedDocument>,
    pub(super) digits: Digits,
}
