//! Answers of the shards, collected within a timeout.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::shard::ShardHandle;

/// How long a shard may take to answer before it counts as unresponsive.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The answers of the shards that still run, all requested at the same time, and the numbers of those that did not answer in time.
pub(super) fn collect<T>(
    shards: &[ShardHandle],
    request: impl Fn(&ShardHandle) -> Receiver<T>,
) -> (Vec<(usize, T)>, Vec<usize>) {
    let running = shards.iter().filter(|shard| !shard.has_ended());
    let requested: Vec<_> = running.map(|shard| (shard, request(shard))).collect();
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (mut answers, mut unresponsive) = (Vec::new(), Vec::new());
    for (shard, receiver) in requested {
        match receiver.recv_deadline(deadline) {
            Ok(answer) => answers.push((shard.number(), answer)),
            // It has ended while it was asked.
            Err(_) if shard.has_ended() => {}
            Err(_) => unresponsive.push(shard.number()),
        }
    }
    (answers, unresponsive)
}
