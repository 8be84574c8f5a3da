//! The server at standard input and output.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::{Command, Stdio};

use support::corelane;

/// Runs to the end without input: exit code, stdout and stderr.
fn told(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn s_02_s_04_the_end_of_input_is_the_end_and_stdout_has_nothing_but_messages() {
    assert_eq!(told(corelane(&["stdio"])), (Some(0), String::new(), String::new()));
    let (code, stdout, stderr) = told(corelane(&["stdio", "--log", "info"]));
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    assert!(stderr.contains("started") && !stderr.contains("listening"), "{stderr}");
}

#[test]
fn it_has_an_admin_interface_only_where_it_is_asked_for_one() {
    let mut command = corelane(&["stdio", "--log", "info", "--config", "corelane.toml"]);
    // Neither the file's nor the environment's: many servers are started this way.
    command.env("CORELANE_ADMIN", "127.0.0.1:0");
    let (code, _, stderr) = told(command);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("admin"), "{stderr}");
    let (code, _, stderr) = told(corelane(&["stdio", "--log", "info", "--admin", "127.0.0.1:0"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("admin=127.0.0.1:"), "{stderr}");
}

#[test]
fn what_is_wrong_with_its_configuration_is_told_in_a_line() {
    let (code, stdout, stderr) = told(corelane(&["stdio", "--config", "/nowhere.toml"]));
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    assert!(stderr.contains("/nowhere.toml"), "{stderr}");
}
