//! The thread that accepts the connections of the admin interface and does their I/O.

use std::{
    net::TcpListener,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    connection::{Connection, Step, buffer},
    pages::{Job, Made, PageMakers},
    shared::{Page, Shared},
    wake::Wake,
};

/// Maximum number of connections accepted before the others are served.
const ACCEPTED_PER_TURN: usize = 16;

/// Connections that the kernel queues for a listener of the standard library.
const BACKLOG: usize = 128;

/// Delay after which a failed accept is retried.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

pub(super) struct EventLoop {
    /// `None` once it has been released.
    listener: Option<TcpListener>,
    /// Dropped when the listener is closed.
    listening: Option<Sender<()>>,
    shared: Arc<Shared>,
    wake: Arc<Wake>,
    pages: PageMakers,
    responses: Receiver<Made>,
    /// In the order in which they were accepted.
    connections: Vec<Connection>,
    accepted: u64,
    accept_retry_at: Option<Instant>,
    buffer: Vec<u8>,
}

impl EventLoop {
    pub(super) fn new(
        listener: TcpListener,
        shared: Arc<Shared>,
        wake: Arc<Wake>,
        pages: (PageMakers, Receiver<Made>),
        listening: Sender<()>,
    ) -> Self {
        let (pages, responses) = pages;
        Self {
            listener: Some(listener),
            listening: Some(listening),
            shared,
            wake,
            pages,
            responses,
            connections: Vec::new(),
            accepted: 0,
            accept_retry_at: None,
            buffer: buffer(),
        }
    }

    /// Serves until `ended` is set.
    pub(super) fn run(mut self) {
        while !self.shared.ended.load(Ordering::Relaxed) {
            if self.shared.released.load(Ordering::Relaxed) && self.listener.is_some() {
                // As many as the kernel queues.
                for _ in 0..BACKLOG / ACCEPTED_PER_TURN {
                    self.accept(Instant::now());
                }
                self.listener = None;
                self.listening = None;
            }
            self.turn();
        }
        self.pages.join();
    }

    fn turn(&mut self) {
        let is_full = self.is_full();
        let now = Instant::now();
        let accepts = !is_full && self.accept_retry_at.is_none_or(|at| at <= now);
        let mut polled = Vec::with_capacity(self.connections.len() + 2);
        polled.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
        for connection in &self.connections {
            // One entry for each connection, in their order.
            let entry = match connection.interest() {
                Some(interest) => PollFd::from_borrowed_fd(connection.stream.as_fd(), interest),
                None => PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::empty()),
            };
            polled.push(entry);
        }
        if let Some(listener) = self.listener.as_ref().filter(|_| accepts) {
            polled.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        let retry = self.accept_retry_at.filter(|_| !accepts && !is_full);
        let due = self.connections.iter().filter_map(|connection| connection.deadline).chain(retry).min();
        let timeout = due.map(|due| due.saturating_duration_since(now));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        if poll(&mut polled, timeout.as_ref()).is_err() {
            // EINTR, or no memory: nothing is known to be ready.
            thread::sleep(Duration::from_millis(1));
            return;
        }
        let mut ready = polled.iter().map(|entry| !entry.revents().is_empty());
        let is_woken = ready.next().unwrap_or(false);
        let are_ready: Vec<bool> = ready.by_ref().take(self.connections.len()).collect();
        let has_arrivals = accepts && ready.next().unwrap_or(false);
        drop(polled);
        if is_woken {
            self.wake.clear();
        }
        self.advance(&are_ready);
        self.take_responses();
        if has_arrivals {
            self.accept(Instant::now());
        }
    }

    /// Advances the connections whose sockets are ready, and ends those that have taken too long.
    fn advance(&mut self, are_ready: &[bool]) {
        let now = Instant::now();
        let connections = std::mem::take(&mut self.connections);
        for (position, mut connection) in connections.into_iter().enumerate() {
            let is_due = connection.deadline.is_some_and(|deadline| deadline <= now);
            let step = if are_ready.get(position).is_some_and(|is_ready| *is_ready) {
                connection.advance(&self.shared, &mut self.buffer, now)
            } else if is_due {
                connection.expire(&self.shared, now)
            } else {
                Step::Wait
            };
            self.follow(connection, step, now);
        }
    }

    /// Keeps a connection, unless it is closed, and queues its job.
    fn follow(&mut self, mut connection: Connection, step: Step, now: Instant) {
        match step {
            Step::Wait => self.connections.push(connection),
            Step::Close => {}
            Step::Request(job) if self.has_place(job) && self.pages.request(job) => {
                self.connections.push(connection);
            }
            Step::Request(job) => {
                count(&self.shared.pages_refused);
                let step = connection.refuse(&job, &self.shared, now);
                if matches!(step, Step::Wait) {
                    self.connections.push(connection);
                }
            }
        }
    }

    /// Whether a job may wait. Metrics may take half of the connections and the dashboard a quarter; the others are reserved for
    /// health.
    fn has_place(&self, job: Job) -> bool {
        let connections_max = self.shared.limits.admin_connections_max;
        let waiting_max = match job.page {
            Page::Metrics => connections_max / 2,
            Page::Dashboard => connections_max / 4,
            Page::Health | Page::Readiness => return true,
        };
        let waiting = self.connections.iter().filter(|connection| connection.awaited() == Some(job.page));
        waiting.count() < waiting_max.max(1)
    }

    fn take_responses(&mut self) {
        let now = Instant::now();
        while let Ok((number, response)) = self.responses.try_recv() {
            let Some(position) = self.connections.iter().position(|connection| connection.number == number)
            else {
                continue;
            };
            let mut connection = self.connections.remove(position);
            let step = connection.respond(response, &self.shared, now);
            self.follow(connection, step, now);
        }
    }

    /// Accepts connections. Beyond `admin_connections_max` each evicts another one, unless all wait for their responses.
    fn accept(&mut self, now: Instant) {
        self.accept_retry_at = None;
        for _ in 0..ACCEPTED_PER_TURN {
            if self.is_full() {
                return;
            }
            let Some(listener) = &self.listener else { return };
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => match error.kind() {
                    std::io::ErrorKind::WouldBlock => return,
                    // Aborted by the peer, or interrupted.
                    std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::Interrupted => continue,
                    _ => {
                        self.accept_retry_at = Some(now + ACCEPT_RETRY);
                        return;
                    }
                },
            };
            self.accepted += 1;
            self.make_room();
            let Ok(mut connection) = Connection::new(self.accepted, stream, &self.shared, now) else {
                continue;
            };
            let step = connection.advance(&self.shared, &mut self.buffer, now);
            self.follow(connection, step, now);
        }
    }

    /// Whether the maximum of connections is open, and all wait for their responses.
    fn is_full(&self) -> bool {
        self.connections.len() >= self.shared.limits.admin_connections_max
            && self.connections.iter().all(|connection| connection.awaited().is_some())
    }

    /// Evicts a connection if the maximum is open: the oldest of the lowest rank.
    fn make_room(&mut self) {
        if self.connections.len() < self.shared.limits.admin_connections_max {
            return;
        }
        let ranked = self.connections.iter().enumerate();
        let ranked =
            ranked.filter_map(|(position, connection)| Some((connection.eviction_rank()?, position)));
        if let Some((_, position)) = ranked.min() {
            count(&self.shared.connections_evicted);
            self.connections.remove(position);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
