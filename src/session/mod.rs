//! What a shard keeps beyond its requests: subscriptions, streams, sessions at home here, tasks; and its part in what crosses
//! between shards.

mod replay;
mod subscriber;
mod subscriptions;
mod table;
mod tasks;

use std::time::{Duration, Instant};

use corelane_ring::SocketId;

pub(crate) use replay::{Carrier, Replay, Sent, read_event_id};
pub(crate) use subscriber::Listener;
pub(crate) use subscriptions::{ListenerKey, Subscriptions};

use crate::{
    config::Limits,
    delivery::{AfterSend, DeliveryQueue, Destination},
    mcp::{Sessions, Topic},
    mesh::{Answer, Broadcast, Message, Request, StreamId},
};
use table::Homes;
use tasks::Tasks;

/// The moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) monotonic: Instant,
    /// Since 1970.
    pub(crate) wall: Duration,
}

impl Moment {
    pub(crate) fn both(self) -> (Instant, Duration) {
        (self.monotonic, self.wall)
    }
}

pub(crate) struct Plane {
    pub(crate) shard: u16,
    pub(crate) subscriptions: Subscriptions<Listener>,
    pub(crate) homes: Homes,
    pub(crate) replay: Replay,
    pub(crate) tasks: Tasks,
    pub(crate) broadcast: Broadcast,
    subscription_topics_max: usize,
    /// What the shard delivers before its turn ends.
    pub(crate) deliveries: DeliveryQueue,
}

impl Plane {
    pub(crate) fn new(shard: u16, limits: &Limits, broadcast: Broadcast) -> Self {
        Self {
            shard,
            subscriptions: Subscriptions::new(limits.subscriptions_max),
            homes: Homes::new(limits.sessions_kept_max),
            replay: Replay::new(
                shard,
                broadcast.instance(),
                limits.replay_streams_max,
                limits.replay_bytes_max,
            ),
            tasks: Tasks::new(shard, limits.tasks_max, limits.task_ttl),
            broadcast,
            subscription_topics_max: limits.subscription_topics_max,
            deliveries: DeliveryQueue::default(),
        }
    }

    /// Sends an event of a stream that is kept here where it goes now.
    pub(crate) fn forward(&mut self, id: StreamId, sent: Option<Sent>) {
        let Some(Sent { carrier, event, ended }) = sent else { return };
        self.carry(id, carrier, event, ended);
    }

    fn carry(&mut self, id: StreamId, carrier: Carrier, events: Vec<u8>, ended: bool) {
        let socket = carrier.socket;
        if carrier.shard == self.shard {
            let then = if ended { AfterSend::EndReply } else { AfterSend::KeepOpen };
            self.deliveries.events(Destination::Stream(socket), &events, then);
        } else if !self.broadcast.post(carrier.shard, Message::Stream { socket, events, ended }) {
            // It is kept: whoever comes back for it gets it.
            self.replay.detach(id, carrier);
        }
    }

    /// A connection of this shard carries a stream no more.
    pub(crate) fn detach(&mut self, stream: StreamId, socket: SocketId) {
        let from = self.shard;
        if stream.shard == from {
            self.replay.detach(stream, Carrier { shard: from, socket });
        } else {
            self.broadcast.post(stream.shard, Message::Detached { stream, from, socket });
        }
    }

    /// Ends a stream that nothing more is said on, not even an answer.
    pub(crate) fn end(&mut self, id: StreamId) {
        let carrier = self.replay.carrier(id);
        self.replay.close(id);
        if let Some(carrier) = carrier {
            self.carry(id, carrier, Vec::new(), true);
        }
    }

    /// Keeps a message on a stream that is kept here, and sends it.
    pub(crate) fn push(&mut self, id: StreamId, message: &[u8], ended: bool) {
        let sent = self.replay.push(id, message, ended);
        self.forward(id, sent);
    }

    /// Tells whoever listens to a task how it is.
    pub(crate) fn publish_task(&mut self, key: crate::mcp::TaskKey, now: Instant) {
        let Some(view) = self.tasks.view(key, now) else { return };
        let mut members = Vec::new();
        view.write(&mut members, true);
        self.broadcast.publish(crate::mcp::Event::task_changed(&view.id, &members));
    }

    /// Does what a request asks of the state that is kept here. `from`: the shard of the connection. Answers to a task's
    /// questions, and its end, are the caller's to pass on to the call.
    pub(crate) fn serve(
        &mut self,
        request: &Request,
        from: u16,
        sessions: &mut Sessions,
        moment: Moment,
    ) -> Answer {
        let Self { homes, replay, subscriptions, .. } = self;
        match request {
            Request::SetLevel(key, level) => {
                sessions.set_level(*key, *level);
                Answer::Done
            }
            Request::End(key) => {
                sessions.end(*key);
                if let Some(kept) = homes.get(*key) {
                    let carrier = replay.carrier(kept.stream);
                    homes.forget(*key, replay, subscriptions);
                    if let Some(carrier) = carrier {
                        self.carry(kept.stream, carrier, Vec::new(), true);
                    }
                }
                Answer::Done
            }
            Request::Subscribe(session, uri) => {
                let now = moment.wall.as_secs();
                let Some(kept) = homes.keep(session, now, replay, subscriptions) else { return Answer::Full };
                if !subscriptions.has_room(1) {
                    return Answer::Full;
                }
                let topic = Topic::resource(uri);
                if !subscriptions.admits(kept.listener, &topic, self.subscription_topics_max) {
                    return Answer::TooMany;
                }
                subscriptions.subscribe(kept.listener, topic);
                Answer::Done
            }
            Request::Unsubscribe(session, uri) => {
                if let Some(kept) = homes.get(session.key) {
                    subscriptions.unsubscribe(kept.listener, &Topic::resource(uri));
                }
                Answer::Done
            }
            Request::Attach { session, socket, resume } => {
                let carrier = Carrier { shard: from, socket: *socket };
                let (stream, after) = match resume {
                    Some((stream, after)) => (*stream, Some(*after)),
                    None => {
                        let now = moment.wall.as_secs();
                        let kept = homes.keep(session, now, replay, subscriptions);
                        let Some(kept) = kept else { return Answer::Full };
                        if replay.carrier(kept.stream).is_some() {
                            return Answer::Taken;
                        }
                        // What came while nobody listened is not lost.
                        (kept.stream, None)
                    }
                };
                match replay.attach(stream, session.key, after, carrier) {
                    None => Answer::Unknown,
                    Some((missed, ended, before)) => {
                        let mut events = replay.prime(stream, None);
                        if !missed.is_empty() || session.revision < crate::call::Revision::V2025_11_25 {
                            // Where it stands is told by what follows, and older clients read no event without data.
                            events.clear();
                        }
                        events.extend_from_slice(&missed);
                        if let Some(before) = before {
                            self.carry(stream, before, Vec::new(), true);
                        }
                        Answer::Attached(stream, events, ended)
                    }
                }
            }
            Request::Task(request) => match self.tasks.view(request.key, moment.monotonic) {
                None => Answer::Unknown,
                Some(view) => Answer::Task(Box::new(view.clone())),
            },
        }
    }
}
