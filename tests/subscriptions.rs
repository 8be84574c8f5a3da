//! `subscriptions/listen`: acknowledgment, delivery from every shard, and the end of a subscription.
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/subscriptions>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeMap,
    io::Read,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use corelane::{
    Config, Context, Limits, LiveRegistry, NoArguments, Prompt, Resource, ResourceTemplate, Running, Server,
    ServerBuilder, Tool, demo,
};
use serde_json::{Value, json};
use support::{
    eventually, metric,
    peer::{
        Event, LOG_LEVEL, Peer, PeerRequest, SUBSCRIPTION, config, connect, connect_to, end, shard_tool,
        start,
    },
    uninterrupted,
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Uri {
    uri: String,
}

/// One entry of each kind, and tools that publish an update of a resource from every kind of thread.
fn server() -> ServerBuilder {
    let server = Server::builder("test", "0")
        .tool(shard_tool())
        .tool(Tool::new("inline").input::<Uri>().run(|changed: Uri, cx| cx.resource_updated(&changed.uri)))
        .tool(Tool::new("async").input::<Uri>().run_async(async |changed: Uri, cx: Context| {
            cx.resource_updated(&changed.uri);
        }))
        .tool(
            Tool::new("blocking")
                .input::<Uri>()
                .run_blocking(|changed: Uri, cx| cx.resource_updated(&changed.uri)),
        )
        .resource(Resource::new("test://a", "a").run(|_, _| "a"))
        .template(ResourceTemplate::new("test://of/{x}", "of").run(|_, _| "of"))
        .prompt(Prompt::new("ask").run(|_: NoArguments, _| "ask"));
    #[cfg(feature = "tokio")]
    let server = server.tool(Tool::new("tokio").input::<Uri>().run_tokio(|changed: Uri, cx| async move {
        cx.resource_updated(&changed.uri);
    }));
    server
}

/// A server whose registry can be changed.
fn start_live(server: ServerBuilder, shards: usize, limits: Limits) -> (Running, LiveRegistry) {
    let server = server.build();
    let registry = server.registry();
    (server.start(&config(shards, limits)).unwrap(), registry)
}

fn everything() -> Value {
    json!({
        "toolsListChanged": true,
        "promptsListChanged": true,
        "resourcesListChanged": true,
        "resourceSubscriptions": ["test://a", "test://of/b"],
    })
}

/// Opens a subscription and returns the acknowledged filter. Every message of the subscription carries its id.
#[track_caller]
fn listen(peer: &mut Peer, filter: Value, id: impl Into<Value>) -> Value {
    let id = id.into();
    peer.open(&PeerRequest::listen(filter).id(id.clone()));
    let first = peer.message();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
    assert_eq!(first["params"]["_meta"], json!({SUBSCRIPTION: id}), "{first}");
    first["params"]["notifications"].clone()
}

/// The next notification: its method and its URI.
#[track_caller]
fn next_notification(peer: &mut Peer, id: impl Into<Value>) -> (String, Value) {
    let message = peer.message();
    assert_eq!(message["params"]["_meta"], json!({SUBSCRIPTION: id.into()}), "{message}");
    (message["method"].as_str().unwrap().to_owned(), message["params"]["uri"].clone())
}

#[track_caller]
fn expect_update(peer: &mut Peer, id: impl Into<Value>, uri: &str) {
    assert_eq!(next_notification(peer, id), ("notifications/resources/updated".to_owned(), json!(uri)));
}

#[test]
fn missing_or_invalid_subscription_filter_is_rejected() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for filter in [
        json!(null),
        json!([]),
        json!("toolsListChanged"),
        json!({"toolsListChanged": "yes"}),
        json!({"promptsListChanged": 1}),
        json!({"resourcesListChanged": []}),
        json!({"resourceSubscriptions": "test://a"}),
        json!({"resourceSubscriptions": [1]}),
    ] {
        let answer = peer.request(&PeerRequest::listen(filter.clone()));
        assert_eq!((answer.refused(), answer.is_stream), ((200, -32602), false), "{filter}");
    }
    let answer = peer.request(&PeerRequest::new("subscriptions/listen", json!({})));
    assert_eq!(answer.refused(), (200, -32602));
    // A null member counts as absent.
    let absent = json!({"toolsListChanged": null, "resourceSubscriptions": null, "promptsListChanged": true});
    assert_eq!(listen(&mut peer, absent, 1), json!({"promptsListChanged": true}));
    end(running);
}

#[test]
fn first_message_acknowledges_the_subscription_with_its_id() {
    let running = start(server(), 2, Limits::default());
    for id in [json!(7), json!("7"), json!(0), json!(-3), json!(u64::MAX), json!(""), json!("a \"b\"\n")] {
        let mut peer = connect(&running);
        assert_eq!(listen(&mut peer, everything(), id.clone()), everything(), "{id}");
        connect(&running).request(&PeerRequest::call("inline", json!({"uri": "test://a"})));
        expect_update(&mut peer, id, "test://a");
    }
    end(running);
}

#[test]
fn acknowledgment_lists_only_supported_topics() {
    let running = start(server(), 1, Limits::default());
    let acknowledged = |filter: Value| listen(&mut connect(&running), filter, 1);
    assert_eq!(acknowledged(json!({})), json!({}));
    assert_eq!(
        acknowledged(json!({"toolsListChanged": false, "promptsListChanged": true})),
        json!({"promptsListChanged": true})
    );
    assert_eq!(acknowledged(json!({"resourceSubscriptions": []})), json!({}));
    assert_eq!(
        acknowledged(json!({"resourceSubscriptions": ["b", "a", "b"], "future": {"x": 1}, "taskIds": []})),
        json!({"resourceSubscriptions": ["b", "a"]})
    );
    end(running);
    // Unsupported topics are not acknowledged.
    let bare = start(Server::builder("bare", "0").tool(shard_tool()), 1, Limits::default());
    let capabilities =
        connect(&bare).request(&PeerRequest::new("server/discover", json!({}))).result()["capabilities"]
            .clone();
    assert!(capabilities.get("resources").is_none() && capabilities.get("prompts").is_none());
    assert_eq!(listen(&mut connect(&bare), everything(), 1), json!({"toolsListChanged": true}));
    end(bare);
}

#[test]
fn topics_outside_the_filter_are_not_delivered() {
    let (running, registry) = start_live(server(), 2, Limits::default());
    let mut tools = connect(&running);
    let ask =
        PeerRequest::listen(json!({"toolsListChanged": true})).id("t").token("p").meta(LOG_LEVEL, "debug");
    tools.open(&ask);
    assert_eq!(tools.message()["params"]["notifications"], json!({"toolsListChanged": true}));
    let mut one = connect(&running);
    listen(&mut one, json!({"resourceSubscriptions": ["test://a"]}), "one");
    let mut nothing = connect(&running);
    listen(&mut nothing, json!({}), "nothing");
    for uri in ["test://a/", "test://A", "test://of/b", "notifications/tools/list_changed", ""] {
        registry.resource_updated(uri);
    }
    registry.update(|registry| registry.add(Prompt::new("more").run(|_: NoArguments, _| "more"))).unwrap();
    tools.expect_quiet(Duration::from_millis(100));
    one.expect_quiet(Duration::from_millis(50));
    registry.resource_updated("test://a");
    expect_update(&mut one, "one", "test://a");
    nothing.expect_quiet(Duration::from_millis(50));
    end(running);
}

#[test]
fn resource_updates_reach_streams_on_every_shard() {
    const SHARDS: usize = 4;
    let (running, registry) = start_live(server(), SHARDS, Limits::default());
    let mut listeners: Vec<Peer> = (0..SHARDS).map(|shard| connect_to(&running, shard)).collect();
    for (shard, listener) in listeners.iter_mut().enumerate() {
        listen(listener, everything(), shard);
    }
    let tools: &[&str] = &[
        "inline",
        "async",
        "blocking",
        #[cfg(feature = "tokio")]
        "tokio",
    ];
    for shard in 0..SHARDS {
        let mut teller = connect_to(&running, shard);
        for tool in tools {
            for uri in ["test://a", "test://of/b"] {
                teller.request(&PeerRequest::call(tool, json!({"uri": uri}))).result();
                for (shard, listener) in listeners.iter_mut().enumerate() {
                    expect_update(listener, shard, uri);
                }
            }
        }
    }
    // From a thread that belongs to no shard.
    thread::spawn(move || registry.resource_updated("test://a")).join().unwrap();
    for (shard, listener) in listeners.iter_mut().enumerate() {
        expect_update(listener, shard, "test://a");
        listener.expect_quiet(Duration::from_millis(20));
    }
    end(running);
}

#[test]
fn simultaneous_updates_are_coalesced() {
    let running = start(server(), 1, Limits::default());
    let (mut reader, mut writer) = (connect(&running), connect(&running));
    listen(&mut reader, everything(), 1);
    let touch = |uri: &str| PeerRequest::call("inline", json!({"uri": uri})).bytes();
    // At most one segment, so that the server reads all requests at once.
    let touches = ["test://a", "test://a", "test://of/b", "test://a"].map(touch).concat();
    writer.send(touches);
    for uri in ["test://a", "test://of/b", "test://a"] {
        expect_update(&mut reader, 1, uri);
    }
    reader.expect_quiet(Duration::from_millis(200));
    end(running);
}

#[test]
fn resource_read_after_an_update_returns_new_content() {
    let running = start(demo::server(), 2, Limits::default());
    let mut listener = connect(&running);
    listen(&mut listener, json!({"resourceSubscriptions": ["demo://counter"]}), 1);
    let mut client = connect(&running);
    for count in 1..=20 {
        let touched = client.request(&PeerRequest::call("touch", json!({"uri": "demo://counter"})));
        assert_eq!(touched.text(), count.to_string());
        expect_update(&mut listener, 1, "demo://counter");
        let read = client.request(&PeerRequest::read("demo://counter"));
        assert_eq!(read.result()["contents"][0]["text"], count.to_string());
    }
    end(running);
}

#[test]
fn list_changes_are_published_after_every_shard_applied_them() {
    const SHARDS: usize = 3;
    let (running, registry) = start_live(server(), SHARDS, Limits::default());
    let mut listeners: Vec<Peer> = (0..SHARDS).map(|shard| connect_to(&running, shard)).collect();
    let mut askers: Vec<Peer> = (0..SHARDS).map(|shard| connect_to(&running, shard)).collect();
    for listener in &mut listeners {
        listen(listener, everything(), "e");
    }
    let expect_list_change = |listeners: &mut Vec<Peer>, method: &str| {
        for listener in listeners {
            assert_eq!(next_notification(listener, "e").0, format!("notifications/{method}/list_changed"));
        }
    };
    let mut listed = |method: &'static str, member: &str, key: &str, name: &str| {
        askers.iter_mut().all(|asker| {
            let answer = asker.request(&PeerRequest::new(method, json!({})));
            answer.result()[member].as_array().unwrap().iter().any(|entry| entry[key] == name)
        })
    };
    for round in 0..10 {
        let name = format!("new{round}");
        registry
            .update(|registry| registry.add(Tool::new(name.clone()).run(|_: NoArguments, _| "new")))
            .unwrap();
        expect_list_change(&mut listeners, "tools");
        assert!(listed("tools/list", "tools", "name", &name), "{round}");
        registry
            .update(|registry| registry.add(Prompt::new(name.clone()).run(|_: NoArguments, _| "new")))
            .unwrap();
        expect_list_change(&mut listeners, "prompts");
        assert!(listed("prompts/list", "prompts", "name", &name), "{round}");
        let uri = format!("test://new/{round}");
        registry
            .update(|registry| registry.add(Resource::new(uri.clone(), "new").run(|_, _| "new")))
            .unwrap();
        expect_list_change(&mut listeners, "resources");
        assert!(listed("resources/list", "resources", "uri", &uri), "{round}");
        let template = format!("test://new{round}/{{x}}");
        registry
            .update(|registry| registry.add(ResourceTemplate::new(template.clone(), "new").run(|_, _| "new")))
            .unwrap();
        expect_list_change(&mut listeners, "resources");
        assert!(listed("resources/templates/list", "resourceTemplates", "uriTemplate", &template), "{round}");
    }
    // An empty change publishes nothing; a change of all three lists publishes each once.
    registry.update(|_| ()).unwrap();
    for listener in &mut listeners {
        listener.expect_quiet(Duration::from_millis(30));
    }
    registry
        .update(|registry| {
            registry.remove::<Tool>("new0").unwrap();
            registry.remove::<Prompt>("new0").unwrap();
            registry.remove::<Resource>("test://new/0").unwrap();
            registry.remove::<ResourceTemplate>("test://new0/{x}").unwrap();
        })
        .unwrap();
    for listener in &mut listeners {
        let mut methods: Vec<String> = (0..3).map(|_| next_notification(listener, "e").0).collect();
        methods.sort();
        let expected =
            ["prompts", "resources", "tools"].map(|list| format!("notifications/{list}/list_changed"));
        assert_eq!(methods, expected);
        listener.expect_quiet(Duration::from_millis(30));
    }
    // A change that fails publishes nothing.
    let wrong = registry.update(|registry| registry.add(Tool::new("shard").run(|_: NoArguments, _| "twice")));
    assert!(wrong.is_err());
    listeners[0].expect_quiet(Duration::from_millis(30));
    end(running);
}

#[test]
fn each_subscription_of_a_client_receives_events_with_its_id() {
    let (running, registry) = start_live(server(), 2, Limits::default());
    let mut streams: Vec<Peer> = (0..8).map(|_| connect(&running)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        // Two subscriptions with one id, which HTTP permits.
        listen(
            stream,
            json!({"resourceSubscriptions": ["test://a"], "toolsListChanged": number % 2 == 0}),
            number / 2,
        );
    }
    registry.resource_updated("test://a");
    registry.update(|registry| registry.remove::<Tool>("async")).unwrap();
    for (number, stream) in streams.iter_mut().enumerate() {
        expect_update(stream, number / 2, "test://a");
        if number % 2 == 0 {
            assert_eq!(next_notification(stream, number / 2).0, "notifications/tools/list_changed");
        }
        stream.expect_quiet(Duration::from_millis(10));
    }
    end(running);
}

#[test]
fn subscriptions_are_bounded_and_slots_are_reused() {
    let limits = Limits { subscription_topics_max: 3, subscriptions_max: 5, ..Limits::default() };
    let (running, registry) = start_live(server(), 1, limits);
    let uris = |count: usize| (0..count).map(|number| format!("test://of/{number}")).collect::<Vec<_>>();
    let ask = |count: usize| PeerRequest::listen(json!({"resourceSubscriptions": uris(count)}));
    let mut peer = connect(&running);
    let answer = peer.request(&ask(4));
    assert_eq!((answer.refused(), answer.is_stream), ((200, -32603), false));
    let mut first = connect(&running);
    first.open(&ask(3));
    first.message();
    assert_eq!(peer.request(&ask(3)).refused(), (200, -32603), "five topics in total");
    let mut second = connect(&running);
    second.open(&ask(2));
    second.message();
    assert_eq!(peer.request(&ask(1)).refused(), (200, -32603));
    registry.resource_updated("test://of/0");
    expect_update(&mut first, 1, "test://of/0");
    expect_update(&mut second, 1, "test://of/0");
    drop(first);
    eventually("a free slot", || {
        let mut peer = connect(&running);
        peer.send(ask(3).bytes());
        let mut start = [0; 1024];
        let count = uninterrupted(|| peer.stream.read(&mut start)).unwrap();
        String::from_utf8_lossy(&start[..count]).contains("text/event-stream")
    });
    let metrics = end(running);
    assert!(metrics.refusals("too_many_subscriptions") >= 3);
}

#[test]
fn oversized_uri_or_task_id_is_not_stored() {
    let limits = Limits { subscription_uri_bytes_max: 100, ..Limits::default() };
    let running = start(server(), 1, limits);
    let text = |length: usize| format!("test://of/{}", "x".repeat(length - "test://of/".len()));
    let mut peer = connect(&running);
    let able = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    for name in ["resourceSubscriptions", "taskIds"] {
        let ask = PeerRequest::listen(json!({name: [text(100), text(101)]})).can(able.clone());
        let answer = peer.request(&ask);
        assert_eq!(answer.refused(), (200, -32602), "{name}");
        assert!(answer.error()["message"].as_str().unwrap().contains("subscription_uri_bytes_max"), "{name}");
    }
    listen(&mut peer, json!({"resourceSubscriptions": [text(100)]}), 1);
    let session = support::session::Session::open(running.addresses()[0], "2025-11-25", json!({}));
    for (length, is_kept) in [(100, true), (101, false)] {
        let reply = session.request(1, "resources/subscribe", json!({"uri": text(length)})).response();
        assert_eq!(reply["error"]["code"].as_i64(), (!is_kept).then_some(-32602), "{reply}");
    }
    end(running);
}

#[test]
fn idle_subscription_stream_sends_keep_alives() {
    let limits = Limits { stream_keep_alive: Duration::from_millis(100), ..Limits::default() };
    let (running, registry) = start_live(server(), 1, limits);
    let mut peer = connect(&running);
    listen(&mut peer, everything(), 1);
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(peer.event(), Some(Event::Comment));
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    registry.resource_updated("test://a");
    expect_update(&mut peer, 1, "test://a");
    assert_eq!(peer.event(), Some(Event::Comment), "and the next keep-alive");
    end(running);
}

#[test]
fn drain_ends_a_subscription_with_its_result() {
    let running = start(server(), 2, Limits::default());
    let mut listeners: Vec<(Value, Peer)> =
        [json!(7), json!("seven")].into_iter().map(|id| (id, connect(&running))).collect();
    for (id, listener) in &mut listeners {
        listen(listener, everything(), id.clone());
    }
    let began = Instant::now();
    running.stopper().drain();
    for (id, mut listener) in listeners {
        let last = listener.message();
        let expected = json!({"resultType": "complete", "_meta": {SUBSCRIPTION: id}});
        assert_eq!(last, json!({"jsonrpc": "2.0", "id": id, "result": expected}));
        support::schema::check_modern("SubscriptionsListenResultResponse", &last);
        assert_eq!(listener.event(), None);
        assert!(listener.is_closed());
    }
    running.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn subscription_opened_during_drain_does_not_delay_it() {
    let limits = Limits {
        drain_grace: Duration::from_secs(2),
        drain_timeout: Duration::from_secs(20),
        ..Limits::default()
    };
    let running = start(server(), 1, limits);
    let (mut peer, mut probe) = (connect(&running), connect(&running));
    for peer in [&mut peer, &mut probe] {
        peer.request(&PeerRequest::call("shard", json!({}))).result();
    }
    let began = Instant::now();
    running.stopper().drain();
    // A shard closes the connection after its reply during a drain.
    eventually("the drain", || {
        probe.request(&PeerRequest::call("shard", json!({}))).header("connection") == Some("close")
    });
    listen(&mut peer, everything(), 5);
    assert_eq!(peer.message()["result"]["_meta"][SUBSCRIPTION], 5);
    assert_eq!(peer.event(), None);
    drop(peer);
    running.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn reset_subscription_streams_leave_no_state() {
    let limits = Limits { subscriptions_max: 60, ..Limits::default() };
    let config = Config { admin: Some("127.0.0.1:0".parse().unwrap()), ..config(2, limits) };
    let server = server().build();
    let registry = server.registry();
    let running = server.start(&config).unwrap();
    let admin = running.admin_address().unwrap();
    for round in 0..20 {
        let mut peers: Vec<Peer> = (0..10).map(|_| connect(&running)).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            if number % 5 == 4 {
                // Reset before the acknowledgment was read.
                peer.send(PeerRequest::listen(everything()).bytes());
            } else {
                listen(peer, everything(), number);
            }
        }
        registry.resource_updated("test://a");
        for (number, peer) in peers.iter().enumerate() {
            match number % 3 {
                0 => socket2::SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).unwrap(),
                1 => peer.stream.shutdown(std::net::Shutdown::Write).unwrap(),
                _ => {}
            }
        }
        drop(peers);
        registry.resource_updated("test://a");
        eventually(&format!("round {round}: the end of all"), || {
            metric(admin, "corelane_connections") == 0.0
        });
    }
    // Fifty topics exceed the limit if counted twice.
    let mut listeners: Vec<Peer> = (0..10).map(|_| connect(&running)).collect();
    for (number, listener) in listeners.iter_mut().enumerate() {
        listen(listener, everything(), number);
    }
    registry.resource_updated("test://a");
    for (number, listener) in listeners.iter_mut().enumerate() {
        expect_update(listener, number, "test://a");
        listener.expect_quiet(Duration::from_millis(10));
    }
    drop(listeners);
    end(running);
}

/// A connection whose reader stops after a few messages.
fn connect_narrow(running: &Running) -> Peer {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&running.addresses()[0].into()).unwrap();
    Peer::over(socket.into())
}

/// URIs that fill the socket buffers quickly.
fn long_uris(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("test://of/{number}/{}", "x".repeat(7000))).collect()
}

/// Limits that permit subscriptions to these URIs.
fn long_uris_limits() -> Limits {
    Limits { subscription_uri_bytes_max: 8 * 1024, subscriber_bytes_max: 4 << 20, ..Limits::default() }
}

#[test]
fn stalled_reader_is_disconnected_without_delaying_others() {
    let limits = Limits { write_timeout: Duration::from_secs(1), ..long_uris_limits() };
    let config = Config { admin: Some("127.0.0.1:0".parse().unwrap()), ..config(1, limits) };
    let server = server().build();
    let registry = server.registry();
    let running = server.start(&config).unwrap();
    let admin = running.admin_address().unwrap();
    let uris = long_uris(300);
    let mut stalled = connect_narrow(&running);
    listen(&mut stalled, json!({"resourceSubscriptions": uris}), "slow");
    let mut other = connect(&running);
    listen(&mut other, json!({"resourceSubscriptions": ["test://a", uris[0]]}), "quick");
    let began = Instant::now();
    while metric(admin, "corelane_connections") > 1.0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the connection is still open");
        uris.iter().for_each(|uri| registry.resource_updated(uri));
        expect_update(&mut other, "quick", &uris[0]);
        let published = Instant::now();
        registry.resource_updated("test://a");
        expect_update(&mut other, "quick", "test://a");
        assert!(published.elapsed() < Duration::from_secs(1), "{:?}", published.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    drop((stalled, other));
    let metrics = end(running);
    assert_eq!(metrics.refusals("write_timeout"), 1);
}

#[test]
fn slow_reader_receives_the_latest_update_of_each_topic() {
    const ROUNDS: usize = 40;
    let (running, registry) = start_live(server(), 2, long_uris_limits());
    let uris = long_uris(200);
    let mut slow = connect_narrow(&running);
    listen(&mut slow, json!({"resourceSubscriptions": uris, "toolsListChanged": true}), "slow");
    for _ in 0..ROUNDS {
        uris.iter().for_each(|uri| registry.resource_updated(uri));
        thread::sleep(Duration::from_millis(5));
    }
    registry.update(|registry| registry.remove::<Tool>("async")).unwrap();
    // Each topic at least once after its last change, and far fewer notifications than changes.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut lists = 0;
    slow.stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let total = ROUNDS * uris.len();
    loop {
        let (method, uri) = next_notification(&mut slow, "slow");
        match uri.as_str() {
            Some(uri) => *counts.entry(uri.to_owned()).or_default() += 1,
            None => {
                assert_eq!(method, "notifications/tools/list_changed");
                lists += 1;
            }
        }
        let received: usize = counts.values().sum();
        assert!(received < total, "no updates were coalesced");
        if lists == 1 && counts.len() == uris.len() {
            break;
        }
    }
    // Pending notifications are bounded by the number of topics.
    let mut rest = 0;
    while rest <= uris.len() && drained(&mut slow) {
        rest += 1;
    }
    assert!(rest <= uris.len(), "{rest}");
    registry.resource_updated(&uris[7]);
    expect_update(&mut slow, "slow", &uris[7]);
    slow.expect_quiet(Duration::from_millis(50));
    end(running);
}

/// Whether another message arrives soon.
fn drained(peer: &mut Peer) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        peer.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        peer.message()
    }))
    .is_ok()
}

#[test]
fn overflow_between_shards_is_published_as_a_change_of_every_topic() {
    let limits = Limits { broadcast_queue_max: 16, ..Limits::default() };
    let gate = Arc::new(std::sync::Barrier::new(2));
    let held = Arc::clone(&gate);
    // A shard that runs an inline tool processes no commands.
    let hold = Tool::new("hold").run(move |_: NoArguments, _| {
        held.wait();
        held.wait();
    });
    let (running, registry) = start_live(server().tool(hold), 1, limits);
    let uris: Vec<String> = (0..100).map(|number| format!("test://of/{number}")).collect();
    let mut listener = connect(&running);
    listen(&mut listener, json!({"resourceSubscriptions": uris, "promptsListChanged": true}), 1);
    let mut holder = connect(&running);
    holder.send(PeerRequest::call("hold", json!({})).bytes());
    gate.wait();
    uris[..50].iter().for_each(|uri| registry.resource_updated(uri));
    gate.wait();
    let mut missing: std::collections::BTreeSet<&str> = uris[..50].iter().map(String::as_str).collect();
    while !missing.is_empty() {
        let (_, uri) = next_notification(&mut listener, 1);
        if let Some(uri) = uri.as_str() {
            missing.remove(uri);
        }
    }
    let metrics = end(running);
    assert_eq!(metrics.events("events_missed"), 1);
}
