//! What surrounds a method: who asks, in which era, with what headers, `_meta` and states.

pub(super) mod client;
pub(super) mod era;
pub(super) mod header_params;
pub(super) mod params;
pub(super) mod questions;
pub(super) mod request_state;
