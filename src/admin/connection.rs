//! One connection of the admin interface: reads one request, writes its response and closes. No keep-alive: requests are rare.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use super::{
    pages::Job,
    response::{Answer, Response, TEXT, encode},
    shared::{Page, Shared},
};
use crate::{
    http1::{Framer, RejectReason, Status},
    runtime::instant_after,
};

/// Bytes read at a time, and the padding that the in-place JSON parser needs behind them.
const READ_BYTES: usize = 4096;
const PADDING_BYTES: usize = 64;

/// Maximum time for a request, where `head_timeout` is longer: clients of this interface are programs on a private network.
const HEAD_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// A buffer for the input of any connection.
pub(super) fn buffer() -> Vec<u8> {
    vec![0; READ_BYTES + PADDING_BYTES]
}

enum State {
    /// Reading the request.
    Reading,
    /// The response is being made.
    Waiting(Page),
    /// Writing the response, of which the first `sent` bytes are sent.
    Writing { response: Vec<u8>, sent: usize },
    /// Waiting for the peer to close. Closing with unread bytes would reset the connection and could destroy the response.
    Lingering,
}

/// The next action of a connection.
pub(super) enum Step {
    /// It waits for its socket, or for its response.
    Wait,
    /// The response has to be made.
    Request(Job),
    /// It is closed.
    Close,
}

pub(super) struct Connection {
    /// Number of the connection, which its job carries.
    pub(super) number: u64,
    pub(super) stream: TcpStream,
    framer: Framer,
    state: State,
    /// Time at which the state has lasted too long; none while the response is being made.
    pub(super) deadline: Option<Instant>,
}

impl Connection {
    /// A connection that was accepted now.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub(super) fn new(number: u64, stream: TcpStream, shared: &Shared, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let deadline = Some(instant_after(now, shared.limits.head_timeout.min(HEAD_TIMEOUT_MAX)));
        Ok(Self { number, stream, framer: Framer::default(), state: State::Reading, deadline })
    }

    /// The page that it waits for, if its response is being made.
    pub(super) fn awaited(&self) -> Option<Page> {
        match self.state {
            State::Waiting(page) => Some(page),
            _ => None,
        }
    }

    /// The order in which connections are evicted, lowest first: those that have their response, then those without a whole
    /// request, then those that do not read their response. `None`: never evicted.
    pub(super) fn eviction_rank(&self) -> Option<u8> {
        match self.state {
            State::Lingering => Some(0),
            State::Reading => Some(1),
            State::Writing { .. } => Some(2),
            State::Waiting(_) => None,
        }
    }

    /// The events of the socket that the connection waits for. `None` while its response is being made: its place is in use until
    /// then, even if its peer has gone.
    pub(super) fn interest(&self) -> Option<PollFlags> {
        match self.state {
            State::Reading | State::Lingering => Some(PollFlags::IN),
            State::Waiting(_) => None,
            State::Writing { .. } => Some(PollFlags::OUT),
        }
    }

    /// Goes on after its socket became ready.
    pub(super) fn advance(&mut self, shared: &Shared, buffer: &mut [u8], now: Instant) -> Step {
        match self.state {
            State::Reading => self.read(shared, buffer, now),
            State::Waiting(_) => Step::Wait,
            State::Writing { .. } => self.write(shared, now),
            State::Lingering => self.linger(buffer),
        }
    }

    fn read(&mut self, shared: &Shared, buffer: &mut [u8], now: Instant) -> Step {
        loop {
            let received = match self.stream.read(buffer.get_mut(..READ_BYTES).unwrap_or_default()) {
                Ok(0) => return Step::Close,
                Ok(received) => received,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => return Step::Wait,
                    _ => return Step::Close,
                },
            };
            let mut answer = Answer { shared, response: None };
            self.framer.receive(buffer, received, &shared.limits, &mut answer);
            match answer.response {
                None => {}
                Some(Response::Encoded(response)) => return self.respond(response, shared, now),
                Some(Response::Page { page, has_body }) => {
                    self.state = State::Waiting(page);
                    self.deadline = None;
                    return Step::Request(Job { connection: self.number, page, has_body });
                }
            }
        }
    }

    /// Ends the current state, which has lasted too long.
    pub(super) fn expire(&mut self, shared: &Shared, now: Instant) -> Step {
        if !matches!(self.state, State::Reading) {
            return Step::Close;
        }
        let mut answer = Answer { shared, response: None };
        answer.reject(RejectReason::HeadTimeout, None);
        match answer.response {
            Some(Response::Encoded(response)) => self.respond(response, shared, now),
            _ => Step::Close,
        }
    }

    /// Answers that too many requests for a page wait.
    pub(super) fn refuse(&mut self, job: &Job, shared: &Shared, now: Instant) -> Step {
        let status = Status::ServiceUnavailable;
        let response = encode(
            status,
            TEXT,
            "Retry-After: 1\r\n",
            job.has_body,
            "too many requests for this page wait\n",
        );
        self.respond(response, shared, now)
    }

    /// Starts writing the response.
    pub(super) fn respond(&mut self, response: Vec<u8>, shared: &Shared, now: Instant) -> Step {
        self.state = State::Writing { response, sent: 0 };
        self.deadline = Some(instant_after(now, shared.limits.write_timeout));
        self.write(shared, now)
    }

    fn write(&mut self, shared: &Shared, now: Instant) -> Step {
        let State::Writing { response, sent } = &mut self.state else { return Step::Wait };
        while let Some(rest) = response.get(*sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Step::Close,
                Ok(written) => {
                    *sent += written;
                    self.deadline = Some(instant_after(now, shared.limits.write_timeout));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Step::Wait,
                    _ => return Step::Close,
                },
            }
        }
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return Step::Close;
        }
        self.state = State::Lingering;
        self.deadline = Some(instant_after(now, shared.limits.linger_timeout));
        Step::Wait
    }

    fn linger(&mut self, buffer: &mut [u8]) -> Step {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Step::Close,
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Step::Wait,
                    _ => return Step::Close,
                },
            }
        }
    }
}
