//! State that outlives a shard that failed.

use super::{Shard, Sources};
use crate::{
    mcp::Sessions,
    mesh::{Answer, Broadcast, Message, Request},
    telemetry::metrics::ShardMetrics,
};

/// State that the successor of a failed shard takes over.
pub struct Remains {
    /// The listeners, whose backlogs the successor serves, and the loads of all shards.
    pub sources: Sources,
    /// The counters.
    pub metrics: ShardMetrics,
    /// The records of the sessions that have ended, and log levels.
    pub sessions: Sessions,
    /// Time of the failure, in seconds since 1970.
    now: u64,
}

impl Remains {
    /// Handles the messages that were queued when the shard failed. An ended session and a log level are recorded; other requests
    /// are rejected.
    pub fn handle(&mut self, messages: Vec<Message>, broadcast: &Broadcast) {
        for message in messages {
            match message {
                Message::SessionEvicted(session) => _ = self.sessions.end(&session, self.now),
                Message::Request { from, ticket, request } => {
                    let answer = self.serve(&request);
                    // The request times out on its shard if that has no room for the answer.
                    broadcast.post(from, Message::Answer { ticket, answer });
                }
                _ => {}
            }
        }
    }

    /// Serves a request that concerns the records. The streams of an ended session are closed already.
    fn serve(&mut self, request: &Request) -> Answer {
        match request {
            Request::End(session) => _ = self.sessions.end(session, self.now),
            Request::SetLevel(session, level) => self.sessions.set_level(session, *level, self.now),
            _ => return Answer::Full,
        }
        Answer::Done
    }
}

impl Shard {
    /// Ends a shard that has failed: cancels its calls and closes its connections.
    #[must_use]
    pub fn into_remains(mut self) -> Remains {
        // Before the ring is closed, so that other shards hand nothing over to it.
        self.balancer.leave();
        let loads = self.balancer.loads.clone();
        let dispatcher = self.dispatcher();
        for ticket in dispatcher.calls.unanswered() {
            dispatcher.calls.cancel(ticket);
        }
        let (sessions, now) = (dispatcher.take_sessions(), dispatcher.clock.wall.as_secs());
        let metrics = self.take_metrics();
        let listeners = self.ring.take_listeners().into_iter().zip(&self.transports);
        let listeners = listeners.filter_map(|(listener, transport)| Some((listener?, *transport)));
        let sources = Sources { listeners: listeners.collect(), adopted: None, loads };
        Remains { sources, metrics, sessions, now }
    }

    /// Takes over the records and the counters of a failed shard of the same number. `life`: how many of them have failed.
    pub fn succeed(&mut self, remains: Remains, life: u32) {
        let Remains { metrics, sessions, .. } = remains;
        self.dispatcher().succeed(sessions, metrics, life);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        call::{Capabilities, Level, Revision},
        mcp::Session,
        mesh::Mailbox,
        runtime::Ticket,
        signed_token::SigningKey,
    };

    fn session(sessions: &mut Sessions, entropy: u8) -> (String, Session) {
        let (revision, able) = (Revision::V2025_11_25, Capabilities::default());
        let id = sessions.open(revision, able, 0, [entropy; 16], b"peer");
        let session = sessions.verify(id.as_bytes(), 0).unwrap();
        (id, session)
    }

    #[test]
    fn ends_of_sessions_that_were_queued_at_the_failure_are_recorded() {
        let mut sessions = Sessions::new(SigningKey::new(b"key"), 2, 100, 4);
        let [deleted, evicted, kept] = [1, 2, 3].map(|entropy| session(&mut sessions, entropy));
        let (failed, other) =
            (Arc::new(Mailbox::new(8, Box::new(|| {}))), Arc::new(Mailbox::new(8, Box::new(|| {}))));
        let broadcast = Broadcast::default();
        broadcast.connect(vec![Arc::clone(&failed), Arc::clone(&other)]);
        let ticket = |index| Ticket { index, generation: 0 };
        let requests = [
            Request::End(deleted.1),
            Request::SetLevel(kept.1, Level::Error),
            Request::Subscribe(kept.1, "file:///a".to_owned()),
        ];
        for (index, request) in (0..).zip(requests) {
            assert!(failed.post(Message::Request { from: 1, ticket: ticket(index), request }));
        }
        assert!(failed.post(Message::SessionEvicted(evicted.1)));

        let metrics = ShardMetrics::new([]);
        let mut remains = Remains { sources: Sources::default(), metrics, sessions, now: 1 };
        remains.handle(failed.close(), &broadcast);
        assert!(failed.is_empty());
        let late = Message::Request { from: 1, ticket: ticket(9), request: Request::End(kept.1) };
        assert!(!failed.post(late), "requests are rejected while the shard is down");
        for (index, is_done) in [(0, true), (1, true), (2, false)] {
            let Some(Message::Answer { ticket: answered, answer }) = other.take() else { panic!("{index}") };
            assert_eq!(answered, ticket(index));
            assert_eq!(matches!(answer, Answer::Done), is_done, "{index}: {answer:?}");
        }
        let sessions = &mut remains.sessions;
        assert_eq!(sessions.verify(deleted.0.as_bytes(), 1), None);
        assert_eq!(sessions.verify(evicted.0.as_bytes(), 1), None);
        assert_eq!(sessions.verify(kept.0.as_bytes(), 1), Some(kept.1));
        assert_eq!(sessions.level(kept.1.key), Some(Level::Error));
    }
}
