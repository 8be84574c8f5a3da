//! One connection of the control socket: request lines in, reply lines out.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rustix::{net::sockopt::socket_peercred, process::geteuid};

use super::{super::sample::Samples, handlers, refusals::Refusal, shared::Shared};
use crate::control::{Fault, decode_request, encode_reply};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 4096;

/// How long reading the rest of a rejected request may take: closing the socket with unread data would discard the error line.
const DISCARD_MAX: Duration = Duration::from_millis(100);

/// Serves a connection to its end.
pub(super) fn serve(mut stream: UnixStream, shared: &Shared) {
    if let Err(message) = check_peer(&stream) {
        return refuse(stream, shared, Refusal::PeerForbidden, message);
    }
    let mut buffer = Vec::new();
    let mut samples = Samples::default();
    loop {
        let deadline = Instant::now() + shared.limits.control_timeout;
        let line =
            match read_line(&mut stream, &mut buffer, shared.limits.control_request_bytes_max, deadline) {
                Ok(Some(line)) => line,
                // A client that has sent nothing, or closed in time, is none to reject.
                Ok(None) => return,
                Err((refusal, message)) => return refuse(stream, shared, refusal, message),
            };
        let request = match decode_request(&line) {
            Ok(request) => request,
            Err(fault) => return refuse(stream, shared, Refusal::RequestInvalid, fault.message),
        };
        let outcome = handlers::handle(request, &stream, shared, &mut samples);
        if let Err(fault) = &outcome {
            shared.refusals.add(Refusal::CommandFailed, &fault.message);
        }
        let deadline = Instant::now() + shared.limits.control_timeout;
        if write_all(&mut stream, &encode_reply(outcome), deadline).is_err()
            || shared.ended.load(Ordering::Relaxed)
        {
            return;
        }
    }
}

/// Rejects a connection because there are too many.
pub(super) fn refuse_for_room(mut stream: UnixStream, shared: &Shared) {
    let message = format!(
        "limits.control_connections_max of {} is reached; try again",
        shared.limits.control_connections_max
    );
    shared.refusals.add(Refusal::ConnectionsMax, &message);
    let line = encode_reply(Err(fault(Refusal::ConnectionsMax, message)));
    // On the accepting thread: one attempt, which an empty send buffer has room for.
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(&line));
}

fn fault(refusal: Refusal, message: String) -> Fault {
    let name: &'static str = refusal.into();
    Fault::new(name.trim_start_matches("control_"), message)
}

/// Sends an error line, and closes the connection.
fn refuse(mut stream: UnixStream, shared: &Shared, refusal: Refusal, message: String) {
    shared.refusals.add(refusal, &message);
    let until = Instant::now() + DISCARD_MAX;
    if write_all(&mut stream, &encode_reply(Err(fault(refusal, message))), until).is_err() {
        return;
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut chunk = [0; CHUNK_BYTES];
    while matches!(read_some(&mut stream, &mut chunk, until), Ok(1..)) {}
}

/// Checks that the client is of the server's user or root (SO_PEERCRED, unix(7)). The mode of the socket may have been changed.
fn check_peer(stream: &UnixStream) -> Result<(), String> {
    let peer = socket_peercred(stream).map_err(|error| format!("the client's user is unknown: {error}"))?;
    if peer.uid.is_root() || peer.uid == geteuid() {
        return Ok(());
    }
    Err(format!(
        "user {} may not control this server; remedy: run ctl as user {} or root",
        peer.uid.as_raw(),
        geteuid().as_raw()
    ))
}

/// Reads a line without its line feed; `buffer` keeps the bytes after it. `None` at the end of the input.
///
/// # Errors
/// The line is longer than `bytes_max`, is not complete at the deadline, or ends without a line feed.
fn read_line(
    stream: &mut UnixStream,
    buffer: &mut Vec<u8>,
    bytes_max: usize,
    deadline: Instant,
) -> Result<Option<Vec<u8>>, (Refusal, String)> {
    let too_long = || {
        let message =
            format!("the request line is longer than limits.control_request_bytes_max of {bytes_max}");
        (Refusal::RequestTooLong, message)
    };
    let mut searched = 0;
    loop {
        if let Some(end) = memchr::memchr(b'\n', buffer.get(searched..).unwrap_or_default()) {
            let rest = buffer.split_off(searched + end + 1);
            let mut line = std::mem::replace(buffer, rest);
            line.pop();
            return if line.len() > bytes_max { Err(too_long()) } else { Ok(Some(line)) };
        }
        searched = buffer.len();
        if searched > bytes_max {
            return Err(too_long());
        }
        let mut chunk = [0; CHUNK_BYTES];
        match read_some(stream, &mut chunk, deadline) {
            Ok(0) if buffer.is_empty() => return Ok(None),
            Ok(0) => return Err((Refusal::RequestInvalid, "the request line has no line feed".to_owned())),
            Ok(count) => buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err((Refusal::Timeout, "no request line within limits.control_timeout".to_owned()));
            }
            Err(_) => return Ok(None),
        }
    }
}

/// The time left, for a timeout of the socket, which must not be zero.
fn remaining(deadline: Instant) -> io::Result<Option<Duration>> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
}

/// Whether an operation is repeated: it was interrupted, or the time of the socket has passed, which the deadline decides.
fn is_repeated(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

fn read_some(stream: &mut UnixStream, chunk: &mut [u8], deadline: Instant) -> io::Result<usize> {
    loop {
        stream.set_read_timeout(remaining(deadline)?)?;
        match stream.read(chunk) {
            Err(error) if is_repeated(&error) => {}
            outcome => return outcome,
        }
    }
}

fn write_all(stream: &mut UnixStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(remaining(deadline)?)?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if is_repeated(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
