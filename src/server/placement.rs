//! Assigns shards to cores.
//!
//! Invariants: there is at least one shard; pinned shards have no common core with `free`; unpinned ones have the cores that the
//! process may use, and leave none free.

use std::{num::NonZero, thread};

use super::error::StartError;
use crate::config::{Config, ShardPlacement};

/// The cores of the shards, and the cores that remain for other threads.
pub(super) struct Placements {
    /// The core of each shard; meaningless unless `pinned`.
    pub(super) shards: Vec<usize>,
    /// Cores that the process may use, where shards are not pinned; else empty.
    pub(super) any: Vec<usize>,
    /// Cores without a shard, where shards are pinned; else empty.
    pub(super) free: Vec<usize>,
    /// There are more shards than cores.
    pub(super) shared: bool,
    /// Each shard is pinned to its core.
    pub(super) pinned: bool,
}

/// Default number of shards: the cores that the process may use, or fewer where a CPU quota (cgroup) allows fewer.
fn default_shards(config: &Config) -> usize {
    let allowed = thread::available_parallelism().map_or(1, NonZero::get);
    config.cpus.as_ref().map_or(allowed, |cpus| cpus.len().min(allowed.max(1)))
}

/// Number of shards: one without `performance.server_pooling`.
pub(super) fn shards(config: &Config) -> usize {
    let configured = config.shards.unwrap_or_else(|| default_shards(config));
    if config.performance.server_pooling { configured } else { configured.min(1) }
}

impl Placements {
    /// Assigns the configured number of shards to the configured cores.
    ///
    /// # Errors
    /// A configured core is not available, or there are no shards.
    pub(super) fn choose(config: &Config) -> Result<Self, StartError> {
        let available: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        let cores = config.cpus.clone().unwrap_or_else(|| available.clone());
        if let Some(&core) = cores.iter().find(|core| !available.contains(core)) {
            return Err(StartError::CoreAbsent { core, available: list(&available) });
        }
        let count = shards(config);
        if count == 0 || cores.is_empty() {
            return Err(StartError::Nothing("no shards"));
        }
        let placements = Self::assign(config, available, &cores, count);
        if cfg!(debug_assertions) {
            placements.check_invariants();
        }
        Ok(placements)
    }

    /// Assigns `count` shards to `cores`, which are among those `available`.
    fn assign(config: &Config, available: Vec<usize>, cores: &[usize], count: usize) -> Self {
        let pinned = match config.placement {
            ShardPlacement::Cores => true,
            ShardPlacement::None => false,
            // Fewer shards than cores are not pinned: several such servers would all pin to the first cores.
            ShardPlacement::Auto => config.cpus.is_some() || count >= cores.len(),
        };
        let shared = count > cores.len();
        if !pinned {
            return Self { shards: vec![0; count], any: available, free: Vec::new(), shared, pinned };
        }
        let shards: Vec<usize> = cores.iter().copied().cycle().take(count).collect();
        let free = available.into_iter().filter(|core| !shards.contains(core)).collect();
        Self { shards, any: Vec::new(), free, shared, pinned }
    }

    /// Checks the invariants of the module's documentation.
    ///
    /// # Panics
    /// One of them does not hold.
    fn check_invariants(&self) {
        assert!(!self.shards.is_empty(), "there is no shard");
        if self.pinned {
            assert!(self.any.is_empty(), "pinned shards run on any core");
            assert!(self.shards.iter().all(|core| !self.free.contains(core)), "a shard's core is free");
        } else {
            assert!(!self.any.is_empty(), "unpinned shards have no cores");
            assert!(self.free.is_empty(), "unpinned shards leave cores free");
        }
    }

    /// Placement of a server on stdio, one of many processes on the machine: an unpinned shard counts as sharing its core,
    /// so it does not spin.
    pub(super) fn for_stdio(config: &Config) -> Result<Self, StartError> {
        let chosen = Self::choose(config)?;
        Ok(Self { shared: chosen.shared || !chosen.pinned, ..chosen })
    }

    /// The text in parentheses of the ready line, for example `2 shards on cores 0,1`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_server_pooling_there_is_one_shard() {
        for shards in [None, Some(1), Some(7)] {
            let mut config = Config { shards, ..Config::default() };
            config.performance.server_pooling = false;
            assert_eq!(Placements::choose(&config).unwrap().shards.len(), 1);
        }
        let config = Config { shards: Some(7), ..Config::default() };
        assert_eq!(Placements::choose(&config).unwrap().shards.len(), 7);
    }

    #[test]
    fn broken_invariants_are_found() {
        let pinned =
            || Placements { shards: vec![0, 1], any: vec![], free: vec![2], shared: false, pinned: true };
        let unpinned =
            || Placements { shards: vec![0], any: vec![0, 1], free: vec![], shared: false, pinned: false };
        pinned().check_invariants();
        unpinned().check_invariants();
        for (what, broken) in [
            ("no shard", Placements { shards: vec![], ..pinned() }),
            ("a free core with a shard", Placements { free: vec![1], ..pinned() }),
            ("pinned shards on any core", Placements { any: vec![3], ..pinned() }),
            ("unpinned shards without cores", Placements { any: vec![], ..unpinned() }),
            ("unpinned shards and a free core", Placements { free: vec![1], ..unpinned() }),
        ] {
            assert!(std::panic::catch_unwind(|| broken.check_invariants()).is_err(), "{what} is not found");
        }
    }
}
