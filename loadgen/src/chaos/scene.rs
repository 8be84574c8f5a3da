//! The running server, as a fault uses it.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::sample::Sample;
use crate::{
    attack::{
        attacker::SOURCE,
        server::Server,
        wire::{Connection, legacy_call},
    },
    http::Head,
};

/// Address of another client than the faulty one and the bystander.
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));
/// Time between two readings of the metrics.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long the server may take to show a fault, from the end of its injection, and to recover, before the observation ends. The bars
/// are lower.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);
const RECOVER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of one reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// The running server.
pub(super) struct Scene<'a> {
    pub(super) server: &'a Server,
    /// Core of the server.
    pub(super) server_core: usize,
    /// Length of a fault that has no length of its own.
    pub(super) duration: Duration,
    /// The directory of the server's files.
    pub(super) directory: &'a Path,
}

impl Scene<'_> {
    /// Connects as the faulty client.
    pub(super) fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.server.address(), SOURCE, None)
    }

    /// Connects as another client.
    pub(super) fn connect_neighbour(&self) -> io::Result<Connection> {
        Connection::open(self.server.address(), NEIGHBOUR, None)
    }

    /// The bytes of a call.
    pub(super) fn call(&self, tool: &str, arguments: &Value) -> Vec<u8> {
        legacy_call(&self.server.target, None, tool, arguments)
    }

    /// Calls `echo` and checks the reply.
    pub(super) fn echo(&self, connection: &mut Connection) -> io::Result<()> {
        connection.send(&self.call("echo", &json!({"message": "chaos"})))?;
        let (head, body) = patient_reply(connection)?;
        if head.status == 200 && result_text(&body).as_deref() == Some("chaos") {
            return Ok(());
        }
        Err(io::Error::other(format!("status {}: {}", head.status, String::from_utf8_lossy(&body))))
    }

    /// Reads the metrics.
    pub(super) fn sample(&self) -> Sample {
        Sample::of(self.server.admin)
    }

    /// Runs `inject`, and reads the metrics meanwhile and afterwards until `is_shown` holds. Returns the result and when that was.
    pub(super) fn watch<T>(
        &self,
        is_shown: impl Fn(&Sample) -> bool + Sync,
        inject: impl FnOnce() -> T,
    ) -> (T, Option<Instant>) {
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut until = None;
                loop {
                    if is_shown(&self.sample()) {
                        return Some(Instant::now());
                    }
                    if has_ended.load(Ordering::Relaxed) {
                        let until = *until.get_or_insert_with(|| Instant::now() + DETECT_TIMEOUT);
                        if Instant::now() > until {
                            return None;
                        }
                    }
                    thread::sleep(POLL_INTERVAL);
                }
            });
            let injected = inject();
            has_ended.store(true, Ordering::Relaxed);
            (injected, watcher.join().ok().flatten())
        })
    }

    /// Repeats `attempt` until it succeeds, and returns the time since `ended`.
    pub(super) fn recover(
        &self,
        ended: Instant,
        mut attempt: impl FnMut() -> io::Result<()>,
    ) -> Option<Duration> {
        while ended.elapsed() < RECOVER_TIMEOUT {
            if attempt().is_ok() {
                return Some(ended.elapsed());
            }
            if self.server.has_ended() {
                return None;
            }
            thread::sleep(POLL_INTERVAL);
        }
        None
    }

    /// Waits until the metrics satisfy a condition, and returns the time since `ended`.
    pub(super) fn settle(&self, ended: Instant, is_settled: impl Fn(&Sample) -> bool) -> Option<Duration> {
        self.recover(ended, || {
            if is_settled(&self.sample()) { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
        })
    }
}

/// Reads a reply that may take longer than one read.
pub(super) fn patient_reply(connection: &mut Connection) -> io::Result<(Head, Vec<u8>)> {
    let until = Instant::now() + REPLY_TIMEOUT;
    loop {
        match connection.reply() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {}
            outcome => return outcome,
        }
    }
}

/// The text of a result of a tool.
pub(super) fn result_text(body: &[u8]) -> Option<String> {
    let reply: Value = serde_json::from_slice(body).ok()?;
    Some(reply.pointer("/result/content/0/text")?.as_str()?.to_owned())
}

/// The code of a JSON-RPC error.
pub(super) fn error_code(body: &[u8]) -> Option<i64> {
    serde_json::from_slice::<Value>(body).ok()?.pointer("/error/code")?.as_i64()
}
