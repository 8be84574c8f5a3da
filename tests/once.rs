//! Tools whose request states are valid for one use.
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use corelane::{
    AskError, CallError, Context, Elicited, Form, Limits, NoArguments, RemoteContext, Server, ServerBuilder,
    Tool, time::sleep,
};
use serde_json::{Value, json};
use support::{
    eventually,
    peer::{Answer, Peer, PeerRequest, config, connect, connect_to, end, shard_tool, start},
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Amount {
    amount: u32,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Pad {
    #[serde(default)]
    pad: Vec<u8>,
}

const STATE_USED: i64 = -32602;

fn amount(key: &str) -> Form<Amount> {
    Form::new("Which amount?").key(key.to_owned())
}

fn accepted(amount: &Elicited<Amount>) -> u32 {
    match amount {
        Elicited::Accepted(amount) => amount.amount,
        _ => 0,
    }
}

/// A server that counts its payments.
fn server(paid: &Arc<AtomicUsize>) -> ServerBuilder {
    let [each, blocking, repeated, slow, padded] = [(); 5].map(|()| Arc::clone(paid));
    let pay = |paid: &AtomicUsize, amount: u32| {
        format!("payment {} of {amount}", paid.fetch_add(1, Ordering::SeqCst) + 1)
    };
    Server::builder("test", "0")
        .tool(shard_tool())
        .tool(Tool::new("pay").once().run_async(async move |_: NoArguments, cx: Context| {
            let amount = cx.elicit(amount("amount")).await?;
            Ok::<_, AskError>(pay(&each, accepted(&amount)))
        }))
        .tool(Tool::new("block").once().run_blocking(move |_: NoArguments, cx: RemoteContext| {
            let amount = cx.block_on(cx.elicit(amount("amount")))?;
            Ok::<_, CallError>(pay(&blocking, accepted(&amount)))
        }))
        .tool(Tool::new("unlimited").run_async(async move |_: NoArguments, cx: Context| {
            let amount = cx.elicit(amount("amount")).await?;
            Ok::<_, AskError>(pay(&repeated, accepted(&amount)))
        }))
        .tool(Tool::new("twice").once().run_async(async move |_: NoArguments, cx: Context| {
            let first = cx.elicit(amount("first")).await?;
            let second = cx.elicit(amount("second")).await?;
            Ok::<_, AskError>((accepted(&first) + accepted(&second)).to_string())
        }))
        .tool(Tool::new("slow").once().run_async(async move |_: NoArguments, cx: Context| {
            let amount = cx.elicit(amount("amount")).await?;
            let paid = pay(&slow, accepted(&amount));
            sleep(Duration::from_secs(1)).await;
            Ok::<_, AskError>(paid)
        }))
        .tool(Tool::new("padded").once().input::<Pad>().run_async(async move |input, cx: Context| {
            let amount = cx.elicit(amount("amount")).await?;
            Ok::<_, AskError>(pay(&padded, accepted(&amount) + u32::try_from(input.pad.len()).unwrap()))
        }))
        .tool(Tool::new("fail").once().run_async(async move |_: NoArguments, cx: Context| {
            let _ = cx.elicit(amount("amount")).await?;
            panic!("after the payment") as Result<&str, AskError>
        }))
}

fn ask_with(tool: &str, arguments: Value) -> PeerRequest {
    PeerRequest::call(tool, arguments).can(json!({"elicitation": {}}))
}

fn ask(tool: &str) -> PeerRequest {
    ask_with(tool, json!({}))
}

/// Calls a tool that asks: the state.
#[track_caller]
fn asked(answer: &Answer) -> Value {
    assert_eq!(answer.result()["resultType"], "input_required", "{}", answer.last());
    answer.result()["requestState"].clone()
}

fn accept(key: &str, amount: u32) -> Value {
    json!({key: {"action": "accept", "content": {"amount": amount}}})
}

fn retry(ask: &PeerRequest, id: &str, state: &Value, responses: Value) -> PeerRequest {
    ask.clone().id(id).with("requestState", state.clone()).with("inputResponses", responses)
}

#[track_caller]
fn refused(answer: &Answer) {
    assert_eq!(answer.refused().1, STATE_USED, "{}", answer.last());
}

#[test]
fn repeat_with_the_same_answers_gets_the_stored_outcome_on_every_shard() {
    let paid = Arc::default();
    let running = start(server(&paid), 2, Limits::default());
    let mut peers: Vec<Peer> = (0..2).map(|shard| connect_to(&running, shard)).collect();
    for (payments, tool) in ["pay", "block"].iter().enumerate() {
        let ask = ask(tool);
        let state = asked(&peers[0].request(&ask));
        let first = peers[0].request(&retry(&ask, "first", &state, accept("amount", 5)));
        assert_eq!(first.text(), format!("payment {} of 5", payments + 1));
        for peer in &mut peers {
            for id in ["again", "and again"] {
                let repeat = peer.request(&retry(&ask, id, &state, accept("amount", 5)));
                // `PeerRequest` checks the id.
                assert_eq!((repeat.status, repeat.result()), (200, first.result()), "{tool}");
            }
        }
        assert_eq!(paid.load(Ordering::SeqCst), payments + 1, "{tool}");
    }
    let metrics = end(running);
    assert_eq!(metrics.events("outcome_repeated"), 8);
}

#[test]
fn repeat_with_other_answers_is_rejected() {
    let paid = Arc::default();
    let running = start(server(&paid), 2, Limits::default());
    let mut peers: Vec<Peer> = (0..2).map(|shard| connect_to(&running, shard)).collect();
    let ask = ask("pay");
    let state = asked(&peers[0].request(&ask));
    assert_eq!(peers[1].request(&retry(&ask, "1", &state, accept("amount", 5))).text(), "payment 1 of 5");
    for peer in &mut peers {
        for responses in [accept("amount", 6), json!({"amount": {"action": "decline"}}), json!({})] {
            refused(&peer.request(&retry(&ask, "2", &state, responses)));
        }
        refused(&peer.request(&ask.clone().with("requestState", state.clone())));
        // Without a state the answers could be repeated without end.
        refused(&peer.request(&ask.clone().with("inputResponses", accept("amount", 5))));
    }
    assert_eq!(paid.load(Ordering::SeqCst), 1);
    let metrics = end(running);
    assert_eq!((metrics.refusals("state_used"), metrics.refusals("invalid_state")), (8, 2));
}

#[test]
fn equal_calls_have_states_of_their_own() {
    let paid = Arc::default();
    let running = start(server(&paid), 1, Limits::default());
    let (mut ann, mut bob) = (connect(&running), connect(&running));
    let ask = ask("pay");
    let (of_ann, of_bob) = (asked(&ann.request(&ask)), asked(&bob.request(&ask)));
    assert_ne!(of_ann, of_bob);
    assert_eq!(ann.request(&retry(&ask, "1", &of_ann, accept("amount", 5))).text(), "payment 1 of 5");
    assert_eq!(bob.request(&retry(&ask, "1", &of_bob, accept("amount", 5))).text(), "payment 2 of 5");
    end(running);
}

#[test]
fn each_round_is_used_once() {
    let running = start(server(&Arc::default()), 1, Limits::default());
    let mut peer = connect(&running);
    let ask = ask("twice");
    let first = asked(&peer.request(&ask));
    let second = asked(&peer.request(&retry(&ask, "1", &first, accept("first", 1))));
    let repeat = asked(&peer.request(&retry(&ask, "2", &first, accept("first", 1))));
    assert_eq!(repeat, second, "the same state, so that the rounds do not multiply");
    assert_eq!(peer.request(&retry(&ask, "3", &second, accept("second", 2))).text(), "3");
    refused(&peer.request(&retry(&ask, "4", &second, accept("second", 3))));
    refused(&peer.request(&retry(&ask, "5", &first, accept("first", 4))));
    end(running);
}

#[test]
fn repeat_of_a_running_call_is_busy() {
    let paid = Arc::default();
    let running = start(server(&paid), 2, Limits::default());
    let mut peer = connect_to(&running, 0);
    let ask = ask("slow");
    let state = asked(&peer.request(&ask));
    let first = retry(&ask, "1", &state, accept("amount", 5));
    peer.send(first.bytes());
    eventually("the payment", || paid.load(Ordering::SeqCst) == 1);
    let mut other = connect_to(&running, 1);
    let repeat = other.request(&retry(&ask, "2", &state, accept("amount", 5)));
    assert_eq!((repeat.status, repeat.error()["code"].as_i64()), (503, Some(-32000)));
    assert_eq!(peer.answer(&first).text(), "payment 1 of 5");
    let repeat = other.request(&retry(&ask, "3", &state, accept("amount", 5)));
    assert_eq!(repeat.text(), "payment 1 of 5");
    end(running);
}

#[test]
fn repeat_of_a_call_without_an_outcome_does_not_run_again() {
    let paid = Arc::default();
    let running = start(server(&paid), 1, Limits::default());
    // The client disconnects while the call runs, which cancels it.
    let slow = ask("slow");
    let mut peer = connect(&running);
    let state = asked(&peer.request(&slow));
    peer.send(retry(&slow, "1", &state, accept("amount", 5)).bytes());
    eventually("the payment", || paid.load(Ordering::SeqCst) == 1);
    drop(peer);
    let mut peer = connect(&running);
    eventually("a refusal", || {
        let repeat = peer.request(&retry(&slow, "2", &state, accept("amount", 5)));
        repeat.last()["error"]["code"] == STATE_USED
    });
    assert_eq!(paid.load(Ordering::SeqCst), 1);
    // A panic is an outcome.
    let fail = ask("fail");
    let state = asked(&peer.request(&fail));
    let codes = [(); 2].map(|()| peer.request(&retry(&fail, "3", &state, accept("amount", 5))).refused().1);
    assert_eq!(codes, [-32603, -32603]);
    let metrics = end(running);
    assert_eq!(metrics.events("outcome_repeated"), 1);
}

#[test]
fn state_of_a_call_that_was_busy_can_be_used() {
    let paid = Arc::default();
    let limits = Limits { calls_in_flight_max: 1, ..Limits::default() };
    let running = start(server(&paid), 1, limits);
    let (slow, pay) = (ask("slow"), ask("pay"));
    let mut peer = connect(&running);
    let (of_slow, of_pay) = (asked(&peer.request(&slow)), asked(&peer.request(&pay)));
    let occupying = retry(&slow, "1", &of_slow, accept("amount", 1));
    peer.send(occupying.bytes());
    eventually("the payment", || paid.load(Ordering::SeqCst) == 1);
    let mut other = connect(&running);
    let retried = retry(&pay, "2", &of_pay, accept("amount", 5));
    assert_eq!(other.request(&retried).status, 503);
    peer.answer(&occupying);
    assert_eq!(other.request(&retried).text(), "payment 2 of 5");
    end(running);
}

#[test]
fn large_arguments_are_used_once() {
    let paid = Arc::default();
    let limits = Limits { validation_inline_work_max: 1000, ..Limits::default() };
    let running = start(server(&paid), 1, limits);
    let mut peer = connect(&running);
    let ask = ask_with("padded", json!({"pad": vec![1; 100]}));
    let state = asked(&peer.request(&ask));
    for _ in 0..2 {
        assert_eq!(peer.request(&retry(&ask, "1", &state, accept("amount", 5))).text(), "payment 1 of 105");
    }
    refused(&peer.request(&retry(&ask, "2", &state, accept("amount", 6))));
    end(running);
}

#[test]
fn states_and_outcomes_beyond_their_bounds_are_refused_and_later_ones_served() {
    let paid = Arc::default();
    let limits = Limits { once_states_max: 4, once_bytes_max: 1 << 20, ..Limits::default() };
    let running = start(server(&paid), 1, limits);
    let mut peer = connect(&running);
    let ask = ask("pay");
    let unused = asked(&peer.request(&ask));
    let first = asked(&peer.request(&ask));
    let responses = || accept("amount", 5);
    assert_eq!(peer.request(&retry(&ask, "1", &first, responses())).text(), "payment 1 of 5");
    // The expiry of a state has a resolution of one second.
    thread::sleep(Duration::from_millis(1100));
    for _ in 0..4 {
        let state = asked(&peer.request(&ask));
        peer.request(&retry(&ask, "1", &state, responses())).text();
    }
    refused(&peer.request(&retry(&ask, "2", &first, responses())));
    refused(&peer.request(&retry(&ask, "3", &unused, responses())));
    assert_eq!(paid.load(Ordering::SeqCst), 5);
    end(running);
}

#[test]
fn state_of_another_process_is_rejected() {
    let secret = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("once.secret");
    std::fs::write(&secret, b"0123456789abcdefghijklmnopqrstuv").unwrap();
    let paid = Arc::default();
    let config = corelane::Config { secret_file: Some(secret), ..config(1, Limits::default()) };
    let running = [(); 2].map(|()| server(&paid).build().start(&config).unwrap());
    let [mut one, mut other] = [0, 1].map(|index: usize| connect(&running[index]));
    for (tool, is_valid) in [("unlimited", true), ("pay", false)] {
        let ask = ask(tool);
        let state = asked(&one.request(&ask));
        let answer = other.request(&retry(&ask, "1", &state, accept("amount", 5)));
        assert_eq!(answer.last().get("result").is_some(), is_valid, "{tool}: {}", answer.last());
    }
    running.into_iter().for_each(|running| drop(end(running)));
}

/// As the documentation of `request_state_ttl` and of `Tool::once` states.
#[test]
fn without_once_a_state_is_valid_any_number_of_times() {
    let paid = Arc::default();
    let running = start(server(&paid), 1, Limits::default());
    let mut peer = connect(&running);
    let ask = ask("unlimited");
    let state = asked(&peer.request(&ask));
    for (payment, amount) in [(1, 5), (2, 5), (3, 6)] {
        let answer = peer.request(&retry(&ask, "1", &state, accept("amount", amount)));
        assert_eq!(answer.text(), format!("payment {payment} of {amount}"));
    }
    end(running);
}
