//! The client's end of the control socket.

use std::{
    fs,
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::Path,
    time::Duration,
};

use crate::control::{Outcome, Reply, ReplyFrame, Request, RequestFrame, VERSION};

/// How long a reply may take. A server answers in about a second where a shard hangs.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum length of a reply, in bytes.
const REPLY_BYTES_MAX: u64 = 64 << 20;

/// An error of connecting to a path, with its remedy.
pub(super) fn explain(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        // As of a socket without a listener.
        ErrorKind::ConnectionRefused
            if fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket()) =>
        {
            "it is not a socket; remedy: name the server's socket with --socket".to_owned()
        }
        ErrorKind::ConnectionRefused => {
            "no server listens on it; remedy: remove the file, or start the server".to_owned()
        }
        ErrorKind::WouldBlock => {
            "too many connections wait for the server; remedy: end its process, which may be stopped"
                .to_owned()
        }
        ErrorKind::PermissionDenied => {
            "permission denied; remedy: run ctl as the user of the server or as root".to_owned()
        }
        ErrorKind::NotFound => {
            "there is no such file; remedy: name the server's socket with --socket".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Sends a request and waits for the reply.
///
/// # Errors
/// As [`Connection::exchange`].
pub(super) fn exchange(stream: UnixStream, request: Request) -> Result<Reply, String> {
    Connection::new(stream).exchange(request)
}

/// A connection, for any number of requests.
pub(super) struct Connection(BufReader<UnixStream>);

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    /// Sends a request and waits for the reply.
    ///
    /// # Errors
    /// One line: the request was rejected, or the server closed the connection or does not answer.
    pub(super) fn exchange(&mut self, request: Request) -> Result<Reply, String> {
        let timeout = timeout(&request);
        let line = exchange_lines(&mut self.0, request, timeout).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("the server has not answered within {} s", timeout.as_secs())
            }
            ErrorKind::UnexpectedEof => {
                "the server closed the connection without a reply; it may have ended".to_owned()
            }
            _ => format!("the connection to the server failed: {error}"),
        })?;
        let frame: ReplyFrame = serde_json::from_slice(&line).map_err(|error| {
            format!("the reply is not understood ({error}); remedy: use the ctl of the server's version")
        })?;
        match frame.outcome {
            Outcome::Reply(reply) => Ok(reply),
            Outcome::Error(fault) => Err(format!("{} ({})", fault.message, fault.reason)),
        }
    }
}

/// How long the reply to a request may take.
fn timeout(request: &Request) -> Duration {
    match request {
        Request::Profile { seconds, .. } | Request::Bottlenecks { seconds } | Request::Advise { seconds } => {
            REPLY_TIMEOUT + Duration::from_secs((*seconds).into())
        }
        Request::Sample { milliseconds } => REPLY_TIMEOUT + Duration::from_millis((*milliseconds).into()),
        _ => REPLY_TIMEOUT,
    }
}

fn exchange_lines(
    reader: &mut BufReader<UnixStream>,
    request: Request,
    timeout: Duration,
) -> io::Result<Vec<u8>> {
    let stream = reader.get_mut();
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    let mut line = serde_json::to_vec(&RequestFrame { version: VERSION, request })?;
    line.push(b'\n');
    // A server that rejects the connection closes it before it has read this, and its reply explains why.
    let sent = stream.write_all(&line);
    let mut reply = Vec::new();
    reader.take(REPLY_BYTES_MAX).read_until(b'\n', &mut reply)?;
    if reply.pop() != Some(b'\n') {
        return Err(sent.err().unwrap_or_else(|| ErrorKind::UnexpectedEof.into()));
    }
    Ok(reply)
}
