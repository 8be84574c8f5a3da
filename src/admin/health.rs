//! `/healthz` and `/livez`.

use std::time::Instant;

use super::shared::REPORT_TIMEOUT;
use crate::{http1::Status, shard::ShardHandle};

/// 200 where every shard responds within [`REPORT_TIMEOUT`], else 503 with the numbers of those that do not. A shard that has
/// exited is left out: the server is then draining.
pub(super) fn health(shards: &[ShardHandle]) -> (Status, String) {
    let deadline = Instant::now() + REPORT_TIMEOUT;
    let is_unresponsive =
        |shard: &ShardHandle| !shard.has_ended() && !shard.is_alive(deadline) && !shard.has_ended();
    let shards = shards.iter().enumerate();
    let unresponsive: Vec<_> =
        shards.filter(|(_, shard)| is_unresponsive(shard)).map(|(number, _)| number.to_string()).collect();
    if unresponsive.is_empty() {
        (Status::Ok, "ok\n".to_owned())
    } else {
        (Status::ServiceUnavailable, format!("no answer from shard {}\n", unresponsive.join(", ")))
    }
}
