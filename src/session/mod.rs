//! Per-shard state that outlives a request: subscriptions, legacy sessions with their streams, tasks.

mod replay_buffer;
mod stream_table;
mod subscriber;
mod subscriptions;
mod table;
mod tasks;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use corelane_ring::SocketId;

pub(crate) use replay_buffer::{is_reply_event, read_event_id};
pub(crate) use stream_table::Attachment;
pub(crate) use subscriber::Subscriber;
pub(crate) use subscriptions::inspect::SubscriberUsage;
pub(crate) use subscriptions::{SubscriberKey, SubscriptionLimit, Subscriptions, Usage};
pub(crate) use table::SessionTable;
pub(crate) use table::inspect::{ReadPosition, ReplayUsage, SessionUsage};

use crate::{
    call::Revision,
    config::Limits,
    delivery::{AfterSend, DeliveryQueue, Destination},
    mcp::{Session, SessionKey, Sessions, StreamId, Topic},
    mesh::{Answer, Broadcast, Message, Request, StreamRequest},
};
use table::{Attached, StreamWrite};
use tasks::Tasks;

/// Debug builds check the session table after each request while it has at most so many streams.
const CHECKED_STREAMS_MAX: usize = 64;

/// The time of the current turn, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) monotonic: Instant,
    /// Since 1970.
    pub(crate) wall: Duration,
}

impl Clock {
    pub(crate) fn both(self) -> (Instant, Duration) {
        (self.monotonic, self.wall)
    }
}

/// Subscriptions, sessions and tasks of one shard.
pub(crate) struct SessionState {
    pub(crate) shard: u16,
    pub(crate) subscriptions: Subscriptions<Subscriber>,
    pub(crate) table: SessionTable,
    pub(crate) tasks: Tasks,
    pub(crate) broadcast: Broadcast,
    limits: Limits,
    /// Names of events to be counted.
    events: Vec<&'static str>,
    /// The deliveries of the turn.
    pub(crate) deliveries: DeliveryQueue,
}

impl SessionState {
    pub(crate) fn new(shard: u16, limits: &Limits, broadcast: Broadcast) -> Self {
        Self {
            shard,
            subscriptions: Subscriptions::new(limits),
            table: SessionTable::new(shard, broadcast.instance(), limits),
            tasks: Tasks::new(shard, limits),
            broadcast,
            limits: *limits,
            events: Vec::new(),
            deliveries: DeliveryQueue::default(),
        }
    }

    /// Delivers the queued events of the session table to connections, of this shard or others.
    pub(crate) fn flush(&mut self) {
        while let Some(key) = self.table.next_missed() {
            self.events.push("events_missed");
            for message in self.change_of_all_topics(key) {
                self.table.send(key, message);
            }
        }
        while let Some(write) = self.table.next_write() {
            let StreamWrite { stream, attachment, after, events, is_end } = write;
            let socket = attachment.socket;
            if attachment.shard == self.shard {
                let then = if is_end { AfterSend::EndReply } else { AfterSend::KeepOpen };
                self.deliveries.events(Destination::Stream(socket, stream), &events, then);
            } else {
                let message = Message::Stream { stream, socket, events, ended: is_end };
                if !self.broadcast.post(attachment.shard, message) {
                    // The event is sent on another connection, or stays in the replay buffer for the next.
                    self.table.undeliver(stream, attachment, after);
                }
            }
        }
    }

    /// Detaches a connection of this shard from a stream, here or on another shard.
    pub(crate) fn detach(&mut self, stream: StreamId, socket: SocketId) {
        self.post_detached(stream, socket, false);
    }

    /// Detaches a connection of this shard that closed before it received anything of the stream.
    pub(crate) fn cancel_attach(&mut self, stream: StreamId, socket: SocketId) {
        self.post_detached(stream, socket, true);
    }

    fn post_detached(&mut self, stream: StreamId, socket: SocketId, is_unused: bool) {
        let from = self.shard;
        if stream.shard == from {
            self.on_detached(stream, Attachment { shard: from, socket }, is_unused);
        } else {
            self.broadcast.post(stream.shard, Message::Detached { stream, from, socket, is_unused });
        }
    }

    /// A connection, here or on another shard, has detached from a stream of this shard. `is_unused`: it received nothing.
    pub(crate) fn on_detached(&mut self, stream: StreamId, gone: Attachment, is_unused: bool) {
        if is_unused {
            self.table.cancel_attach(stream, gone);
        } else {
            self.table.detach(stream, gone);
        }
        self.flush();
    }

    /// Has the shard of a stream check that the stream is attached to this connection of this shard.
    pub(crate) fn check_attached(&mut self, stream: StreamId, socket: SocketId) {
        if stream.shard != self.shard {
            // If the queue is full, the next check will do.
            self.broadcast.post(stream.shard, Message::CheckAttached { stream, from: self.shard, socket });
        }
    }

    /// Ends a connection of another shard, unless the stream is attached to it.
    pub(crate) fn on_check_attached(&mut self, stream: StreamId, from: u16, socket: SocketId) {
        if self.table.attachment(stream) != Some(Attachment { shard: from, socket }) {
            self.broadcast.post(from, Message::Stream { stream, socket, events: Vec::new(), ended: true });
        }
    }

    /// Ends a reply stream without an answer.
    pub(crate) fn end(&mut self, id: StreamId) {
        self.table.close(id);
        self.flush();
    }

    /// Appends a message to a reply stream of this shard, and sends it. `ended`: it is the last.
    pub(crate) fn push(&mut self, id: StreamId, message: &[u8], ended: bool) {
        self.table.push(id, message.into(), ended);
        self.flush();
    }

    /// Publishes the state of a task to its subscribers.
    pub(crate) fn publish_task(&mut self, key: crate::mcp::TaskKey, now: Instant) {
        let Some(view) = self.tasks.view(key, now) else { return };
        let event = crate::mcp::Event::task_changed(&view.id, view.length(), |out| view.write(out, true));
        self.broadcast.publish(event);
    }

    /// Serves a request about state of this shard. `from`: the shard of the connection. The caller passes the answers to a
    /// task's questions, and its end, on to the call.
    pub(crate) fn serve(
        &mut self,
        request: &Request,
        from: u16,
        sessions: &mut Sessions,
        clock: Clock,
    ) -> Answer {
        let now = clock.wall.as_secs();
        let answer = match request {
            Request::SetLevel(session, level) => {
                sessions.set_level(session, *level, now);
                Answer::Done
            }
            Request::End(session) => {
                sessions.end(session, now);
                self.remove_session(session.key);
                Answer::Done
            }
            Request::Subscribe(session, uri) => {
                let Self { table, subscriptions, .. } = self;
                let Some(subscriber) = table.insert(session, now, subscriptions) else { return Answer::Full };
                let topic = Topic::resource(uri);
                match subscriptions.try_subscribe(subscriber, topic, Usage::default(), &self.limits) {
                    Ok(()) => Answer::Done,
                    Err(SubscriptionLimit::ClientTopics) => Answer::TooMany,
                    Err(SubscriptionLimit::ClientBytes) => Answer::TooManyBytes,
                    Err(SubscriptionLimit::Shard) => Answer::Full,
                    Err(SubscriptionLimit::PeerShare) => Answer::PeerShare,
                }
            }
            Request::Unsubscribe(session, uri) => {
                if let Some(subscriber) = self.table.subscriber(session.key) {
                    self.subscriptions.unsubscribe(subscriber, &Topic::resource(uri));
                }
                Answer::Done
            }
            Request::Attach { session, socket, stream } => {
                self.attach(session, Attachment { shard: from, socket: *socket }, *stream, now)
            }
            Request::Task(request) => match self.tasks.view(request.key, clock.monotonic) {
                None => Answer::Unknown,
                Some(view) => Answer::Task(Box::new(view.clone())),
            },
        };
        while let Some(evicted) = self.table.next_evicted() {
            self.events.push("session_evicted");
            sessions.end(&evicted, now);
            for shard in 0..u16::try_from(self.broadcast.mailboxes().len()).unwrap_or(u16::MAX) {
                // Where the queue is full, the session ends on the other shards only; those include its home.
                if shard != self.shard {
                    self.broadcast.post(shard, Message::SessionEvicted(evicted));
                }
            }
        }
        self.flush();
        if cfg!(debug_assertions) && self.table.streams() <= CHECKED_STREAMS_MAX {
            debug_assert_eq!(self.table.check_invariants(), Ok(()));
        }
        answer
    }

    /// Attaches a connection to a new stream of a session, or to the one it resumes after an event. `now`: seconds since 1970.
    fn attach(
        &mut self,
        session: &Session,
        attachment: Attachment,
        stream: StreamRequest,
        now: u64,
    ) -> Answer {
        let attached = match stream {
            StreamRequest::Resume(stream, after) | StreamRequest::ResumeReply(stream, after) => {
                let resumed = self.table.resume(stream, session.key, after, attachment);
                let Some(attached) = resumed else { return Answer::Unknown };
                attached
            }
            StreamRequest::New | StreamRequest::Replace => {
                let inserted = self.table.insert(session, now, &mut self.subscriptions);
                let opened = inserted.and_then(|_| self.table.open(session.key, attachment));
                let Some(mut attached) = opened else { return Answer::Full };
                attached.is_missed |= matches!(stream, StreamRequest::Replace);
                attached
            }
        };
        let Attached { stream, mut events, is_ended, is_missed } = attached;
        if is_missed {
            self.events.push("events_missed");
            if !is_ended {
                for message in self.change_of_all_topics(session.key) {
                    events.append(&mut self.table.append(stream, message));
                }
            }
        }
        // An event with data has an id itself, and older clients cannot read one without data.
        if events.is_empty() && session.revision >= Revision::V2025_11_25 {
            events = self.table.priming_event(stream, None);
        }
        Answer::Attached(stream, events, is_ended)
    }

    /// The notifications that every topic of a session may have changed, for a session that lost messages.
    fn change_of_all_topics(&self, key: SessionKey) -> Vec<Box<[u8]>> {
        let Some(subscriber) = self.table.subscriber(key) else { return Vec::new() };
        let mut messages = Vec::new();
        for event in self.subscriptions.change_of_all_topics(subscriber) {
            let mut message = Vec::new();
            event.write(&mut message, None);
            messages.push(message.into());
        }
        messages
    }

    /// Names of events that happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.events)
    }

    /// Ends the GET streams of a session, and frees its state. A reply stream ends with the reply.
    fn remove_session(&mut self, key: SessionKey) {
        self.table.remove(key, &mut self.subscriptions);
        self.table.remove_detached_replies(key);
    }
}
