//! Servers that this program starts on a core of their own, and terminates before it exits.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    error::LoadError,
    process::{self, ProcessGroup, last_line, unlinked_file},
};

/// Time limits for a server to listen, and to exit.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(12);

/// A server process. Dropping it terminates the process.
#[derive(Debug)]
pub struct SpawnedServer {
    group: Option<ProcessGroup>,
    address: SocketAddr,
    /// Standard output and error.
    output: File,
}

impl SpawnedServer {
    /// Starts a command that listens on `address`, with its threads on these cores.
    ///
    /// # Errors
    /// When it does not start, exits, or does not listen. The error contains its last output.
    pub fn start(mut command: Command, address: SocketAddr, cores: &[usize]) -> Result<Self, LoadError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |reason: String| LoadError::Resource(format!("{program} did not start: {reason}"));
        let output = unlinked_file().map_err(|error| failed(error.to_string()))?;
        let (out, err) = (output.try_clone(), output.try_clone());
        command.stdin(Stdio::null());
        if let (Ok(out), Ok(err)) = (out, err) {
            command.stdout(out).stderr(err);
        }
        // A child inherits the affinity of the thread that starts it, so a temporary thread is pinned first.
        let spawned = std::thread::scope(|scope| {
            let starting = scope.spawn(|| {
                let mut set = CpuSet::new();
                cores.iter().filter(|core| **core < CpuSet::MAX_CPU).for_each(|core| set.set(*core));
                // Without it the server runs on any core.
                let _ = sched_setaffinity(None, &set);
                ProcessGroup::start(&mut command)
            });
            starting.join()
        });
        let group = match spawned {
            Ok(group) => group.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed("the starting thread panicked".to_owned())),
        };
        let spawned = Self { group: Some(group), address, output };
        let until = Instant::now() + START_TIMEOUT;
        loop {
            if TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok() {
                return Ok(spawned);
            }
            let ended = spawned.group.as_ref().is_none_or(ProcessGroup::has_ended);
            if ended || Instant::now() > until {
                let last_output =
                    last_line(&spawned.output).unwrap_or_else(|| "it wrote no output".to_owned());
                return Err(failed(if ended {
                    last_output
                } else {
                    format!("it does not listen on {address}: {last_output}")
                }));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The address on which the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.group.as_ref().and_then(ProcessGroup::pid)
    }

    /// Whether the process has exited.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.group.as_ref().is_none_or(ProcessGroup::has_ended)
    }

    /// Number of bytes that the process has written to standard output and error.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.output.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Kills the process, without its drain.
    pub fn kill(&mut self) {
        self.group = None;
    }
}

impl Drop for SpawnedServer {
    fn drop(&mut self) {
        process::terminate(self.group.take().into_iter().collect(), Duration::ZERO, TERMINATE_TIMEOUT);
    }
}

/// Returns an address of this machine on which no process currently listens.
///
/// # Errors
/// When there is no free port.
pub fn unused_address() -> Result<SocketAddr, LoadError> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map_err(|error| LoadError::Resource(format!("no free port: {error}")))
}
