//! Sources of a setting, their precedence, and the errors that an operator receives.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use support::{ServerProcess, config_file, corelane, echo, example, post, run};

/// The error that both `serve` and `check` report for a file.
fn mistake(name: &str, text: &str) -> String {
    let path = config_file(name, text);
    let (code, stdout, stderr) = run(corelane(&["check", &path]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    let served = run(corelane(&["serve", "--config", &path, "--listen", "127.0.0.1:0"]));
    assert_eq!(served, (code, stdout, stderr.clone()));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let line = stderr.trim_end().strip_prefix(&format!("error: {path}: "));
    line.unwrap_or_else(|| panic!("{stderr}")).to_owned()
}

#[test]
fn flag_overrides_environment_which_overrides_file() {
    let path = config_file(
        "precedence",
        "[server]\nlisten = [\"127.0.0.2:0\"]\nshards = 2\nstats = true\n[log]\nlevel = \"info\"",
    );
    let start = |environment: &[(&str, &str)], flags: &[&str]| {
        let mut command = corelane(&["serve"]);
        command.args(flags).envs(environment.iter().copied());
        let server = ServerProcess::spawn(command);
        let (address, ready) = (server.address.ip().to_string(), server.ready.clone());
        server.signal("-TERM");
        let (status, stdout, stderr) = server.wait(Duration::from_secs(15));
        assert!(status.success(), "{stderr}");
        (address, ready, stdout, stderr)
    };

    let (address, ready, stdout, stderr) = start(&[], &["--config", &path]);
    assert_eq!(address, "127.0.0.2");
    assert!(ready.contains("(2 shards"), "{ready}");
    assert!(stdout.contains("connections"), "stats from the file: {stdout:?}");
    assert!(stderr.contains("INFO"), "{stderr:?}");

    let environment = [
        ("CORELANE_CONFIG", path.as_str()),
        ("CORELANE_LISTEN", "127.0.0.3:0,127.0.0.5:0"),
        ("CORELANE_SHARDS", "3"),
        ("CORELANE_CPUS", "0"),
        ("CORELANE_LOG", "off"),
    ];
    let (address, ready, stdout, stderr) = start(&environment, &[]);
    assert_eq!(address, "127.0.0.3");
    assert!(ready.contains("(3 shards on core 0)"), "{ready}");
    assert!(
        stdout.contains("connections"),
        "the file supplies what the environment does not set: {stdout:?}"
    );
    assert!(
        stderr.starts_with("listening on http://127.0.0.5:") && stderr.lines().count() == 1,
        "{stderr:?}"
    );

    let (address, ready, _, stderr) =
        start(&environment, &["--listen", "127.0.0.4:0", "--shards", "1", "--log", "info"]);
    assert_eq!(address, "127.0.0.4");
    assert!(ready.contains("(1 shard on core 0)"), "{ready}");
    assert!(stderr.contains("INFO") && !stderr.contains("listening"), "{stderr:?}");
}

#[test]
fn check_prints_a_configuration_that_checks_identically() {
    let (code, defaults, stderr) = run(corelane(&["check", "corelane.toml"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let path = config_file(
        "round-trip",
        "[server]\ncpus = \"0\"\nspin_us = 0\nadmin = \"none\"\n[http]\nallowed_hosts = [\"a:1\"]\n\
         [limits]\nhead_timeout = \"1500ms\"\nheaders_max = 50",
    );
    let (code, printed, _) = run(corelane(&["check", &path]));
    assert_eq!(code, Some(0));
    let (code, again, _) = run(corelane(&["check", &config_file("round-trip-again", &printed)]));
    assert_eq!((code, &again), (Some(0), &printed));
    let changed: Vec<&str> = printed.lines().filter(|line| !defaults.contains(line)).collect();
    assert_eq!(
        changed,
        [
            "cpus = \"0\"",
            "spin_us = 0",
            "admin = \"none\"",
            "allowed_hosts = [\"a:1\"]",
            "headers_max = 50",
            "head_timeout = \"1s 500ms\"",
        ]
    );
}

#[test]
fn configuration_errors_name_key_line_and_remedy() {
    assert_eq!(
        mistake("unknown", "[limits]\nheaders_max = 64\njson_dept_max = 1"),
        "unknown key limits.json_dept_max (line 3); did you mean json_depth_max?"
    );
    let wrong = mistake("type", "[server]\n\nshards = \"many\"");
    assert!(wrong.starts_with("server.shards (line 3): ") && wrong.contains("\"many\""), "{wrong}");
    assert_eq!(
        mistake("range", "[limits]\nhead_bytes_max = 100000"),
        "limits.head_bytes_max = 100000 (line 2) is out of range: 256 to 65535"
    );
    let origin = mistake("origin", "[http]\nallowed_origins = [\"https://a.example/\"]");
    assert!(
        origin.starts_with("http.allowed_origins (line 2): \"https://a.example/\" has a path"),
        "{origin}"
    );
    assert!(mistake("syntax", "[limits\n").starts_with("line 1 is not TOML: "));
}

#[test]
fn check_lists_all_errors_and_serve_counts_them() {
    let path = config_file("many", "[limits]\nheaders_max = 0\nfoo = 1\nhead_timeout = \"0s\"");
    let (code, _, lines) = run(corelane(&["check", &path]));
    assert_eq!((code, lines.lines().count()), (Some(1), 3), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("error: ")), "{lines}");
    let (code, _, line) = run(corelane(&["serve", "--config", &path]));
    assert_eq!((code, line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.contains("2 more") && line.contains("check"), "{line}");
}

#[test]
fn missing_configuration_file_is_named() {
    for arguments in [["check", "/nowhere.toml"].as_slice(), &["serve", "--config", "/nowhere.toml"]] {
        let (code, _, line) = run(corelane(arguments));
        assert_eq!((code, line.lines().count()), (Some(1), 1), "{line}");
        assert!(line.contains("/nowhere.toml") && line.contains("No such file"), "{line}");
    }
}

#[test]
fn non_loopback_address_needs_allowed_hosts() {
    let (code, _, line) = run(corelane(&["serve", "--listen", "0.0.0.0:0"]));
    assert_eq!((code, line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.contains("[http] allowed_hosts") && line.contains("loopback"), "{line}");

    let path = config_file("hosts", "[http]\nallowed_hosts = [\"mcp.example.com\"]");
    let server = ServerProcess::spawn(corelane(&["serve", "--listen", "0.0.0.0:0", "--config", &path]));
    let mut client = support::Client::connect(([127, 0, 0, 1], server.address.port()).into());
    for (host, status) in [("localhost", 200), ("mcp.example.com:8080", 200), ("evil.example", 403)] {
        let request = String::from_utf8(post("", echo("x"))).unwrap().replace("localhost", host);
        assert_eq!(client.send(request).read().status, status, "{host}");
    }
    drop(client);
    server.stop();
}

#[test]
fn json_log_is_one_object_per_line() {
    let server = ServerProcess::start(&["--shards", "1", "--log", "info", "--log-format", "json"]);
    server.signal("-TERM");
    let (status, _, stderr) = server.wait(Duration::from_secs(15));
    assert!(status.success());
    let lines: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&Value> = lines.iter().map(|line| &line["message"]).collect();
    assert!(messages[0].as_str().unwrap().starts_with("listening on http://127.0.0.1:"), "{stderr}");
    assert_eq!(messages[1..], ["started", "drain began", "drain ended"]);
    assert!(lines.iter().all(|line| line["level"] == "INFO" && line["timestamp"].is_string()), "{stderr}");
    assert_eq!((&lines[1]["name"], &lines[1]["shards"]), (&json!("corelane"), &json!(1)));
    assert_eq!(lines[1]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn server_with_log_off_prints_only_its_addresses() {
    let server = ServerProcess::start(&["--shards", "1", "--log", "off"]);
    assert!(server.ready.starts_with("listening on http://127.0.0.1:"));
    server.connect().call("echo", json!({"message": "x"}));
    server.stop();
}

#[test]
fn server_serves_and_exits_with_an_unread_stderr() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = corelane(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "1",
        "--log",
        "info",
        "--admin",
        "127.0.0.1:0",
    ]);
    command.stdout(Stdio::null()).stderr(writer.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(reader).lines();
    let ready = lines.next().unwrap().unwrap();
    let started = lines.next().unwrap().unwrap();
    let admin = support::admin_address(&started).unwrap_or_else(|| panic!("{started}"));
    // More than the pipe holds: later writes of the server block.
    let (stuck, filled) = std::sync::mpsc::channel();
    thread::spawn(move || while stuck.send(()).is_ok() && writer.write_all(&[b'x'; 1024]).is_ok() {});
    while filled.recv_timeout(Duration::from_millis(300)).is_ok() {}

    let address = ready.strip_prefix("listening on http://").unwrap().split('/').next().unwrap();
    let mut client = support::Client::connect(address.parse().unwrap());
    client.send(post(
        "",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"sleep","arguments":{"ms":1000}}}"#,
    ));
    support::await_metric(admin, "corelane_calls_in_flight", 1.0);
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(client.read().status, 200);
    drop(client);
    // A server that waits for its log would never exit.
    let status = support::exit_status(&mut child, Duration::from_secs(10));
    assert!(status.success(), "{status}");
}

#[test]
fn server_built_on_the_library_prints_its_own_name_and_version() {
    let (code, version, _) = run(example("hello", &["--version"]));
    assert_eq!((code, version.as_str()), (Some(0), "hello 1.0.0\n"));
    let (code, help, _) = run(example("hello", &["--help"]));
    assert_eq!(code, Some(0));
    assert!(help.contains("Usage: hello") && !help.contains("corelane"), "{help}");
    let (_, version, _) = run(corelane(&["--version"]));
    assert_eq!(version, format!("corelane {}\n", env!("CARGO_PKG_VERSION")));
}

/// The cores on which the thread of the first shard may run, and those of the process.
fn cores_of_a_shard(arguments: &[&str]) -> (String, String) {
    let server = ServerProcess::start(arguments);
    let cores = |directory: &std::path::Path| {
        let status = std::fs::read_to_string(directory.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    };
    let process = std::path::PathBuf::from(format!("/proc/{}", server.id()));
    let threads = std::fs::read_dir(process.join("task")).unwrap().map(|entry| entry.unwrap().path());
    let is_shard = |thread: &std::path::PathBuf| {
        std::fs::read_to_string(thread.join("comm")).unwrap().starts_with("shard-0")
    };
    let shard = cores(&threads.into_iter().find(is_shard).unwrap());
    let all = cores(&process);
    server.stop();
    (shard, all)
}

#[test]
fn fewer_shards_than_cores_are_pinned_only_when_configured() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    for arguments in [&["--shards", "1"][..], &["--shards", "1", "--placement", "none"]] {
        let (shard, all) = cores_of_a_shard(arguments);
        assert_eq!(shard, all, "{arguments:?}");
    }
    for arguments in [
        &["--shards", "1", "--placement", "cores"][..],
        &["--shards", "1", "--cpus", "0"],
        &["--shards", "1", "--cpus", "0,1"],
    ] {
        let (shard, all) = cores_of_a_shard(arguments);
        assert!(shard != all && shard.parse::<u32>().is_ok(), "{arguments:?}: {shard} of {all}");
    }
    let (shard, all) = cores_of_a_shard(&["--placement", "none", "--shards", "5"]);
    assert_eq!(shard, all);
}

#[test]
fn empty_environment_variables_count_as_unset() {
    let mut command = corelane(&["serve", "--listen", "127.0.0.1:0", "--shards", "1"]);
    for name in [
        "CONFIG",
        "SHARDS",
        "CPUS",
        "LOG",
        "LOG_FORMAT",
        "ALLOWED_HOSTS",
        "ALLOWED_ORIGINS",
        "SECRET_FILE",
        "LISTEN",
    ] {
        command.env(format!("CORELANE_{name}"), "");
    }
    ServerProcess::spawn(command).stop();
}

#[test]
fn hosts_origins_key_and_log_format_have_flags_and_variables() {
    let key = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("flags.key");
    fs::write(&key, "pZ7p1sC2hA0Z3C0vK9mJw5o8v3m1pX2y").unwrap();
    for by_flag in [true, false] {
        let mut command =
            corelane(&["serve", "--listen", "http://localhost:0/mcp", "--shards", "1", "--log", "info"]);
        for (name, value) in [
            ("allowed-hosts", "a.example,b.example:1"),
            ("allowed-origins", "https://a.example"),
            ("secret-file", key.to_str().unwrap()),
            ("log-format", "json"),
        ] {
            if by_flag {
                command.args([&format!("--{name}"), value]);
            } else {
                command.env(format!("CORELANE_{}", name.replace('-', "_").to_uppercase()), value);
            }
        }
        let server = ServerProcess::spawn(command);
        for (host, status) in [("a.example:9", 200), ("b.example:1", 200), ("b.example:2", 403)] {
            let request = String::from_utf8(post("Origin: https://a.example\r\n", echo("x"))).unwrap();
            assert_eq!(
                server.connect().send(request.replace("localhost", host)).read().status,
                status,
                "{host}"
            );
        }
        server.signal("-TERM");
        let (_, _, stderr) = server.wait(Duration::from_secs(15));
        assert!(stderr.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{stderr}");
    }
    let (code, _, run) = run(corelane(&["serve", "--allowed-hosts", "https://a.example"]));
    assert!(code == Some(2) && run.contains("has a scheme"), "{run}");
}

#[test]
fn start_errors_are_json_when_the_log_is() {
    for arguments in [
        ["serve", "--log-format", "json", "--listen", "0.0.0.0:0"],
        ["serve", "--log-format", "json", "--config", "/nowhere.toml"],
    ] {
        let (code, _, line) = run(corelane(&arguments));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((code, &line["level"]), (Some(1), &json!("ERROR")));
        assert!(line["message"].as_str().unwrap().contains("remedy"), "{line}");
    }
}

#[test]
fn check_reports_each_error_of_serve_on_its_own_line() {
    let path = config_file(
        "unstartable",
        "[server]\nlisten = [\"0.0.0.0:0\", \"tcp://0.0.0.0:0\"]\ncpus = \"4000\"\n[security]\nsecret_file = \"/nowhere.key\"",
    );
    let (code, stdout, stderr) = run(corelane(&["check", &path]));
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 4), "{stderr}");
    for words in [
        ["server.cpus (line 3)", "core 4000"],
        ["server.listen (line 2)", "allowed_hosts"],
        ["server.listen (line 2)", "proxy"],
        ["security.secret_file (line 5)", "No such file"],
    ] {
        assert!(
            stderr.lines().any(|line| words.iter().all(|word| line.contains(word))),
            "{words:?}: {stderr}"
        );
    }
}
