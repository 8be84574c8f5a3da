//! The stages of sampled requests in `/metrics`: each time is in its stage, and a sample stands for its interval.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use corelane::{Limits, NoArguments, Running, Server, ServerBuilder, Tool, demo};
use serde_json::{Value, json};
use support::{
    Client, eventually,
    peer::{Peer, PeerRequest, end, observed_config},
};

/// Time that the tools of these tests take.
const TOOL: Duration = Duration::from_millis(40);

fn start(server: ServerBuilder, interval: u32) -> Running {
    let limits = Limits { stage_sample_interval: interval, ..Limits::default() };
    server.build().start(&observed_config(1, limits)).unwrap()
}

fn admin(running: &Running) -> SocketAddr {
    running.admin_address().unwrap()
}

/// The seconds in a stage of a method, and the number of requests that they stand for.
fn stage(admin: SocketAddr, method: &str, stage: &str) -> (f64, f64) {
    let reply = Client::connect(admin).send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").read();
    let text = String::from_utf8(reply.body).unwrap();
    let value = |kind: &str| {
        let name =
            format!("corelane_stage_duration_seconds_{kind}{{method=\"{method}\",stage=\"{stage}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |value| value.parse().unwrap())
    };
    (value("sum"), value("count"))
}

fn connect(running: &Running) -> Peer {
    Peer::connect(running.addresses()[0])
}

#[test]
fn delay_of_an_inline_an_async_and_a_blocking_tool_is_in_the_stage_where_it_runs() {
    type Declare = fn() -> Tool;
    let tools: [(&str, Declare); 3] = [
        ("run", || Tool::new("tool").run(|_: NoArguments, _| thread::sleep(TOOL))),
        ("run_pending", || {
            Tool::new("tool").run_async(async |_: NoArguments, _| corelane::time::sleep(TOOL).await)
        }),
        ("run_pending", || Tool::new("tool").run_blocking(|_: NoArguments, _| thread::sleep(TOOL))),
    ];
    for (expected, tool) in tools {
        let running = start(Server::builder("stages", "0").tool(tool()), 1);
        let mut peer = connect(&running);
        for _ in 0..3 {
            assert!(peer.request(&PeerRequest::call("tool", json!({}))).error().is_null());
        }
        let admin = admin(&running);
        let of = |name| stage(admin, "tools/call", name);
        // The last send may complete after its client has the reply.
        eventually("three sends", || of("send_wait").1 == 3.0);
        for name in ["receive_wait", "frame", "guard", "decode", "route", "encode", "send_wait", expected] {
            let (seconds, count) = of(name);
            assert_eq!(count, 3.0, "{name}");
            assert_eq!(seconds >= 3.0 * TOOL.as_secs_f64(), name == expected, "{name}: {seconds} s");
        }
        let other = if expected == "run" { "run_pending" } else { "run" };
        assert_eq!(of(other).1, 0.0, "{other}");
        end(running);
    }
}

#[test]
fn sample_stands_for_as_many_requests_as_its_interval() {
    for (interval, samples) in [(0, 0.0), (1, 100.0), (10, 10.0)] {
        let running = start(demo::server(), interval);
        let mut peer = connect(&running);
        for _ in 0..100 {
            peer.request(&PeerRequest::call("echo", json!({"message": "x"})));
        }
        let admin = admin(&running);
        assert_eq!(support::metric(admin, "corelane_stage_samples_total"), samples, "one in {interval}");
        let (_, count) = stage(admin, "tools/call", "decode");
        // The first request is a sample that stands for itself.
        let expected = if interval == 0 { 0.0 } else { 1.0 + (samples - 1.0) * f64::from(interval) };
        assert_eq!(count, expected, "one in {interval}");
        end(running);
    }
}

#[test]
fn pipelined_requests_and_a_request_in_parts_are_sampled() {
    let running = start(demo::server(), 1);
    let admin = admin(&running);
    let echo = PeerRequest::call("echo", json!({"message": "x".repeat(1000)})).bytes();
    let mut peer = connect(&running);
    peer.send([echo.clone(), echo.clone()].concat());
    let mut slow = connect(&running);
    let (first, rest) = echo.split_at(600);
    slow.send(first);
    thread::sleep(TOOL);
    slow.send(rest);
    eventually("three samples", || stage(admin, "tools/call", "send_wait").1 >= 2.0);
    eventually("three samples", || stage(admin, "tools/call", "encode").1 == 3.0);
    let (frame, count) = stage(admin, "tools/call", "frame");
    assert_eq!(count, 3.0);
    assert!(frame < TOOL.as_secs_f64(), "the time between the parts counts: {frame} s");
    end(running);
}

#[test]
fn sampled_request_that_never_ends_does_not_stop_the_sampling() {
    let running = start(demo::server(), 1);
    let mut held = connect(&running);
    held.send("POST /mcp HTTP/1.1\r\nHost: ");
    let mut peer = connect(&running);
    for _ in 0..300 {
        peer.request(&PeerRequest::call("echo", json!({"message": "x"})));
    }
    assert!(stage(admin(&running), "tools/call", "decode").1 > 10.0);
    end(running);
}

#[test]
fn notification_is_timed_while_it_is_written_to_its_subscribers() {
    let running = start(demo::server(), 1);
    let mut listener = connect(&running);
    listener.open(&PeerRequest::listen(json!({"resourceSubscriptions": ["demo://counter"]})));
    let mut peer = connect(&running);
    let touched: Value =
        peer.request(&PeerRequest::call("touch", json!({"uri": "demo://counter"}))).result().clone();
    assert!(touched["isError"].is_null(), "{touched}");
    eventually("a published event", || stage(admin(&running), "other", "publish").1 == 1.0);
    end(running);
}

#[test]
fn polls_of_async_handlers_are_neither_polling_nor_sleep_of_their_shard() {
    const CALLS: u32 = 10;
    let tool = Tool::new("tool").run_async(async |_: NoArguments, _| {
        corelane::time::sleep(Duration::from_millis(1)).await;
        thread::sleep(TOOL);
    });
    let running = start(Server::builder("stages", "0").tool(tool), 1);
    let idle = || -> f64 {
        ["spin", "sleep"]
            .iter()
            .map(|kind| support::metric(admin(&running), &format!("corelane_shard_{kind}_seconds_total")))
            .sum()
    };
    let mut peer = connect(&running);
    let began = Instant::now();
    let before = idle();
    for _ in 0..CALLS {
        assert!(peer.request(&PeerRequest::call("tool", json!({}))).error().is_null());
    }
    let idle = idle() - before;
    let elapsed = began.elapsed();
    // A report comes from the shard, and its last sleep may have begun before it.
    let polls = TOOL * (CALLS - 1);
    assert!(idle + polls.as_secs_f64() <= elapsed.as_secs_f64(), "{idle} s idle of {elapsed:?}");
    end(running);
}
