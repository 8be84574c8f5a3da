//! Reads samples from the control socket.

use std::{os::unix::net::UnixStream, time::Duration};

use super::super::client::Connection;
use crate::control::{Reply, Request, Sample};

/// The samples of one connection, of which each begins at the end of the previous one.
pub(super) struct SampleReader(Connection);

impl SampleReader {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(Connection::new(stream))
    }

    /// The next sample, which ends `interval` after the previous one.
    ///
    /// # Errors
    /// One line: the server has gone, or has rejected the request.
    pub(super) fn next(&mut self, interval: Duration) -> Result<Sample, String> {
        match self.0.exchange(request(interval))? {
            Reply::Sample(sample) => Ok(*sample),
            _ => Err("the reply is no sample; remedy: use the ctl of the server's version".to_owned()),
        }
    }
}

/// The request for a sample.
pub(super) fn request(interval: Duration) -> Request {
    Request::Sample { milliseconds: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX) }
}
