//! Standard input and output as one socket, so that a shard serves them like any other: two threads copy.

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

/// How long a descriptor that its owner made non-blocking is left alone before it is tried again.
const NOT_READY: Duration = Duration::from_millis(1);

/// The threads between standard input and output and the server's socket.
pub(crate) struct Bridge {
    /// Says how writing to standard output ended.
    written: Receiver<io::Result<()>>,
}

/// Bridges this process's standard input and output. Whatever else the process prints to standard output goes to
/// standard error from here on: the peer reads nothing but messages. Returns the server's end.
///
/// # Errors
/// When a descriptor or a thread cannot be made.
pub(crate) fn bridge() -> io::Result<(UnixStream, Bridge)> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(corelane_ring::divert_stdout()?);
    between(input, output)
}

fn between(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> io::Result<(UnixStream, Bridge)> {
    let (server, ours) = UnixStream::pair()?;
    let reader = ours.try_clone()?;
    let (told, written) = bounded(1);
    thread::Builder::new().name("stdout".to_owned()).spawn(move || copy_out(reader, output, &told))?;
    thread::Builder::new().name("stdin".to_owned()).spawn(move || copy_in(input, ours))?;
    Ok((server, Bridge { written }))
}

impl Bridge {
    /// Waits until everything the server has sent is written: call it once the server's end is closed. The thread that
    /// reads standard input is not waited for: it may never come back.
    ///
    /// # Errors
    /// What writing to standard output said, and `TimedOut` when nobody takes what is written for `limit`.
    pub(crate) fn join(self, limit: Duration) -> io::Result<()> {
        match self.written.recv_timeout(limit) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

/// Everything that is read goes to the server; the end of it too.
fn copy_in(input: impl Read, mut socket: UnixStream) {
    // A server that has gone, and an input that fails, both end this.
    let _ = copy(input, &mut socket);
    let _ = socket.shutdown(Shutdown::Write);
}

/// Everything the server sends is written. If nobody reads it any more, the server is told that its peer is gone.
fn copy_out(mut socket: UnixStream, output: impl Write, told: &Sender<io::Result<()>>) {
    let copied = copy(&mut socket, output);
    let _ = socket.shutdown(Shutdown::Both);
    // There is room for one, and whoever waited may have given up.
    let _ = told.try_send(copied);
}

fn copy(mut source: impl Read, mut target: impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = patiently(|| source.read(&mut chunk))?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = chunk.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let written = patiently(|| target.write(rest))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        patiently(|| target.flush())?;
    }
}

/// Again when interrupted, and after a moment when not ready: the process that started this one may share its terminal or
/// its pipes with us and have made them non-blocking.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(NOT_READY),
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
    fn bytes_cross_both_ways_and_the_end_of_input_with_them() {
        let (stdin, mut client_writes) = io::pipe().unwrap();
        let (mut client_reads, stdout) = io::pipe().unwrap();
        let (mut server, bridge) = between(stdin, stdout).unwrap();
        let echoing = thread::spawn(move || {
            let mut bytes = Vec::new();
            server.read_to_end(&mut bytes).unwrap();
            // More than a pipe and a socket hold.
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
    fn a_reply_is_there_before_the_next_request() {
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
    fn a_server_whose_replies_nobody_reads_is_told() {
        let (stdin, _client_writes) = io::pipe().unwrap();
        let (client_reads, stdout) = io::pipe().unwrap();
        let (mut server, bridge) = between(stdin, stdout).unwrap();
        drop(client_reads);
        server.write_all(b"anybody?").unwrap();
        let mut byte = [0];
        // The input is still open, and yet its end has come.
        assert_eq!(server.read(&mut byte).unwrap_or(0), 0);
        assert_eq!(bridge.join(LIMIT).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_end_is_not_waited_for_beyond_its_limit() {
        let (stdin, _client_writes) = io::pipe().unwrap();
        let (_client_reads, stdout) = io::pipe().unwrap();
        let (mut server, bridge) = between(stdin, stdout).unwrap();
        server.set_nonblocking(true).unwrap();
        while server.write(&[0; 4096]).is_ok() {}
        drop(server);
        let began = Instant::now();
        let told = bridge.join(Duration::from_millis(50)).unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < LIMIT);
    }
}
