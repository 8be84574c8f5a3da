//! Servers spoken to over their standard input and output: one process for each connection.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    placement::available,
    process::{self, ProcessGroup, last_line, unlinked_file},
};

/// Processes of one load, at most.
pub const PROCESSES_MAX: u32 = 1_024;

/// How long a process may take to end by itself once its input has ended, and then to obey SIGTERM (the specification's
/// order: <https://modelcontextprotocol.io/specification/2025-11-25/basic/lifecycle#stdio>).
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the exit status of a process that has closed its output is waited for.
const STATUS_TIMEOUT: Duration = Duration::from_millis(300);
/// Bytes of stderr that are kept; beyond them the file is emptied.
const STDERR_BYTES_MAX: u64 = 1024 * 1024;

/// A command that serves MCP on its standard input and output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    words: Vec<String>,
    /// The cores this program may use, before it pins threads to some of them.
    cores: Vec<usize>,
}

impl Program {
    /// Reads a command line, split into words as a POSIX shell does. No shell runs it.
    ///
    /// # Errors
    /// When a quote is not closed, or there is no word.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or("a quote is not closed")?;
        if words.first().is_none_or(String::is_empty) {
            return Err("it names no command".to_owned());
        }
        Ok(Self { words, cores: available() })
    }

    /// Starts it on the cores that `generator` leaves, or on all where it leaves none. Its input and output are one socket: a ring serves it as any connection.
    ///
    /// # Errors
    /// When it cannot be started, or the process has no descriptor left.
    pub fn start(&self, generator: &[usize]) -> io::Result<(UnixStream, Process)> {
        let (program, arguments) =
            self.words.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (ours, theirs) = UnixStream::pair()?;
        let stderr = unlinked_file()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(OwnedFd::from(theirs.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .stderr(stderr.try_clone()?);
        // A child inherits the cores of the thread that starts it, and a generator thread is pinned to its own.
        let started = thread::scope(|scope| {
            let starting = scope.spawn(|| {
                sched_setaffinity(None, &self.cores_without(generator))?;
                ProcessGroup::start(&mut command)
            });
            starting.join()
        });
        let group = started.map_err(|_| io::Error::other("its thread panicked"))??;
        Ok((ours, Process { group, stderr }))
    }

    fn cores_without(&self, generator: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        let known = self.cores.iter().copied().filter(|core| *core < CpuSet::MAX_CPU);
        known.clone().filter(|core| !generator.contains(core)).for_each(|core| set.set(core));
        if set.count() == 0 {
            known.for_each(|core| set.set(core));
        }
        set
    }
}

/// A process that serves one connection. Dropping it kills it; [`terminate_all`] lets it end.
#[derive(Debug)]
pub struct Process {
    group: ProcessGroup,
    stderr: File,
}

impl Process {
    /// How it ended and the last line of its stderr, for a process whose output has ended.
    pub fn exit_reason(&mut self) -> String {
        let status = match self.group.status_within(STATUS_TIMEOUT) {
            Some(status) => format!("the server ended ({status})"),
            None => "the server closed its output".to_owned(),
        };
        match last_line(&self.stderr) {
            Some(line) => format!("{status}: {line}"),
            None => status,
        }
    }
}

/// Lets processes end whose input has ended, together.
pub fn terminate_all(processes: impl IntoIterator<Item = Process>) {
    let groups: Vec<ProcessGroup> = processes.into_iter().map(|process| process.group).collect();
    process::terminate(groups, TERMINATE_TIMEOUT, TERMINATE_TIMEOUT);
}

/// The processes of one generator thread, by connection. Dropping it lets them end, so it is dropped after their sockets.
#[derive(Debug)]
pub struct Processes {
    program: Program,
    /// The generator's cores.
    generator: Vec<usize>,
    running: Vec<Option<Process>>,
    /// Of connections that were closed, and when they were found to be.
    ending: Vec<(Process, Instant)>,
}

impl Processes {
    /// None yet. `generator`: the cores of the generator's threads.
    #[must_use]
    pub fn new(program: &Program, generator: &[usize]) -> Self {
        Self {
            program: program.clone(),
            generator: generator.to_vec(),
            running: Vec::new(),
            ending: Vec::new(),
        }
    }

    /// Starts the process of a connection. One that it had before is let end.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start(&mut self, index: u32) -> io::Result<UnixStream> {
        // Those that have not ended in time are killed.
        self.ending
            .retain(|(process, since)| !process.group.has_ended() && since.elapsed() < TERMINATE_TIMEOUT);
        let (socket, process) = self.program.start(&self.generator)?;
        let slot_index = index as usize;
        if slot_index >= self.running.len() {
            self.running.resize_with(slot_index + 1, || None);
        }
        if let Some(slot) = self.running.get_mut(slot_index) {
            self.ending.extend(slot.replace(process).map(|process| (process, Instant::now())));
        }
        Ok(socket)
    }

    /// How a connection's process ended.
    pub fn exit_reason(&mut self, index: u32) -> Option<String> {
        Some(self.running.get_mut(index as usize)?.as_mut()?.exit_reason())
    }

    /// Empties what processes have written to stderr where it has grown large.
    pub fn truncate_stderr(&self) {
        for process in self.running.iter().flatten() {
            if process.stderr.metadata().is_ok_and(|file| file.len() > STDERR_BYTES_MAX) {
                // The process appends, so that it goes on at the beginning.
                let _ = process.stderr.set_len(0);
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let ending = self.ending.drain(..).map(|(process, _)| process);
        terminate_all(self.running.drain(..).flatten().chain(ending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_split_as_a_shell_does() {
        let words = |text| Program::parse(text).map(|program| program.words);
        assert_eq!(words(r#"a 'b c' "d\"e" f\ g"#).unwrap(), ["a", "b c", "d\"e", "f g"]);
        for wrong in ["", "  ", "a 'b", "''"] {
            assert!(words(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_process_that_ends_says_its_status_and_last_words() {
        let (_socket, mut process) =
            Program::parse("sh -c 'echo no such thing >&2; exit 3'").unwrap().start(&[0]).unwrap();
        // Its socket is of no interest here: the status is waited for.
        while !process.group.has_ended() {
            thread::yield_now();
        }
        assert_eq!(process.exit_reason(), "the server ended (exit status: 3): no such thing");
    }
}
