//! Log of the command line, on stderr, and a rate limit of log lines.

use std::{
    any::Any,
    io::Write,
    thread,
    time::{Duration, Instant},
};
#[cfg(feature = "cli")]
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    borrow::Cow,
    cell::Cell,
    fmt::Write as _,
    io, panic,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::bounded;

#[cfg(feature = "cli")]
use tracing::{error, warn};
#[cfg(feature = "cli")]
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
#[cfg(feature = "cli")]
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt, registry};

#[cfg(feature = "cli")]
use super::log_level::reloadable;
#[cfg(feature = "cli")]
use crate::config::{Limits, Log, LogFormat};

/// Maximum length of the text of a panic in a log line, in bytes. A handler may put its arguments into it.
const PANIC_BYTES_MAX: usize = 4096;

/// Maximum time to wait for a reader of standard output or error.
const PRINT_MAX: Duration = Duration::from_secs(1);

/// Prints to standard output or error. A closed or full stream loses the text, and one that is not read keeps the caller for
/// [`PRINT_MAX`]: neither may end the server, or stop it from ending.
pub(crate) fn print(mut stream: impl Write + Send + 'static, text: String) {
    let (done, printed) = bounded::<()>(0);
    let printing = thread::Builder::new().name("print".to_owned()).spawn(move || {
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
        drop(done);
    });
    if printing.is_ok() {
        // Closed without a message.
        let _ = printed.recv_timeout(PRINT_MAX);
    }
}

/// Starts the log of the process. A separate thread writes the lines, so that a slow reader of stderr delays no shard. Beyond
/// `log_lines_queued_max` queued lines they are dropped. Dropping the returned guard writes the queued lines.
#[cfg(feature = "cli")]
pub(crate) fn start(log: Log, limits: &Limits) -> WorkerGuard {
    let dropped = Arc::new(OnceLock::new());
    let writer = LineWriter::new(io::stderr(), log.format, dropped.clone());
    let (queue, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(limits.log_lines_queued_max)
        .lossy(true)
        .thread_name("log")
        .finish(writer);
    // Nothing has been logged yet, so the writer has not read the counter.
    let _ = dropped.set(queue.error_counter());
    let (filter, control) = reloadable(log.level);
    let lines = fmt::layer().with_ansi(false).with_writer(queue);
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // A subscriber that the program has installed stays in place.
    if tracing::subscriber::set_global_default(registry().with(filter).with(lines)).is_ok() {
        control.install();
    }
    log_panics(limits.log_lines_per_second_max);
    guard
}

#[cfg(feature = "cli")]
thread_local! {
    /// Backtrace of this thread's last panic, unless it has been logged.
    static LAST_PANIC: Cell<Option<Backtrace>> = const { Cell::new(None) };
}

/// Installs a panic hook that logs each panic, at most `lines_per_second_max` in a second in the whole process, and then calls the
/// program's hook, if there is one. The standard hook would write to stderr from the shard on which a tool panicked.
///
/// With `RUST_BACKTRACE` the line contains the backtrace. Without that variable, and where the line is suppressed, the backtrace is
/// captured without symbols for [`take_backtrace`]: the code that catches the panic logs it if the server is at fault.
#[cfg(feature = "cli")]
fn log_panics(lines_per_second_max: u32) {
    let program = program_hook();
    let is_set = |name| std::env::var_os(name).is_some();
    let is_kept = !is_set("RUST_BACKTRACE") && !is_set("RUST_LIB_BACKTRACE");
    let limit = Mutex::new(RateLimit::new(lines_per_second_max));
    panic::set_hook(Box::new(move |info| {
        let admitted = limit.lock().unwrap_or_else(PoisonError::into_inner).admit("panic", Instant::now());
        // Disabled unless RUST_BACKTRACE is set. Symbols are looked up when it is written.
        let backtrace = Some(Backtrace::capture()).filter(|it| it.status() == BacktraceStatus::Captured);
        let (written, kept) = match admitted {
            Some(_) => (backtrace, is_kept.then(Backtrace::force_capture)),
            None => (None, backtrace.or_else(|| is_kept.then(Backtrace::force_capture))),
        };
        if let Some(kept) = kept {
            // The thread's local storage may have been destroyed.
            let _ = LAST_PANIC.try_with(|last| last.set(Some(kept)));
        }
        if let Some(suppressed) = admitted {
            let text = panic_excerpt(&info.to_string());
            let suppressed = (suppressed > 0).then_some(suppressed);
            error!(
                remedy = remedy(&text),
                backtrace = written.map(|it| it.to_string()),
                suppressed,
                "{text}"
            );
        }
        if let Some(program) = &program {
            program(info);
        }
    }));
}

/// Backtrace of the calling thread's last panic. `None` if it has been logged, if `RUST_BACKTRACE` disables it, and in a
/// program that does not use [`Server::main`](crate::Server::main), whose own hook reports panics.
#[cfg(feature = "cli")]
pub(crate) fn take_backtrace() -> Option<String> {
    LAST_PANIC.take().map(|backtrace| backtrace.to_string())
}

#[cfg(not(feature = "cli"))]
pub(crate) fn take_backtrace() -> Option<String> {
    None
}

/// Remedy for a panic, if one is known: tokio's resources panic on threads outside a tokio runtime.
#[cfg(feature = "cli")]
fn remedy(panic: &str) -> Option<&'static str> {
    let is_tokio = panic.contains("there is no reactor running") || panic.contains("context of a Tokio");
    is_tokio.then_some("declare the tool with run_tokio (feature tokio), which runs it on a tokio runtime")
}

#[cfg(feature = "cli")]
type PanicHook = Box<dyn Fn(&panic::PanicHookInfo<'_>) + Sync + Send>;

/// The panic hook that the program has installed; `None` if it is the standard one.
#[cfg(feature = "cli")]
fn program_hook() -> Option<PanicHook> {
    let hook = panic::take_hook();
    // No hook is installed now, so this call returns the standard one.
    let standard = panic::take_hook();
    #[allow(
        ambiguous_wide_pointer_comparisons,
        reason = "hooks without captures have no distinct address, but their vtables differ"
    )]
    let is_standard = std::ptr::eq(&raw const *hook, &raw const *standard);
    (!is_standard).then_some(hook)
}

/// The text of a caught panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The text of a panic as one line of at most [`PANIC_BYTES_MAX`] bytes.
pub(crate) fn panic_excerpt(text: &str) -> String {
    let end = text.floor_char_boundary(PANIC_BYTES_MAX);
    let (shown, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    shown.replace('\n', " ") + if rest.is_empty() { "" } else { "…" }
}

/// Number of log lines that could not be written to stderr: it is full, or closed.
#[cfg(feature = "cli")]
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// Number of log lines that were not written since the process started, because stderr is full or closed. Lines that were dropped
/// because it is read too slowly are not among them.
#[cfg(feature = "cli")]
pub(crate) fn lines_unwritten() -> u64 {
    UNWRITTEN.load(Ordering::Relaxed)
}

#[cfg(not(feature = "cli"))]
pub(crate) fn lines_unwritten() -> u64 {
    0
}

/// Writer of the log's thread: escapes each line ([`escape`]), and reports the number of lost lines before the next line. Lines are
/// lost if the queue is full, and if stderr is full or closed. A report is queued like any other line, so that it has the same format;
/// one that is dropped is repeated, and contains the total since the start for that reason.
#[cfg(feature = "cli")]
struct LineWriter<W> {
    inner: W,
    format: LogFormat,
    dropped: Arc<OnceLock<ErrorCounter>>,
    dropped_reported: usize,
    unwritten_reported: u64,
    /// Whether the last line was written in part.
    is_torn: bool,
}

#[cfg(feature = "cli")]
impl<W: Write> LineWriter<W> {
    fn new(inner: W, format: LogFormat, dropped: Arc<OnceLock<ErrorCounter>>) -> Self {
        Self { inner, format, dropped, dropped_reported: 0, unwritten_reported: 0, is_torn: false }
    }

    /// Number of lines that were dropped because the queue was full, reports included.
    fn dropped_lines(&self) -> usize {
        self.dropped.get().map_or(0, ErrorCounter::dropped_lines)
    }

    fn report_dropped_lines(&mut self) {
        let total = self.dropped_lines();
        if total > self.dropped_reported {
            warn!(total, "log lines were dropped: stderr is read too slowly");
            // If the report was dropped too, the total has grown.
            self.dropped_reported = total;
        }
    }

    fn report_unwritten_lines(&mut self) {
        let total = lines_unwritten();
        if total > self.unwritten_reported {
            let dropped = self.dropped_lines();
            warn!(total, "log lines were lost: stderr was full or closed");
            if self.dropped_lines() == dropped {
                self.unwritten_reported = total;
            }
        }
    }

    /// Writes a whole line, behind the end of one that was written in part.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.inner.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.inner.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(feature = "cli")]
impl<W: Write> Write for LineWriter<W> {
    /// Writes one whole line, which is how the subscriber and the queue pass it on.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.report_dropped_lines();
        let written = match escape(line, self.format) {
            Cow::Borrowed(line) => self.write_line(line),
            Cow::Owned(escaped) => self.write_line(&escaped),
        };
        if let Err(error) = written {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
            return Err(error);
        }
        self.report_unwritten_lines();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Escapes what could end a line or change how a terminal or a viewer shows it, anywhere but in the line feed at the end: control
/// characters (C0, DEL, C1), line and paragraph separators, and marks of the direction of text. Fields that are formatted with
/// `Debug` have been escaped before; messages and fields that are formatted with `Display` have not. In a JSON line only strings
/// can contain such characters.
#[cfg(feature = "cli")]
fn escape(line: &[u8], format: LogFormat) -> Cow<'_, [u8]> {
    let (text, end) = line.strip_suffix(b"\n").map_or((line, ""), |text| (text, "\n"));
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(line);
    }
    let text = String::from_utf8_lossy(text);
    if !text.contains(is_escaped) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len() + 64);
    for letter in text.chars() {
        // Writing to a String does not fail.
        let _ = match format {
            _ if !is_escaped(letter) => escaped.write_char(letter),
            LogFormat::Text => write!(escaped, "{}", letter.escape_default()),
            // All of them have four digits.
            LogFormat::Json => write!(escaped, "\\u{:04x}", u32::from(letter)),
        };
    }
    Cow::Owned((escaped + end).into_bytes())
}

#[cfg(feature = "cli")]
fn is_escaped(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Rate limit per kind of log line, which counts the suppressed lines.
#[derive(Clone, Debug)]
pub struct RateLimit {
    lines_per_second_max: u32,
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    /// Start of the current second.
    since: Instant,
    written: u32,
    suppressed: u64,
}

impl RateLimit {
    /// Admits at most `lines_per_second_max` lines of one kind in a second, which begins with its first line.
    #[must_use]
    pub fn new(lines_per_second_max: u32) -> Self {
        Self { lines_per_second_max, kinds: Vec::new() }
    }

    /// Returns whether a line of this kind may be written now: `Some` with the number of lines suppressed since the last one, or `None`.
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
    fn lines_beyond_the_rate_are_suppressed_and_counted() {
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
    fn kinds_have_separate_rates() {
        let now = Instant::now();
        let mut limit = RateLimit::new(1);
        assert_eq!(limit.admit("a", now), Some(0));
        assert_eq!(limit.admit("b", now), Some(0));
        assert_eq!(limit.admit("a", now), None);
        assert_eq!(limit.admit("b", now), None);
        assert_eq!(limit.admit("b", now + Duration::from_secs(1)), Some(1));
    }

    #[test]
    fn rate_of_zero_admits_no_line() {
        let now = Instant::now();
        let mut limit = RateLimit::new(0);
        assert_eq!(limit.admit("a", now), None);
        assert_eq!(limit.admit("a", now + Duration::from_secs(9)), None);
    }

    #[test]
    fn program_hook_is_distinguished_from_the_standard_one() {
        assert!(program_hook().is_none());
        panic::set_hook(Box::new(|_| ()));
        assert!(program_hook().is_some());
        assert!(program_hook().is_none(), "it has been taken");
    }

    #[test]
    fn panic_of_a_tokio_resource_has_a_remedy() {
        let message = "there is no reactor running, must be called from the context of a Tokio 1.x runtime";
        assert!(remedy(message).unwrap().contains("run_tokio"));
        assert_eq!(remedy("index out of bounds"), None);
    }

    #[test]
    fn backtrace_of_a_caught_panic_names_the_function() {
        #[inline(never)]
        fn culprit() {
            panic!("on purpose");
        }
        // The environment of the tests may set it.
        if std::env::var_os("RUST_BACKTRACE").is_some() || std::env::var_os("RUST_LIB_BACKTRACE").is_some() {
            return;
        }
        log_panics(1);
        assert!(panic::catch_unwind(culprit).is_err());
        assert!(take_backtrace().unwrap().contains("culprit"));
        assert_eq!(take_backtrace(), None, "it has been taken");
        // Beyond the rate the line is suppressed; a panic of the server is still explained.
        assert!(panic::catch_unwind(culprit).is_err());
        assert!(take_backtrace().unwrap().contains("culprit"));
    }

    #[test]
    fn line_is_escaped_in_both_formats() {
        let controls = "a\r\nb\0\t\u{1b}[31m\u{7f}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{61c}ü\u{200d}";
        let of = |format| {
            String::from_utf8(escape(format!("{controls}\n").as_bytes(), format).into_owned()).unwrap()
        };
        let text = r"a\r\nb\u{0}\t\u{1b}[31m\u{7f}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{61c}";
        assert_eq!(of(LogFormat::Text), format!("{text}ü\u{200d}\n"));
        let json = of(LogFormat::Json);
        let read: String = serde_json::from_str(&format!("\"{}\"", json.trim_end())).unwrap();
        assert_eq!(read, controls);
        for plain in ["", "\n", "plain ~\n", "größer\n", "no line feed"] {
            assert!(matches!(escape(plain.as_bytes(), LogFormat::Text), Cow::Borrowed(_)), "{plain}");
        }
    }

    #[test]
    fn text_of_a_panic_is_cut() {
        assert_eq!(panic_excerpt("a\nb"), "a b");
        let long = panic_excerpt(&"ü".repeat(PANIC_BYTES_MAX));
        assert_eq!((long.len(), long.ends_with("ü…")), (PANIC_BYTES_MAX + "…".len(), true));
    }

    /// Mock of a file on a full disk: it has room for as many bytes as the cell.
    #[derive(Default)]
    struct Disk {
        room: std::rc::Rc<Cell<usize>>,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.room.get().min(bytes.len());
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room.set(self.room.get() - count);
            self.text.extend(bytes.iter().take(count));
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted_and_the_next_one_is_whole() {
        let disk = Disk::default();
        let room = disk.room.clone();
        let mut writer = LineWriter::new(disk, LogFormat::Text, Arc::default());
        let before = lines_unwritten();
        room.set(9);
        assert_eq!(writer.write(b"first\n").unwrap(), 6);
        assert_eq!(writer.write(b"second\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(writer.write(b"third\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((lines_unwritten() - before, writer.unwritten_reported), (2, 0));
        room.set(100);
        assert_eq!(writer.write(b"fourth\n").unwrap(), 7);
        assert_eq!(writer.unwritten_reported - before, 2);
        assert_eq!(String::from_utf8(writer.inner.text).unwrap(), "first\nsec\nfourth\n");
    }

    /// Mock of a stderr that is not read: it accepts one line per message in `go`.
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
    fn stuck_stderr_does_not_block_and_dropped_lines_are_reported() {
        let ((go, going), (out, written)) = (mpsc::channel(), mpsc::channel());
        let dropped = Arc::new(OnceLock::new());
        let inner = Stuck { go: going, out };
        let writer = LineWriter::new(inner, LogFormat::Text, dropped.clone());
        let (queue, guard) = NonBlockingBuilder::default().buffered_lines_limit(4).lossy(true).finish(writer);
        let counter = queue.error_counter();
        dropped.set(counter.clone()).unwrap();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(queue).finish();
        // Global, because the writer's thread logs too. No other test of this process logs.
        tracing::subscriber::set_global_default(subscriber).unwrap();
        let before = Instant::now();
        let log = || (0..100).for_each(|number| tracing::info!(number, "line"));
        log();
        assert!(before.elapsed() < Duration::from_secs(5));
        assert!(counter.dropped_lines() >= 95, "the queue and the writer have 5");
        drop(go);
        // Reports are dropped among these.
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(log))));
        let (mut lines, mut reported) = (0, 0);
        while reported < counter.dropped_lines() {
            let all = counter.dropped_lines();
            assert!(
                before.elapsed() < Duration::from_secs(20),
                "{reported} of {all} dropped lines were reported"
            );
            tracing::info!("another line");
            while let Ok(line) = written.recv_timeout(Duration::from_millis(50)) {
                lines += usize::from(line.contains("line number="));
                let total = line.split("total=").nth(1).and_then(|rest| rest.trim().parse::<usize>().ok());
                assert_eq!(total.is_some(), line.contains("lines were dropped"), "{line}");
                reported = total.unwrap_or(reported);
            }
        }
        assert!(
            (4..405).contains(&lines) && lines + reported >= 500,
            "{lines} lines and {reported} dropped ones"
        );
        drop(guard);
    }
}
