//! Distribution of connections over the shards of a server.
//!
//! The kernel distributes connections at random, so with few of them some shard has none, and connections with slow inline handlers
//! meet on one shard. Two rules correct that:
//!
//! 1. By number: a newly accepted connection is handed to the shard with the fewest. Where a shard has many connections, a
//!    quarter more is not corrected, so that a burst of accepts costs little.
//! 2. By load: once a second a busy shard compares the delay that its slow handlers cause with that of the others, and moves one
//!    connection between two of its requests: a slow one if that makes the larger of the two delays smaller, else another one if the
//!    other shard is at least twice as fast.
//!
//! Sessions, tasks and streams stay where they are: a connection that is attached to a stream does not move.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use corelane_ring::{ListenerId, PeerAddress, Ring, RingHandle, SocketId};

use super::handle::ShardHandle;
use crate::{config::Transport, telemetry::turn_status::TurnStatus};

/// A shard compares its load with that of the others once in this time, and moves at most one connection.
const WINDOW: Duration = Duration::from_secs(1);

/// The published delay of a shard that has not handled anything for so long counts as zero, in windows.
const WINDOWS_CURRENT: u64 = 2;

/// Input that takes this long to handle is slow.
const SLOW_MIN: Duration = Duration::from_millis(1);

/// A shard whose turn lasts longer than this is handed no connection.
const TURN_MAX: Duration = Duration::from_millis(100);

/// Minimum part of a window in which a shard handles something, for moving a connection: one in this many.
const BUSY_DIVISOR: u32 = 2;

/// From this number of connections of a shard on, a difference of less than a quarter is not corrected. Random differences are about
/// that large, and correcting each of them would cost a burst of accepts more than it gains.
const EXACT_MAX: u32 = 16;

/// Maximum number of new connections that a shard hands over in a second. Beyond it they stay: with so many the shards have about
/// as many each, and a burst of short connections would pay for a distribution that it does not need.
const HAND_OVERS_PER_SECOND_MAX: u32 = 64;

/// Attempts to count a connection for the shard with the fewest while other shards do the same.
const CLAIM_ATTEMPTS: usize = 16;

/// Maximum number of slow connections that a window distinguishes.
const SLOW_CONNECTIONS_MAX: usize = 64;

/// The connections and the load of each shard of a server, and the rings that receive connections.
pub struct ShardLoads {
    shards: Box<[Load]>,
    began: Instant,
}

/// The load of one shard, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Load {
    /// Open connections in the low half, connections that other shards are handing over in the high half.
    connections: AtomicU64,
    /// The delay by slow handlers in the last window, in microseconds, in the low half; the number of that window in the high
    /// half.
    delay: AtomicU64,
    /// Set when the shard starts, and kept when it is restarted.
    turn: OnceLock<Arc<TurnStatus>>,
    /// Whether the shard takes connections of others.
    is_open: AtomicBool,
    /// `None` unless it does.
    ring: Mutex<Option<RingHandle>>,
}

const ARRIVING: u64 = 1 << 32;

impl Load {
    fn ring(&self) -> MutexGuard<'_, Option<RingHandle>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections, including those that arrive.
    fn connections(&self) -> u32 {
        let (arriving, open) = halves(self.connections.load(Relaxed));
        arriving.saturating_add(open)
    }

    fn add(&self, units: u64) {
        self.connections.fetch_add(units, Relaxed);
    }

    /// Adds units if there are as many connections as `expected`, with those that arrive.
    fn add_if(&self, expected: u32, units: u64) -> bool {
        let more = |count: u64| {
            let (arriving, open) = halves(count);
            (arriving.saturating_add(open) == expected).then(|| count.wrapping_add(units))
        };
        self.connections.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Subtracts from one half. A shard that was restarted has counted less than others return.
    fn subtract(&self, units: u64) {
        let less = |count: u64| {
            let has = if units == ARRIVING { count >= ARRIVING } else { count & u64::from(u32::MAX) > 0 };
            has.then(|| count - units)
        };
        let _ = self.connections.fetch_update(Relaxed, Relaxed, less);
    }
}

/// The high and the low half.
fn halves(value: u64) -> (u32, u32) {
    let half = |bits| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (half(value >> 32), half(value))
}

impl ShardLoads {
    /// The loads of this many shards.
    #[must_use]
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self { shards: (0..shards).map(|_| Load::default()).collect(), began: Instant::now() })
    }

    fn window(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / WINDOW.as_secs()
    }

    /// The delay by slow handlers of a shard, in microseconds.
    fn delay(&self, load: &Load, now: Instant) -> u32 {
        let (window, delay) = halves(load.delay.load(Relaxed));
        if u64::from(window) + WINDOWS_CURRENT >= self.window(now) { delay } else { 0 }
    }

    /// The other shards that take connections and are not stuck in a turn.
    fn others(&self, own: usize, now: Instant) -> impl Iterator<Item = (usize, &Load)> {
        let takes = move |load: &Load| {
            let is_stuck = load.turn.get().is_some_and(|turn| turn.duration(now) > TURN_MAX);
            load.is_open.load(Relaxed) && !is_stuck
        };
        self.shards.iter().enumerate().filter(move |(number, load)| *number != own && takes(load))
    }
}

/// A connection that leaves for another shard.
pub(super) struct Leaving {
    pub(super) target: usize,
    /// A connection that has just been accepted and is not in the table: what it is served with if it stays.
    pub(super) accepted: Option<Accepted>,
}

#[derive(Clone, Copy)]
pub(super) struct Accepted {
    pub(super) peer: Option<PeerAddress>,
    pub(super) transport: Transport,
    pub(super) listener: ListenerId,
}

/// The shard for which a new connection is counted.
enum Claim {
    Own,
    Other(usize, RingHandle),
}

/// One shard's part in the distribution. Dropping it ends that part.
pub(super) struct Balancer {
    /// `None` if the shard is alone, or the kernel cannot hand sockets over.
    pub(super) loads: Option<Arc<ShardLoads>>,
    number: usize,
    leaving: HashMap<SocketId, Leaving>,
    /// New connections that were handed over since this time, at most a second ago when the next one is.
    handed_over: (u32, Instant),
    window: Window,
    /// The connection that moves between two of its requests, and its target.
    candidate: Option<(SocketId, usize)>,
    /// Whether slow handlers delayed others in the window before, too: a connection moves from the second such window on, when
    /// the other shards have published theirs.
    was_slow: bool,
}

/// The load of a shard in the last second.
struct Window {
    began: Instant,
    busy: Duration,
    /// Whether the time for the requests of each input is measured: from the first turn that is slow.
    is_timed: bool,
    /// Slow connections: total time for their input, and its number.
    slow: Vec<(SocketId, Duration, u32)>,
    /// Another connection that has sent something.
    fast: Option<SocketId>,
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, busy: Duration::ZERO, is_timed: false, slow: Vec::new(), fast: None }
    }
}

impl Balancer {
    pub(super) fn new(
        loads: Option<Arc<ShardLoads>>,
        shard: &ShardHandle,
        ring: &mut Ring,
        now: Instant,
    ) -> Self {
        let number = shard.number();
        let handle = loads.as_ref().and_then(|_| ring.handle());
        let loads = loads.filter(|_| handle.is_some());
        if let Some(load) = loads.as_ref().and_then(|loads| loads.shards.get(number)) {
            ring.hold_accepted();
            load.connections.store(0, Relaxed);
            load.delay.store(0, Relaxed);
            load.turn.get_or_init(|| Arc::clone(shard.turn()));
            *load.ring() = handle;
            load.is_open.store(true, Relaxed);
        }
        Self {
            loads,
            number,
            leaving: HashMap::new(),
            handed_over: (0, now),
            window: Window::new(now),
            candidate: None,
            was_slow: false,
        }
    }

    fn own(&self) -> Option<&Load> {
        self.loads.as_ref()?.shards.get(self.number)
    }

    fn load(&self, number: usize) -> Option<&Load> {
        self.loads.as_ref()?.shards.get(number)
    }

    /// From now on the shard neither takes connections of others nor hands its own over.
    pub(super) fn leave(&mut self) {
        self.candidate = None;
        if let Some(own) = self.own() {
            own.is_open.store(false, Relaxed);
            *own.ring() = None;
        }
    }

    /// Whether another shard is handing a connection over.
    pub(super) fn is_awaiting_arrival(&self) -> bool {
        self.own().is_some_and(|own| halves(own.connections.load(Relaxed)).0 > 0)
    }

    /// A connection is open that no other shard has handed over.
    pub(super) fn opened(&self) {
        if let Some(own) = self.own() {
            own.add(1);
        }
    }

    /// A connection of another shard has arrived.
    pub(super) fn arrived(&self) {
        if let Some(own) = self.own() {
            // In one step, so that it is not counted twice meanwhile.
            let arrived = |count: u64| Some(count.checked_sub(ARRIVING).unwrap_or(count) + 1);
            let _ = own.connections.fetch_update(Relaxed, Relaxed, arrived);
        }
    }

    /// A connection is no longer open here.
    pub(super) fn closed(&self) {
        if let Some(own) = self.own() {
            own.subtract(1);
        }
    }

    /// The shard that gets a newly accepted connection, which is counted for it. `None`: this one.
    pub(super) fn choose(&mut self, now: Instant) -> Option<(usize, RingHandle)> {
        match self.claim_fewest(now) {
            Some(Claim::Other(shard, ring)) => Some((shard, ring)),
            Some(Claim::Own) => None,
            None => {
                self.opened();
                None
            }
        }
    }

    /// Counts a connection for the shard with the fewest. The counts are compared and changed at once, because other shards do the same.
    /// `None`: nothing is counted.
    fn claim_fewest(&mut self, now: Instant) -> Option<Claim> {
        let (handed_over, since) = self.handed_over;
        if now.saturating_duration_since(since) >= Duration::from_secs(1) {
            self.handed_over = (0, now);
        } else if handed_over >= HAND_OVERS_PER_SECOND_MAX {
            return None;
        }
        let (loads, own) = (self.loads.as_ref()?, self.own()?);
        for _ in 0..CLAIM_ATTEMPTS {
            let mine = own.connections();
            let fewest = |(number, load): (usize, &Load)| (load.connections(), number);
            let (count, target) = loads.others(self.number, now).map(fewest).min()?;
            // One more here than there would be corrected by this connection, which is not counted yet.
            let slack = if mine < EXACT_MAX { 0 } else { mine / 4 };
            if count + slack >= mine {
                if own.add_if(mine, 1) {
                    return Some(Claim::Own);
                }
            } else if let Some(ring) = self.claim(target, Some(count)) {
                self.handed_over.0 += 1;
                return Some(Claim::Other(target, ring));
            }
        }
        None
    }

    /// Counts an arriving connection for a shard, if it has as many as `expected`.
    fn claim(&self, target: usize, expected: Option<u32>) -> Option<RingHandle> {
        let load = self.load(target)?;
        let ring = load.ring().clone()?;
        let is_claimed = match expected {
            Some(expected) => load.add_if(expected, ARRIVING),
            None => {
                load.add(ARRIVING);
                true
            }
        };
        is_claimed.then_some(ring)
    }

    /// Returns the count of a connection that has not arrived.
    pub(super) fn release(&self, target: usize) {
        if let Some(load) = self.load(target) {
            load.subtract(ARRIVING);
        }
    }

    pub(super) fn begin_leaving(&mut self, socket: SocketId, leaving: Leaving) {
        self.leaving.insert(socket, leaving);
    }

    #[inline]
    pub(super) fn is_leaving(&self, socket: SocketId) -> bool {
        self.leaving.contains_key(&socket)
    }

    pub(super) fn end_leaving(&mut self, socket: SocketId) -> Option<Leaving> {
        self.leaving.remove(&socket)
    }

    /// The connection that moves, unless it is leaving already.
    #[inline]
    pub(super) fn candidate(&self) -> Option<SocketId> {
        self.candidate.map(|(socket, _)| socket).filter(|socket| !self.is_leaving(*socket))
    }

    pub(super) fn drop_candidate(&mut self) {
        self.candidate = None;
    }

    /// The candidate has moved. The next one is chosen when both shards have published a window since.
    pub(super) fn end_move(&mut self, socket: SocketId) {
        self.candidate = None;
        self.was_slow = false;
        self.window.slow.retain(|(other, ..)| *other != socket);
    }

    /// Counts the candidate for its target.
    pub(super) fn claim_for_candidate(&self) -> Option<(usize, RingHandle)> {
        let (_, target) = self.candidate?;
        Some((target, self.claim(target, None)?))
    }

    /// Whether the time for each input is measured.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.window.is_timed
    }

    /// Records the time that the requests of a connection's input have taken.
    pub(super) fn record(&mut self, socket: SocketId, took: Duration) {
        let window = &mut self.window;
        if took < SLOW_MIN {
            window.fast = Some(socket);
            return;
        }
        match window.slow.iter_mut().find(|(other, ..)| *other == socket) {
            Some((_, total, count)) => (*total, *count) = (*total + took, *count + 1),
            None => {
                if window.slow.len() < SLOW_CONNECTIONS_MAX {
                    window.slow.push((socket, took, 1));
                }
            }
        }
    }

    /// Records a turn with work. At the end of a window, publishes the shard's delay and chooses a connection that moves.
    #[inline]
    pub(super) fn end_turn(&mut self, began: Instant, took: Duration) {
        if self.own().is_none() {
            return;
        }
        self.window.busy += took;
        self.window.is_timed |= took >= SLOW_MIN;
        if began.saturating_duration_since(self.window.began) >= WINDOW {
            self.end_window(began);
        }
    }

    #[cold]
    fn end_window(&mut self, now: Instant) {
        let window = std::mem::replace(&mut self.window, Window::new(now));
        let elapsed = now.saturating_duration_since(window.began);
        let slow: Vec<_> = window
            .slow
            .iter()
            .map(|(socket, total, count)| (micros(*total / (*count).max(1)), *socket))
            .collect();
        let is_busy = window.busy >= elapsed / BUSY_DIVISOR;
        // Each slow connection delays the others by the time for one of its requests.
        let delay =
            if is_busy { slow.iter().fold(0_u32, |sum, (took, _)| sum.saturating_add(*took)) } else { 0 };
        self.candidate = None;
        let was_slow = std::mem::replace(&mut self.was_slow, delay > 0);
        let (Some(loads), Some(own)) = (&self.loads, self.own()) else { return };
        own.delay.store((loads.window(now) << 32) | u64::from(delay), Relaxed);
        if delay == 0 || !was_slow || !own.is_open.load(Relaxed) {
            return;
        }
        let fast = window.fast.filter(|fast| slow.iter().all(|(_, socket)| socket != fast));
        let others = loads.others(self.number, now).map(|(number, load)| (loads.delay(load, now), number));
        if let Some((other, target)) = others.min() {
            self.candidate = choose_move(delay, other, slow, fast).map(|socket| (socket, target));
        }
    }
}

/// The connection that moves from a shard to a faster one: the slowest for which the larger of the two delays becomes smaller by an
/// eighth, else one that is not slow, if the other shard is at least twice as fast.
fn choose_move(
    delay: u32,
    other: u32,
    mut slow: Vec<(u32, SocketId)>,
    fast: Option<SocketId>,
) -> Option<SocketId> {
    slow.sort_unstable_by_key(|(took, _)| std::cmp::Reverse(*took));
    let less = delay - delay / 8;
    let improves = |(took, _): &&(u32, SocketId)| other.saturating_add(*took) <= less;
    let moved = slow.iter().find(improves).map(|(_, socket)| *socket);
    moved.or_else(|| fast.filter(|_| other.saturating_mul(2).saturating_add(micros(SLOW_MIN)) <= delay))
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.leave();
        // Of a shard that has failed.
        for leaving in std::mem::take(&mut self.leaving).into_values() {
            self.release(leaving.target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_half_and_never_below_zero() {
        let load = Load::default();
        load.add(ARRIVING);
        load.add(1);
        assert_eq!(load.connections(), 2);
        for _ in 0..2 {
            load.subtract(ARRIVING);
        }
        assert_eq!(halves(load.connections.load(Relaxed)), (0, 1));
        for _ in 0..2 {
            load.subtract(1);
        }
        assert_eq!(load.connections(), 0);
    }

    #[test]
    fn delay_of_a_shard_that_has_become_idle_counts_as_zero() {
        let loads = ShardLoads::new(2);
        let load = &loads.shards[0];
        load.delay.store(7, Relaxed);
        let after = |windows: u32| loads.began + WINDOW * windows;
        assert_eq!([0, 2, 3].map(|windows| loads.delay(load, after(windows))), [7, 7, 0]);
    }

    #[test]
    fn shard_that_is_stuck_or_closed_takes_no_connection() {
        let loads = ShardLoads::new(3);
        let after = |millis: u64| loads.began + Duration::from_millis(millis);
        let others = |now| loads.others(0, now).map(|(number, _)| number).collect::<Vec<_>>();
        assert!(others(after(0)).is_empty());
        loads.shards.iter().for_each(|load| load.is_open.store(true, Relaxed));
        assert_eq!(others(after(5000)), [1, 2]);
        let turn = loads.shards[1].turn.get_or_init(Arc::default);
        turn.begin(after(5000));
        assert_eq!(others(after(5000) + TURN_MAX), [1, 2]);
        assert_eq!(others(after(5001) + TURN_MAX), [2]);
        turn.end();
        assert_eq!(others(after(9000)), [1, 2]);
    }

    /// The delays of two shards after moves in turn from the slower to the faster one, until none improves them.
    fn settle(mut shards: [Vec<u32>; 2]) -> [u32; 2] {
        for _ in 0..100 {
            let [one, two] = [0, 1].map(|shard: usize| shards[shard].iter().sum::<u32>());
            let (from, to) = if one >= two { (0, 1) } else { (1, 0) };
            let slow = shards[from].iter().map(|took| (*took, SocketId::default())).collect();
            if choose_move(one.max(two), one.min(two), slow, None).is_none() {
                return [one, two];
            }
            // The one that was chosen: sockets cannot be told apart here.
            let (less, other) = (one.max(two) - one.max(two) / 8, one.min(two));
            shards[from].sort_unstable_by_key(|took| std::cmp::Reverse(*took));
            let index = shards[from].iter().position(|took| other + took <= less).unwrap();
            let moved = shards[from].remove(index);
            shards[to].push(moved);
        }
        panic!("connections move for ever")
    }

    #[test]
    fn slow_connections_settle_evenly() {
        assert_eq!(settle([vec![4000; 6], vec![]]), [12_000, 12_000]);
        assert_eq!(settle([vec![4000; 5], vec![4000]]), [12_000, 12_000]);
        assert_eq!(settle([vec![4000; 3], vec![4000; 4]]), [12_000, 16_000]);
        assert_eq!(settle([vec![40_000], vec![]]), [40_000, 0]);
        assert_eq!(settle([vec![40_000, 4000, 4000], vec![]]), [8000, 40_000]);
    }

    #[test]
    fn fast_connection_leaves_a_shard_that_is_twice_as_slow() {
        let fast = Some(SocketId::default());
        let slow = || vec![(40_000, SocketId::default())];
        assert_eq!(choose_move(40_000, 0, slow(), fast), fast);
        assert_eq!(choose_move(40_000, 20_000, slow(), fast), None);
        assert_eq!(choose_move(40_000, 0, slow(), None), None);
    }
}
