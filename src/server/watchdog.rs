//! The thread that observes which shards are stuck in one turn: it reports them, and skips them in the
//! distribution of new connections.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use tracing::warn;

use super::listener_groups::ListenerGroups;
use crate::{
    config::Limits,
    mcp::RpcMethod,
    shard::ShardHandle,
    telemetry::{
        log::RateLimit,
        turn_status::{Turn, TurnStatus},
    },
};

/// A turn that is stuck is reported a second time after this time.
const SECOND_LINE: Duration = Duration::from_secs(1);

/// The shards are observed at a quarter of `turn_slow`, within these bounds.
const INTERVAL_MIN: Duration = Duration::from_millis(5);
const INTERVAL_MAX: Duration = Duration::from_millis(250);

/// Starts the thread. It ends when all shards have ended. `groups`: the listeners of the shards.
///
/// # Errors
/// The thread could not be created.
pub(super) fn watch_shards(
    handles: Vec<ShardHandle>,
    groups: ListenerGroups,
    limits: &Limits,
) -> io::Result<()> {
    let mut watchdog = Watchdog::new(handles, groups, limits);
    let watch = move || {
        let mut last = Instant::now();
        while !watchdog.has_ended() {
            thread::sleep(watchdog.interval);
            let now = Instant::now();
            watchdog.observe(now, now.saturating_duration_since(last));
            last = now;
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
}

struct Watchdog {
    shards: Vec<Watched>,
    groups: ListenerGroups,
    interval: Duration,
    turn_slow: Duration,
    limit: RateLimit,
}

/// A shard, and what was observed of it.
struct Watched {
    handle: ShardHandle,
    observed: Observed,
}

/// An observation of the turn that a shard is in.
#[derive(Default)]
struct Observed {
    turn: Option<Turn>,
    /// How long the turn has lasted while the watchdog ran.
    lasted: Duration,
    /// How long it had lasted the time before.
    before: Duration,
}

impl Watchdog {
    fn new(handles: Vec<ShardHandle>, groups: ListenerGroups, limits: &Limits) -> Self {
        let watch = |handle| Watched { handle, observed: Observed::default() };
        Self {
            shards: handles.into_iter().map(watch).collect(),
            groups,
            interval: (limits.turn_slow / 4).clamp(INTERVAL_MIN, INTERVAL_MAX),
            turn_slow: limits.turn_slow,
            limit: RateLimit::new(limits.log_lines_per_second_max),
        }
    }

    fn has_ended(&self) -> bool {
        self.shards.iter().all(|shard| shard.handle.has_ended())
    }

    /// Observes every shard, `elapsed` after the last time.
    fn observe(&mut self, now: Instant, elapsed: Duration) {
        for Watched { handle, observed } in &mut self.shards {
            observed.update(handle.turn(), now, (elapsed, self.interval));
        }
        self.direct_connections();
        for Watched { handle, observed } in &self.shards {
            let Some(turn) = observed.stuck_turn(self.turn_slow) else { continue };
            handle.turn().set_stuck(turn);
            let passes = |limit: Duration| observed.before < limit && observed.lasted >= limit;
            if (passes(self.turn_slow) || passes(SECOND_LINE))
                && let Some(suppressed) = self.limit.admit("shard_stuck", now)
            {
                report(handle, observed.lasted, suppressed);
            }
        }
    }

    /// Skips the shards that cannot serve new connections now, until a drain closes the listeners. A socket that all shards accept
    /// from has no choice: the kernel may wake one that is skipped, and the others accept that connection.
    fn direct_connections(&mut self) {
        if self.shards.iter().any(|shard| shard.handle.is_draining()) {
            return self.groups.reset();
        }
        let is_skipped =
            |shard: &&Watched| shard.handle.is_down() || shard.observed.stuck_turn(self.turn_slow).is_some();
        let (skipped, others): (Vec<_>, Vec<_>) = self.shards.iter().partition(is_skipped);
        if self.groups.share_socket && !skipped.is_empty() {
            others.iter().for_each(|shard| shard.handle.accept_queued());
        }
        self.groups.skip(skipped.iter().map(|shard| shard.handle.number()).collect());
    }
}

impl Observed {
    /// Reads the turn that the shard is in, `elapsed` after the last time. At most two intervals of that count: in a longer time
    /// the process or the machine was stopped, and the shard with it.
    fn update(&mut self, status: &TurnStatus, now: Instant, (elapsed, interval): (Duration, Duration)) {
        let (turn, age) = (status.turn(), status.duration(now));
        self.before = if turn == self.turn { self.lasted } else { Duration::ZERO };
        self.lasted = age.min(self.before + elapsed.min(interval * 2));
        self.turn = turn;
    }

    /// The turn, if it has lasted for this time.
    fn stuck_turn(&self, turn_slow: Duration) -> Option<Turn> {
        self.turn.filter(|_| self.lasted >= turn_slow)
    }
}

/// Logs that a shard is stuck, with the callable that its turn has started last, if the newest snapshot contains it.
#[cold]
fn report(handle: &ShardHandle, lasted: Duration, suppressed: u64) {
    let served = handle.newest();
    let mut callables = served.iter().flat_map(|served| served.snapshot.callables());
    let running = callables.find(|callable| handle.turn().has_started(callable));
    let method = running.map(|callable| RpcMethod::from(callable.kind()).as_str());
    let tool = running.map(|callable| callable.name());
    let (shard, suppressed) = (handle.number(), (suppressed > 0).then_some(suppressed));
    let detail = format!("in one turn for {} ms", lasted.as_millis());
    warn!(shard, method, tool, detail, suppressed, "shard_stuck");
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(25);

    /// How long the turn of a shard has lasted, as observed after each of these times, in milliseconds.
    fn observe(observed: &mut Observed, status: &TurnStatus, now: &mut Instant, steps: &[u64]) -> Vec<u128> {
        let mut lasted = Vec::new();
        for step in steps {
            let step = Duration::from_millis(*step);
            *now += step;
            observed.update(status, *now, (step, STEP));
            lasted.push(observed.lasted.as_millis());
        }
        lasted
    }

    #[test]
    fn turns_are_measured_each_from_its_beginning() {
        let (mut observed, status) = (Observed::default(), TurnStatus::default());
        let mut now = Instant::now();
        assert_eq!(observe(&mut observed, &status, &mut now, &[25, 25]), [0, 0]);
        for _ in 0..2 {
            status.begin(now + Duration::from_millis(15));
            assert_eq!(observe(&mut observed, &status, &mut now, &[25, 25, 50]), [10, 35, 85]);
        }
        status.end();
        assert_eq!(observe(&mut observed, &status, &mut now, &[25, 25]), [0, 0]);
    }

    #[test]
    fn time_in_which_the_watchdog_was_stopped_too_does_not_count() {
        let (mut observed, status) = (Observed::default(), TurnStatus::default());
        let mut now = Instant::now();
        status.begin(now);
        assert_eq!(observe(&mut observed, &status, &mut now, &[25, 10_000, 25, 25]), [25, 75, 100, 125]);
        status.begin(now);
        assert_eq!(observe(&mut observed, &status, &mut now, &[10_000, 25]), [50, 75]);
    }
}
