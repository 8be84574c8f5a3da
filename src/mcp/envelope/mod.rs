//! The parts of a message outside its method: era, headers, `_meta` and request state.

pub(super) mod client;
pub(super) mod era;
pub(super) mod header_params;
pub(super) mod questions;
pub(super) mod request_state;
