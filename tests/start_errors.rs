//! What an operator is told when the server cannot start: one line, the remedy in it, exit code 1; 2 for usage.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{net::TcpListener, process::Command};

use support::{ServerProcess, corelane};

/// Runs to the end: exit code and stderr.
fn told(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn one_line(told: (Option<i32>, String), words: &[&str]) {
    let (code, text) = told;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("error: ") && text.lines().count() == 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn a_taken_port_is_named_whoever_has_it() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    one_line(told(corelane(&["serve", "--listen", &address])), &[&address, "in use", "--listen"]);
    // Shards share a port by SO_REUSEPORT; two servers must not.
    let server = ServerProcess::start(&["--shards", "1"]);
    let address = server.address.to_string();
    one_line(told(corelane(&["serve", "--listen", &address])), &[&address, "in use", "--listen"]);
}

#[test]
fn a_core_that_is_not_there_is_named() {
    one_line(
        told(corelane(&["serve", "--listen", "127.0.0.1:0", "--cpus", "0,4000"])),
        &["core 4000", "available: 0", "--cpus"],
    );
}

#[test]
fn an_address_others_could_reach_is_refused() {
    one_line(told(corelane(&["serve", "--listen", "0.0.0.0:0"])), &["0.0.0.0:0", "allowed_hosts"]);
    one_line(told(corelane(&["serve", "--listen", "[::]:0"])), &["[::]:0", "loopback"]);
}

#[test]
fn the_same_address_twice_is_refused() {
    one_line(
        told(corelane(&["serve", "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:1"])),
        &["127.0.0.1:1", "remedy"],
    );
}

#[test]
fn too_little_locked_memory_is_told_with_its_remedy() {
    let mut command = Command::new("prlimit");
    command.args([
        "--memlock=65536:65536",
        env!("CARGO_BIN_EXE_corelane"),
        "serve",
        "--listen",
        "127.0.0.1:0",
    ]);
    one_line(told(command), &["65536 bytes", "ulimit -l"]);
}

/// `strace` stands in for a seccomp filter and for an old kernel: it makes the system call fail as they do.
#[test]
fn a_forbidden_or_missing_io_uring_is_told_with_its_remedy() {
    for (errno, words) in [("EPERM", ["seccomp", "--security-opt"]), ("ENOSYS", ["too old", "6.1"])] {
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-o", "/dev/null", "-e", "trace=io_uring_setup"]);
        command.args(["-e", &format!("inject=io_uring_setup:error={errno}")]);
        command.args([env!("CARGO_BIN_EXE_corelane"), "serve", "--listen", "127.0.0.1:0"]);
        one_line(told(command), &words);
    }
}

#[test]
fn usage_errors_exit_with_two_and_show_the_way() {
    for arguments in [
        &["serve", "--listen", "nonsense"][..],
        &["serve", "--cpus", "3-1"],
        &["serve", "--shards", "0"],
        &["serve", "--lisen", "127.0.0.1:0"],
        &["sevre"],
        &[],
    ] {
        let (code, text) = told(corelane(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains("--help") || text.contains("Usage"), "{arguments:?}: {text}");
    }
    let (_, text) = told(corelane(&["serve", "--lisen", "127.0.0.1:0"]));
    assert!(text.contains("--listen"), "the nearest name is offered: {text}");
}

#[test]
fn too_few_descriptors_for_the_shards_end_the_start_with_a_reason() {
    for descriptors in [50, 60, 70, 80] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={descriptors}:{descriptors}"));
        command.arg(env!("CARGO_BIN_EXE_corelane")).args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--shards",
            "16",
        ]);
        command.env("CORELANE_ADMIN", "none").env("CORELANE_LOG", "off");
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(std::time::Instant::now() < until, "{descriptors} descriptors: neither runs nor ends");
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        let mut told = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut told).unwrap();
        assert_eq!(status.code(), Some(1), "{descriptors}: {told}");
        assert!(told.lines().any(|line| line.starts_with("error: ")), "{descriptors}: {told}");
    }
}
