//! `/healthz` and `/livez`.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::shared::REPORT_TIMEOUT;
use crate::{http1::Status, shard::ShardHandle};

/// Interval at which the responses of the shards are checked.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// 200 where every shard responds within [`REPORT_TIMEOUT`], else 503 with the numbers of those that do not. All shards are
/// probed at the same time. A shard that has exited is left out: the server is then draining.
pub(super) fn health(shards: &[ShardHandle]) -> (Status, String) {
    let deadline = Instant::now() + REPORT_TIMEOUT;
    let mut pending: Vec<_> = shards.iter().map(|shard| (shard, shard.probe())).collect();
    loop {
        pending.retain(|(shard, probe)| !shard.has_responded(*probe) && !shard.has_ended());
        if pending.is_empty() {
            return (Status::Ok, "ok\n".to_owned());
        }
        if Instant::now() >= deadline {
            let numbers: Vec<String> = pending.iter().map(|(shard, _)| shard.number().to_string()).collect();
            return (Status::ServiceUnavailable, format!("no answer from shard {}\n", numbers.join(", ")));
        }
        thread::sleep(POLL_INTERVAL);
    }
}
