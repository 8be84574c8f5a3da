//! Rollouts of flags: shares, cohorts, `corelane ctl flags` and `ctl rollout`, and the rollback of a flag whose cohort is worse.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use corelane::{Config, Flag, FlagError, Flags, Percent, Rollout, Running, demo};
use serde_json::{Value, json};
use support::{
    Client, ServerProcess, config_file, corelane, eventually, peer::end, post, run, session::Session,
};

/// A server in this process with two shards.
fn start(rollout: Rollout) -> Running {
    let config = Config {
        listen: ["127.0.0.1:0", "tcp://127.0.0.1:0"].map(|text| text.parse().unwrap()).into(),
        admin: Some("127.0.0.1:0".parse().unwrap()),
        shards: Some(2),
        rollout,
        ..Config::default()
    };
    demo::server().build().start(&config).unwrap()
}

fn metrics(admin: SocketAddr) -> String {
    let mut client = Client::connect(admin);
    let reply = client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").read();
    String::from_utf8(reply.body).unwrap()
}

/// The sum of the samples of a metric that have all these labels.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    });
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Requests that were handled with `zero_copy` on.
fn with_zero_copy(admin: SocketAddr) -> u64 {
    let labels = [("flag", "zero_copy"), ("position", "on")];
    sum(&metrics(admin), "corelane_flag_requests_total", &labels) as u64
}

fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

/// Sets the share of `zero_copy`, and waits until both shards have it, within a second and some for a slow machine.
fn set_share(running: &Running, share: &str) {
    running.set_flag_share(Flag::ZeroCopy, percent(share)).unwrap();
    // A metrics report is a later command of the same queue.
    metrics(running.admin_address().unwrap());
}

fn call(tool: &str, arguments: Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
        .to_string()
}

/// Whether the flag is on for each connection.
fn cohort(admin: SocketAddr, clients: &mut [Client]) -> Vec<bool> {
    let mut before = with_zero_copy(admin);
    let is_on = |client: &mut Client| {
        assert_eq!(client.call("echo", json!({"message": "x"}))["content"][0]["text"], "x");
        let after = with_zero_copy(admin);
        let is_on = after - before == 1;
        before = after;
        is_on
    };
    clients.iter_mut().map(is_on).collect()
}

#[test]
fn share_changes_at_run_time_and_no_connection_leaves_a_growing_cohort() {
    let running = start(Rollout::default());
    let (admin, address) = (running.admin_address().unwrap(), running.addresses()[0]);
    let mut clients: Vec<Client> = (0..24).map(|_| Client::connect(address)).collect();
    assert_eq!(cohort(admin, &mut clients), [true; 24]);
    set_share(&running, "0");
    let mut before = cohort(admin, &mut clients);
    assert_eq!(before, [false; 24]);
    for share in ["25", "50", "75", "100"] {
        set_share(&running, share);
        let now = cohort(admin, &mut clients);
        assert!(before.iter().zip(&now).all(|(before, now)| now >= before), "{share}: {before:?} {now:?}");
        assert_eq!(cohort(admin, &mut clients), now, "{share}: a connection keeps its place");
        if share == "50" {
            let members = now.iter().filter(|is_on| **is_on).count();
            assert!((3..=21).contains(&members), "{now:?}");
            assert_eq!(running.flags(), Flags::ALL.with(Flag::ZeroCopy, false), "on for all");
        }
        before = now;
    }
    assert_eq!(running.flags(), Flags::ALL);
    end(running);
}

#[test]
fn session_is_in_the_same_cohort_on_every_connection_and_shard() {
    let half = Some(Percent::from_hundredths(5_000));
    let running = start(Rollout { zero_copy: half, ..Rollout::default() });
    let (admin, address) = (running.admin_address().unwrap(), running.addresses()[0]);
    let sessions: Vec<Session> = (0..12).map(|_| Session::open(address, "2025-11-25", json!({}))).collect();
    let mut positions = Vec::new();
    for session in &sessions {
        let before = with_zero_copy(admin);
        for id in 0..8 {
            let mut reply = session.call(id, "echo", json!({"message": "x"}));
            assert_eq!(reply.json()["id"], id);
        }
        let on = with_zero_copy(admin) - before;
        assert!(on == 0 || on == 8, "{on} of 8 messages, each on a new connection");
        positions.push(on == 8);
    }
    assert!(positions.contains(&true) && positions.contains(&false), "{positions:?}");
    end(running);
}

#[test]
fn newline_delimited_connection_and_its_batches_keep_their_place() {
    let half = Some(Percent::from_hundredths(5_000));
    let running = start(Rollout { zero_copy: half, ..Rollout::default() });
    let admin = running.admin_address().unwrap();
    let listener = running.listeners()[1].to_string();
    let address = listener.strip_prefix("tcp://").unwrap();
    let mut positions = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut before = with_zero_copy(admin);
        // Whether the flag is on for a line, which is answered with this number of lines.
        let mut is_on = |line: String, answers: usize| {
            stream.write_all(format!("{line}\n").as_bytes()).unwrap();
            (0..answers).for_each(|_| _ = reader.read_line(&mut String::new()).unwrap());
            let after = with_zero_copy(admin);
            let on = after - before;
            before = after;
            assert!(on <= 1, "a batch counts once: {on}");
            on == 1
        };
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params":
            {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}});
        let position = is_on(hello.to_string(), 1);
        let (inline, later) = (call("echo", json!({"message": "x"})), call("sleep", json!({"ms": 1})));
        assert_eq!(is_on(inline.clone(), 1), position);
        assert_eq!(is_on(later.clone(), 1), position);
        assert_eq!(is_on(format!("[{inline},{inline}]"), 1), position);
        assert_eq!(is_on(format!("[{inline},{later},{later}]"), 3), position);
        positions.push(position);
    }
    assert!(positions.contains(&true) && positions.contains(&false), "{positions:?}");
    end(running);
}

#[test]
fn cohorts_have_latencies_errors_and_members_in_the_metrics() {
    let half = Some(Percent::from_hundredths(5_000));
    let running = start(Rollout { zero_copy: half, ..Rollout::default() });
    let (admin, address) = (running.admin_address().unwrap(), running.addresses()[0]);
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        // Inline, later on the shard, later on the pool; and one that fails.
        for body in [call("echo", json!({"message": "x"})), call("sleep", json!({"ms": 1}))] {
            assert_eq!(client.post("", body).status, 200);
        }
        assert_eq!(client.post("", call("digest", json!({"text": "x"}))).status, 200);
        client.post("", call("echo", json!({"message": 5})));
    }
    let text = metrics(admin);
    let of = |name: &str, arm: &str| sum(&text, name, &[("flag", "zero_copy"), ("arm", arm)]);
    let (mut calls, mut members) = (0.0, 0.0);
    for arm in ["cohort", "control"] {
        let of_arm = of("corelane_cohort_duration_seconds_count", arm);
        assert_eq!(of("corelane_cohort_errors_total", arm) * 4.0, of_arm, "a quarter fails: {arm}");
        assert!(of("corelane_cohort_duration_seconds_sum", arm) >= of_arm / 4.0 * 0.001, "{arm}");
        let of_members = of("corelane_cohort_members", arm);
        assert!((of_members - of_arm / 4.0).abs() <= 1.0, "{arm}: {of_members} of {of_arm}");
        (calls, members) = (calls + of_arm, members + of_members);
    }
    assert_eq!(calls, 160.0);
    assert!((39.0..=41.0).contains(&members), "{members}");
    assert_eq!(sum(&text, "corelane_flag_share", &[("flag", "zero_copy")]), 0.5);
    assert_eq!(sum(&text, "corelane_flag_share", &[("flag", "async_tools")]), 1.0);
    assert_eq!(sum(&text, "corelane_flag_rollbacks_total", &[]), 0.0);
    assert!(!text.contains("corelane_cohort_members{flag=\"async_tools\""), "it has no cohort");
    end(running);
}

#[test]
fn call_in_flight_keeps_the_flags_that_it_began_with() {
    let running = start(Rollout { schema_cache: Some(Percent::ZERO), ..Rollout::default() });
    let (admin, address) = (running.admin_address().unwrap(), running.addresses()[0]);
    let misses = || sum(&metrics(admin), "corelane_schema_cache_misses_total", &[]);
    let mut client = Client::connect(address);
    let before = misses();
    // In flight during the change.
    client.send(post("", call("sleep", json!({"ms": 500}))));
    support::await_metric(admin, "corelane_calls_in_flight", 1.0);
    assert_eq!(misses(), before + 1.0);
    running.set_flag(Flag::SchemaCache, true).unwrap();
    assert_eq!(client.read().status, 200);
    assert_eq!(client.post("", call("echo", json!({"message": "x"}))).status, 200);
    assert_eq!(misses(), before + 1.0);
    end(running);
}

#[test]
fn flags_are_refused_beyond_their_range_and_at_run_time_where_they_need_a_restart() {
    let running = start(Rollout::default());
    let refused = running.set_flag_share(Flag::ServerPooling, percent("1")).unwrap_err();
    assert_eq!(refused, FlagError::RestartOnly(Flag::ServerPooling));
    let refused = running.set_flag_share(Flag::ZeroCopy, percent("100.01")).unwrap_err();
    assert!(refused.to_string().contains("0 to 100 %"), "{refused}");
    assert_eq!(running.rearm_flag(Flag::ZeroCopy), Ok(false));
    assert_eq!(running.set_flag_share(Flag::ZeroCopy, percent("0.01")), Ok(Percent::ALL));
    assert_eq!(running.set_flag_share(Flag::ZeroCopy, percent("1")), Ok(percent("0.01")));
    end(running);
}

#[test]
fn rollout_survives_in_check_and_mistakes_are_one_line() {
    let path = config_file("rollout-check", "[rollout]\nzero_copy = 0.25\nschema_cache = 100");
    let (code, stdout, stderr) = run(corelane(&["check", &path]));
    assert_eq!(code, Some(0), "{stderr}");
    for line in ["[rollout]", "zero_copy = 0.25", "schema_cache = 100", "async_tools = \"auto\""] {
        assert!(stdout.lines().any(|written| written == line), "{line}: {stdout}");
    }
    for (name, text, words) in [
        ("name", "zerocopy = 1", "did you mean zero_copy?"),
        ("range", "zero_copy = 101", "out of range: 0 to 100"),
        ("decimals", "zero_copy = 0.005", "two decimals"),
        ("restart", "server_pooling = 1", "at a start only"),
    ] {
        let path = config_file(&format!("rollout-{name}"), &format!("[rollout]\n{text}"));
        let (code, _, stderr) = run(corelane(&["check", &path]));
        assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

/// A server with a control socket in a directory of its own, which is removed when this is dropped.
struct Controlled {
    directory: PathBuf,
    server: Option<ServerProcess>,
}

impl Controlled {
    /// Starts a server with one shard, and a fixed key, so that the cohorts are the same in every run.
    fn start(name: &str, slow_flag: Option<Flag>) -> Self {
        // Short: the path of a socket has at most 107 bytes.
        let directory = std::env::temp_dir().join(format!("clroll-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let key = directory.join("key");
        fs::write(&key, "a key of at least thirty-two bytes").unwrap();
        let mut command = corelane(&["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--secret-file"]);
        command.arg(&key).env("CORELANE_CONTROL", "auto").env("CORELANE_RUNTIME_DIR", &directory);
        if let Some(flag) = slow_flag {
            command.env("CORELANE_FAULT_SLOW_FLAG", flag.name());
        }
        Self { server: Some(ServerProcess::observed(command)), directory }
    }

    fn server(&self) -> &ServerProcess {
        self.server.as_ref().unwrap()
    }

    /// Ends the server, and returns its log.
    fn stop(mut self) -> String {
        let server = self.server.take().unwrap();
        server.signal("-TERM");
        let (status, _, stderr) = server.wait(Duration::from_secs(20));
        assert!(status.success(), "{status} {stderr}");
        stderr
    }

    /// Runs `ctl`: exit code, stdout, stderr.
    fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = corelane(&["ctl"]);
        command.args(arguments).env("CORELANE_RUNTIME_DIR", &self.directory);
        run(command)
    }

    #[track_caller]
    fn text(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.ctl(arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        stdout
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[&["--json"], arguments].concat())).unwrap()
    }

    #[track_caller]
    fn error(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.ctl(arguments);
        assert_eq!(
            (code, stdout.as_str(), stderr.lines().count()),
            (Some(1), "", 1),
            "{arguments:?}: {stderr}"
        );
        stderr
    }

    /// The row of a flag in a reply.
    fn row(&self, command: &str, flag: Flag) -> Value {
        let reply = self.json(&[command]);
        let rows = reply["flags"].as_array().unwrap();
        rows.iter().find(|row| row["flag"] == flag.name()).unwrap().clone()
    }
}

impl Drop for Controlled {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn ctl_shows_and_changes_flags_and_rollouts() {
    let controlled = Controlled::start("ctl", None);
    let mut client = controlled.server().connect();
    client.call("echo", json!({"message": "x"}));
    let text = controlled.text(&["flags"]);
    for (flag, words) in [
        ("zero_copy", vec!["on", "100 %", "1"]),
        ("json_backend", vec!["simd", "100 %"]),
        ("server_pooling", vec!["on", "changed by a restart only"]),
    ] {
        let line = text.lines().find(|line| line.starts_with(flag)).unwrap();
        words.iter().for_each(|word| assert!(line.contains(word), "{word}: {text}"));
    }
    let changed = controlled.text(&["flags", "set", "json_backend", "serde"]);
    assert_eq!(changed, "json_backend: 0 % of the sessions and connections (before: 100 %)\n");
    client.call("echo", json!({"message": "x"}));
    let row = controlled.row("flags", Flag::JsonBackend);
    assert_eq!(
        (&row["position"], &row["requests_on"], &row["requests_off"]),
        (&json!("serde"), &json!(1), &json!(1))
    );
    let changed = controlled.json(&["rollout", "set", "zero_copy", "0.25"]);
    assert_eq!(changed, json!({"flag": "zero_copy", "share_percent": 0.25, "before_percent": 100}));
    assert_eq!(controlled.row("flags", Flag::ZeroCopy)["position"], "cohort");
    client.call("echo", json!({"message": "x"}));
    let row = controlled.row("rollout", Flag::ZeroCopy);
    assert_eq!((&row["state"], &row["share_percent"]), (&json!("rolling_out"), &json!(0.25)));
    let calls = |of: &str| row[of]["calls"].as_u64().unwrap();
    assert_eq!(calls("cohort") + calls("control"), 1, "{row}");
    let text = controlled.text(&["rollout"]);
    for words in ["rolling out", "not enough data", "0.25 %", "since the share was set", "members", "p99"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(controlled.text(&["rollout", "rearm", "zero_copy"]), "zero_copy was not rolled back\n");
    let before = controlled.json(&["rollout"]);
    for (arguments, words) in [
        (&["rollout", "set", "zerocopy", "1"][..], "did you mean zero_copy?"),
        (&["flags", "set", "zerocopy", "on"], "did you mean zero_copy?"),
        (&["rollout", "rearm", "zerocopy"], "did you mean zero_copy?"),
        (&["rollout", "set", "zero_copy", "100.01"], "0 to 100 %"),
        (&["rollout", "set", "zero_copy", "-1"], "0 to 100"),
        (&["rollout", "set", "zero_copy", "0.001"], "two decimals"),
        (&["rollout", "set", "zero_copy", "some"], "\"some\" is not a percentage"),
        (&["flags", "set", "zero_copy", "maybe"], "zero_copy is on or off, not \"maybe\""),
        (&["flags", "set", "server_pooling", "off"], "restart the server"),
        (&["rollout", "set", "server_pooling", "1"], "restart the server"),
        (&["rollout", "rearm", "server_pooling"], "restart the server"),
    ] {
        let line = controlled.error(arguments);
        assert!(line.contains(words), "{arguments:?}: {line}");
    }
    assert_eq!(controlled.json(&["rollout"]), before, "untouched");
    for command in [
        &["flags", "--help"][..],
        &["flags", "set", "--help"],
        &["rollout", "--help"],
        &["rollout", "set", "--help"],
        &["rollout", "rearm", "--help"],
        &["rollout", "show", "--help"],
    ] {
        assert!(controlled.text(command).contains("  corelane ctl "), "{command:?}");
    }
    client.call("echo", json!({"message": "the same connection"}));
    controlled.stop();
}

/// Connections of the load.
const CONNECTIONS: usize = 120;

/// Sends calls of an async tool on many connections while `work` runs, at most `rounds_max` a second on each.
fn under_load<T>(server: &ServerProcess, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    let request = post("", call("sleep", json!({"ms": 0})));
    let drive = || {
        let mut clients: Vec<Client> = (0..CONNECTIONS / 2).map(|_| server.connect()).collect();
        while !is_over.load(Ordering::Relaxed) {
            let began = Instant::now();
            clients.iter_mut().for_each(|client| _ = client.send(&request));
            clients.iter_mut().for_each(|client| assert_eq!(client.read().status, 200));
            thread::sleep(Duration::from_millis(40).saturating_sub(began.elapsed()));
        }
    };
    thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(drive));
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        result
    })
}

#[test]
fn healthy_flag_is_not_rolled_back_on_a_real_server() {
    let controlled = Controlled::start("healthy", None);
    controlled.text(&["rollout", "set", "zero_copy", "20"]);
    under_load(controlled.server(), || {
        let is_compared = || controlled.row("rollout", Flag::ZeroCopy)["verdict"] == "no_difference";
        eventually("a comparison with enough data", is_compared);
        let until = Instant::now() + Duration::from_secs(12);
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(500));
            let row = controlled.row("rollout", Flag::ZeroCopy);
            assert_eq!(row["state"], "rolling_out", "{row}");
        }
    });
    let row = controlled.row("rollout", Flag::ZeroCopy);
    println!("{row}");
    let members = row["cohort"]["members"].as_u64().unwrap();
    assert!((10..=40).contains(&members), "{row}");
    let log = controlled.stop();
    assert!(!log.contains("flag_rolled_back"), "{log}");
}

#[test]
#[cfg_attr(not(feature = "faults"), ignore = "needs the feature faults: scripts/test.sh runs it")]
fn flag_that_slows_its_cohort_is_rolled_back_on_a_real_server_and_stays_off_until_it_is_rearmed() {
    let controlled = Controlled::start("harmed", Some(Flag::ZeroCopy));
    controlled.text(&["rollout", "set", "schema_cache", "20"]);
    let rolled_back = under_load(controlled.server(), || {
        let is_compared = || controlled.row("rollout", Flag::SchemaCache)["verdict"] == "no_difference";
        eventually("a comparison with enough data", is_compared);
        controlled.text(&["rollout", "set", "zero_copy", "20"]);
        let began = Instant::now();
        eventually("the rollback", || controlled.row("rollout", Flag::ZeroCopy)["state"] == "rolled_back");
        began.elapsed()
    });
    println!("rolled back after {:.1} s", rolled_back.as_secs_f64());
    let row = controlled.row("rollout", Flag::ZeroCopy);
    assert_eq!((&row["share_percent"], &row["rollbacks"]), (&json!(0), &json!(1)), "{row}");
    assert!(row["reason"].as_str().unwrap().starts_with('p'), "a percentile: {row}");
    let p50 = |of: &str| row[of]["p50_ns"].as_f64().unwrap();
    assert!(p50("cohort") > p50("control") + 1.5e6, "{row}");
    assert_eq!(controlled.row("rollout", Flag::SchemaCache)["state"], "rolling_out", "the other flag");
    let text = controlled.text(&["rollout"]);
    println!("{text}");
    assert!(text.contains("corelane ctl rollout rearm zero_copy"), "{text}");
    let labels = [("flag", "zero_copy")];
    let rollbacks = || sum(&metrics(controlled.server().admin()), "corelane_flag_rollbacks_total", &labels);
    assert_eq!(rollbacks(), 1.0);
    // All requests have the flag off, and no share is accepted.
    let before = with_zero_copy(controlled.server().admin());
    controlled.server().connect().call("echo", json!({"message": "x"}));
    assert_eq!(with_zero_copy(controlled.server().admin()), before);
    for arguments in [&["rollout", "set", "zero_copy", "1"][..], &["flags", "set", "zero_copy", "on"]] {
        let line = controlled.error(arguments);
        assert!(
            line.contains("was rolled back (p") && line.contains("ctl rollout rearm zero_copy"),
            "{line}"
        );
    }
    assert!(controlled.text(&["rollout", "rearm", "zero_copy"]).contains("may be on again"));
    controlled.text(&["rollout", "set", "zero_copy", "1"]);
    assert_eq!(controlled.row("rollout", Flag::ZeroCopy)["state"], "rolling_out");
    let log = controlled.stop();
    let events: Vec<&str> = log.lines().filter(|line| line.contains("flag_rolled_back")).collect();
    assert_eq!(events.len(), 1, "{log}");
    for word in ["WARN", "zero_copy", "metric=", "cohort=", "control=", "p_value="] {
        assert!(events[0].contains(word), "{word}: {}", events[0]);
    }
}
