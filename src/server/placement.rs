//! Which core each shard runs on.

use std::{num::NonZero, thread};

use super::error::StartError;
use crate::config::{Config, ShardPlacement};

/// Which core each shard runs on, and which are left.
pub(super) struct Placements {
    /// One for each shard; of no meaning where they are not pinned.
    pub(super) shards: Vec<usize>,
    /// Where shards that are not pinned may run: all that the process may use.
    pub(super) any: Vec<usize>,
    pub(super) free: Vec<usize>,
    /// Some shards share a core.
    pub(super) shared: bool,
    /// Shards stay on their cores.
    pub(super) pinned: bool,
}

/// One shard for each core that the process may use, or fewer where a CPU quota (cgroup) allows fewer.
pub(super) fn default_shards(config: &Config) -> usize {
    let allowed = thread::available_parallelism().map_or(1, NonZero::get);
    config.cpus.as_ref().map_or(allowed, |cpus| cpus.len().min(allowed.max(1)))
}

impl Placements {
    pub(super) fn choose(config: &Config) -> Result<Self, StartError> {
        let available: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        let cores = config.cpus.clone().unwrap_or_else(|| available.clone());
        if let Some(&core) = cores.iter().find(|core| !available.contains(core)) {
            return Err(StartError::CoreAbsent { core, available: list(&available) });
        }
        let count = config.shards.unwrap_or_else(|| default_shards(config));
        if count == 0 || cores.is_empty() {
            return Err(StartError::Nothing("no shards"));
        }
        let pinned = match config.placement {
            ShardPlacement::Cores => true,
            ShardPlacement::None => false,
            // Fewer shards than cores: other servers choose too, and all would choose the first cores.
            ShardPlacement::Auto => config.cpus.is_some() || count >= cores.len(),
        };
        let shared = count > cores.len();
        if !pinned {
            return Ok(Self { shards: vec![0; count], any: available, free: Vec::new(), shared, pinned });
        }
        let shards: Vec<usize> = cores.iter().copied().cycle().take(count).collect();
        let free = available.into_iter().filter(|core| !shards.contains(core)).collect();
        Ok(Self { shards, any: Vec::new(), free, shared, pinned })
    }

    /// For a process that is one of many and has no core of its own: it goes where there is room, unless configured otherwise, and
    /// does not spin.
    pub(super) fn one_of_many(config: &Config) -> Result<Self, StartError> {
        let chosen = Self::choose(config)?;
        Ok(Self { shared: chosen.shared || !chosen.pinned, ..chosen })
    }

    pub(super) fn describe(&self) -> String {
        let mut cores = if self.pinned { self.shards.clone() } else { self.any.clone() };
        cores.sort_unstable();
        cores.dedup();
        let plural = |count: usize, word: &str| {
            if count == 1 { word.to_owned() } else { format!("{word}s") }
        };
        format!(
            "{} {} on {}{} {}",
            self.shards.len(),
            plural(self.shards.len(), "shard"),
            if self.pinned || cores.len() == 1 { "" } else { "any of " },
            plural(cores.len(), "core"),
            list(&cores)
        )
    }
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
