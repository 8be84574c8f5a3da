//! Processes this program starts: each leads a process group of its own, so that Ctrl-C at the terminal reaches this program
//! alone and the servers stay until their runs have been reported, and so that what a server starts ends with it.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How often an ending process is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The groups whose leaders have not been reaped.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Kills every group that is left, for a program that ends without running destructors.
pub fn kill_all() {
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if let Some(group) = Pid::from_raw(*group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A process and what it has started. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
    leader: Option<Pid>,
}

impl ProcessGroup {
    /// Starts a command in a group of its own.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // Held while it starts: a group is never missed by `kill_all`.
        let mut groups = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.process_group(0).spawn()?;
        let leader = i32::try_from(child.id()).ok();
        groups.extend(leader);
        Ok(Self { child, leader: leader.and_then(Pid::from_raw) })
    }

    /// The leader's process id.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.leader.map(|leader| leader.as_raw_nonzero().get())
    }

    /// Whether the leader has ended. It stays a zombie until [`terminate`], so that its id names nothing else.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let Some(leader) = self.leader else { return true };
        !matches!(waitid(WaitId::Pid(leader), options), Ok(None))
    }

    /// How the leader ended, if it does within `limit`. Reaps it.
    pub fn status_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_for(std::slice::from_ref(self), limit);
        if !self.has_ended() {
            return None;
        }
        self.reap()
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // Fails where nothing of the group is left.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Kills what is left of the group and takes the leader's status.
    fn reap(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.child.wait().ok();
        if let Some(leader) = self.leader.take() {
            let group = leader.as_raw_nonzero().get();
            RUNNING.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
        }
        status
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if self.leader.is_some() {
            self.reap();
        }
    }
}

/// Ends groups together: waits for `before`, asks those that are left with SIGTERM, waits for `after`, kills and reaps.
pub fn terminate(mut groups: Vec<ProcessGroup>, before: Duration, after: Duration) {
    groups.retain(|group| group.leader.is_some());
    wait_for(&groups, before);
    for group in groups.iter().filter(|group| !group.has_ended()) {
        group.signal(Signal::TERM);
    }
    wait_for(&groups, after);
}

/// Bytes of a file that are read for its last line.
const TAIL_BYTES: u64 = 4 * 1024;

/// A file without a name, for what processes print.
///
/// # Errors
/// When the directory for temporary files takes none.
pub fn unlinked_file() -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("corelane-loadgen-{}-{number}", std::process::id()));
    let file = File::options().read(true).append(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// The last line of a file that is not blank.
#[must_use]
pub fn last_line(mut file: &File) -> Option<String> {
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

fn wait_for(groups: &[ProcessGroup], limit: Duration) {
    let until = Instant::now() + limit;
    while !groups.iter().all(ProcessGroup::has_ended) && Instant::now() < until {
        thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ProcessGroup {
        ProcessGroup::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    fn is_there(pid: i32) -> bool {
        std::fs::exists(format!("/proc/{pid}")).unwrap()
    }

    #[test]
    fn ended_groups_leave_neither_zombies_nor_grandchildren() {
        // It ignores SIGTERM, and so does what it starts.
        let stubborn = shell("trap '' TERM; sleep 1000 & wait; wait");
        let obedient = shell("exec sleep 1000");
        let pids = [stubborn.pid().unwrap(), obedient.pid().unwrap()];
        let children = format!("/proc/{0}/task/{0}/children", pids[0]);
        let grandchild = loop {
            let text = std::fs::read_to_string(&children).unwrap();
            if let Some(pid) = text.split_whitespace().next() {
                break pid.parse::<i32>().unwrap();
            }
            thread::yield_now();
        };
        terminate(vec![stubborn, obedient], Duration::ZERO, Duration::from_millis(100));
        assert!(pids.iter().all(|pid| !is_there(*pid)), "{pids:?}");
        // It has been sent the signal, and whoever is its parent now reaps it.
        let until = Instant::now() + Duration::from_secs(30);
        let is_left = || {
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while is_left() {
            assert!(Instant::now() < until, "{grandchild} is left");
            thread::yield_now();
        }
    }

    #[test]
    fn status_is_known_once_a_leader_has_ended() {
        assert_eq!(shell("exit 3").status_within(Duration::from_secs(60)).unwrap().code(), Some(3));
        assert_eq!(shell("sleep 1000").status_within(Duration::ZERO), None);
    }
}
