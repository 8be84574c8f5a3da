//! The load generator's threads: they send the requests of a plan on its schedule, and measure the replies.
//!
//! Each thread is pinned to a core and has a ring of its own, like a shard of the server. It owns its share of the
//! connections and of the schedule; threads share nothing while they measure.

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

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    request::{Era, Request},
    schedule::{Gaps, Segment},
    target::{Address, Target},
};

/// Parameters of the generator's threads.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// Protocol revision.
    pub era: Era,
    /// Whether each connection begins with a handshake.
    pub handshake: bool,
    /// Whether the server closes after each reply without announcing it: every reply is then handled as if it had.
    pub closes_unannounced: bool,
    /// The mix of requests; at least one.
    pub requests: Vec<Request>,
    /// Timing of the requests.
    pub pacing: Pacing,
    /// Number of connections of all threads.
    pub connections: u32,
    /// Maximum number of requests in flight on one connection.
    pub pipeline: u32,
    /// A core for each thread; cores may repeat.
    pub cores: Vec<usize>,
    /// Load time before measuring.
    pub warmup: Duration,
    /// Measured time.
    pub duration: Duration,
    /// Timeout of a reply.
    pub timeout: Duration,
    /// Seed of random arguments and gaps: equal seeds send equal requests at equal times.
    pub seed: u64,
    /// Length of an interval.
    pub interval: Duration,
    /// Whether threads may spin: not if they share a core.
    pub spin: bool,
    /// Address from which connections are opened; by default the kernel chooses it.
    pub source: Option<IpAddr>,
}

/// Timing of the requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Pacing {
    /// The next request is sent when a reply has arrived.
    Closed,
    /// Requests are sent on a schedule, which includes the warm-up.
    Open(Vec<Segment>, Gaps),
    /// Each connection sends as many requests as its pipeline holds, and the next ones when all replies have arrived.
    Volley,
    /// Each request has a connection of its own, which is closed after the reply.
    Storm,
}

impl Pacing {
    /// An open loop at a constant rate, in requests per second.
    #[must_use]
    pub fn steady(length: Duration, rate_per_s: f64, gaps: Gaps) -> Self {
        Self::Open(vec![Segment::steady(length.as_secs_f64(), rate_per_s)], gaps)
    }
}

/// Number of connections from which source addresses and ports on the loopback network are assigned here: one address
/// has 28,000 ports by default, and the kernel's search becomes slower the fewer are free.
const CHOOSE_PORTS_FROM: u32 = 1_000;
/// The assigned ports, on each address from 127.0.0.2 on.
const PORTS: std::ops::Range<u32> = 10_000..60_000;
/// Maximum number of ports tried for one connection.
const BIND_ATTEMPTS_MAX: u32 = 64;

/// Creates a socket for a connection, not yet connected. `sequence` counts the sockets.
///
/// # Errors
/// When the process has no descriptor left, or the address no port.
pub fn client_socket(plan: &Plan, sequence: u32) -> io::Result<Socket> {
    let target = &plan.target;
    let address = match target.address {
        Address::Tcp(address) => address,
        Address::Unix(_) => return Socket::new(Domain::UNIX, Type::STREAM, None),
        Address::Stdio(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = plan.source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        return Ok(socket);
    }
    if !target.is_loopback_v4() || (plan.connections < CHOOSE_PORTS_FROM && plan.pacing != Pacing::Storm) {
        return Ok(socket);
    }
    // Allows ports whose last connection has just ended.
    socket.set_reuse_address(true)?;
    let mut bound = Ok(());
    for attempt in 0..BIND_ATTEMPTS_MAX {
        // Processes start at different ports.
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

/// Converts a duration to nanoseconds.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The share of `total` that belongs to part `index` of `parts`.
fn share(total: u32, index: usize, parts: usize) -> u32 {
    let (index, parts) = (u32::try_from(index).unwrap_or(0), u32::try_from(parts).unwrap_or(1).max(1));
    total / parts + u32::from(index < total % parts)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_of_all_threads_add_up_to_the_total() {
        for total in [0, 1, 7, 50_000] {
            assert_eq!((0..3).map(|index| share(total, index, 3)).sum::<u32>(), total);
        }
    }
}
