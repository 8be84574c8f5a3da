//! Servers on standard input and output: one process per connection.

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

/// Maximum number of processes of one load.
pub const PROCESSES_MAX: u32 = 1_024;

/// Time limit for a process to exit after its input was closed, and again after SIGTERM (the order of the
/// specification: <https://modelcontextprotocol.io/specification/2025-11-25/basic/lifecycle#stdio>).
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for the exit status of a process that has closed its output.
const STATUS_TIMEOUT: Duration = Duration::from_millis(300);
/// Maximum size of a stderr file, in bytes; a larger file is truncated.
const STDERR_BYTES_MAX: u64 = 1024 * 1024;

/// A command that serves MCP on its standard input and output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    words: Vec<String>,
    /// The cores of this program before it pinned any thread.
    cores: Vec<usize>,
}

impl Program {
    /// Splits a command line into words as a POSIX shell does. The command is started without a shell.
    ///
    /// # Errors
    /// When a quote is not closed, or there is no word.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or("a quote is not closed")?;
        if words.first().is_none_or(String::is_empty) {
            return Err("the command is empty".to_owned());
        }
        Ok(Self { words, cores: available() })
    }

    /// Starts the program on the cores that the generator does not use, or on all cores if it uses all. Input and
    /// output are one socket, which a ring handles like any connection.
    ///
    /// # Errors
    /// When the program cannot be started, or the process has no descriptor left.
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
        // A child inherits the affinity of the thread that starts it, and generator threads are pinned to their own
        // cores.
        let started = thread::scope(|scope| {
            let starting = scope.spawn(|| {
                sched_setaffinity(None, &self.cores_without(generator))?;
                ProcessGroup::start(&mut command)
            });
            starting.join()
        });
        let group = started.map_err(|_| io::Error::other("the starting thread panicked"))??;
        Ok((ours, Process { group, stderr }))
    }

    fn cores_without(&self, generator: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        let usable = self.cores.iter().copied().filter(|core| *core < CpuSet::MAX_CPU);
        usable.clone().filter(|core| !generator.contains(core)).for_each(|core| set.set(core));
        if set.count() == 0 {
            usable.for_each(|core| set.set(core));
        }
        set
    }
}

/// A process that serves one connection. Dropping it kills it; [`terminate_all`] lets it exit first.
#[derive(Debug)]
pub struct Process {
    group: ProcessGroup,
    stderr: File,
}

impl Process {
    /// Describes how a process whose output was closed has exited, with the last line of its stderr.
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

/// Waits for processes whose input was closed, and terminates the remaining ones.
pub fn terminate_all(processes: impl IntoIterator<Item = Process>) {
    let groups: Vec<ProcessGroup> = processes.into_iter().map(|process| process.group).collect();
    process::terminate(groups, TERMINATE_TIMEOUT, TERMINATE_TIMEOUT);
}

/// The processes of one generator thread, by connection. Dropping it terminates them, so it is dropped after their
/// sockets.
#[derive(Debug)]
pub struct Processes {
    program: Program,
    /// The cores of the generator.
    generator: Vec<usize>,
    running: Vec<Option<Process>>,
    /// Processes whose connections were closed, with the time at which that was detected.
    ending: Vec<(Process, Instant)>,
}

impl Processes {
    /// Creates an empty set. `generator`: the cores of the generator's threads.
    #[must_use]
    pub fn new(program: &Program, generator: &[usize]) -> Self {
        Self {
            program: program.clone(),
            generator: generator.to_vec(),
            running: Vec::new(),
            ending: Vec::new(),
        }
    }

    /// Starts the process of a connection. The previous process of this connection is left to exit.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start(&mut self, index: u32) -> io::Result<UnixStream> {
        // Processes that have not exited in time are killed here.
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

    /// Describes how a connection's process has exited.
    pub fn exit_reason(&mut self, index: u32) -> Option<String> {
        Some(self.running.get_mut(index as usize)?.as_mut()?.exit_reason())
    }

    /// Truncates stderr files that have grown too large.
    pub fn truncate_stderr(&self) {
        for process in self.running.iter().flatten() {
            if process.stderr.metadata().is_ok_and(|file| file.len() > STDERR_BYTES_MAX) {
                // The process appends, so that it continues at the beginning of the file.
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
    fn command_line_with_quotes_is_split_like_in_a_shell() {
        let words = |text| Program::parse(text).map(|program| program.words);
        assert_eq!(words(r#"a 'b c' "d\"e" f\ g"#).unwrap(), ["a", "b c", "d\"e", "f g"]);
        for wrong in ["", "  ", "a 'b", "''"] {
            assert!(words(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn exit_reason_contains_status_and_last_line_of_stderr() {
        let (_socket, mut process) =
            Program::parse("sh -c 'echo no such thing >&2; exit 3'").unwrap().start(&[0]).unwrap();
        // The socket is not needed: the test waits for the exit status.
        while !process.group.has_ended() {
            thread::yield_now();
        }
        assert_eq!(process.exit_reason(), "the server ended (exit status: 3): no such thing");
    }
}
