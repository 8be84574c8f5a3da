//! `/healthz` and `/livez`.

use std::time::Instant;

use super::shared::REPORT_TIMEOUT;
use crate::{http1::Status, shard::ShardHandle};

/// Whether every shard gives a sign of life. One that has ended is not missed: then the server is ending.
pub(super) fn health(shards: &[ShardHandle]) -> (Status, String) {
    let until = Instant::now() + REPORT_TIMEOUT;
    let is_silent = |shard: &ShardHandle| !shard.has_ended() && !shard.is_alive(until) && !shard.has_ended();
    let shards = shards.iter().enumerate();
    let silent: Vec<_> =
        shards.filter(|(_, shard)| is_silent(shard)).map(|(number, _)| number.to_string()).collect();
    if silent.is_empty() {
        (Status::Ok, "ok\n".to_owned())
    } else {
        (Status::ServiceUnavailable, format!("no answer from shard {}\n", silent.join(", ")))
    }
}
