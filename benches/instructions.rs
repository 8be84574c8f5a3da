//! Instructions per request through the path of a request without sockets, bytes in → bytes out.
//!
//! Counted by callgrind over two runs of different length; the difference over the difference in requests leaves out
//! everything that happens once. Unlike a time it repeats to the digit on one machine and build.
//!
//! `cargo bench --bench instructions`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::process::{Command, ExitCode};

use support::{Lane, canonical, legacy};

const REQUESTS: [u64; 2] = [1000, 3000];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, name, count] = arguments.as_slice()
        && command == "run"
    {
        run(name, count.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    println!("instructions per request, bytes in -> bytes out (callgrind)");
    for name in ["canonical", "legacy"] {
        let [few, many] = REQUESTS.map(|count| instructions(name, count));
        let per_request = (many - few) / (REQUESTS[1] - REQUESTS[0]);
        println!("{name:<10} {per_request:>7}");
    }
    ExitCode::SUCCESS
}

/// What is measured, inside callgrind.
fn run(name: &str, count: u64) {
    let request = if name == "legacy" { legacy() } else { canonical() };
    let mut lane = Lane::new();
    let expected = lane.answer(&request).to_vec();
    assert!(expected.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(memchr::memmem::find(&expected, b"\"text\":\"hello world\"").is_some());
    for _ in 0..count {
        // Every reply is checked, from behind its date on.
        let reply = std::hint::black_box(lane.answer(std::hint::black_box(&request)));
        assert!(reply.get(60..) == expected.get(60..));
    }
}

/// Runs this program under callgrind and reads its count.
fn instructions(name: &str, count: u64) -> u64 {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["run", name, &count.to_string()])
        .output()
        .expect("valgrind is needed: apt-get install valgrind");
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    let line = report.lines().find(|line| line.contains("Collected :")).expect("callgrind's summary");
    line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count")
}
