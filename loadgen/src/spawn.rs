//! Servers this program starts by itself, on a core of their own, and ends with itself.

use std::{
    fs::File,
    io::{Read, Seek},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::error::LoadError;

/// How long a server may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
const END_PATIENCE: Duration = Duration::from_secs(12);

/// A server's process. Dropping it ends it.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    address: SocketAddr,
}

impl Spawned {
    /// Starts a command that will listen on `address`, its threads on `core`.
    ///
    /// # Errors
    /// When it does not start, ends, or does not listen; with its last words.
    pub fn start(mut command: Command, address: SocketAddr, core: usize) -> Result<Self, LoadError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |reason: String| LoadError::Resource(format!("{program} did not start: {reason}"));
        let said = tempfile().map_err(|error| failed(error.to_string()))?;
        let (out, err) = (said.try_clone(), said.try_clone());
        command.stdin(Stdio::null());
        if let (Ok(out), Ok(err)) = (out, err) {
            command.stdout(out).stderr(err);
        }
        // A child inherits the core of the thread that starts it, so that thread takes the place for it.
        let spawned = std::thread::scope(|scope| {
            let starting = scope.spawn(|| {
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
                command.spawn()
            });
            starting.join()
        });
        let child = match spawned {
            Ok(child) => child.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed("its thread panicked".to_owned())),
        };
        let mut spawned = Self { child, address };
        let until = Instant::now() + PATIENCE;
        loop {
            if TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok() {
                return Ok(spawned);
            }
            let ended = spawned.child.try_wait().ok().flatten().is_some();
            if ended || Instant::now() > until {
                let words = last_line(said);
                return Err(failed(if ended {
                    words
                } else {
                    format!("it does not listen on {address}: {words}")
                }));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        i32::try_from(self.child.id()).ok()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let ended = Command::new("kill").arg(self.child.id().to_string()).status();
        let until = Instant::now() + END_PATIENCE;
        while ended.is_ok() && Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine that nobody listens on, at this moment.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr, LoadError> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map_err(|error| LoadError::Resource(format!("no free port: {error}")))
}

/// A file without a name, for what a server says.
fn tempfile() -> std::io::Result<File> {
    let path =
        std::env::temp_dir().join(format!("corelane-loadgen-{}-{:?}", std::process::id(), Instant::now()));
    let file = File::options().read(true).append(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn last_line(mut said: File) -> String {
    let mut text = String::new();
    let _ = said.rewind().and_then(|()| said.read_to_string(&mut text));
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}
