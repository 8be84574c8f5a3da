//! `disk_full`: the file system of the log is full. It is a tmpfs of 256 KiB in a mount namespace of the server, which a file fills.
//!
//! - Right refusal: none. Calls are answered as always, here with -32602 for an unknown tool, which is logged.
//! - Detected: `corelane_log_lines_unwritten_total` grows.
//! - Recovered: when the file is removed, the log has a line with the number of lost lines.
//! - Lost: a call without a reply.

use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    definition::{Fault, Log},
    observation::{Failure, Observation},
    scene::{Scene, error_code, patient_reply},
};
use crate::attack::wire::Connection;

/// A script that starts the server, `$@`, with its log on a small file system in the directory `$0`.
pub(super) const MOUNT: &str =
    "mkdir \"$0/disk\" && mount -t tmpfs -o size=256k tmpfs \"$0/disk\" && exec \"$@\" 2>\"$0/disk/log\"";

const METRIC: &str = "corelane_log_lines_unwritten_total";
/// The line that reports lost lines.
const REPORT: &str = "log lines were lost";
/// Minimum number of calls: their lines are longer than the page of the log that is not full. And the pause between two calls.
const CALLS_MIN: usize = 80;
const PAUSE: Duration = Duration::from_millis(2);

pub(super) fn fault() -> Fault {
    Fault {
        settings: &[("log", "level", "\"info\"")],
        log: Log::SmallDisk,
        permitted,
        ..Fault::new("disk_full", "the file system of the log is full, while calls are logged", inject)
    }
}

fn permitted() -> Result<(), String> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "mount", "-t", "tmpfs", "tmpfs"]).arg(std::env::temp_dir());
    let mounted = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_mounted = mounted.is_ok_and(|status| status.success());
    is_mounted.then_some(()).ok_or_else(|| "needs root and unshare to mount a small file system".to_owned())
}

fn inject(scene: &Scene<'_>) -> Result<Observation, Failure> {
    let pid = scene.server.pid().ok_or_else(|| Failure::Failed("the server has ended".to_owned()))?;
    // The directory as the server sees it.
    let disk = PathBuf::from(format!("/proc/{pid}/root{}/disk", scene.directory.display()));
    let (filler, log) = (disk.join("filler"), disk.join("log"));
    let before = scene.sample().sum(METRIC, "");
    let mut connection = scene.connect()?;
    let mut observation = Observation::new("log_lines_unwritten_total", "none: served");
    let until = observation.injected + scene.duration;
    let (filled, shown) = scene.watch(
        |sample| sample.sum(METRIC, "") > before,
        || {
            fill(&filler)?;
            let mut calls = 0;
            while calls < CALLS_MIN || Instant::now() < until {
                calls += 1;
                match call(scene, &mut connection) {
                    Ok(()) => {}
                    Err(error) => observation.lost(1, &error),
                }
                thread::sleep(PAUSE);
            }
            Ok::<_, io::Error>(())
        },
    );
    filled?;
    observation.shown_at(shown);
    fs::remove_file(&filler)?;
    observation.recovered = scene.recover(Instant::now(), || {
        call(scene, &mut connection)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if text.contains(REPORT) { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    });
    Ok(observation)
}

/// Fills the file system with a file.
fn fill(filler: &std::path::Path) -> io::Result<()> {
    let mut file = fs::File::create(filler)?;
    loop {
        match file.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Makes a call that is logged, and checks its reply.
fn call(scene: &Scene<'_>, connection: &mut Connection) -> io::Result<()> {
    connection.send(&scene.call("no_such_tool", &json!({})))?;
    let (head, body) = patient_reply(connection)?;
    if head.status == 200 && error_code(&body) == Some(-32602) {
        return Ok(());
    }
    Err(io::Error::other(format!("status {}: {}", head.status, String::from_utf8_lossy(&body))))
}
