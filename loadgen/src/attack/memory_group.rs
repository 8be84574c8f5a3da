//! Memory control groups of Linux, version 1 and 2.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use super::launch::in_shell;
use crate::error::LoadError;

/// The mount points of the groups of both versions.
const V1: &str = "/sys/fs/cgroup/memory";
const V2: &str = "/sys/fs/cgroup";

/// A control group with a limit on its memory. It is removed on drop.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    /// The file whose line `oom_kill N` contains the number of killed processes.
    kills: &'static str,
}

impl MemoryGroup {
    /// Creates a group.
    ///
    /// # Errors
    /// Where this process may create none: it needs root and the memory controller.
    pub fn new(limit_bytes: u64) -> Result<Self, LoadError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("corelane-attack-{}-{number}", std::process::id());
        let (parent, limit, kills) = if Path::new(V1).join("memory.limit_in_bytes").exists() {
            (V1, "memory.limit_in_bytes", "memory.oom_control")
        } else {
            (V2, "memory.max", "memory.events")
        };
        let group = Self { path: Path::new(parent).join(name), kills };
        let failed = |error: std::io::Error| {
            LoadError::Resource(format!(
                "no memory group of control groups can be made at {}, which needs root and the memory controller: {error}",
                group.path.display()
            ))
        };
        fs::create_dir(&group.path).map_err(failed)?;
        fs::write(group.path.join(limit), limit_bytes.to_string()).map_err(failed)?;
        Ok(group)
    }

    /// A command that starts `inner` in the group.
    pub(super) fn wrap(&self, inner: &Command) -> Command {
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        in_shell(Command::new("sh"), script, &self.path.join("cgroup.procs"), inner)
    }

    /// Number of processes that were killed for lack of memory.
    #[must_use]
    pub fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join(self.kills)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
