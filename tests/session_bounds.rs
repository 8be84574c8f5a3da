//! Bounds of the sessions, streams and subscriptions that a shard keeps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/stream_server.rs"]
mod stream_server;
mod support;

use corelane::Limits;
use serde_json::json;
use stream_server::{UPDATED, method, next_event, open, start, subscribe, touch};
use support::{
    eventually,
    peer::end,
    session::{Session, SessionReply},
};

#[test]
fn every_kept_session_can_open_a_stream() {
    let running = start(2, Limits { sessions_kept_max: 40, replay_streams_max: 1, ..Limits::default() });
    let opened: Vec<(Session, SessionReply)> = (0..40)
        .map(|_| {
            let session = open(&running);
            let stream = session.get(None);
            (session, stream)
        })
        .collect();
    assert!(opened.iter().all(|(_, stream)| stream.status == 200));
    drop(opened);
    end(running);
}

#[test]
fn session_whose_subscriptions_were_evicted_ends() {
    let running = start(2, Limits { sessions_kept_max: 2, ..Limits::default() });
    let sessions: Vec<Session> = (0..12).map(|_| open(&running)).collect();
    for session in &sessions {
        subscribe(session, "test://a");
    }
    let ended = || {
        let statuses = sessions.iter().map(|session| session.request(1, "ping", json!({})).status);
        statuses.filter(|status| *status == 404).count()
    };
    eventually("the end of all but two sessions of each shard", || ended() >= 8);
    for session in sessions.iter().filter(|session| session.get(None).status == 200) {
        touch(session);
    }
    assert!(end(running).events("session_evicted") >= 8);
}

#[test]
fn disconnected_stream_frees_its_slot_for_the_next() {
    let running = start(4, Limits::default());
    for _ in 0..12 {
        let session = open(&running);
        for _ in 0..3 {
            assert_eq!(session.get(None).status, 200);
        }
    }
    end(running);
}

#[test]
fn closed_streams_free_their_slots() {
    let limits = Limits { replay_streams_max: 4, ..Limits::default() };
    let running = start(1, limits);
    let session = open(&running);
    session.request(1, "logging/setLevel", json!({"level": "debug"})).response();
    let mut ids = Vec::new();
    for call in 0..12 {
        let mut reply = session.call(call, "talk", json!({}));
        let primed = reply.event().unwrap();
        assert!(primed.data.is_none() && primed.id.is_some(), "call {call} can be resumed: {primed:?}");
        assert_eq!(reply.text(), "talked");
        ids.push(primed.id.unwrap());
    }
    assert_eq!(session.get(ids.last().map(String::as_str)).text(), "talked");
    assert_eq!(session.get(ids.first().map(String::as_str)).status, 400, "the oldest stream was evicted");
    assert_eq!(session.get(None).status, 200, "the stream of the session is accepted too");
    end(running);
}

#[test]
fn sessions_without_streams_are_evicted() {
    let with = |limits: Limits| {
        let running = start(1, limits);
        for _ in 0..12 {
            subscribe(&open(&running), "test://a");
        }
        let mut held: Vec<(Session, SessionReply)> = (0..3)
            .map(|_| {
                let session = open(&running);
                let stream = session.get(None);
                (session, stream)
            })
            .collect();
        assert!(held.iter().all(|(_, stream)| stream.status == 200));
        let late = open(&running);
        let mut busy = late.get(None);
        assert_eq!(
            (busy.status, busy.error_code()),
            (503, -32000),
            "streams with a connection are not evicted"
        );
        held.pop();
        eventually("a free slot", || late.get(None).status == 200);
        for (session, stream) in &mut held {
            subscribe(session, "test://a");
            touch(session);
            assert_eq!(method(&next_event(stream)), UPDATED, "undisturbed by the rejection");
        }
        end(running);
    };
    with(Limits { sessions_kept_max: 3, ..Limits::default() });
    with(Limits { subscriptions_max: 12, ..Limits::default() });
}

#[test]
fn subscriptions_of_a_session_are_bounded_and_slots_are_reused() {
    let limits = Limits { subscription_topics_max: 1, ..Limits::default() };
    // With one shard every session is local; with three most sessions are on another shard.
    for shards in [1, 3] {
        let running = start(shards, limits);
        for _ in 0..6 {
            let (session, other) = (open(&running), open(&running));
            subscribe(&session, "test://a");
            let ask = |method: &str, uri: &str| session.request(1, method, json!({"uri": uri}));
            let mut refused = ask("resources/subscribe", "test://b");
            assert_eq!((refused.status, refused.error_code()), (200, -32603));
            subscribe(&session, "test://a");
            subscribe(&other, "test://b");
            ask("resources/unsubscribe", "test://a").response();
            subscribe(&session, "test://b");
        }
        assert_eq!(end(running).refusals("too_many_subscriptions"), 6);
    }
}
