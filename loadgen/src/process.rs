//! Child processes. Each leads a process group of its own: Ctrl-C at the terminal reaches only this program, so that
//! servers keep running until their runs are reported, and a server's own children end with it.

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

/// Interval at which the state of an ending process is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Ids of the process groups whose leaders have not been reaped.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Kills all remaining process groups, before the program exits without running destructors.
pub fn kill_all() {
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if let Some(group) = Pid::from_raw(*group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A child process and its descendants. Dropping it kills the group and reaps the child.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
    leader: Option<Pid>,
}

impl ProcessGroup {
    /// Starts a command in a process group of its own.
    ///
    /// # Errors
    /// When the command cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // The lock is held until the child is registered, so that `kill_all` never misses it.
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

    /// Whether the leader has exited. It stays a zombie until [`terminate`], so that its id is not reused.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let Some(leader) = self.leader else { return true };
        !matches!(waitid(WaitId::Pid(leader), options), Ok(None))
    }

    /// Returns the leader's exit status if it exits within `limit`, and reaps it.
    pub fn status_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_for(std::slice::from_ref(self), limit);
        if !self.has_ended() {
            return None;
        }
        self.reap()
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // Fails if no process of the group is left.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Kills the rest of the group and returns the leader's exit status.
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

/// Terminates groups together: waits for `before`, sends SIGTERM to the remaining ones, waits for `after`, then kills
/// and reaps.
pub fn terminate(mut groups: Vec<ProcessGroup>, before: Duration, after: Duration) {
    groups.retain(|group| group.leader.is_some());
    wait_for(&groups, before);
    for group in groups.iter().filter(|group| !group.has_ended()) {
        group.signal(Signal::TERM);
    }
    wait_for(&groups, after);
}

/// Number of bytes at the end of a file that are searched for its last line.
const TAIL_BYTES: u64 = 4 * 1024;

/// Creates an unlinked temporary file, for the output of processes.
///
/// # Errors
/// When the directory for temporary files is not writable.
pub fn unlinked_file() -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("corelane-loadgen-{}-{number}", std::process::id()));
    let file = File::options().read(true).append(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Returns the last line of a file that is not blank.
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
    fn terminated_groups_leave_no_process() {
        // Both the process and its child ignore SIGTERM.
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
        // The grandchild has been sent SIGKILL; its new parent reaps it.
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
    fn exit_status_is_returned_within_the_limit() {
        assert_eq!(shell("exit 3").status_within(Duration::from_secs(60)).unwrap().code(), Some(3));
        assert_eq!(shell("sleep 1000").status_within(Duration::ZERO), None);
    }
}
