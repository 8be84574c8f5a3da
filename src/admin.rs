//! `/healthz`, `/livez`, `/readyz` and `/metrics`, on an address of their own and on threads of their own, so that they answer when
//! the shards are busy, and cost them nothing but a copy of their figures.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use strum::VariantArray;
use tracing::warn;

use crate::{
    config::Limits,
    http1::{
        Field, Flow, Framer, Handler, Method, Names, RejectReason, Request, RequestHead, Status, excerpt,
        path,
    },
    runtime::{PoolObserver, instant_after},
    shard::ShardHandle,
    telemetry::{
        log::RateLimit,
        metrics::{
            ShardReport, write_admin_refusals, write_counter, write_gauge, write_limits, write_process,
            write_prometheus,
        },
    },
};

/// How long a shard may take to say how it is.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes read at a time, and the room an in-place parser wants behind them.
const READ_BYTES: usize = 4096;
const PADDING_BYTES: usize = 64;

/// Refused requests of the admin address, by reason, and how often they are logged.
struct Refusals {
    counts: Vec<u64>,
    log: RateLimit,
}

impl Refusals {
    fn new(lines_per_second_max: u32) -> Self {
        Self { counts: vec![0; RejectReason::VARIANTS.len()], log: RateLimit::new(lines_per_second_max) }
    }

    /// Counts and logs a refused request. `head` names the host and the origin of one that was read.
    fn add(&mut self, reason: RejectReason, head: Option<(&RequestHead, &[u8])>) {
        let index = RejectReason::VARIANTS.iter().position(|known| *known == reason);
        if let Some(count) = index.and_then(|index| self.counts.get_mut(index)) {
            *count += 1;
        }
        let Some(suppressed) = self.log.admit(reason.name(), Instant::now()) else { return };
        let suppressed = (suppressed > 0).then_some(suppressed);
        let host = head.and_then(|(head, bytes)| excerpt(head.host(bytes)));
        let origin = head.and_then(|(head, bytes)| excerpt(head.origin(bytes)));
        let remedy =
            (reason == RejectReason::HostForbidden).then_some("add the host to [admin] allowed_hosts");
        warn!(reason = reason.name(), host, origin, suppressed, remedy, "admin request refused");
    }
}

/// The admin interface, until it is dropped.
pub(crate) struct Admin {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: socket2::Socket,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    names: Names,
    limits: Limits,
    shards: Vec<ShardHandle>,
    pool: PoolObserver,
    /// What each shard said last, for a scrape it misses: counters must not go back. Held while shards are asked, so that they
    /// are asked once at a time.
    reports: Mutex<Vec<ShardReport>>,
    refusals: Mutex<Refusals>,
    connections: AtomicUsize,
    draining: AtomicBool,
    ended: AtomicBool,
}

impl Admin {
    /// Serves what `shards` and the blocking `pool` measure on `listener`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(
        listener: TcpListener,
        names: Names,
        limits: Limits,
        shards: Vec<ShardHandle>,
        pool: PoolObserver,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            names,
            limits,
            shards,
            pool,
            reports: Mutex::default(),
            refusals: Mutex::new(Refusals::new(limits.log_lines_per_second_max)),
            connections: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let ending = socket2::Socket::from(listener.try_clone()?);
        let accepting = thread::Builder::new().name("admin".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Self { address, shared, listener: ending, accepting: Some(accepting) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `/readyz` says that the server is ending.
    pub(crate) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // On Linux this ends an accept that waits.
        let _ = self.listener.shutdown(std::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, or ended: not in a circle.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= shared.limits.admin_connections_max {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let served = thread::Builder::new().name("admin-connection".to_owned()).spawn({
            let shared = Arc::clone(shared);
            move || {
                // Whoever asks sees that the connection ended.
                let _ = serve(stream, &shared);
                shared.connections.fetch_sub(1, Ordering::Relaxed);
            }
        });
        if served.is_err() {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Answers one request and closes: nobody asks often.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let until = instant_after(Instant::now(), shared.limits.head_timeout);
    stream.set_write_timeout(Some(shared.limits.write_timeout))?;
    let mut framer = Framer::default();
    let mut answer = Answer { shared, reply: None };
    let mut buffer = vec![0; READ_BYTES + PADDING_BYTES];
    while answer.reply.is_none() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            answer.reject(RejectReason::HeadTimeout, None);
            break;
        }
        stream.set_read_timeout(Some(left))?;
        let received = match stream.read(buffer.get_mut(..READ_BYTES).unwrap_or_default()) {
            Ok(0) => return Ok(()),
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        framer.receive(&mut buffer, received, &shared.limits, &mut answer);
    }
    let reply = answer.reply.unwrap_or_default();
    stream.write_all(&reply)?;
    // What the client may still be sending must not reset the connection before the reply has arrived.
    stream.shutdown(std::net::Shutdown::Write)?;
    let until = instant_after(Instant::now(), shared.limits.linger_timeout);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        if stream.read(&mut buffer)? == 0 {
            return Ok(());
        }
    }
}

struct Answer<'a> {
    shared: &'a Shared,
    reply: Option<Vec<u8>>,
}

impl Answer<'_> {
    fn write(&mut self, status: Status, extra: &str, has_body: bool, body: &str) {
        let mut reply = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Cache-Control: no-store\r\n{extra}Connection: close\r\n\r\n",
            status.line(),
            body.len()
        );
        if has_body {
            reply.push_str(body);
        }
        self.reply = Some(reply.into_bytes());
    }

    fn reject(&mut self, reason: RejectReason, head: Option<(&RequestHead, &[u8])>) {
        self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).add(reason, head);
        let has_body = head.is_none_or(|(head, _)| head.method != Method::Head);
        let extra = if reason == RejectReason::VerbNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        self.write(reason.status(), extra, has_body, &format!("{}\n", reason.message()));
    }

    fn handle_head(&mut self, head: &RequestHead, bytes: &[u8]) {
        if let Err(reason) = self.answer(head, bytes) {
            self.reject(reason, Some((head, bytes)));
        }
    }

    fn answer(&mut self, head: &RequestHead, bytes: &[u8]) -> Result<(), RejectReason> {
        let host = self.shared.names.check(head, bytes)?;
        let asked = path(head.target(bytes), host)?;
        if !matches!(asked, b"/healthz" | b"/livez" | b"/readyz" | b"/metrics") {
            return Err(RejectReason::PathUnknown);
        }
        if !matches!(head.method, Method::Get | Method::Head) {
            return Err(RejectReason::VerbNotAllowed);
        }
        // A page that may call tools still has no business with these.
        if head.origin(bytes) != Field::Absent {
            return Err(RejectReason::OriginForbidden);
        }
        let (status, body) = match asked {
            b"/metrics" => (Status::Ok, self.metrics()),
            b"/healthz" | b"/livez" => self.health(),
            _ if self.shared.draining.load(Ordering::Relaxed) => {
                (Status::ServiceUnavailable, "draining\n".to_owned())
            }
            _ => self.health(),
        };
        self.write(status, "", head.method == Method::Get, &body);
        Ok(())
    }

    /// Whether every shard gives a sign of life. One that has ended is not missed: then the server is ending.
    fn health(&self) -> (Status, String) {
        let until = Instant::now() + REPORT_TIMEOUT;
        let is_silent =
            |shard: &ShardHandle| !shard.has_ended() && !shard.is_alive(until) && !shard.has_ended();
        let shards = self.shared.shards.iter().enumerate();
        let silent: Vec<_> =
            shards.filter(|(_, shard)| is_silent(shard)).map(|(number, _)| number.to_string()).collect();
        if silent.is_empty() {
            (Status::Ok, "ok\n".to_owned())
        } else {
            (Status::ServiceUnavailable, format!("no answer from shard {}\n", silent.join(", ")))
        }
    }

    fn write_pool(&self, out: &mut String) {
        let Some(load) = self.shared.pool.load() else { return };
        let depth = [("blocking", load.queued)];
        write_gauge(
            out,
            "corelane_queue_depth",
            "Calls that wait for a thread of their pool.",
            "queue",
            depth,
        );
        // The three are read one after another.
        let running = load.threads.saturating_sub(load.idle).saturating_sub(load.waiting);
        let threads = [("idle", load.idle), ("running", running), ("waiting_for_client", load.waiting)];
        let help = "Threads of the blocking pool, by what they do.";
        write_gauge(out, "corelane_blocking_threads", help, "state", threads);
    }

    fn metrics(&self) -> String {
        // As they are before the shards are woken to report, which empties them.
        let mailboxes: Vec<_> =
            self.shared.shards.iter().map(|shard| shard.mailbox().len()).enumerate().collect();
        let mut reports = self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = ask(&self.shared.shards);
        let up: Vec<usize> = fresh.iter().map(|report| report.shard).collect();
        reports.retain(|report| !up.contains(&report.shard));
        reports.extend(fresh);
        reports.sort_by_key(|report| report.shard);
        let mut text = String::new();
        let call_deadline = self.shared.limits.call_deadline;
        write_prometheus(&mut text, self.shared.shards.len(), &up, &reports, call_deadline);
        let help = "Messages of other shards that wait for this one.";
        write_gauge(&mut text, "corelane_mailbox_messages", help, "shard", mailboxes);
        self.write_pool(&mut text);
        let refusals = self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let counts =
            RejectReason::VARIANTS.iter().map(|reason| reason.name()).zip(refusals.counts.iter().copied());
        write_admin_refusals(&mut text, counts);
        let help = "Schemas compiled since the process began.";
        write_counter(&mut text, "corelane_schemas_compiled_total", help, crate::schema::compiled());
        write_limits(&mut text, &self.shared.limits.to_numbers());
        write_process(&mut text);
        text
    }
}

/// Asks all shards at once.
fn ask(shards: &[ShardHandle]) -> Vec<ShardReport> {
    let asked: Vec<_> = shards.iter().map(ShardHandle::report).collect();
    let until = Instant::now() + REPORT_TIMEOUT;
    asked.into_iter().filter_map(|report| report.recv_deadline(until).ok()).collect()
}

impl Handler for Answer<'_> {
    fn wants_body(&mut self, head: &RequestHead, head_bytes: &[u8]) -> bool {
        // None of these takes one.
        self.handle_head(head, head_bytes);
        false
    }

    fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow {
        match request {
            Ok(request) => self.handle_head(&request.head, request.head_bytes),
            Err(reason) => self.reject(reason, None),
        }
        Flow::Stop
    }
}
