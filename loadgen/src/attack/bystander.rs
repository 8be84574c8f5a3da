//! The bystander: another client, which must be served as if there were no attack.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::json;

use super::{
    server::Server,
    settings::Settings,
    tools,
    wire::{Connection, get_stream, listen, open_session},
};
use crate::{
    engine::{Pacing, Plan, nanoseconds},
    error::LoadError,
    job::Job,
    latency::{Latency, histogram},
    monitor::ServerMonitor,
    probe::probe,
    request::{Era, Operation, Request},
    result::{RequestResult, Run},
    schedule::Gaps,
    suite::{SEED, interval},
    target::Target,
};

/// Address of the bystander.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// Connections of the bystander.
const CONNECTIONS: u32 = 32;
/// Time limit of a reply.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two streams of the bystander.
const STREAM_PAUSE: Duration = Duration::from_millis(20);
/// Length of the large messages of [`Bystander::LargeMessages`].
const LARGE_BYTES: usize = 200_000;

/// The requests of a bystander: mostly canonical ones, and some that need what the attacker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bystander {
    /// Canonical requests only.
    Canonical,
    /// Tasks.
    Tasks,
    /// Calls of an async tool.
    Calls,
    /// Short digests.
    Pool,
    /// Subscriptions, each on a connection of its own.
    Listens,
    /// Sessions with a stream, each on a connection of its own.
    SessionStreams,
    /// Requests for health, instead of canonical ones: one after the other, each on a connection of its own.
    Health,
    /// Messages of [`LARGE_BYTES`].
    LargeMessages,
}

impl Bystander {
    fn operations(self) -> Vec<(Operation, u32)> {
        let tool = |name: &str, arguments: &str| Operation::Tool {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let other = match self {
            Self::Health => return vec![(Operation::Plain, 1)],
            Self::Canonical | Self::Listens | Self::SessionStreams => {
                return vec![(Operation::canonical(), 1)];
            }
            Self::Tasks => Operation::Task { name: tools::TASK.to_owned(), arguments: "{}".to_owned() },
            Self::Calls => tool("sleep", r#"{"ms":0}"#),
            Self::Pool => tool("digest", r#"{"text":"text"}"#),
            Self::LargeMessages => tool("echo", &json!({"message": "x".repeat(LARGE_BYTES)}).to_string()),
        };
        vec![(Operation::canonical(), 9), (other, 1)]
    }

    /// The job of a measurement.
    pub(crate) fn job(
        self,
        server: &Server,
        settings: &Settings,
        duration: Duration,
    ) -> Result<Job, LoadError> {
        let (target, era) = match self {
            Self::Health => (Target::parse(&format!("http://{}/healthz", server.admin))?, Era::Plain),
            _ => (server.target.clone(), Era::Modern),
        };
        // Idle connections of the admin address make room for new ones.
        let is_closing = self == Self::Health;
        let (pacing, connections) = if is_closing {
            (Pacing::Storm, 1)
        } else {
            (Pacing::steady(duration, settings.rate_per_s, Gaps::Poisson), CONNECTIONS)
        };
        let probe = probe(&target, Some(era), TIMEOUT)?;
        let requests: Result<Vec<Request>, LoadError> = self
            .operations()
            .into_iter()
            .map(|(operation, weight)| Request::new(&target, era, operation, weight, is_closing))
            .collect();
        Ok(Job {
            workload: String::new(),
            contestant: String::new(),
            plan: Plan {
                target,
                era,
                handshake: false,
                closes_unannounced: probe.closes_unannounced,
                requests: requests?,
                pacing,
                connections,
                pipeline: 1,
                cores: settings.placement.cores(CONNECTIONS),
                // Refusals count from the first moment of the attack.
                warmup: Duration::ZERO,
                duration,
                timeout: TIMEOUT,
                seed: SEED,
                interval: interval("", duration),
                // The attacker shares the core.
                spin: false,
                source: Some(SOURCE),
            },
            probe,
            monitor: ServerMonitor { pid: server.pid(), admin: None },
            demands: Vec::new(),
            scale: 1.0,
        })
    }

    /// Opens one stream after the other until stopped; `None` for a bystander without streams.
    pub(crate) fn open_streams(self, server: &Server, stopped: &AtomicBool) -> Option<Streams> {
        let open = match self {
            Self::Listens => open_listen,
            Self::SessionStreams => open_session_stream,
            _ => return None,
        };
        let mut streams = Streams { latency: histogram(), refusals: 0, first_error: None };
        while !stopped.load(Ordering::Relaxed) {
            let began = Instant::now();
            match open(server) {
                Ok(()) => streams.latency.saturating_record(nanoseconds(began.elapsed()).max(1)),
                Err(error) => {
                    streams.refusals += 1;
                    streams.first_error.get_or_insert(error.to_string());
                }
            }
            thread::sleep(STREAM_PAUSE);
        }
        Some(streams)
    }
}

/// The streams that a bystander opened.
pub(crate) struct Streams {
    /// From connecting to the first event, in nanoseconds.
    latency: Histogram<u64>,
    refusals: u64,
    first_error: Option<String>,
}

impl Streams {
    /// Adds the streams to the run of the other requests.
    pub(crate) fn add_to(self, run: &mut Run) -> Result<(), LoadError> {
        let mut all = run.latency.histogram().map_err(LoadError::Report)?;
        all.add(&self.latency).map_err(|error| LoadError::Report(error.to_string()))?;
        run.latency = Latency::of(&all);
        run.requests_count += self.latency.len() + self.refusals;
        run.replies_count += self.latency.len();
        if self.refusals > 0 {
            run.errors_count.insert("stream_refused".to_owned(), self.refusals);
            run.first_error = run.first_error.take().or(self.first_error);
        }
        run.requests.push(RequestResult {
            name: "stream".to_owned(),
            replies_count: self.latency.len(),
            errors_count: self.refusals,
            latency: Latency::of(&self.latency),
        });
        Ok(())
    }
}

fn open_listen(server: &Server) -> io::Result<()> {
    let mut connection = Connection::open(server.address(), SOURCE, None)?;
    connection.send(&listen(&server.target, &["page://bystander".to_owned()]))?;
    let (head, body) = patiently(|| connection.reply())?;
    connection.reset();
    if head.status == 200 && head.is_stream {
        return Ok(());
    }
    Err(io::Error::other(format!("status {}: {}", head.status, String::from_utf8_lossy(&body))))
}

fn open_session_stream(server: &Server) -> io::Result<()> {
    let mut connection = Connection::open(server.address(), SOURCE, None)?;
    let session = open_session(&mut connection, &server.target, &json!({}))?;
    connection.send(&get_stream(&server.target, &session))?;
    let received = patiently(|| connection.receive().map(<[u8]>::to_vec))?;
    connection.reset();
    if received.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&received).into_owned()))
}

/// Repeats a read that times out, up to the time limit of a reply.
fn patiently<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + TIMEOUT;
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {}
            outcome => return outcome,
        }
    }
}
