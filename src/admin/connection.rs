//! One connection of the admin interface.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Instant,
};

use super::{response::Answer, shared::Shared};
use crate::{
    http1::{Framer, RejectReason},
    runtime::instant_after,
};

/// Bytes read at a time, and the padding that the in-place JSON parser needs behind them.
const READ_BYTES: usize = 4096;
const PADDING_BYTES: usize = 64;

/// Reads one request, writes its response and closes. No keep-alive: requests are rare.
pub(super) fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let deadline = instant_after(Instant::now(), shared.limits.head_timeout);
    stream.set_write_timeout(Some(shared.limits.write_timeout))?;
    let mut framer = Framer::default();
    let mut answer = Answer { shared, reply: None };
    let mut buffer = vec![0; READ_BYTES + PADDING_BYTES];
    while answer.reply.is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            answer.reject(RejectReason::HeadTimeout, None);
            break;
        }
        stream.set_read_timeout(Some(left))?;
        let received = match stream.read(buffer.get_mut(..READ_BYTES).unwrap_or_default()) {
            Ok(0) => return Ok(()),
            Ok(received) => received,
            Err(error) if is_retried(&error) => continue,
            Err(error) => return Err(error),
        };
        framer.receive(&mut buffer, received, &shared.limits, &mut answer);
    }
    let reply = answer.reply.unwrap_or_default();
    stream.write_all(&reply)?;
    // Unread bytes would reset the connection when it is closed, and the client could lose the response: read them first.
    stream.shutdown(std::net::Shutdown::Write)?;
    let deadline = instant_after(Instant::now(), shared.limits.linger_timeout);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if !is_retried(&error) => return Err(error),
            _ => {}
        }
    }
}

/// Whether a read is repeated until its deadline. A socket with a timeout returns EINTR where the process is stopped and
/// continued, even without a signal handler (signal(7)).
fn is_retried(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
