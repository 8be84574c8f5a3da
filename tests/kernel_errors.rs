//! Errors of `io_uring_enter` that a second attempt does not meet, injected by strace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use support::{Client, ServerProcess, corelane, eventually};

/// strace, attached to every thread of a process.
struct Strace(Child);

impl Drop for Strace {
    fn drop(&mut self) {
        // It detaches; a killed one would leave the process stopped.
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// Makes every seventh `io_uring_enter` of a process fail with `error`. `None`, with a notice, where strace is missing or may
/// not trace.
fn inject(server: &ServerProcess, error: &str) -> Option<Strace> {
    let process = server.id().to_string();
    let inject = format!("inject=io_uring_enter:error={error}:when=7+7");
    let arguments = ["-f", "-p", &process, "-o", "/dev/null", "-e", "trace=io_uring_enter", "-e", &inject];
    let spawned = Command::new("strace").args(arguments).stderr(Stdio::null()).spawn();
    let mut strace = match spawned {
        Ok(strace) => Strace(strace),
        Err(error) => {
            println!("SKIPPED: no strace to inject errors with: {error}");
            return None;
        }
    };
    let tasks = format!("/proc/{process}/task");
    let is_traced = |task: &fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0")
    };
    let mut has_ended = false;
    eventually("strace to attach", || {
        has_ended = strace.0.try_wait().unwrap().is_some();
        has_ended || fs::read_dir(&tasks).unwrap().flatten().all(|task| is_traced(&task))
    });
    if has_ended {
        println!("SKIPPED: strace may not trace this process");
        return None;
    }
    Some(strace)
}

#[test]
fn transient_errors_of_the_kernel_lose_no_call_and_end_no_shard() {
    for error in ["EINTR", "EAGAIN", "EBUSY", "ETIME"] {
        let server = ServerProcess::spawn(corelane(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--shards",
            "2",
            "--log",
            "error",
        ]));
        let Some(strace) = inject(&server, error) else { return };
        for call in 0..40 {
            // A connection each, so that both shards serve some.
            let mut client = Client::connect(server.address);
            let (tool, arguments) =
                if call % 2 == 0 { ("sleep", json!({"ms": 3})) } else { ("echo", json!({"message": "x"})) };
            let result = client.call(tool, arguments);
            assert!(result["content"][0]["text"].is_string(), "{error}: {tool}: {result}");
        }
        drop(strace);
        server.signal("-TERM");
        let (status, _, log) = server.wait(Duration::from_secs(20));
        assert!(status.success(), "{error}: {status} {log}");
    }
}
