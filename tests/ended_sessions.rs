//! Legacy sessions after a restart with the same key: ended ones stay ended, the others open new streams.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use serde_json::json;
use support::{ServerProcess, session::Session};

const NEWEST: &str = "2025-11-25";

/// A directory with a key, removed at the end.
struct Key(PathBuf);

impl Key {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let key = Self(directory);
        fs::write(key.file(), "a key of at least thirty-two bytes, which this is").unwrap();
        fs::set_permissions(key.file(), PermissionsExt::from_mode(0o600)).unwrap();
        key
    }

    fn file(&self) -> PathBuf {
        self.0.join("secret")
    }

    fn sessions(&self) -> PathBuf {
        self.0.join("secret.sessions")
    }

    fn start(&self) -> ServerProcess {
        ServerProcess::start(&["--secret-file", self.file().to_str().unwrap(), "--shards", "2"])
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn statuses(sessions: &[Session], server: &ServerProcess) -> Vec<u16> {
    let status = |session: &Session| {
        let session = Session { address: server.address, ..session.clone() };
        session.request(1, "ping", json!({})).status
    };
    sessions.iter().map(status).collect()
}

/// The first server is killed, without a drain.
#[test]
fn deleted_session_is_rejected_after_a_restart_with_the_same_key() {
    let key = Key::new("deleted");
    let server = key.start();
    let sessions: Vec<Session> = (0..10).map(|_| Session::open(server.address, NEWEST, json!({}))).collect();
    for session in &sessions[..5] {
        assert_eq!(session.delete(), 204);
    }
    server.signal("-KILL");
    server.wait(Duration::from_secs(10));
    let expected = [[404; 5], [200; 5]].concat();
    for _ in 0..2 {
        let server = key.start();
        assert_eq!(statuses(&sessions, &server), expected);
        server.stop();
    }
    assert_eq!(fs::metadata(key.sessions()).unwrap().permissions().mode() & 0o777, 0o600);
    // The record that is written when the process is killed.
    let stored = fs::read(key.sessions()).unwrap();
    fs::write(key.sessions(), &stored[..stored.len() - 7]).unwrap();
    let server = key.start();
    let accepted = statuses(&sessions, &server).iter().filter(|status| **status == 200).count();
    assert_eq!(accepted, 6, "only the torn record is lost");
    server.stop();
}

#[test]
fn instances_with_one_key_keep_each_others_ends() {
    let key = Key::new("instances");
    let (one, other) = (key.start(), key.start());
    let sessions: Vec<Session> =
        [&one, &other].iter().map(|server| Session::open(server.address, NEWEST, json!({}))).collect();
    assert!(sessions.iter().all(|session| session.delete() == 204));
    assert_eq!(
        statuses(&sessions, &one),
        [404, 200],
        "the end at the other instance is read at the next start"
    );
    one.stop();
    other.stop();
    let server = key.start();
    assert_eq!(statuses(&sessions, &server), [404, 404]);
    server.stop();
}

#[test]
fn file_of_ended_sessions_that_cannot_be_used_is_reported_and_the_server_serves() {
    let key = Key::new("unusable");
    fs::create_dir(key.sessions()).unwrap();
    let server = key.start();
    let session = Session::open(server.address, NEWEST, json!({}));
    assert_eq!(session.delete(), 204);
    assert_eq!(statuses(&[session], &server), [404]);
    assert!(server.before.contains("ended sessions are not stored"), "{}", server.before);
    server.stop();
}

#[test]
fn old_event_id_opens_a_new_stream_after_a_restart() {
    let key = Key::new("stream");
    let server = key.start();
    let session = Session::open(server.address, NEWEST, json!({}));
    let last = session.get(None).event().unwrap().id.unwrap();
    server.stop();
    let server = key.start();
    let session = Session { address: server.address, ..session };
    let mut stream = session.get(Some(&last));
    assert_eq!(stream.status, 200);
    for _ in 0..3 {
        let changed = stream.message();
        assert!(changed["method"].as_str().unwrap().ends_with("/list_changed"), "{changed}");
    }
    assert!(stream.is_quiet());
    // Without an event id the client has lost nothing, and may have subscribed to resources at the other instance.
    assert_eq!(session.get(None).status, 404);
    server.stop();
}
