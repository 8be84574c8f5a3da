//! Messages of other shards, and commands of other threads.

use std::sync::Arc;

use corelane_ring::SocketId;

use super::{Shard, inbox::Inbox};
use crate::{
    delivery::{AfterSend, Destination, Payload},
    mesh::{Answer, Message, Request},
    session::Carrier,
    telemetry::metrics::{ConnectionStates, ShardReport},
};

/// Messages of other shards that are taken in one turn; the rest wait for the next.
const MESSAGES_PER_TURN: usize = 1024;

/// Slots of the table of connections that are counted by state in one turn; a report waits until all have been. A turn of a
/// shard with 131,072 of them would take milliseconds.
const SLOTS_COUNTED_PER_TURN: usize = 8192;

impl Shard {
    /// Does what other threads have asked for.
    pub(super) fn take_news(&mut self) -> bool {
        if !self.handle.inbox.take_news() && !std::mem::take(&mut self.has_more) {
            return false;
        }
        self.take_messages();
        let inbox = Arc::clone(&self.handle.inbox);
        if let Some((served, takeover)) = inbox.take_snapshot() {
            let super::Served { snapshot, tools } = served;
            if let Some((snapshot, tools)) = self.pipeline.replace(snapshot, tools) {
                inbox.retire(super::Served { snapshot, tools });
            }
            takeover.done();
        }
        if inbox.is_asked() {
            match self.census.advance(&self.connections, SLOTS_COUNTED_PER_TURN) {
                Some(states) => self.report(&inbox, states),
                None => self.has_more = true,
            }
        }
        if inbox.drains() {
            self.begin_drain();
        }
        true
    }

    /// Answers everyone who has asked for a report.
    fn report(&mut self, inbox: &Inbox, connection_states: ConnectionStates) {
        while let Some(asker) = inbox.next_report() {
            let connections = self.live;
            let dispatcher = self.dispatcher();
            let report = ShardReport {
                shard: dispatcher.shard,
                metrics: dispatcher.observer.metrics().clone(),
                connections,
                connection_states,
                calls_in_flight: dispatcher.calls.len(),
                listeners: dispatcher.state.subscriptions.listeners(),
                subscribed: dispatcher.state.subscriptions.subscribed(),
                sessions_kept: dispatcher.state.homes.len(),
                replay_streams: dispatcher.state.replay.len(),
                replay_streams_attached: dispatcher.state.replay.attached(),
                tasks: dispatcher.state.tasks.len(),
            };
            // The receiver may be gone.
            let _ = asker.try_send(report);
        }
    }

    fn take_messages(&mut self) {
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
        // The rest is taken in the next turn.
        self.has_more = !mailbox.is_empty();
    }

    fn on_message(&mut self, message: Message) {
        if matches!(message, Message::Ask { .. }) {
            // A subscription gets no event that was published before it.
            self.drain_deliveries();
        }
        let dispatcher = &mut self.pipeline.dispatcher;
        match message {
            Message::Event(event) => {
                let deliveries = &mut dispatcher.state.deliveries;
                deliveries.push(Destination::Subscribers, Payload::Event(event), AfterSend::KeepOpen);
            }
            Message::Ask { from, ticket, request } => {
                let answer = dispatcher.serve(&request, from);
                let attached = match (&request, &answer) {
                    (Request::Attach { socket, .. }, Answer::Attached(stream, ..)) => {
                        Some((*stream, *socket))
                    }
                    _ => None,
                };
                if !dispatcher.state.broadcast.post(from, Message::Answer { ticket, answer }) {
                    // The request times out there, and its connection carries nothing.
                    if let Some((stream, socket)) = attached {
                        dispatcher.state.replay.detach(stream, Carrier { shard: from, socket });
                    }
                    dispatcher.observer.metrics().event("answer_lost");
                }
            }
            Message::Answer { ticket, answer } => dispatcher.on_remote_answer(ticket, answer),
            Message::ClientAnswer(answer) => dispatcher.client_answer(answer),
            Message::Cancel(session, id) => dispatcher.cancel_in_session(session, &id),
            Message::Stream { socket, events, ended } => self.deliver_stream(socket, &events, ended),
            Message::Detached { stream, from, socket } => {
                dispatcher.state.replay.detach(stream, Carrier { shard: from, socket });
            }
        }
    }

    /// Events of a stream that another shard keeps.
    fn deliver_stream(&mut self, socket: SocketId, events: &[u8], is_over: bool) {
        let then = if is_over { AfterSend::EndReply } else { AfterSend::KeepOpen };
        self.dispatcher().state.deliveries.events(Destination::Stream(socket), events, then);
    }
}
