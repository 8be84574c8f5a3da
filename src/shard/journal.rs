//! What a shard writes into the log: each kind of line a bounded number of times a second, and nothing at all for a level
//! nobody listens to.

use std::time::Instant;

use tracing::Level;

use crate::log::RateLimit;

pub(super) struct Journal {
    shard: usize,
    limit: RateLimit,
}

/// Writes a line at a level that is only known here; tracing wants it known when compiling.
macro_rules! line {
    ($level:expr, $($field:tt)*) => {
        match $level {
            Level::ERROR => tracing::error!($($field)*),
            Level::WARN => tracing::warn!($($field)*),
            Level::INFO => tracing::info!($($field)*),
            _ => tracing::debug!($($field)*),
        }
    };
}

impl Journal {
    pub(super) fn new(shard: usize, lines_per_second_max: u32) -> Self {
        Self { shard, limit: RateLimit::new(lines_per_second_max) }
    }

    /// Something of this kind happened, perhaps in a tool.
    pub(super) fn note(&mut self, level: Level, kind: &'static str, tool: Option<&str>, now: Instant) {
        if level > tracing::level_filters::LevelFilter::current() {
            return;
        }
        let Some(suppressed) = self.limit.admit(kind, now) else {
            return;
        };
        let shard = self.shard;
        let suppressed = (suppressed > 0).then_some(suppressed);
        line!(level, shard, tool, suppressed, "{kind}");
    }
}
