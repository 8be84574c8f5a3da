//! The log of the command line, on stderr, and a bound on how often a line is written.

use std::time::{Duration, Instant};
#[cfg(feature = "cli")]
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    cell::Cell,
    io::{self, Write},
    panic,
    sync::{Arc, OnceLock},
};

#[cfg(feature = "cli")]
use tracing::{error, level_filters::LevelFilter, warn};
#[cfg(feature = "cli")]
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

#[cfg(feature = "cli")]
use crate::config::{Log, LogFormat, LogLevel};

/// Starts the log for the whole process. Lines wait for a thread of their own to write them, so that whoever reads stderr
/// slowly delays no shard; beyond `lines_queued_max` they are dropped. What waits is written when the value returned is
/// dropped.
#[cfg(feature = "cli")]
pub(crate) fn start(log: Log, lines_queued_max: usize) -> WorkerGuard {
    let lost = Arc::new(OnceLock::new());
    let writer = TellsLoss { inner: io::stderr(), lost: lost.clone(), told: 0 };
    let (queue, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(lines_queued_max)
        .lossy(true)
        .thread_name("log")
        .finish(writer);
    // Nothing has been logged yet, so the writer has not asked.
    let _ = lost.set(queue.error_counter());
    let level = match log.level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(queue);
    // A program that brought a subscriber keeps it.
    let _ = match log.format {
        LogFormat::Text => tracing::subscriber::set_global_default(lines.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish()),
    };
    log_panics();
    guard
}

#[cfg(feature = "cli")]
thread_local! {
    /// The stack of this thread's last panic, where the log does not have it yet.
    static LAST_PANIC: Cell<Option<Backtrace>> = const { Cell::new(None) };
}

/// Sets a hook that logs each panic, and then calls the hook of the program, if it set one. The standard hook would write to
/// stderr itself, and a tool may panic on a shard.
///
/// With `RUST_BACKTRACE` the line has the stack. Without that variable the stack is only kept, its names unresolved, for
/// [`take_backtrace`]: whether the panic is a fault of the server's is known where it is caught.
#[cfg(feature = "cli")]
fn log_panics() {
    let program = program_hook();
    let is_set = |name| std::env::var_os(name).is_some();
    let is_kept = !is_set("RUST_BACKTRACE") && !is_set("RUST_LIB_BACKTRACE");
    panic::set_hook(Box::new(move |info| {
        let text = info.to_string().replace('\n', " ");
        let remedy = remedy(&text);
        // Captured if RUST_BACKTRACE is set.
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        if is_kept {
            // The thread's locals may be gone.
            let _ = LAST_PANIC.try_with(|last| last.set(Some(Backtrace::force_capture())));
        }
        error!(remedy, backtrace, "{text}");
        if let Some(program) = &program {
            program(info);
        }
    }));
}

/// The stack of the calling thread's last panic. None where it has been logged, where `RUST_BACKTRACE` forbids it, and in a
/// program that does not use [`Server::main`](crate::Server::main): there its own hook reports panics.
#[cfg(feature = "cli")]
pub(crate) fn take_backtrace() -> Option<String> {
    LAST_PANIC.take().map(|backtrace| backtrace.to_string())
}

#[cfg(not(feature = "cli"))]
pub(crate) fn take_backtrace() -> Option<String> {
    None
}

/// What helps against a panic, where that is known: tokio's resources panic on a thread that is none of tokio's.
#[cfg(feature = "cli")]
fn remedy(panic: &str) -> Option<&'static str> {
    let is_tokio = panic.contains("there is no reactor running") || panic.contains("context of a Tokio");
    is_tokio.then_some("declare the tool with run_tokio (feature tokio), which runs it on a tokio runtime")
}

#[cfg(feature = "cli")]
type PanicHook = Box<dyn Fn(&panic::PanicHookInfo<'_>) + Sync + Send>;

/// The hook that the program set; none where it is the standard one.
#[cfg(feature = "cli")]
fn program_hook() -> Option<PanicHook> {
    let hook = panic::take_hook();
    // Now there is none, so this one is the standard one.
    let standard = panic::take_hook();
    #[allow(
        ambiguous_wide_pointer_comparisons,
        reason = "the addresses of what has no size say nothing, the tables do"
    )]
    let is_standard = std::ptr::eq(&raw const *hook, &raw const *standard);
    (!is_standard).then_some(hook)
}

/// Stderr as the log's thread sees it: before a line, it tells how many were lost.
#[cfg(feature = "cli")]
struct TellsLoss<W> {
    inner: W,
    lost: Arc<OnceLock<ErrorCounter>>,
    told: usize,
}

#[cfg(feature = "cli")]
impl<W: Write> Write for TellsLoss<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.told {
            // Queued like any other line, so that it looks like any other.
            warn!(lines = lost - self.told, "log lines were lost: stderr is read too slowly");
            self.told = lost;
        }
        self.inner.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Lets so many lines of each kind through in a second and counts the others.
#[derive(Clone, Debug)]
pub struct RateLimit {
    lines_per_second_max: u32,
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    /// When the second at hand began.
    since: Instant,
    written: u32,
    suppressed: u64,
}

impl RateLimit {
    /// At most `lines_per_second_max` lines of one kind in a second that begins with its first line.
    #[must_use]
    pub fn new(lines_per_second_max: u32) -> Self {
        Self { lines_per_second_max, kinds: Vec::new() }
    }

    /// Whether a line of this kind may be written now, and how many were not since the last that was.
    pub fn admit(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        const SECOND: Duration = Duration::from_secs(1);
        let position = self.kinds.iter().position(|known| known.name == kind).unwrap_or_else(|| {
            self.kinds.push(Kind { name: kind, since: now, written: 0, suppressed: 0 });
            self.kinds.len() - 1
        });
        let kind = self.kinds.get_mut(position)?;
        if now.saturating_duration_since(kind.since) >= SECOND {
            kind.since = now;
            kind.written = 0;
        }
        if kind.written >= self.lines_per_second_max {
            kind.suppressed += 1;
            return None;
        }
        kind.written += 1;
        Some(std::mem::take(&mut kind.suppressed))
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_second_lets_so_many_lines_through_and_the_next_tells_the_rest() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut limit = RateLimit::new(2);
        assert_eq!(limit.admit("a", at(0)), Some(0));
        assert_eq!(limit.admit("a", at(900)), Some(0));
        assert_eq!(limit.admit("a", at(950)), None);
        assert_eq!(limit.admit("a", at(999)), None);
        assert_eq!(limit.admit("a", at(1000)), Some(2));
        assert_eq!(limit.admit("a", at(1001)), Some(0));
        assert_eq!(limit.admit("a", at(1999)), None);
        assert_eq!(limit.admit("a", at(60_000)), Some(1));
    }

    #[test]
    fn kinds_do_not_count_against_each_other() {
        let now = Instant::now();
        let mut limit = RateLimit::new(1);
        assert_eq!(limit.admit("a", now), Some(0));
        assert_eq!(limit.admit("b", now), Some(0));
        assert_eq!(limit.admit("a", now), None);
        assert_eq!(limit.admit("b", now), None);
        assert_eq!(limit.admit("b", now + Duration::from_secs(1)), Some(1));
    }

    #[test]
    fn a_clock_that_stands_still_or_a_limit_of_none_admits_nothing_more() {
        let now = Instant::now();
        let mut limit = RateLimit::new(0);
        assert_eq!(limit.admit("a", now), None);
        assert_eq!(limit.admit("a", now + Duration::from_secs(9)), None);
    }

    #[test]
    fn hook_of_the_program_is_told_from_the_standard_one() {
        assert!(program_hook().is_none());
        panic::set_hook(Box::new(|_| ()));
        assert!(program_hook().is_some());
        assert!(program_hook().is_none(), "it has been taken");
    }

    #[test]
    fn panic_of_a_tokio_resource_has_a_remedy() {
        let told = "there is no reactor running, must be called from the context of a Tokio 1.x runtime";
        assert!(remedy(told).unwrap().contains("run_tokio"));
        assert_eq!(remedy("index out of bounds"), None);
    }

    #[test]
    fn stack_of_a_panic_is_taken_after_it_was_caught_and_names_who_panicked() {
        #[inline(never)]
        fn culprit() {
            panic!("on purpose");
        }
        // Whoever runs the tests may have set it.
        if std::env::var_os("RUST_BACKTRACE").is_some() || std::env::var_os("RUST_LIB_BACKTRACE").is_some() {
            return;
        }
        log_panics();
        assert!(panic::catch_unwind(culprit).is_err());
        assert!(take_backtrace().unwrap().contains("culprit"));
        assert_eq!(take_backtrace(), None, "it has been taken");
    }

    /// Stands for a stderr nobody reads: it takes a line each time it is told to.
    struct Stuck {
        go: mpsc::Receiver<()>,
        out: mpsc::Sender<String>,
    }

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            let _ = self.out.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_stderr_blocks_nobody_and_what_was_lost_is_told() {
        let ((go, going), (out, written)) = (mpsc::channel(), mpsc::channel());
        let lost = Arc::new(OnceLock::new());
        let writer = TellsLoss { inner: Stuck { go: going, out }, lost: lost.clone(), told: 0 };
        let (queue, guard) = NonBlockingBuilder::default().buffered_lines_limit(4).lossy(true).finish(writer);
        lost.set(queue.error_counter()).unwrap();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(queue).finish();
        // For the writer's thread too, which tells the loss. No other test of this process logs.
        tracing::subscriber::set_global_default(subscriber).unwrap();
        let before = Instant::now();
        for number in 0..100 {
            tracing::info!(number, "line");
        }
        assert!(before.elapsed() < Duration::from_secs(5));
        drop(go);
        // The writer may have begun before the last line was logged: then it tells the loss in parts, each with the next line.
        let (mut lines, mut lost) = (0, 0);
        while lines + lost < 100 {
            assert!(before.elapsed() < Duration::from_secs(20), "{lines} lines and {lost} lost ones");
            tracing::info!("another line");
            while let Ok(line) = written.recv_timeout(Duration::from_millis(50)) {
                lines += usize::from(line.contains("line number="));
                let told = line.split("lines=").nth(1).and_then(|rest| rest.trim().parse::<usize>().ok());
                assert_eq!(told.is_some(), line.contains("lines were lost"), "{line}");
                lost += told.unwrap_or(0);
            }
        }
        assert!(lines >= 4 && lost > 0, "{lines} lines and {lost} lost ones");
        drop(guard);
    }
}
