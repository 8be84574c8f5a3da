//! A shard that is stuck in one turn is reported while it is, and no other shard is.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    env,
    io::{self, BufRead, BufReader, Read},
    process::{Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use corelane::{Config, Limits, NoArguments, Prompt, Resource, Running, Server, ServerBuilder, Tool};
use serde_json::json;
use support::{
    await_metric, eventually, metric,
    peer::{Peer, PeerRequest, config, connect_to, end, shard_tool},
};

/// The log of this process. Each test has a process of its own.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        log
    }

    /// The lines about stuck shards.
    fn stuck(&self) -> Vec<String> {
        self.lines("shard_stuck")
    }

    fn lines(&self, kind: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(kind)).map(str::to_owned).collect()
    }
}

fn start(server: ServerBuilder, limits: Limits) -> Running {
    let admin = Some("127.0.0.1:0".parse().unwrap());
    server.build().start(&Config { admin, ..config(2, limits) }).unwrap()
}

#[test]
fn stuck_shard_is_reported_with_its_handler_while_it_is_stuck() {
    let log = Log::capture();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let hold = move || {
        let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(60));
    };
    let (tool, prompt) = (hold.clone(), hold.clone());
    let server = Server::builder("watchdog", "1")
        .tool(shard_tool())
        .tool(Tool::new("holding_tool").run(move |_: NoArguments, _| tool()))
        .prompt(Prompt::new("holding_prompt").run(move |_: NoArguments, _| {
            prompt();
            ""
        }))
        .resource(Resource::new("hold://resource", "hold").run(move |_, _| {
            hold();
            ""
        }));
    let running = start(server, Limits::default());
    let admin = running.admin_address().unwrap();
    let (mut held, mut other) = (connect_to(&running, 0), connect_to(&running, 1));
    let requests = [
        ("tools/call", "holding_tool", PeerRequest::call("holding_tool", json!({}))),
        ("prompts/get", "holding_prompt", PeerRequest::new("prompts/get", json!({"name": "holding_prompt"}))),
        ("resources/read", "hold://resource", PeerRequest::read("hold://resource")),
    ];
    for (method, name, request) in requests {
        let of = || {
            let named = format!("tool=\"{name}\"");
            log.stuck().into_iter().filter(|line| line.contains(&named)).collect::<Vec<_>>()
        };
        held.send(request.bytes());
        eventually("a line at 100 ms and at 1 s", || of().len() == 2);
        for (line, millis) in of().iter().zip([100, 1000]) {
            assert!(line.contains("shard=0"), "{line}");
            assert!(line.contains(&format!("method=\"{method}\"")), "{line}");
            let lasted = line.split("in one turn for ").nth(1).unwrap().split(' ').next().unwrap();
            assert!(lasted.parse::<u64>().unwrap() >= millis, "{line}");
        }
        assert_eq!(metric(admin, "corelane_shard_stuck"), 1.0);
        assert_eq!(other.request(&PeerRequest::call("shard", json!({}))).text(), "1");
        assert_eq!(of().len(), 2);
        release.send(()).unwrap();
        held.answer(&request);
        await_metric(admin, "corelane_shard_stuck", 0.0);
    }
    end(running);
}

#[test]
fn async_handler_that_blocks_in_a_poll_is_reported_with_its_name() {
    let log = Log::capture();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let hold = move || {
        let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(60));
    };
    let (at_once, later) = (hold.clone(), hold.clone());
    let server = Server::builder("watchdog", "1")
        .tool(shard_tool())
        .tool(Tool::new("at_once").run_async(async move |_: NoArguments, _| at_once()))
        .tool(Tool::new("later").run_async(async move |_: NoArguments, _| {
            corelane::time::sleep(Duration::from_millis(1)).await;
            later();
        }))
        .tool(Tool::new("spawning").run_async(async move |_: NoArguments, _| {
            let hold = hold.clone();
            corelane::spawn_local(async move { hold() }).await;
        }));
    let running = start(server, Limits::default());
    let admin = running.admin_address().unwrap();
    let (mut held, mut other) = (connect_to(&running, 0), connect_to(&running, 1));
    for (tool, named) in
        [("at_once", "tool=\"at_once\""), ("later", "tool=\"later\""), ("spawning", "shard_stuck")]
    {
        let before = log.stuck().len();
        let of = || log.stuck().split_off(before);
        let request = PeerRequest::call(tool, json!({}));
        held.send(request.bytes());
        eventually("a line at 100 ms and at 1 s", || of().len() == 2);
        for line in of() {
            assert!(line.contains("shard=0") && line.contains(named), "{line}");
        }
        assert_eq!(metric(admin, "corelane_shard_stuck"), 1.0);
        assert_eq!(other.request(&PeerRequest::call("shard", json!({}))).text(), "1");
        release.send(()).unwrap();
        held.answer(&request);
        await_metric(admin, "corelane_shard_stuck", 0.0);
        let lines = log.lines("slow_turn");
        let last = lines.last().unwrap();
        assert!(last.contains("in one poll") && (last.contains(named) || tool == "spawning"), "{last}");
    }
    assert!(end(running).events("slow_turn") >= 3);
}

#[test]
fn shard_that_waits_is_not_stuck() {
    let log = Log::capture();
    let wait = Tool::new("wait").run_async(async |_: NoArguments, _| {
        corelane::time::sleep(Duration::from_secs(2)).await;
        "waited"
    });
    let block = Tool::new("block").run_blocking(|_: NoArguments, _| {
        thread::sleep(Duration::from_secs(2));
        "blocked"
    });
    let server = Server::builder("watchdog", "1").tool(shard_tool()).tool(wait).tool(block);
    let turn_slow = Duration::from_millis(500);
    let running = start(server, Limits { turn_slow, ..Limits::default() });
    let (mut waiting, mut blocking) = (connect_to(&running, 0), connect_to(&running, 0));
    // Shard 1 is idle.
    let [wait, block] = ["wait", "block"].map(|tool| PeerRequest::call(tool, json!({})));
    waiting.send(wait.bytes());
    blocking.send(block.bytes());
    assert_eq!(waiting.answer(&wait).text(), "waited");
    assert_eq!(blocking.answer(&block).text(), "blocked");
    assert_eq!(log.stuck(), [""; 0]);
    assert_eq!(metric(running.admin_address().unwrap(), "corelane_shard_stuck"), 0.0);
    end(running);
}

/// Makes this process a server that prints its address, and ends when its input does.
fn serve_until_end_of_input(turn_slow: Duration) {
    tracing::subscriber::set_global_default(tracing_subscriber::fmt().with_ansi(false).finish()).unwrap();
    // Many short sleeps, so that the turn goes on after a stop.
    let hold = Tool::new("hold").run(|_: NoArguments, _| {
        (0..50).for_each(|_| thread::sleep(Duration::from_millis(10)));
        "held"
    });
    let running =
        start(Server::builder("watchdog", "1").tool(hold), Limits { turn_slow, ..Limits::default() });
    println!("\naddress {}", running.addresses()[0]);
    let _ = io::stdin().read_line(&mut String::new());
    end(running);
}

#[test]
fn shard_is_not_blamed_for_a_time_in_which_the_process_was_stopped() {
    const ROLE: &str = "WATCHDOG_SERVER";
    const TURN_SLOW: Duration = Duration::from_secs(2);
    if env::var_os(ROLE).is_some() {
        return serve_until_end_of_input(TURN_SLOW);
    }
    let test = "shard_is_not_blamed_for_a_time_in_which_the_process_was_stopped";
    let mut server = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let id = server.id().to_string();
    let signal = |signal: &str| {
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    };
    let mut stdout = BufReader::new(server.stdout.take().unwrap());
    let mut log = String::new();
    let address = loop {
        let start = log.len();
        assert!(stdout.read_line(&mut log).unwrap() > 0, "{log}");
        if let Some(address) = log[start..].strip_prefix("address ") {
            break address.trim().parse().unwrap();
        }
    };
    let (mut client, hold) = (Peer::connect(address), PeerRequest::call("hold", json!({})));
    client.send(hold.bytes());
    thread::sleep(Duration::from_millis(100));
    signal("-STOP");
    // The subject of the test: a time in which neither the shard nor the watchdog runs.
    thread::sleep(TURN_SLOW * 2);
    signal("-CONT");
    assert_eq!(client.answer(&hold).text(), "held");
    drop((client, server.stdin.take()));
    stdout.read_to_string(&mut log).unwrap();
    assert!(server.wait().unwrap().success(), "{log}");
    assert!(log.contains("slow_turn") && !log.contains("shard_stuck"), "{log}");
}
