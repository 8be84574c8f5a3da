//! Handling of messages of other shards.

use std::sync::Arc;

use super::Shard;
use crate::{
    delivery::{AfterSend, Destination, Payload},
    mesh::{Answer, Message, Request, StreamRequest},
    session::Attachment,
};

/// Maximum number of messages handled in one turn; the rest are handled in the next.
const MESSAGES_PER_TURN: usize = 1024;

impl Shard {
    pub(super) fn take_messages(&mut self) {
        let mailbox = Arc::clone(&self.handle.mailbox);
        if mailbox.take_missed() {
            self.pipeline.metrics().event("events_missed");
            let deliveries = &mut self.dispatcher().state.deliveries;
            deliveries.push(Destination::Subscribers, Payload::AllTopics, AfterSend::KeepOpen);
        }
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = mailbox.take() else { break };
            self.on_message(message);
        }
        // The rest is handled in the next turn.
        self.has_more = !mailbox.is_empty();
    }

    fn on_message(&mut self, message: Message) {
        let has_sessions = self.dispatcher().state.table.len() > 0;
        match message {
            // A subscription receives no event that was published before it.
            Message::Request { .. } => self.drain_deliveries(),
            // An event is copied for each session: one at a time bounds the queue.
            Message::Event(_) if has_sessions => self.drain_deliveries(),
            _ => {}
        }
        let dispatcher = &mut self.pipeline.dispatcher;
        match message {
            Message::Event(event) => {
                let deliveries = &mut dispatcher.state.deliveries;
                deliveries.push(Destination::Subscribers, Payload::Event(event), AfterSend::KeepOpen);
            }
            Message::Request { from, ticket, request } => {
                let mut request = request;
                let mut answer = dispatcher.serve(&request, from);
                if let (Request::Attach { session, stream, .. }, Answer::Unknown) = (&mut request, &answer)
                    && matches!(stream, StreamRequest::Resume(..))
                {
                    // The home of the session opens another stream and answers instead.
                    *stream = StreamRequest::Replace;
                    let home = session.home;
                    if usize::from(home) == dispatcher.shard {
                        answer = dispatcher.serve(&request, from);
                    } else if dispatcher
                        .state
                        .broadcast
                        .post(home, Message::Request { from, ticket, request: request.clone() })
                    {
                        return;
                    } else {
                        answer = Answer::Full;
                    }
                }
                let attached = match (&request, &answer) {
                    (Request::Attach { socket, .. }, Answer::Attached(stream, ..)) => {
                        Some((*stream, *socket))
                    }
                    _ => None,
                };
                if !dispatcher.state.broadcast.post(from, Message::Answer { ticket, answer }) {
                    // The request times out on its shard, and the connection is not attached.
                    if let Some((stream, socket)) = attached {
                        dispatcher.state.on_detached(stream, Attachment { shard: from, socket }, true);
                    }
                    dispatcher.observer.metrics().event("answer_lost");
                }
            }
            Message::Answer { ticket, answer } => dispatcher.on_remote_answer(ticket, answer),
            Message::SessionEvicted(session) => {
                let now = dispatcher.clock.wall.as_secs();
                dispatcher.sessions.end(&session, now);
            }
            Message::ClientAnswer(answer) => dispatcher.client_answer(answer),
            Message::Cancel(session, id) => dispatcher.cancel_in_session(session, &id),
            Message::Stream { stream, socket, events, ended } => {
                let then = if ended { AfterSend::EndReply } else { AfterSend::KeepOpen };
                dispatcher.state.deliveries.events(Destination::Stream(socket, stream), &events, then);
            }
            Message::CheckAttached { stream, from, socket } => {
                dispatcher.state.on_check_attached(stream, from, socket);
            }
            Message::Detached { stream, from, socket, is_unused } => {
                dispatcher.state.on_detached(stream, Attachment { shard: from, socket }, is_unused);
            }
        }
    }
}
