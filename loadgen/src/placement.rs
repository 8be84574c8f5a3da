//! Assignment of the generator's threads to cores.

use crate::error::LoadError;

/// Maximum number of connections per thread: the ring's table is limited by the process's descriptors, 20,000 on many
/// machines.
const CONNECTIONS_PER_THREAD: u32 = 18_000;

/// The requested threads and cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Number of threads, if given.
    pub threads: Option<usize>,
    /// Cores, if given.
    pub cpus: Option<Vec<usize>>,
}

impl Placement {
    /// Creates a placement, and checks that the cores exist on this machine.
    ///
    /// # Errors
    /// When a core does not exist.
    pub fn new(threads: Option<usize>, cpus: Option<Vec<usize>>) -> Result<Self, LoadError> {
        let available = available();
        if let Some(absent) = cpus.iter().flatten().find(|core| !available.contains(core)) {
            return Err(LoadError::Usage(format!("--cpus: no core {absent}; available: {available:?}")));
        }
        Ok(Self { threads, cpus })
    }

    /// Returns a core for each thread. By default there is one thread, more if the connections need them. Cores are
    /// taken from the last one backwards, because servers use the first ones.
    #[must_use]
    pub fn cores(&self, connections: u32) -> Vec<usize> {
        let needed = connections.div_ceil(CONNECTIONS_PER_THREAD).max(1) as usize;
        let threads = self.threads.unwrap_or(needed).max(needed);
        let cores = match &self.cpus {
            Some(cpus) if !cpus.is_empty() => cpus.clone(),
            _ => {
                let mut cores = available();
                cores.reverse();
                // The first core is left to the server if there is another one.
                if cores.len() > 1 {
                    cores.pop();
                }
                cores
            }
        };
        cores.into_iter().cycle().take(threads).collect()
    }

    /// Whether threads on these cores may spin: only if each thread has a core of its own.
    #[must_use]
    pub fn may_spin(cores: &[usize]) -> bool {
        let mut distinct = cores.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len() == cores.len() && available().len() > 1
    }
}

/// Checks the core of a server.
///
/// # Errors
/// There is no such core.
pub(crate) fn check_server_core(core: usize) -> Result<(), LoadError> {
    let available = available();
    if available.contains(&core) {
        return Ok(());
    }
    Err(LoadError::Usage(format!("--server-core: no core {core}; available: {available:?}")))
}

/// The cores that the current thread may use.
pub(crate) fn available() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let cores: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
    if cores.is_empty() { vec![0] } else { cores }
}
