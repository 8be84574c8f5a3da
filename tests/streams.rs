//! Replies that become event streams: progress, log messages, framing, and the state of the connection and the call.
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#receiving-messages>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use corelane::{
    Capability, Contents, Context, Level, Limits, NoArguments, Prompt, ProtocolError, Resource, Server,
    ServerBuilder, Tool, time::sleep,
};
use serde_json::{Value, json};
use support::{
    Client, eventually, modern,
    peer::{Answer, Event, LOG_LEVEL, Peer, PeerRequest, connect, end, start},
};

/// Progress values reported by every kind of handler: increasing, equal, decreasing, not a number, increasing.
macro_rules! steps {
    ($cx:expr) => {{
        for (progress, total, message) in [
            (1.0, Some(4.0), Some("first")),
            (1.0, Some(4.0), Some("again")),
            (0.5, None, None),
            (f64::NAN, None, None),
            (f64::INFINITY, None, None),
            (2.5, Some(f64::NAN), None),
            (4.0, None, Some("a \"line\"\nand another")),
        ] {
            $cx.progress(progress, total, message);
        }
        "done"
    }};
}

const KINDS: &[&str] = &[
    "inline",
    "async",
    "blocking",
    #[cfg(feature = "tokio")]
    "tokio",
];

/// Logs four messages, in any kind of handler.
macro_rules! logs {
    ($cx:ident) => {{
        $cx.log(Level::Debug, "debug");
        $cx.log(Level::Info, json!({"of": "info"}));
        $cx.log_as("motor", Level::Warning, "hot");
        $cx.log(Level::Emergency, "over");
    }};
}

fn server() -> ServerBuilder {
    let server = Server::builder("test", "0")
        .tool(Tool::new("inline").run(|_: NoArguments, cx| steps!(cx)))
        .tool(Tool::new("async").run_async(async |_: NoArguments, cx: Context| {
            let done = steps!(cx);
            sleep(Duration::from_millis(5)).await;
            done
        }))
        .tool(Tool::new("blocking").run_blocking(|_: NoArguments, cx| steps!(cx)))
        .tool(Tool::new("silent").run_async(async |_: NoArguments, _| {
            sleep(Duration::from_millis(5)).await;
            "silence"
        }))
        .tool(Tool::new("logs").run(|_: NoArguments, cx| {
            logs!(cx);
            "logged"
        }))
        .tool(Tool::new("logs_async").run_async(async |_: NoArguments, cx: Context| {
            logs!(cx);
            "logged"
        }))
        .tool(Tool::new("fails").run_async(async |_: NoArguments, cx: Context| {
            cx.progress(1.0, None, None);
            Err::<(), _>(ProtocolError::missing_capability(Capability::Roots))
        }))
        .tool(Tool::new("panics").run_async(async |_: NoArguments, cx: Context| {
            cx.progress(1.0, None, None);
            sleep(Duration::from_millis(1)).await;
            panic!("after it began") as &str
        }))
        .tool(Tool::new("hangs").deadline(Duration::from_millis(100)).run_async(
            async |_: NoArguments, cx: Context| {
                cx.progress(1.0, None, None);
                sleep(Duration::from_secs(60)).await;
                "never"
            },
        ))
        .resource(Resource::new("test://steps", "steps").run_async(async |_uri, cx: Context| {
            cx.progress(1.0, None, None);
            Contents::text("read")
        }))
        .prompt(Prompt::new("steps").run_blocking(|_: NoArguments, cx| {
            cx.progress(1.0, None, None);
            "said"
        }));
    #[cfg(feature = "tokio")]
    let server = server.tool(Tool::new("tokio").run_tokio(|_: NoArguments, cx| async move { steps!(cx) }));
    server
}

fn ask(tool: &str) -> PeerRequest {
    PeerRequest::call(tool, json!({}))
}

/// The progress values in a reply.
fn progress(answer: &Answer) -> Vec<Value> {
    answer.notes().iter().map(|note| note["params"].clone()).collect()
}

#[test]
fn progress_is_sent_for_a_token_and_only_increases() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for tool in KINDS {
        for token in [json!("p1"), json!(7), json!(-1), json!(""), json!("1")] {
            let answer = peer.request(&ask(tool).token(token.clone()));
            assert!(answer.is_stream, "{tool}");
            assert_eq!(
                progress(&answer),
                [
                    json!({"progressToken": token, "progress": 1, "total": 4, "message": "first"}),
                    json!({"progressToken": token, "progress": 2.5}),
                    json!({"progressToken": token, "progress": 4, "message": "a \"line\"\nand another"}),
                ],
                "{tool}"
            );
            assert_eq!(answer.text(), "done");
        }
    }
    end(running);
}

#[test]
fn call_without_a_token_sends_no_progress_and_replies_in_json() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for tool in KINDS {
        let answer = peer.request(&ask(tool));
        assert_eq!(
            (answer.is_stream, answer.header("content-type")),
            (false, Some("application/json")),
            "{tool}"
        );
        assert_eq!((answer.messages.len(), answer.text().as_str()), (1, "done"));
    }
    let answer = peer.request(&ask("silent").token("p").meta(LOG_LEVEL, "debug"));
    assert_eq!((answer.is_stream, answer.text().as_str()), (false, "silence"), "no notification was sent");
    end(running);
}

#[test]
fn progress_token_must_be_a_string_or_integer() {
    let running = start(server(), 1, Limits::default());
    for token in [json!(1.5), json!(true), json!({}), json!([])] {
        let answer = connect(&running).request(&ask("inline").token(token.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{token}");
    }
    end(running);
}

#[test]
fn resources_and_prompts_send_progress() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let read = peer.request(&PeerRequest::read("test://steps").token("r"));
    assert_eq!(progress(&read), [json!({"progressToken": "r", "progress": 1})]);
    assert_eq!(read.result()["contents"][0]["text"], "read");
    let prompt = peer.request(&PeerRequest::new("prompts/get", json!({"name": "steps"})).token("s"));
    assert_eq!(progress(&prompt), [json!({"progressToken": "s", "progress": 1})]);
    assert_eq!(prompt.result()["messages"][0]["content"]["text"], "said");
    end(running);
}

#[test]
fn log_messages_are_sent_only_at_the_level_of_the_request() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let all = [
        json!({"level": "debug", "data": "debug"}),
        json!({"level": "info", "data": {"of": "info"}}),
        json!({"level": "warning", "logger": "motor", "data": "hot"}),
        json!({"level": "emergency", "data": "over"}),
    ];
    for tool in ["logs", "logs_async"] {
        for (level, from) in
            [("debug", 0), ("info", 1), ("notice", 2), ("warning", 2), ("error", 3), ("emergency", 3)]
        {
            let answer = peer.request(&ask(tool).meta(LOG_LEVEL, level));
            let messages: Vec<Value> = answer.notes().iter().map(|note| note["params"].clone()).collect();
            assert!(answer.notes().iter().all(|note| note["method"] == "notifications/message"));
            assert_eq!(messages, all[from..], "{tool} {level}");
        }
        // A request before it named a level, which does not persist: there is no session.
        let answer = peer.request(&ask(tool).token("p"));
        assert_eq!((answer.is_stream, answer.messages.len()), (false, 1), "{tool}");
    }
    assert_eq!(peer.request(&ask("logs").meta(LOG_LEVEL, "verbose")).error()["code"], -32602);
    end(running);
}

#[test]
fn error_after_the_stream_began_is_its_last_event() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let fails = peer.request(&ask("fails").token("p"));
    assert!(fails.is_stream);
    assert_eq!((fails.refused(), fails.messages.len()), ((200, -32021), 2));
    let plain = peer.request(&ask("fails"));
    assert_eq!(
        (plain.is_stream, plain.refused()),
        (false, (400, -32021)),
        "before the stream began the error has a status"
    );
    let panics = peer.request(&ask("panics").token("p"));
    assert_eq!((panics.is_stream, panics.refused(), panics.messages.len()), (true, (200, -32603), 2));
    let hangs = peer.request(&ask("hangs").token("p"));
    assert_eq!((hangs.is_stream, hangs.messages.len()), (true, 2));
    assert_eq!(hangs.result()["isError"], true);
    assert_eq!(peer.request(&ask("inline")).text(), "done", "the connection continues");
    let metrics = end(running);
    assert_eq!((metrics.refusals("tool_panicked"), metrics.refusals("deadline")), (1, 1));
}

#[test]
fn connection_continues_after_a_stream_with_responses_in_order() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let asked: Vec<PeerRequest> = (0..60)
        .map(|number| {
            let ask = ask(KINDS[number % KINDS.len()]).id(number);
            if number % 3 == 2 { ask } else { ask.token(format!("t{number}")) }
        })
        .collect();
    // Pipelined: each waits for the one before it.
    asked.iter().for_each(|ask| {
        peer.send(ask.bytes());
    });
    for (number, ask) in asked.iter().enumerate() {
        let answer = peer.answer(ask);
        assert_eq!(answer.is_stream, number % 3 != 2, "{number}");
        assert_eq!(answer.text(), "done");
        for note in answer.notes() {
            assert_eq!(note["params"]["progressToken"], format!("t{number}"));
        }
    }
    let metrics = end(running);
    assert_eq!(metrics.events("cancelled"), 0);
}

#[test]
fn stream_with_connection_close_ends_the_connection() {
    let running = start(server(), 1, Limits::default());
    for tool in KINDS {
        let mut peer = connect(&running);
        let answer = peer.request(&ask(tool).token("p").header("Connection: close"));
        assert_eq!((answer.is_stream, answer.header("connection")), (true, Some("close")), "{tool}");
        peer.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(peer.is_closed(), "{tool}");
    }
    end(running);
}

#[test]
fn events_are_sent_only_to_clients_that_accept_them() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for (accept, streams) in [
        ("application/json, text/event-stream", true),
        ("text/*", true),
        ("*/*", true),
        ("TEXT/EVENT-STREAM;q=0.9", true),
        ("application/json", false),
        ("application/json, text/html", false),
    ] {
        for tool in KINDS.iter().chain(&["logs", "logs_async"]) {
            let asked = ask(tool).token("p").meta(LOG_LEVEL, "debug").header(&format!("Accept: {accept}"));
            let answer = peer.request(&asked);
            assert_eq!(answer.is_stream, streams, "{tool} {accept}");
            assert_eq!(answer.messages.len() > 1, streams, "{tool} {accept}");
        }
    }
    end(running);
}

#[test]
fn http_1_0_stream_is_not_chunked() {
    let running = start(server(), 1, Limits::default());
    for tool in KINDS.iter().chain(&["logs", "logs_async"]) {
        let mut peer = connect(&running);
        let answer = peer.request(&ask(tool).token("p").meta(LOG_LEVEL, "debug").http_1_0());
        assert_eq!((answer.status, answer.is_stream, answer.messages.len()), (200, false, 1), "{tool}");
        assert_eq!(answer.header("transfer-encoding"), None, "{tool}");
        assert!(peer.is_closed(), "{tool}");
    }
    // HTTP/1.0 has no other way to end this reply.
    let mut peer = connect(&running);
    let listen = PeerRequest::listen(json!({"toolsListChanged": true})).http_1_0();
    peer.send(listen.bytes());
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut peer.stream, &mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 505 "), "{reply}");
    end(running);
}

#[test]
fn events_are_sent_before_the_call_completes() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let tool = Tool::new("waits").run_blocking(move |_: NoArguments, cx| {
        cx.progress(1.0, None, None);
        while !opened.load(Ordering::Relaxed) && !cx.is_cancelled() {
            thread::sleep(Duration::from_millis(1));
        }
        "done"
    });
    let running = start(Server::builder("test", "0").tool(tool), 1, Limits::default());
    let mut peer = connect(&running);
    peer.open(&ask("waits").token("p"));
    assert_eq!(peer.message()["params"]["progress"], 1);
    peer.expect_quiet(Duration::from_millis(100));
    gate.store(true, Ordering::Relaxed);
    assert_eq!(peer.message()["result"]["content"][0]["text"], "done");
    assert_eq!(peer.event(), None);
    end(running);
}

#[test]
fn slow_call_sends_keep_alives_on_its_stream() {
    let slow = Tool::new("slow").run_async(async |_: NoArguments, cx: Context| {
        cx.progress(1.0, None, None);
        sleep(Duration::from_millis(1000)).await;
        "slept"
    });
    let limits = Limits { stream_keep_alive: Duration::from_millis(100), ..Limits::default() };
    let running = start(Server::builder("test", "0").tool(slow), 1, limits);
    let mut peer = connect(&running);
    for _ in 0..2 {
        peer.open(&ask("slow").token("p"));
        let mut signs = 0;
        let answer = loop {
            match peer.event().expect("it ended without an answer") {
                Event::Comment => signs += 1,
                Event::Message(message) if message.get("id").is_some() => break message,
                Event::Message(_) => {}
            }
        };
        assert_eq!(answer["result"]["content"][0]["text"], "slept");
        assert!(signs >= 2, "{signs}");
        assert_eq!(peer.event(), None, "the stream ends with the response");
        // Idle for longer than the keep-alive interval under test: the connection is still open.
        thread::sleep(Duration::from_millis(400));
    }
    end(running);
}

#[test]
fn thousand_messages_arrive_in_order_before_the_response() {
    const COUNT: u32 = 1000;
    let report =
        |cx: &corelane::RemoteContext| (1..=COUNT).for_each(|step| cx.progress(f64::from(step), None, None));
    let server = Server::builder("test", "0")
        .tool(Tool::new("inline").run(|_: NoArguments, cx| {
            (1..=COUNT).for_each(|step| cx.progress(f64::from(step), None, None));
        }))
        .tool(Tool::new("async").run_async(async |_: NoArguments, cx: Context| {
            for step in 1..=COUNT {
                cx.progress(f64::from(step), None, None);
                if step % 100 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }))
        .tool(Tool::new("blocking").run_blocking(move |_: NoArguments, cx| report(&cx)));
    let running = start(server, 1, Limits::default());
    // Several calls at once, so that their messages interleave.
    thread::scope(|scope| {
        for tool in ["inline", "async", "blocking", "async", "blocking"] {
            let running = &running;
            scope.spawn(move || {
                let answer = connect(running).request(&ask(tool).token(tool));
                let progress: Vec<u64> =
                    answer.notes().iter().map(|note| note["params"]["progress"].as_u64().unwrap()).collect();
                assert!(progress.iter().copied().eq(1..=u64::from(COUNT)), "{tool}: {progress:?}");
            });
        }
    });
    end(running);
}

/// Decrements a counter on drop.
struct ActiveCount(Arc<AtomicUsize>);

impl ActiveCount {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for ActiveCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn closed_stream_cancels_its_call() {
    let inside = Arc::new(AtomicUsize::new(0));
    let (one, two) = (Arc::clone(&inside), Arc::clone(&inside));
    let server = Server::builder("test", "0")
        .tool(Tool::new("async").run_async(async move |_: NoArguments, cx: Context| {
            let _guest = ActiveCount::new(&one);
            for step in 1_u32.. {
                cx.progress(f64::from(step), None, None);
                sleep(Duration::from_millis(5)).await;
            }
        }))
        .tool(Tool::new("blocking").run_blocking(move |_: NoArguments, cx| {
            let _guest = ActiveCount::new(&two);
            for step in 1_u32.. {
                if cx.is_cancelled() {
                    break;
                }
                cx.progress(f64::from(step), None, None);
                thread::sleep(Duration::from_millis(5));
            }
        }));
    #[cfg(feature = "tokio")]
    let server = {
        let three = Arc::clone(&inside);
        server.tool(Tool::new("tokio").run_tokio(move |_: NoArguments, cx| {
            let guest = ActiveCount::new(&three);
            async move {
                let _guest = guest;
                for step in 1_u32.. {
                    cx.progress(f64::from(step), None, None);
                    tokio_sleep().await;
                }
            }
        }))
    };
    let running = start(server, 1, Limits::default());
    let kinds: Vec<&str> = KINDS.iter().copied().filter(|kind| *kind != "inline").collect();
    for tool in &kinds {
        for ends in ["close", "half", "reset"] {
            let mut peer = connect(&running);
            peer.open(&ask(tool).token("p"));
            for step in 1..=3 {
                assert_eq!(peer.message()["params"]["progress"], step);
            }
            assert_eq!(inside.load(Ordering::SeqCst), 1);
            match ends {
                "half" => peer.stream.shutdown(std::net::Shutdown::Write).unwrap(),
                "reset" => {
                    socket2::SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap();
                    drop(peer);
                }
                _ => drop(peer),
            }
            eventually(&format!("the end of {tool} after {ends}"), || inside.load(Ordering::SeqCst) == 0);
        }
    }
    let metrics = end(running);
    assert_eq!(metrics.events("cancelled"), 3 * kinds.len() as u64);
}

/// Avoids a dependency of the tests on tokio.
#[cfg(feature = "tokio")]
async fn tokio_sleep() {
    let until = Instant::now() + Duration::from_millis(5);
    std::future::poll_fn(|context| {
        if Instant::now() >= until {
            return std::task::Poll::Ready(());
        }
        let waker = context.waker().clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            waker.wake();
        });
        std::task::Poll::Pending
    })
    .await;
}

#[test]
fn slow_reader_of_a_call_stream_is_disconnected_and_counted() {
    let inside = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&inside);
    let tool = Tool::new("talks").run_async(async move |_: NoArguments, cx: Context| {
        let _guest = ActiveCount::new(&count);
        let text = "x".repeat(64 * 1024);
        for step in 1_u32.. {
            cx.progress(f64::from(step), None, Some(&text));
            sleep(Duration::from_millis(1)).await;
        }
    });
    let limits = Limits { write_timeout: Duration::from_secs(60), ..Limits::default() };
    let running = start(Server::builder("test", "0").tool(tool).tool(support::peer::shard_tool()), 1, limits);
    let mut peer = connect(&running);
    peer.open(&ask("talks").token("p"));
    assert_eq!(peer.message()["params"]["progress"], 1);
    // The client stops reading.
    let mut other = connect(&running);
    let asked = Instant::now();
    while inside.load(Ordering::SeqCst) == 1 {
        assert_eq!(other.request(&ask("shard")).text(), "0", "other connections are served");
        assert!(asked.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
    let metrics = end(running);
    assert_eq!((metrics.refusals("slow_reader"), metrics.events("cancelled")), (1, 1));
}

#[test]
fn open_stream_is_completed_during_drain() {
    let server = Server::builder("test", "0").tool(Tool::new("slow").run_async(
        async |_: NoArguments, cx: Context| {
            cx.progress(1.0, None, None);
            sleep(Duration::from_millis(400)).await;
            "finished"
        },
    ));
    let running = start(server, 1, Limits::default());
    let mut peer = connect(&running);
    peer.open(&ask("slow").token("p"));
    assert_eq!(peer.message()["params"]["progress"], 1);
    running.stopper().drain();
    assert_eq!(peer.message()["result"]["content"][0]["text"], "finished");
    assert_eq!(peer.event(), None);
    assert!(peer.is_closed());
    drop(peer);
    running.join().unwrap();
}

#[test]
fn session_headers_are_ignored_in_the_2026_era() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let asked = ask("async").token("p").header("Mcp-Session-Id: of-another-era").header("Last-Event-ID: 7");
    let answer = peer.request(&asked);
    assert_eq!((answer.status, answer.is_stream), (200, true));
    assert_eq!(answer.header("mcp-session-id"), None);
    end(running);
}

#[test]
fn cancelled_notification_over_http_is_accepted_and_ignored() {
    let running = start(server(), 1, Limits::default());
    let mut waiting = connect(&running);
    waiting.open(&ask("hangs").id(77).token("p"));
    assert_eq!(waiting.message()["params"]["progress"], 1);
    let body = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}});
    let reply = Client::connect(running.addresses()[0])
        .post("MCP-Protocol-Version: 2026-07-28\r\n", body.to_string());
    assert_eq!((reply.status, reply.body.len()), (202, 0));
    assert_eq!(waiting.message()["result"]["isError"], true, "ended by its deadline");
    end(running);
}

#[test]
fn event_stream_has_cors_headers() {
    let running = start(server(), 1, Limits::default());
    for tool in KINDS {
        let (headers, body) = modern("tools/call", json!({"name": tool}));
        let body = body.replace("\"_meta\":{", "\"_meta\":{\"progressToken\":1,");
        let mut peer = Peer::connect(running.addresses()[0]);
        peer.send(support::post(&format!("Origin: http://localhost:3000\r\n{headers}"), body));
        let answer = peer.answer(&ask(tool));
        assert!(answer.is_stream);
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"), "{tool}");
    }
    end(running);
}
