//! HTTP/1.1 without I/O: decodes requests from bytes, or rejects them, and appends replies to a buffer.

mod chunked;
mod cors;
mod fields;
mod forwarded;
mod framer;
mod guard;
mod head;
mod reject;
mod response;
mod sse;

pub use cors::{METHODS, cors_headers, preflight_headers};
pub use fields::fields;
pub(crate) use forwarded::client_of;
pub use framer::{Assembly, Flow, Framer, Handler, Progress, Request};
pub use guard::{AllowedHosts, RequestGuard, Route, path};
pub use head::{BodyFraming, Field, Method, RequestHead, excerpt};
pub use reject::RejectReason;
pub use response::{CONTINUE, ReservedHead, ResponseHeads, Status};
pub use sse::{KEEP_ALIVE, LAST_CHUNK, chunk, write_event, write_event_with, write_retry};
