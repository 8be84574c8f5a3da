//! The stack of the threads that run handlers is `thread_stack_bytes`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::hint::black_box;

use corelane::{Limits, NoArguments, Server, Tool};
use serde_json::{Value, json};
use support::{
    ServerProcess, config_file,
    peer::{PeerRequest, connect, end, start},
    post,
};

/// Uses `kibibytes` of stack, at least.
#[inline(never)]
fn descend(kibibytes: usize) -> usize {
    let frame = black_box([1_u8; 1024]);
    if kibibytes == 0 { 0 } else { descend(kibibytes - 1) + usize::from(frame[kibibytes % 1024]) }
}

/// More than the default stack has.
const KIBIBYTES: usize = 6 * 1024;

#[test]
fn configured_stack_is_that_of_every_kind_of_handler() {
    let server = Server::builder("stacks", "0")
        .tool(Tool::new("inline").run(|_: NoArguments, _cx| descend(KIBIBYTES)))
        .tool(Tool::new("async").run_async(async |_: NoArguments, _cx| descend(KIBIBYTES)))
        .tool(Tool::new("blocking").run_blocking(|_: NoArguments, _cx| descend(KIBIBYTES)));
    #[cfg(feature = "tokio")]
    let server =
        server.tool(Tool::new("tokio").run_tokio(|_: NoArguments, _cx| async { descend(KIBIBYTES) }));
    let limits = Limits { thread_stack_bytes: 16 << 20, ..Limits::default() };
    let running = start(server, 2, limits);
    let kinds = ["inline", "async", "blocking"].into_iter().chain(cfg!(feature = "tokio").then_some("tokio"));
    for kind in kinds {
        let answer = connect(&running).request(&PeerRequest::call(kind, json!({})));
        assert_eq!(answer.text(), KIBIBYTES.to_string(), "{kind}");
    }
    end(running);
}

#[test]
fn smallest_stack_serves_the_deepest_requests() {
    let limits = "thread_stack_bytes = \"1MiB\"\njson_depth_max = 128\nschema_depth_max = 128";
    let path = config_file("smallest_stack", &format!("[limits]\n{limits}"));
    let server = ServerProcess::start(&["--shards", "1", "--config", &path]);
    let mut client = server.connect();
    // The message, its params and the arguments are three levels.
    let levels = 128 - 3;
    let deep = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    for (tool, key) in [("echo", "message"), ("add", "a"), ("digest", "text"), ("sleep", "ms")] {
        for value in [&deep, &deep_object] {
            let params = format!("{{\"name\":\"{tool}\",\"arguments\":{{\"{key}\":{value}}}}}");
            let body =
                format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{params}}}");
            let reply: Value = client.send(post("", &body)).read().json();
            assert_eq!(reply["result"]["isError"], true, "{reply}");
        }
    }
    assert_eq!(client.call("echo", json!({"message": "alive"}))["content"][0]["text"], "alive");
    server.stop();
}

#[test]
fn stack_that_is_too_small_is_a_start_error() {
    let path = config_file("small_stack", "[limits]\nthread_stack_bytes = \"64KiB\"");
    let (code, _, stderr) = support::run(support::corelane(&["check", &path]));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("limits.thread_stack_bytes = 65536"), "{stderr}");
}
