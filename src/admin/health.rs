//! `/healthz` and `/livez`.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::collect::ANSWER_TIMEOUT;
use crate::{http1::Status, shard::ShardHandle};

/// Interval at which the responses of the shards are checked.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// 200 where every shard responds within [`ANSWER_TIMEOUT`], else 503 with the numbers of those that do not, and of those that have
/// failed and are being restarted. All shards are probed at the same time. A shard that has exited is left out: the server is then
/// draining.
pub(super) fn health(shards: &[ShardHandle]) -> (Status, String) {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut pending: Vec<_> = shards.iter().map(|shard| (shard, shard.probe())).collect();
    let mut failed = Vec::new();
    loop {
        pending.retain(|(shard, probe)| {
            let is_settled = shard.has_responded(*probe) || shard.has_ended();
            if !is_settled && shard.is_down() {
                failed.push(shard.number());
                return false;
            }
            !is_settled
        });
        if pending.is_empty() || Instant::now() >= deadline {
            break;
        }
        thread::sleep(POLL_INTERVAL);
    }
    failed.sort_unstable();
    let stuck: Vec<_> = pending.iter().map(|(shard, _)| shard.number()).collect();
    let mut text = String::new();
    if !failed.is_empty() {
        text.push_str(&format!("shard {} failed and is being restarted\n", join(&failed)));
    }
    if !stuck.is_empty() {
        text.push_str(&format!("no answer from shard {}\n", join(&stuck)));
    }
    if text.is_empty() { (Status::Ok, "ok\n".to_owned()) } else { (Status::ServiceUnavailable, text) }
}

fn join(numbers: &[usize]) -> String {
    let numbers: Vec<_> = numbers.iter().map(usize::to_string).collect();
    numbers.join(", ")
}
