//! Calls that return `input_required` and are retried with the answers; no state is held between the rounds.
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use corelane::{
    AskError, CallError, Config, Contents, Context, Elicited, Form, Limits, ListRoots, NoArguments, Page,
    Ping, Prompt, RemoteContext, Resource, Role, Running, Sampling, Server, ServerBuilder, Tool,
};
use serde_json::{Value, json};
use support::{
    eventually,
    peer::{Answer, Peer, PeerRequest, config, connect, connect_to, end, shard_tool, start},
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Name {
    /// What people call you
    name: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Topic {
    topic: String,
}

fn form(message: &str) -> Form<Name> {
    Form::new(message)
}

fn name_of(name: &Elicited<Name>) -> String {
    match name {
        Elicited::Accepted(name) => name.name.clone(),
        other => other.action().to_owned(),
    }
}

/// Two answers awaited together.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    std::future::poll_fn(move |context| {
        use std::task::Poll;
        if of_a.is_none()
            && let Poll::Ready(answer) = a.as_mut().poll(context)
        {
            of_a = Some(answer);
        }
        if of_b.is_none()
            && let Poll::Ready(answer) = b.as_mut().poll(context)
        {
            of_b = Some(answer);
        }
        if of_a.is_some() && of_b.is_some() {
            return Poll::Ready((of_a.take().unwrap(), of_b.take().unwrap()));
        }
        Poll::Pending
    })
    .await
}

fn server() -> ServerBuilder {
    let server = Server::builder("test", "0")
        .tool(shard_tool())
        .tool(Tool::new("once").run_async(async |_: NoArguments, cx: Context| {
            let name = cx.elicit(form("Your name?").key("user_name")).await?;
            Ok::<_, AskError>(format!("Hello, {}", name_of(&name)))
        }))
        .tool(Tool::new("other").run_async(async |_: NoArguments, cx: Context| {
            let name = cx.elicit(form("Your name?").key("user_name")).await?;
            Ok::<_, AskError>(format!("Other, {}", name_of(&name)))
        }))
        .tool(Tool::new("about").input::<Topic>().run_async(async |about: Topic, cx: Context| {
            let name = cx.elicit(form("Who?").key("user_name")).await?;
            Ok::<_, AskError>(format!("{} of {}", name_of(&name), about.topic))
        }))
        .tool(Tool::new("twice").run_async(async |_: NoArguments, cx: Context| {
            let first = cx.elicit(form("First?")).await?;
            let second = cx.elicit(form("Second?")).await?;
            let third = cx.elicit(form("Third?").key("third")).await?;
            Ok::<_, CallError>(format!("{}, {}, {}", name_of(&first), name_of(&second), name_of(&third)))
        }))
        .tool(Tool::new("at_once").run_async(async |_: NoArguments, cx: Context| {
            let (name, roots) =
                both(cx.elicit(form("Your name?").key("name")), cx.ask(ListRoots::default().key("roots")))
                    .await;
            let (name, roots) = (name?, roots?);
            Ok::<_, AskError>(format!("{} in {}", name_of(&name), roots[0].uri))
        }))
        .tool(Tool::new("page").run_async(async |_: NoArguments, cx: Context| {
            let agreed = cx.elicit(Page::new("Pay", "https://example.com/pay").key("pay")).await?;
            Ok::<_, AskError>(agreed.action().to_owned())
        }))
        .tool(Tool::new("sample").run_async(async |_: NoArguments, cx: Context| {
            let question =
                Sampling::question("What is the answer?", 10).system_prompt("Be brief").key("model");
            let question = question.message(Role::Assistant, "So far".into());
            Ok::<_, AskError>(cx.sample(question).await?.text().to_owned())
        }))
        .tool(Tool::new("ping").run_async(async |_: NoArguments, cx: Context| {
            cx.ask(Ping).await?;
            Ok::<_, AskError>("pong")
        }))
        .tool(Tool::new("speaks_first").run_async(async |_: NoArguments, cx: Context| {
            cx.progress(1.0, None, None);
            let name = cx.elicit(form("Your name?").key("user_name")).await?;
            cx.progress(2.0, None, None);
            Ok::<_, AskError>(name_of(&name))
        }))
        .tool(Tool::new("blocking").run_blocking(|_: NoArguments, cx| blocking(&cx)))
        .tool(Tool::new("stubborn").run_blocking(|_: NoArguments, cx| {
            // An unanswered input request is the result of the call, whatever the handler returns after it.
            let _ = cx.block_on(cx.elicit(form("Your name?").key("user_name")));
            "not this"
        }))
        .prompt(Prompt::new("ask").arguments::<Topic>().run_async(async |about: Topic, cx: Context| {
            let name = cx.elicit(form("Who?").key("user_name")).await?;
            Ok::<_, AskError>(format!("{} on {}", name_of(&name), about.topic))
        }))
        .prompt(Prompt::new("ask_blocking").run_blocking(|_: NoArguments, cx| blocking(&cx)))
        .resource(Resource::new("test://ask", "ask").run_async(async |_uri, cx: Context| {
            let name = cx.elicit(form("Who?").key("user_name")).await?;
            Ok::<_, AskError>(Contents::text(name_of(&name)))
        }))
        .resource(
            Resource::new("test://ask/blocking", "ask").run_blocking(|_uri, cx: RemoteContext| blocking(&cx)),
        );
    #[cfg(feature = "tokio")]
    let server = server.tool(Tool::new("tokio").run_tokio(|_: NoArguments, cx| async move {
        let first = cx.elicit(form("First?").key("user_name")).await?;
        let second = cx.elicit(form("Second?").key("second")).await?;
        Ok::<_, CallError>(format!("{} and {}", name_of(&first), name_of(&second)))
    }));
    server
}

fn blocking(cx: &RemoteContext) -> Result<String, CallError> {
    let first = cx.block_on(cx.elicit(form("First?").key("user_name")))?;
    let second = cx.block_on(cx.elicit(form("Second?").key("second")))?;
    Ok(format!("{} and {}", name_of(&first), name_of(&second)))
}

fn ask(tool: &str) -> PeerRequest {
    PeerRequest::call(tool, json!({})).can(json!({"elicitation": {}}))
}

fn accept(name: &str) -> Value {
    json!({"action": "accept", "content": {"name": name}})
}

/// Calls and expects `input_required`: the input requests by key, and the request state.
#[track_caller]
fn asked(answer: &Answer) -> (Value, Value) {
    let result = answer.result();
    assert_eq!(answer.status, 200);
    assert_eq!(result["resultType"], "input_required", "{result}");
    for absent in ["content", "contents", "messages", "isError", "ttlMs", "cacheScope"] {
        assert!(result.get(absent).is_none(), "{absent}: {result}");
    }
    for (key, request) in result["inputRequests"].as_object().unwrap() {
        let members: Vec<_> = request.as_object().unwrap().keys().collect();
        assert_eq!(members, ["method", "params"], "{key}");
    }
    (result["inputRequests"].clone(), result["requestState"].clone())
}

/// The retry: the same request with answers.
fn retry(ask: &PeerRequest, state: &Value, responses: Value) -> PeerRequest {
    ask.clone().id("retry").with("requestState", state.clone()).with("inputResponses", responses)
}

#[test]
fn call_that_needs_input_is_retried_with_the_answer() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (requests, state) = asked(&peer.request(&ask("once")));
    assert_eq!(
        requests,
        json!({"user_name": {"method": "elicitation/create", "params": {
            "mode": "form",
            "message": "Your name?",
            "requestedSchema": {
                "type": "object",
                "properties": {"name": {"type": "string", "description": "What people call you"}},
                "required": ["name"],
            },
        }}})
    );
    support::schema::check_modern("InputRequests", &requests);
    let answer = peer.request(&retry(&ask("once"), &state, json!({"user_name": accept("Ann")})));
    assert_eq!(
        (answer.result()["resultType"].as_str(), answer.text().as_str()),
        (Some("complete"), "Hello, Ann")
    );
    // Request state is not single-use: no record of its use is kept.
    let answer = peer.request(&retry(&ask("once"), &state, json!({"user_name": accept("Bob")})));
    assert_eq!(answer.text(), "Hello, Bob");
    let metrics = end(running);
    assert_eq!(metrics.events("input_required"), 1);
}

#[test]
fn answers_without_request_state_are_accepted_when_the_key_is_known() {
    let running = start(server(), 1, Limits::default());
    let first = ask("once").with("inputResponses", json!({"user_name": accept("Ann")}));
    assert_eq!(connect(&running).request(&first).text(), "Hello, Ann");
    end(running);
}

#[test]
fn request_state_carries_answers_of_earlier_rounds() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (first, state) = asked(&peer.request(&ask("twice")));
    let key = |requests: &Value| requests.as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(first[key(&first)]["params"]["message"], "First?");
    let (second, state) =
        asked(&peer.request(&retry(&ask("twice"), &state, json!({key(&first): accept("a")}))));
    assert_eq!(second.as_object().unwrap().len(), 1, "{second}");
    assert_eq!(second[key(&second)]["params"]["message"], "Second?");
    assert_ne!(key(&first), key(&second), "keys are unique in the call");
    let (third, state) =
        asked(&peer.request(&retry(&ask("twice"), &state, json!({key(&second): accept("b")}))));
    assert_eq!(key(&third), "third");
    let answer = peer.request(&retry(&ask("twice"), &state, json!({"third": accept("c")})));
    assert_eq!(answer.text(), "a, b, c");
    end(running);
}

#[test]
fn several_input_requests_are_sent_in_one_result() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let whole = PeerRequest::call("at_once", json!({})).can(json!({"elicitation": {}, "roots": {}}));
    let (requests, state) = asked(&peer.request(&whole));
    assert_eq!(requests["roots"]["method"], "roots/list");
    assert_eq!(requests["name"]["method"], "elicitation/create");
    let roots = json!({"roots": [{"uri": "file:///home", "name": "home"}]});
    // One answer of two: the missing one is requested again.
    let (left, state) = asked(&peer.request(&retry(&whole, &state, json!({"roots": roots}))));
    assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["name"]);
    let answer = peer.request(&retry(&whole, &state, json!({"name": accept("Ann")})));
    assert_eq!(answer.text(), "Ann in file:///home");
    end(running);
}

#[test]
fn declined_and_cancelled_elicitations_reach_the_handler() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (_, state) = asked(&peer.request(&ask("once")));
    for action in ["decline", "cancel"] {
        let answer = peer.request(&retry(&ask("once"), &state, json!({"user_name": {"action": action}})));
        assert_eq!(answer.text(), format!("Hello, {action}"));
    }
    end(running);
}

#[test]
fn malformed_input_responses_are_rejected_and_missing_ones_requested_again() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (_, state) = asked(&peer.request(&ask("once")));
    for responses in [
        json!([]),
        json!("x"),
        json!(1),
        json!({"user_name": null}),
        json!({"user_name": "accept"}),
        json!({"user_name": ["accept"]}),
        json!({"user_name": accept("Ann"), "other": null}),
    ] {
        let answer = peer.request(&retry(&ask("once"), &state, responses.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{responses}");
    }
    for responses in [
        json!({}),
        json!({"someone": accept("Ann")}),
        json!({"user_name": {}}),
        json!({"user_name": {"action": "perhaps"}}),
        json!({"user_name": {"action": "accept"}}),
        json!({"user_name": {"action": "accept", "content": {"name": 7}}}),
    ] {
        let (again, _) = asked(&peer.request(&retry(&ask("once"), &state, responses.clone())));
        assert!(again.get("user_name").is_some(), "{responses}");
    }
    // Unknown answers beside the expected one are ignored.
    let answer = peer.request(&retry(
        &ask("once"),
        &state,
        json!({"user_name": accept("Ann"), "x": {"action": "accept"}, "": {}}),
    ));
    assert_eq!(answer.text(), "Hello, Ann");
    // A malformed answer is not remembered.
    let wrong = json!({"user_name": {"action": "perhaps"}});
    let (_, state) = asked(&peer.request(&retry(&ask("once"), &state, wrong)));
    let answer = peer.request(&retry(&ask("once"), &state, json!({"user_name": accept("Eve")})));
    assert_eq!(answer.text(), "Hello, Eve");
    end(running);
}

#[test]
fn forged_or_foreign_request_state_is_rejected() {
    let running = start(server(), 1, Limits::default());
    let elsewhere = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let answers = json!({"user_name": accept("Ann")});
    let (_, state) = asked(&peer.request(&ask("once")));
    let about =
        |topic: &str| PeerRequest::call("about", json!({"topic": topic})).can(json!({"elicitation": {}}));
    let prompt = |topic: &str| {
        PeerRequest::new("prompts/get", json!({"name": "ask", "arguments": {"topic": topic}}))
            .can(json!({"elicitation": {}}))
    };
    let (_, of_about) = asked(&peer.request(&about("tea")));
    let (_, of_prompt) = asked(&peer.request(&prompt("tea")));
    let (_, of_resource) =
        asked(&peer.request(&PeerRequest::read("test://ask").can(json!({"elicitation": {}}))));
    let (_, foreign) = asked(&connect(&elsewhere).request(&ask("once")));
    let mut refuse = |ask: PeerRequest, state: &Value| {
        let answer = peer.request(&retry(&ask, state, answers.clone()));
        assert_eq!(answer.refused(), (200, -32602), "{} {state}", ask.params);
    };
    refuse(ask("other"), &state);
    refuse(ask("once"), &foreign);
    refuse(ask("once"), &of_about);
    refuse(about("coffee"), &of_about);
    refuse(prompt("coffee"), &of_prompt);
    refuse(prompt("tea"), &of_about);
    refuse(about("tea"), &of_prompt);
    refuse(PeerRequest::read("test://ask/blocking").can(json!({"elicitation": {}})), &of_resource);
    refuse(
        PeerRequest::call("once", json!({})).can(json!({"elicitation": {}})).with("arguments", json!({})),
        &of_about,
    );
    let text = state.as_str().unwrap();
    for position in (0..text.len()).step_by(5) {
        let mut bytes = text.as_bytes().to_vec();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        refuse(ask("once"), &json!(String::from_utf8(bytes).unwrap()));
    }
    for forged in [json!(""), json!("x"), json!(format!("{text}A")), json!(&text[1..]), json!("é")] {
        refuse(ask("once"), &forged);
    }
    for wrong in [json!(7), json!({}), json!([text])] {
        refuse(ask("once"), &wrong);
    }
    // Methods without `input_required` reject request state too.
    refuse(PeerRequest::call("shard", json!({})), &json!("forged"));
    // The valid states are still accepted.
    assert_eq!(peer.request(&retry(&about("tea"), &of_about, answers.clone())).text(), "Ann of tea");
    end(running);
    end(elsewhere);
}

#[test]
fn request_state_expires_at_its_time_to_live() {
    for ttl in [Duration::from_millis(300), Duration::from_secs(1)] {
        let limits = Limits { request_state_ttl: ttl, ..Limits::default() };
        let running = start(server(), 1, limits);
        let mut peer = connect(&running);
        let began = Instant::now();
        let (_, state) = asked(&peer.request(&ask("once")));
        let again = retry(&ask("once"), &state, json!({"user_name": accept("Ann")}));
        eventually("its expiry", || {
            let answer = peer.request(&again);
            if answer.error().is_null() {
                assert_eq!(answer.text(), "Hello, Ann");
                return false;
            }
            assert_eq!(answer.refused(), (200, -32602), "{ttl:?}");
            assert!(began.elapsed() >= ttl, "{:?} of {ttl:?}", began.elapsed());
            true
        });
        end(running);
    }
}

#[test]
fn input_is_requested_only_for_capabilities_declared_in_the_request() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    for (tool, declared, needed) in [
        ("once", json!({}), json!({"elicitation": {"form": {}}})),
        ("once", json!({"elicitation": {"url": {}}}), json!({"elicitation": {"form": {}}})),
        ("once", json!({"sampling": {}, "roots": {}}), json!({"elicitation": {"form": {}}})),
        ("page", json!({"elicitation": {}}), json!({"elicitation": {"url": {}}})),
        ("sample", json!({"elicitation": {}}), json!({"sampling": {}})),
        ("blocking", json!({}), json!({"elicitation": {"form": {}}})),
        #[cfg(feature = "tokio")]
        ("tokio", json!({}), json!({"elicitation": {"form": {}}})),
    ] {
        // Capabilities declared in an earlier request do not count.
        let all = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}});
        asked(&peer.request(&PeerRequest::call(tool, json!({})).can(all)));
        let answer = peer.request(&PeerRequest::call(tool, json!({})).can(declared.clone()));
        assert_eq!(answer.refused(), (400, -32021), "{tool} {declared}");
        assert_eq!(answer.error()["data"], json!({"requiredCapabilities": needed}), "{tool} {declared}");
    }
    for ask in
        [PeerRequest::new("prompts/get", json!({"name": "ask_blocking"})), PeerRequest::read("test://ask")]
    {
        assert_eq!(peer.request(&ask).refused(), (400, -32021), "{}", ask.method);
    }
    // Of two input requests at once, the undeclared one is not sent.
    let half = PeerRequest::call("at_once", json!({})).can(json!({"elicitation": {}}));
    let (requests, state) = asked(&peer.request(&half));
    assert_eq!(requests.as_object().unwrap().keys().collect::<Vec<_>>(), ["name"]);
    let answer = peer.request(&retry(&half, &state, json!({"name": accept("Ann")})));
    assert_eq!(answer.refused(), (400, -32021));
    assert_eq!(answer.error()["data"], json!({"requiredCapabilities": {"roots": {}}}));
    end(running);
}

#[test]
fn url_elicitation_and_sampling_follow_the_revision() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let page = PeerRequest::call("page", json!({})).can(json!({"elicitation": {"url": {}}}));
    let (requests, state) = asked(&peer.request(&page));
    let params = json!({"mode": "url", "message": "Pay", "url": "https://example.com/pay"});
    assert_eq!(
        requests,
        json!({"pay": {"method": "elicitation/create", "params": params}}),
        "no elicitation id since 2026-07-28"
    );
    support::schema::check_modern("InputRequests", &requests);
    for action in ["accept", "decline", "cancel"] {
        let answer = peer.request(&retry(&page, &state, json!({"pay": {"action": action}})));
        assert_eq!(answer.text(), action);
    }
    let sample = PeerRequest::call("sample", json!({})).can(json!({"sampling": {}}));
    let (requests, state) = asked(&peer.request(&sample));
    support::schema::check_modern("InputRequests", &requests);
    let request = &requests["model"];
    assert_eq!(request["method"], "sampling/createMessage");
    assert_eq!(
        request["params"],
        json!({
            "messages": [
                {"role": "user", "content": {"type": "text", "text": "What is the answer?"}},
                {"role": "assistant", "content": {"type": "text", "text": "So far"}},
            ],
            "maxTokens": 10,
            "systemPrompt": "Be brief",
        })
    );
    let response = json!({"role": "assistant", "content": {"type": "text", "text": "42"}, "model": "m"});
    assert_eq!(peer.request(&retry(&sample, &state, json!({"model": response}))).text(), "42");
    end(running);
}

#[test]
fn ping_of_the_client_is_an_error_in_the_2026_era() {
    let running = start(server(), 1, Limits::default());
    let answer = connect(&running).request(&ask("ping"));
    assert_eq!(answer.refused(), (200, -32603));
    end(running);
}

#[test]
fn prompts_and_resources_return_input_required() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let can = json!({"elicitation": {}});
    let prompt = PeerRequest::new("prompts/get", json!({"name": "ask", "arguments": {"topic": "tea"}}))
        .can(can.clone());
    let (requests, state) = asked(&peer.request(&prompt));
    assert_eq!(requests["user_name"]["params"]["message"], "Who?");
    let answer = peer.request(&retry(&prompt, &state, json!({"user_name": accept("Ann")})));
    assert_eq!(answer.result()["messages"][0]["content"]["text"], "Ann on tea");
    let read = PeerRequest::read("test://ask").can(can.clone());
    let (_, state) = asked(&peer.request(&read));
    let answer = peer.request(&retry(&read, &state, json!({"user_name": accept("Ann")})));
    assert_eq!(answer.result()["contents"], json!([{"uri": "test://ask", "text": "Ann"}]));
    for ask in [
        PeerRequest::new("prompts/get", json!({"name": "ask_blocking"})).can(can.clone()),
        PeerRequest::read("test://ask/blocking").can(can),
    ] {
        let (_, state) = asked(&peer.request(&ask));
        let (left, state) = asked(&peer.request(&retry(&ask, &state, json!({"user_name": accept("Ann")}))));
        assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["second"]);
        let answer = peer.request(&retry(&ask, &state, json!({"second": accept("Bob")})));
        assert!(answer.result().to_string().contains("Ann and Bob"), "{}", answer.result());
    }
    end(running);
}

#[test]
fn blocking_and_tokio_handlers_request_input_in_sequence() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let tools: &[&str] = &[
        "blocking",
        #[cfg(feature = "tokio")]
        "tokio",
    ];
    for tool in tools {
        for _ in 0..20 {
            let (first, state) = asked(&peer.request(&ask(tool)));
            assert_eq!(first["user_name"]["params"]["message"], "First?");
            let (second, state) =
                asked(&peer.request(&retry(&ask(tool), &state, json!({"user_name": accept("A")}))));
            assert_eq!(second["second"]["params"]["message"], "Second?");
            let answer = peer.request(&retry(&ask(tool), &state, json!({"second": {"action": "decline"}})));
            assert_eq!(answer.text(), "A and decline", "{tool}");
        }
    }
    let (_, state) = asked(&peer.request(&ask("stubborn")));
    let answer = peer.request(&retry(&ask("stubborn"), &state, json!({"user_name": accept("A")})));
    assert_eq!(answer.text(), "not this");
    end(running);
}

#[test]
fn input_required_result_ends_an_event_stream() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let asking = ask("speaks_first").token("p");
    let answer = peer.request(&asking);
    assert_eq!((answer.is_stream, answer.notes().len()), (true, 1));
    let (_, state) = asked(&answer);
    let answer = peer.request(&retry(&asking, &state, json!({"user_name": accept("Ann")})));
    assert_eq!((answer.notes().len(), answer.text().as_str()), (2, "Ann"));
    end(running);
}

#[test]
fn lists_are_complete_and_every_result_has_a_type() {
    let running = start(server(), 1, Limits::default());
    let mut peer = connect(&running);
    let (_, state) = asked(&peer.request(&ask("once")));
    for method in
        ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "server/discover"]
    {
        let plain = PeerRequest::new(method, json!({})).can(json!({"elicitation": {}}));
        for ask in [plain.clone(), retry(&plain, &state, json!({"user_name": accept("Ann")}))] {
            assert_eq!(peer.request(&ask).result()["resultType"], "complete", "{method}");
        }
    }
    end(running);
}

/// A key file that outlives a process.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(b"f3Kq8Zr1xWm5Tn7Yb2Vc9Lp4Hd6Gs0Ja").unwrap();
        Self(path)
    }

    fn start(&self, shards: usize) -> Running {
        let config = Config { secret_file: Some(self.0.clone()), ..config(shards, Limits::default()) };
        server().build().start(&config).unwrap()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn no_state_is_held_between_rounds() {
    let secret = SecretFile::new("rounds");
    let running = secret.start(3);
    let (mut one, mut two) = (connect_to(&running, 0), connect_to(&running, 2));
    let (requests, state) = asked(&one.request(&ask("twice")));
    let key = requests.as_object().unwrap().keys().next().unwrap().clone();
    drop(one);
    // On another shard, and on another connection.
    let (requests, state) = asked(&two.request(&retry(&ask("twice"), &state, json!({key: accept("a")}))));
    let key = requests.as_object().unwrap().keys().next().unwrap().clone();
    drop(two);
    end(running);
    // On another process with the same key.
    let running = secret.start(1);
    let mut peer = connect(&running);
    let (_, state) = asked(&peer.request(&retry(&ask("twice"), &state, json!({key: accept("b")}))));
    let answer = peer.request(&retry(&ask("twice"), &state, json!({"third": accept("c")})));
    assert_eq!(answer.text(), "a, b, c");
    end(running);
}

#[test]
fn call_that_returned_input_required_frees_its_slot() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let tool = Tool::new("asks").run_async(async move |_: NoArguments, cx: Context| {
        count.fetch_add(1, Ordering::SeqCst);
        cx.elicit(form("Who?")).await.map(|name| name_of(&name))
    });
    let limits = Limits { calls_in_flight_max: 2, ..Limits::default() };
    let running = start(Server::builder("test", "0").tool(tool), 1, limits);
    let mut peers: Vec<Peer> = (0..10).map(|_| connect(&running)).collect();
    for _ in 0..10 {
        for peer in &mut peers {
            asked(&peer.request(&ask("asks")));
        }
    }
    assert_eq!(begun.load(Ordering::SeqCst), 100);
    end(running);
}
