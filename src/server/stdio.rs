//! Bridges standard input and output to one socket, which a shard serves like any other connection. Two threads copy.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Pause before an operation on a non-blocking descriptor that was not ready is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// The threads between standard input and output and the server's socket.
pub(crate) struct Bridge {
    /// Receives the result of the thread that writes standard output.
    written: Receiver<io::Result<()>>,
}

/// Bridges this process's standard input and output. Other output of the process to standard output is redirected to standard
/// error from here on, so that the client reads messages only. Returns the server's end of the socket.
///
/// # Errors
/// A descriptor or a thread cannot be created.
pub(crate) fn bridge() -> io::Result<(UnixStream, Bridge)> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(corelane_ring::divert_stdout()?);
    between(input, output)
}

/// Bridges an input and an output.
fn between(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> io::Result<(UnixStream, Bridge)> {
    let (server, ours) = UnixStream::pair()?;
    let reader = ours.try_clone()?;
    let (result, written) = bounded(1);
    thread::Builder::new().name("stdout".to_owned()).spawn(move || copy_out(reader, output, &result))?;
    thread::Builder::new().name("stdin".to_owned()).spawn(move || copy_in(input, ours))?;
    Ok((server, Bridge { written }))
}

impl Bridge {
    /// Waits until everything the server has sent is written; call it once the server's end of the socket is closed. Does
    /// not wait for the thread that reads standard input, whose read may never return.
    ///
    /// # Errors
    /// The error of writing to standard output, or `TimedOut` after `limit`.
    pub(crate) fn join(self, limit: Duration) -> io::Result<()> {
        match self.written.recv_timeout(limit) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

/// Copies the input to the server, and shuts the socket down for writing at the end of the input.
fn copy_in(input: impl Read, mut socket: UnixStream) {
    // A closed socket and a failed input both end the copy.
    let _ = copy(input, &mut socket);
    let _ = socket.shutdown(Shutdown::Write);
}

/// Copies the server's output. Where the output fails, the socket is shut down, so that the server sees its client disconnect.
fn copy_out(mut socket: UnixStream, output: impl Write, result: &Sender<io::Result<()>>) {
    let copied = copy(&mut socket, output);
    let _ = socket.shutdown(Shutdown::Both);
    // The channel has room for one result; the receiver may be gone.
    let _ = result.try_send(copied);
}

fn copy(mut source: impl Read, mut target: impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = retry_io(|| source.read(&mut chunk))?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = chunk.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let written = retry_io(|| target.write(rest))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        retry_io(|| target.flush())?;
    }
}

/// Retries an operation that was interrupted at once, and one that was not ready after [`RETRY_INTERVAL`]: the parent
/// process may share its terminal or its pipes and have made them non-blocking.
fn retry_io<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_INTERVAL),
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn bytes_and_end_of_input_are_copied_both_ways() {
        let (stdin, mut client_writes) = io::pipe().unwrap();
        let (mut client_reads, stdout) = io::pipe().unwrap();
        let (mut server, bridge) = between(stdin, stdout).unwrap();
        let echoing = thread::spawn(move || {
            let mut bytes = Vec::new();
            server.read_to_end(&mut bytes).unwrap();
            // More than the buffers of a pipe and a socket hold.
            for _ in 0..100_000 {
                server.write_all(&bytes).unwrap();
            }
        });
        client_writes.write_all(b"ping\n").unwrap();
        drop(client_writes);
        let mut back = Vec::new();
        client_reads.read_to_end(&mut back).unwrap();
        assert_eq!(back, b"ping\n".repeat(100_000));
        echoing.join().unwrap();
        bridge.join(LIMIT).unwrap();
    }

    #[test]
    fn each_reply_is_flushed() {
        let (stdin, mut client_writes) = io::pipe().unwrap();
        let (mut client_reads, stdout) = io::pipe().unwrap();
        let (mut server, _bridge) = between(stdin, stdout).unwrap();
        for number in 0..100_u8 {
            client_writes.write_all(&[number]).unwrap();
            let mut byte = [0];
            server.read_exact(&mut byte).unwrap();
            server.write_all(&byte).unwrap();
            client_reads.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
    }

    #[test]
    fn closed_output_disconnects_the_server() {
        let (stdin, _client_writes) = io::pipe().unwrap();
        let (client_reads, stdout) = io::pipe().unwrap();
        let (mut server, bridge) = between(stdin, stdout).unwrap();
        drop(client_reads);
        server.write_all(b"anybody?").unwrap();
        let mut byte = [0];
        // Although the input is still open.
        assert_eq!(server.read(&mut byte).unwrap_or(0), 0);
        assert_eq!(bridge.join(LIMIT).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn join_times_out_where_output_is_blocked() {
        let (stdin, _client_writes) = io::pipe().unwrap();
        let (_client_reads, stdout) = io::pipe().unwrap();
        let (mut server, bridge) = between(stdin, stdout).unwrap();
        server.set_nonblocking(true).unwrap();
        while server.write(&[0; 4096]).is_ok() {}
        drop(server);
        let started = Instant::now();
        let error = bridge.join(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < LIMIT);
    }
}
