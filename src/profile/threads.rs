//! The threads of this process.

use std::{
    fs::{self, File},
    io::{self, Read},
};

/// The threads that a profile samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampledThreads {
    /// Every thread of the process but the one that takes the profile.
    All,
    /// The threads of these shards.
    Shards(Vec<usize>),
}

/// A thread of this process.
pub(super) struct Thread {
    pub(super) tid: i32,
    /// At most 15 bytes: proc_pid_comm(5).
    pub(super) name: String,
}

impl SampledThreads {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Shards(shards) => shard(name).is_some_and(|number| shards.contains(&number)),
        }
    }

    /// The threads that run now, without the calling one.
    ///
    /// # Errors
    /// The list of threads in `/proc` cannot be read.
    pub(super) fn list(&self) -> io::Result<Vec<Thread>> {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let mut threads = Vec::new();
        for entry in fs::read_dir("/proc/self/task")? {
            let Some(tid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if tid == own {
                continue;
            }
            // A thread that has just exited has no name.
            let Ok(name) = name(tid) else { continue };
            if self.includes(&name) {
                threads.push(Thread { tid, name });
            }
        }
        Ok(threads)
    }
}

/// The number of the shard whose thread has this name.
fn shard(name: &str) -> Option<usize> {
    name.strip_prefix("shard-")?.parse().ok()
}

/// The shards without a thread, of these.
pub(super) fn missing(shards: &[usize], threads: &[Thread]) -> Option<usize> {
    let running: Vec<usize> = threads.iter().filter_map(|thread| shard(&thread.name)).collect();
    shards.iter().copied().find(|number| !running.contains(number))
}

fn name(tid: i32) -> io::Result<String> {
    let mut name = Vec::new();
    File::open(format!("/proc/self/task/{tid}/comm"))?.take(64).read_to_end(&mut name)?;
    Ok(String::from_utf8_lossy(&name).trim_end().to_owned())
}
