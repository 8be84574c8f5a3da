//! A client of newline-delimited JSON.

use std::{
    io::{self, ErrorKind},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::scene::Scene;
use crate::attack::{attacker::SOURCE, wire::Connection};

/// Time limit of one line.
const LINE_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection, and the bytes behind the last line.
pub(super) struct LineClient {
    connection: Connection,
    received: Vec<u8>,
}

impl LineClient {
    /// Connects as the faulty client.
    pub(super) fn connect(scene: &Scene<'_>) -> io::Result<Self> {
        Ok(Self { connection: Connection::open(scene.server.lines, SOURCE, None)?, received: Vec::new() })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.send(bytes)
    }

    /// Sends bytes to a server that may take long to receive them.
    pub(super) fn send_within(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()> {
        self.connection.send_within(bytes, limit)
    }

    /// The next message.
    pub(super) fn next(&mut self) -> io::Result<Value> {
        let until = Instant::now() + LINE_TIMEOUT;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.received) {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(io::Error::other);
            }
            match self.connection.receive() {
                Ok(bytes) => self.received.extend_from_slice(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {}
                Err(error) => return Err(error),
            }
        }
    }
}
