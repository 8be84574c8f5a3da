//! Start errors: one line with its remedy and exit code 1; exit code 2 for usage errors.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{net::TcpListener, process::Command};

use support::{ServerProcess, corelane};

/// Runs a command to its end: exit code and stderr.
fn run(command: Command) -> (Option<i32>, String) {
    let (code, _, stderr) = support::run(command);
    (code, stderr)
}

fn one_line(output: (Option<i32>, String), words: &[&str]) {
    let (code, text) = output;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("error: ") && text.lines().count() == 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn port_in_use_is_named_in_the_start_error() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    one_line(run(corelane(&["serve", "--listen", &address])), &[&address, "in use", "--listen"]);
    // Shards share a port with SO_REUSEPORT; two servers must not.
    let server = ServerProcess::start(&["--shards", "1"]);
    let address = server.address.to_string();
    one_line(run(corelane(&["serve", "--listen", &address])), &[&address, "in use", "--listen"]);
}

#[test]
fn unavailable_core_is_named_in_the_start_error() {
    one_line(
        run(corelane(&["serve", "--listen", "127.0.0.1:0", "--cpus", "0,4000"])),
        &["core 4000", "available: 0", "--cpus"],
    );
}

#[test]
fn non_loopback_address_without_allowed_hosts_is_rejected() {
    one_line(run(corelane(&["serve", "--listen", "0.0.0.0:0"])), &["0.0.0.0:0", "allowed_hosts"]);
    one_line(run(corelane(&["serve", "--listen", "[::]:0"])), &["[::]:0", "loopback"]);
}

#[test]
fn duplicate_listen_address_is_rejected() {
    one_line(
        run(corelane(&["serve", "--listen", "127.0.0.1:1", "--listen", "127.0.0.1:1"])),
        &["127.0.0.1:1", "remedy"],
    );
}

#[test]
fn insufficient_locked_memory_is_reported_with_its_remedy() {
    let mut command = Command::new("prlimit");
    command.args([
        "--memlock=65536:65536",
        env!("CARGO_BIN_EXE_corelane"),
        "serve",
        "--listen",
        "127.0.0.1:0",
    ]);
    one_line(run(command), &["65536 bytes", "ulimit -l"]);
}

/// `strace` simulates a seccomp filter and a kernel without resources: it makes the system call fail in the same way.
/// Seccomp profiles return EPERM or ENOSYS.
#[test]
fn denied_io_uring_is_reported_with_cause_and_remedy() {
    let profile = "--security-opt seccomp=deploy/seccomp.json";
    for (errno, words) in [
        ("EPERM", ["seccomp profile", profile]),
        ("ENOSYS", ["seccomp profile", profile]),
        ("EINVAL", ["new enough", "remedy"]),
        ("ENOMEM", ["RLIMIT_MEMLOCK", "ulimit -l"]),
        ("EMFILE", ["RLIMIT_NOFILE", "ulimit -n"]),
        ("EIO", ["io_uring could not be set up", "remedy"]),
    ] {
        for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["stdio"]] {
            let mut command = Command::new("strace");
            command.args(["-f", "-q", "-o", "/dev/null", "-e", "trace=io_uring_setup"]);
            command.args(["-e", &format!("inject=io_uring_setup:error={errno}")]);
            command.arg(env!("CARGO_BIN_EXE_corelane")).args(arguments);
            command
                .env("CORELANE_ADMIN", "none")
                .env("CORELANE_CONTROL", "none")
                .stdin(std::process::Stdio::null());
            one_line(run(command), &words);
        }
    }
}

/// A server run by a user with the common limit of 8 MiB of locked memory. The kernel sums locked memory over all
/// processes of a user, so each test uses a separate user.
fn as_user(user: &str, shards: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={user}"),
        "--regid=65534",
        "--clear-groups",
        "prlimit",
        "--memlock=8388608:8388608",
    ]);
    command.args([env!("CARGO_BIN_EXE_corelane"), "serve", "--listen", "127.0.0.1:0", "--shards", shards]);
    command
        .env("CORELANE_ADMIN", "none")
        .env("CORELANE_CONTROL", "none")
        .env("CORELANE_LOG", "off")
        .current_dir("/");
    command
}

#[test]
fn sixteen_shards_start_with_eight_mebibytes_of_locked_memory() {
    let server = ServerProcess::spawn(as_user("65533", "16"));
    assert!(server.ready.contains("(16 shards"), "{}", server.ready);
    server.stop();
}

#[test]
fn excess_locked_memory_is_reported_with_need_limit_and_remedy() {
    one_line(run(as_user("65532", "200")), &["200 shards", "8192 KiB", "ulimit -l", "--shards"]);
}

#[test]
fn low_descriptor_limit_is_reported_with_need_limit_and_remedy() {
    for descriptors in [4, 5, 6, 8, 10, 12, 16, 20, 24, 31] {
        for arguments in [&["serve", "--listen", "127.0.0.1:0", "--shards", "1"][..], &["stdio"]] {
            let mut command = Command::new("prlimit");
            command.arg(format!("--nofile={descriptors}:{descriptors}"));
            command.arg(env!("CARGO_BIN_EXE_corelane")).args(arguments);
            command
                .env("CORELANE_ADMIN", "none")
                .env("CORELANE_CONTROL", "none")
                .stdin(std::process::Stdio::null());
            one_line(run(command), &["1 shards", &format!("may have {descriptors} "), "ulimit -n 32"]);
        }
    }
    for descriptors in [32, 64] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={descriptors}:{descriptors}"));
        command.args([env!("CARGO_BIN_EXE_corelane"), "serve", "--listen", "127.0.0.1:0", "--shards", "1"]);
        command.env("CORELANE_ADMIN", "127.0.0.1:0");
        ServerProcess::spawn(command).stop();
    }
}

#[test]
fn descriptor_limit_below_connections_max_is_a_warning_with_the_number() {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=1000:1000", env!("CARGO_BIN_EXE_corelane"), "serve", "--listen", "127.0.0.1:0"]);
    command.args(["--shards", "1"]).env("CORELANE_ADMIN", "none").env("CORELANE_CONTROL", "none");
    let server = ServerProcess::spawn(command);
    server.signal("-TERM");
    let (_, _, stderr) = server.wait(std::time::Duration::from_secs(15));
    for words in ["allows 935 connections", "connections_max=131072", "ulimit -n 131137"] {
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }
}

#[test]
fn usage_error_exits_with_two_and_prints_usage() {
    for arguments in [
        &["serve", "--listen", "nonsense"][..],
        &["serve", "--cpus", "3-1"],
        &["serve", "--shards", "0"],
        &["serve", "--lisen", "127.0.0.1:0"],
        &["sevre"],
        &[],
    ] {
        let (code, text) = run(corelane(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains("--help") || text.contains("Usage"), "{arguments:?}: {text}");
    }
    let (_, text) = run(corelane(&["serve", "--lisen", "127.0.0.1:0"]));
    assert!(text.contains("--listen"), "the nearest name is suggested: {text}");
}

#[test]
fn descriptor_limit_below_the_need_of_shards_is_a_start_error() {
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
        command.env("CORELANE_ADMIN", "none").env("CORELANE_CONTROL", "none").env("CORELANE_LOG", "off");
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let status = support::exit_status(&mut child, std::time::Duration::from_secs(20));
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{descriptors}: {stderr}");
        assert!(stderr.lines().any(|line| line.starts_with("error: ")), "{descriptors}: {stderr}");
    }
}

#[test]
fn unsafe_secret_file_is_rejected_and_not_overwritten() {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let serve = |path: &str| {
        run(corelane(&["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--secret-file", path]))
    };
    let key = |name: &str, bytes: &[u8], mode: u32| {
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = b"pZ7p1sC2hA0Z3C0vK9mJw5o8v3m1pX2y";
    one_line(serve(&key("zero.key", &[0; 32], 0o600)), &["zero.key", "equal"]);
    one_line(serve(&key("pattern.key", &b"secret".repeat(8), 0o600)), &["pattern of 6"]);
    one_line(serve(&key("short.key", b"secret", 0o600)), &["6 bytes, fewer than 32"]);
    one_line(serve(&key("writable.key", good, 0o622)), &["others may write", "chmod 600"]);
    let fifo = directory.join("fifo.key");
    let _ = fs::remove_file(&fifo);
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.to_str().unwrap(), "/dev/zero", "/dev/null", "/dev", "/tmp/"] {
        one_line(serve(path), &[path, "not a regular file"]);
    }
    one_line(serve("/nowhere/a.key"), &["No such file", "make a key"]);
    let (code, text) = serve("/proc/self/mem");
    assert!(code == Some(1) && !text.contains("> /proc"), "{text}");
    // The warning is written before the start fails for another reason.
    let readable = key("readable.key", good, 0o644);
    let (code, stderr) =
        run(corelane(&["serve", "--listen", "127.0.0.1:0", "--cpus", "4000", "--secret-file", &readable]));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("WARN") && stderr.contains("can be read by others") && stderr.contains("chmod 600"),
        "{stderr}"
    );
}
