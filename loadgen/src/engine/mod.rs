//! Load: threads that send what a plan says, when it says so, and measure what comes back.
//!
//! Each thread is pinned to a core and has a ring of its own, as a shard of the server has. It owns its share of the
//! connections and of the schedule; nothing is shared while it measures.

mod client;
mod generator;
mod recording;
mod report;
mod thread;
mod busy_time;

pub(crate) use busy_time::BusyTime;
pub use recording::{IntervalRecord, KindRecord, Recording};
pub use report::ThreadReport;
pub use thread::Engine;
pub(crate) use thread::executor;

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    request::{Era, Request},
    schedule::{Gaps, Segment},
    target::{Address, Target},
};

/// Everything the generator threads need to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom to load.
    pub target: Target,
    /// How to speak.
    pub era: Era,
    /// Whether each connection begins with a handshake.
    pub handshake: bool,
    /// Whether the server closes behind each reply without announcing it: every reply is then read as if it had.
    pub closes_unannounced: bool,
    /// The mix; at least one.
    pub requests: Vec<Request>,
    /// How requests are timed.
    pub pacing: Pacing,
    /// Connections, over all threads.
    pub connections: u32,
    /// Requests in flight on one connection, at most.
    pub pipeline: u32,
    /// A core for each thread; cores may repeat.
    pub cores: Vec<usize>,
    /// Load before measuring.
    pub warmup: Duration,
    /// How long is measured.
    pub duration: Duration,
    /// How long a reply may take.
    pub timeout: Duration,
    /// What random arguments and gaps begin with: the same seed sends the same requests at the same times.
    pub seed: u64,
    /// The length of an interval.
    pub interval: Duration,
    /// Whether a thread may look for replies without sleeping: not where threads share a core with somebody.
    pub spin: bool,
}

/// How requests are timed.
#[derive(Clone, Debug, PartialEq)]
pub enum Pacing {
    /// The next request when a reply has come.
    Closed,
    /// At the times of a schedule, warm-up included.
    Open(Vec<Segment>, Gaps),
    /// Each connection sends one request; when all have their reply, again.
    Volley,
    /// Each connection is made for one request and closed behind its reply.
    Storm,
}

impl Pacing {
    /// An open loop at one rate, in requests per second, for this long.
    #[must_use]
    pub fn steady(length: Duration, rate_per_s: f64, gaps: Gaps) -> Self {
        Self::Open(vec![Segment::steady(length.as_secs_f64(), rate_per_s)], gaps)
    }
}

/// From this many connections on, addresses and ports of the loopback network are chosen here: one address has 28,000 ports
/// to choose from by default, and the fewer are left, the longer the kernel looks for one.
const CHOOSE_PORTS_FROM: u32 = 1_000;
/// The ports that are chosen, of each address from 127.0.0.2 on.
const PORTS: std::ops::Range<u32> = 10_000..60_000;
/// Ports tried for one connection.
const BIND_ATTEMPTS_MAX: u32 = 64;

/// A socket for a connection of a plan, not yet connected. `sequence` counts the dials.
///
/// # Errors
/// When the process has no descriptor or the address no port left.
pub fn client_socket(plan: &Plan, sequence: u32) -> io::Result<Socket> {
    let target = &plan.target;
    let address = match target.address {
        Address::Tcp(address) => address,
        Address::Unix(_) => return Socket::new(Domain::UNIX, Type::STREAM, None),
        Address::Stdio(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if !target.is_loopback_v4() || (plan.connections < CHOOSE_PORTS_FROM && plan.pacing != Pacing::Storm) {
        return Ok(socket);
    }
    // Also ports whose last connection ended a moment ago.
    socket.set_reuse_address(true)?;
    let mut bound = Ok(());
    for attempt in 0..BIND_ATTEMPTS_MAX {
        // Another process begins elsewhere.
        let sequence =
            sequence.wrapping_add(std::process::id().wrapping_mul(7_919)).wrapping_add(attempt * 101);
        let last = 2 + sequence / (PORTS.end - PORTS.start) % 250;
        let port = PORTS.start + sequence % (PORTS.end - PORTS.start);
        let (last, port) = (u8::try_from(last).unwrap_or(2), u16::try_from(port).unwrap_or(0));
        bound = socket.bind(&SocketAddr::from(([127, 0, 0, last], port)).into());
        if bound.is_ok() {
            break;
        }
    }
    bound.map(|()| socket)
}

/// A time as the engines count it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How many of `total` fall to part `index` of `parts`.
fn share(total: u32, index: usize, parts: usize) -> u32 {
    let (index, parts) = (u32::try_from(index).unwrap_or(0), u32::try_from(parts).unwrap_or(1).max(1));
    total / parts + u32::from(index < total % parts)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up() {
        for total in [0, 1, 7, 50_000] {
            assert_eq!((0..3).map(|index| share(total, index, 3)).sum::<u32>(), total);
        }
    }
}
