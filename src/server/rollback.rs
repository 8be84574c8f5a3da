//! The thread that compares the cohorts of flags with their controls, and rolls flags back.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{
    policy::{Flag, comparison::Worse},
    shard::{FlagControl, ShardHandle},
};

/// The longest wait for a flag with a cohort, after which the thread checks whether the shards have ended.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Starts the thread. It ends when all shards have ended.
///
/// # Errors
/// The thread could not be created.
pub(super) fn watch_rollouts(flags: FlagControl, shards: Vec<ShardHandle>) -> io::Result<()> {
    let watch = move || {
        let mut closed = Instant::now();
        while !shards.iter().all(ShardHandle::has_ended) {
            for (flag, worse) in flags.close_window(&mut closed, WAIT_MAX) {
                report(flag, &worse);
            }
        }
    };
    thread::Builder::new().name("rollouts".to_owned()).spawn(watch).map(drop)
}

/// Logs that a flag was rolled back.
#[cold]
fn report(flag: Flag, worse: &Worse) {
    let Worse { metric, cohort, control, bound, p_value, level } = *worse;
    let (flag, metric) = (flag.name(), <&str>::from(metric));
    let detail = format!("{worse}; off until corelane ctl rollout rearm {flag}");
    warn!(flag, metric, cohort, control, bound, p_value, level, detail, "flag_rolled_back");
}
