//! The attacker: one client address, several threads.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use super::wire::Connection;
use crate::target::Target;

/// Address of the attacker: limits count by client address.
pub(crate) const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Pause after an error, so that a server that refuses connections does not occupy the attacker.
const ERROR_PAUSE: Duration = Duration::from_millis(1);
/// Distance of the priority of the attacker's threads to that of the bystander, which shares their core, and the lowest
/// priority (setpriority(2)).
const NICE_STEP: i32 = 19;
const NICE_MAX: i32 = 19;

/// The server under attack, and the state of the attack.
pub(super) struct Attacker<'a> {
    /// The endpoint of HTTP.
    pub(super) target: &'a Target,
    /// The address of HTTP.
    pub(super) address: SocketAddr,
    /// The address of newline-delimited JSON.
    pub(super) lines: SocketAddr,
    /// The admin address.
    pub(super) admin: SocketAddr,
    /// The core of the attacker.
    pub(super) core: usize,
    /// Set at the end of the attack.
    pub(super) stopped: &'a AtomicBool,
    /// Requests so far.
    pub(super) requests: &'a AtomicU64,
    /// Number of requests after which the attack is over.
    pub(super) requests_max: u64,
}

impl Attacker<'_> {
    /// Whether the attack is over.
    pub(super) fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.requests.load(Ordering::Relaxed) >= self.requests_max
    }

    /// Counts requests, whether they are answered, refused or aborted.
    pub(super) fn count(&self, requests: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }

    pub(super) fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.address, SOURCE, None)
    }

    /// Opens a connection of newline-delimited JSON.
    pub(super) fn connect_lines(&self) -> io::Result<Connection> {
        Connection::open(self.lines, SOURCE, None)
    }

    /// Repeats `attempt` on threads until the attack is over. Its argument is the number of the thread. Errors are
    /// expected: the server refuses, closes and resets.
    pub(super) fn repeat(&self, threads: usize, attempt: impl Fn(usize) -> io::Result<()> + Sync) {
        thread::scope(|scope| {
            for number in 0..threads {
                let attempt = &attempt;
                scope.spawn(move || {
                    enter(self.core);
                    while !self.is_over() {
                        if attempt(number).is_err() {
                            thread::sleep(ERROR_PAUSE);
                        }
                    }
                });
            }
        });
    }

    /// Sends requests, `pipelined` at once, and reads their replies, on a connection for each thread that is opened again
    /// when the server closes it.
    pub(super) fn flood(&self, threads: usize, pipelined: u64, requests: &[&[u8]]) {
        self.repeat(threads, |number| {
            let mut connection = self.connect()?;
            let mut next = number;
            while !self.is_over() {
                let mut bytes = Vec::new();
                for _ in 0..pipelined {
                    bytes.extend_from_slice(requests.get(next % requests.len()).copied().unwrap_or_default());
                    next += 1;
                }
                connection.send(&bytes)?;
                self.count(pipelined);
                for _ in 0..pipelined {
                    // The validation of one request may take longer than a read waits.
                    while let Err(error) = connection.reply() {
                        if error.kind() != io::ErrorKind::WouldBlock || self.is_over() {
                            return Err(error);
                        }
                    }
                }
            }
            Ok(())
        });
    }

    /// Sleeps while the attack is on.
    pub(super) fn hold(&self, time: Duration) {
        let until = std::time::Instant::now() + time;
        while !self.is_over() && std::time::Instant::now() < until {
            thread::sleep(Duration::from_millis(20).min(time));
        }
    }
}

/// Pins the calling thread to the core of the bystander, and lowers its priority below that of the bystander.
pub(crate) fn enter(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    // Without an id it is the priority of the calling thread (setpriority(2), "C library/kernel differences").
    let nice = rustix::process::getpriority_process(None).unwrap_or(0) + NICE_STEP;
    let _ = rustix::process::setpriority_process(None, nice.min(NICE_MAX));
}
