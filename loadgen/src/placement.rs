//! Which cores the generator's threads run on.

use crate::error::LoadError;

/// Connections one thread holds: its ring's table is bounded by the process's descriptors, 20,000 on many machines.
const CONNECTIONS_PER_THREAD: u32 = 18_000;

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Threads, if their number was given.
    pub threads: Option<usize>,
    /// Cores, if they were given.
    pub cpus: Option<Vec<usize>>,
}

impl Placement {
    /// What was asked for, if this machine has it.
    ///
    /// # Errors
    /// When a core is not there.
    pub fn new(threads: Option<usize>, cpus: Option<Vec<usize>>) -> Result<Self, LoadError> {
        let available = available();
        if let Some(absent) = cpus.iter().flatten().find(|core| !available.contains(core)) {
            return Err(LoadError::Usage(format!("--cpus: there is no core {absent}, only {available:?}")));
        }
        Ok(Self { threads, cpus })
    }

    /// A core for each thread. Without further words one thread, more where connections need them, from the last core
    /// backwards: servers begin with the first.
    #[must_use]
    pub fn cores(&self, connections: u32) -> Vec<usize> {
        let needed = connections.div_ceil(CONNECTIONS_PER_THREAD).max(1) as usize;
        let threads = self.threads.unwrap_or(needed).max(needed);
        let cores = match &self.cpus {
            Some(cpus) if !cpus.is_empty() => cpus.clone(),
            _ => {
                let mut cores = available();
                cores.reverse();
                // The first core is left to the server where there is another.
                if cores.len() > 1 {
                    cores.pop();
                }
                cores
            }
        };
        cores.into_iter().cycle().take(threads).collect()
    }

    /// Whether threads on these cores may wait without sleeping: only where each has a core for itself.
    #[must_use]
    pub fn may_spin(cores: &[usize]) -> bool {
        let mut distinct = cores.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len() == cores.len() && available().len() > 1
    }
}

/// The cores the current thread may use.
pub(crate) fn available() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let cores: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
    if cores.is_empty() { vec![0] } else { cores }
}
