//! Streams of legacy sessions that can be resumed (checklist L-23, L-50): what was sent on each, as far as it is kept, and
//! where it goes now.

use std::collections::VecDeque;

use corelane_ring::SocketId;

use crate::{
    http1::{write_event, write_retry},
    mcp::{Instance, SessionKey},
    mesh::StreamId,
};

/// The connection a stream goes to: at this shard or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carrier {
    pub(crate) shard: u16,
    pub(crate) socket: SocketId,
}

struct Stream {
    session: SessionKey,
    /// The number of the last event.
    last: u64,
    /// The number of the last event that went to a connection.
    sent: u64,
    /// Events with their numbers, oldest first.
    events: VecDeque<(u64, Box<[u8]>)>,
    bytes: usize,
    carrier: Option<Carrier>,
    /// Nothing more will come.
    ended: bool,
    /// Whether it is a session's own; else it is a reply.
    standalone: bool,
}

struct Place {
    stream: Option<Stream>,
    generation: u32,
}

/// A bounded table of streams; when it is full the oldest without a connection goes.
pub(crate) struct Replay {
    shard: u16,
    instance: Instance,
    places: Vec<Place>,
    free: Vec<u32>,
    /// The order they came in.
    order: VecDeque<StreamId>,
    streams_max: usize,
    bytes_max: usize,
}

/// Where an event goes that was just kept.
pub(crate) struct Sent {
    pub(crate) carrier: Carrier,
    pub(crate) event: Vec<u8>,
    pub(crate) ended: bool,
}

impl Replay {
    pub(crate) fn new(shard: u16, instance: Instance, streams_max: usize, bytes_max: usize) -> Self {
        Self {
            shard,
            instance,
            places: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            streams_max,
            bytes_max,
        }
    }

    /// A new stream; `None` when all that could go are in use.
    pub(crate) fn open(
        &mut self,
        session: SessionKey,
        standalone: bool,
        carrier: Option<Carrier>,
    ) -> Option<StreamId> {
        if self.places.len() - self.free.len() >= self.streams_max {
            let is_idle = |id: &StreamId| {
                self.get(*id).is_none_or(|stream| stream.carrier.is_none() && !stream.standalone)
            };
            let oldest = self.order.iter().position(is_idle)?;
            let oldest = self.order.get(oldest).copied()?;
            self.close(oldest);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.push(Place { stream: None, generation: 0 });
                u32::try_from(self.places.len() - 1).ok()?
            }
        };
        let place = self.places.get_mut(index as usize)?;
        place.stream = Some(Stream {
            session,
            last: 0,
            sent: 0,
            events: VecDeque::new(),
            bytes: 0,
            carrier,
            ended: false,
            standalone,
        });
        let id = StreamId { shard: self.shard, index, generation: place.generation };
        self.order.push_back(id);
        Some(id)
    }

    fn get(&self, id: StreamId) -> Option<&Stream> {
        let place = self.places.get(id.index as usize).filter(|place| place.generation == id.generation)?;
        place.stream.as_ref()
    }

    fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let place =
            self.places.get_mut(id.index as usize).filter(|place| place.generation == id.generation)?;
        place.stream.as_mut()
    }

    /// Forgets a stream.
    pub(crate) fn close(&mut self, id: StreamId) {
        if let Some(place) = self.places.get_mut(id.index as usize)
            && place.generation == id.generation
            && place.stream.take().is_some()
        {
            place.generation = place.generation.wrapping_add(1);
            self.free.push(id.index);
            self.order.retain(|other| *other != id);
        }
    }

    /// The event a stream begins with: where it stands, without data (checklist L-23).
    pub(crate) fn prime(&self, id: StreamId, retry_ms: Option<u128>) -> Vec<u8> {
        let mut event = Vec::new();
        let last = self.get(id).map_or(0, |stream| stream.last);
        write_retry(&mut event, Some(&event_id(self.instance, id, last)), retry_ms);
        event
    }

    /// Keeps a message, and says where it goes, if anywhere. `ended`: it is the last.
    pub(crate) fn push(&mut self, id: StreamId, message: &[u8], ended: bool) -> Option<Sent> {
        let (bytes_max, instance) = (self.bytes_max, self.instance);
        let stream = self.get_mut(id)?;
        stream.last += 1;
        stream.ended |= ended;
        let mut event = Vec::with_capacity(message.len() + 64);
        write_event(&mut event, Some(&event_id(instance, id, stream.last)), message);
        stream.bytes += event.len();
        stream.events.push_back((stream.last, event.as_slice().into()));
        while stream.bytes > bytes_max
            && stream.events.len() > 1
            && let Some((_, oldest)) = stream.events.pop_front()
        {
            stream.bytes -= oldest.len();
        }
        // What has ended occupies no connection: it may be forgotten.
        let carrier = if ended { stream.carrier.take()? } else { stream.carrier? };
        stream.sent = stream.last;
        Some(Sent { carrier, event, ended })
    }

    /// Gives a stream another connection: what came behind the event `after`, or behind what has been sent, and whether that
    /// is all there will be; then the connection it had before, if it still had one. `None`: it is not there, or never had
    /// such an event.
    pub(crate) fn attach(
        &mut self,
        id: StreamId,
        session: SessionKey,
        after: Option<u64>,
        carrier: Carrier,
    ) -> Option<(Vec<u8>, bool, Option<Carrier>)> {
        let stream = self.get_mut(id).filter(|stream| stream.session == session)?;
        let after = after.unwrap_or(stream.sent);
        if after > stream.last {
            return None;
        }
        let before = stream.carrier.take();
        stream.carrier = Some(carrier).filter(|_| !stream.ended);
        stream.sent = stream.last;
        let missed = stream.events.iter().filter(|(number, _)| *number > after);
        Some((missed.flat_map(|(_, event)| event.iter().copied()).collect(), stream.ended, before))
    }

    /// The connection has gone: `false` if the stream has another by now.
    pub(crate) fn detach(&mut self, id: StreamId, gone: Carrier) -> bool {
        let Some(stream) = self.get_mut(id) else { return false };
        stream.carrier.take_if(|carrier| *carrier == gone).is_some()
    }

    /// The connection a stream has.
    pub(crate) fn carrier(&self, id: StreamId) -> Option<Carrier> {
        self.get(id)?.carrier
    }

    /// How many have a connection.
    pub(crate) fn attached(&self) -> usize {
        let streams = self.places.iter().filter_map(|place| place.stream.as_ref());
        streams.filter(|stream| stream.carrier.is_some()).count()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

/// An event's id: the instance that keeps it, the stream it belongs to, and its number there.
fn event_id(instance: Instance, id: StreamId, number: u64) -> String {
    format!("{instance}-{}-{}-{}-{number}", id.shard, id.index, id.generation)
}

/// The event an id of this instance names.
pub(crate) fn read_event_id(instance: Instance, text: &[u8]) -> Option<(StreamId, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (of, rest) = text.split_once('-')?;
    if of != instance.to_string() {
        return None;
    }
    let mut parts = rest.split('-');
    let id = StreamId {
        shard: parts.next()?.parse().ok()?,
        index: parts.next()?.parse().ok()?,
        generation: parts.next()?.parse().ok()?,
    };
    let number = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((id, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: Instance = Instance { epoch: 7, node: [1, 2, 3, 4, 5] };

    #[test]
    fn l_50_a_stream_is_resumed_behind_the_last_event_and_by_its_session_only() {
        let mut replay = Replay::new(3, INSTANCE, 10, 10_000);
        let carrier = Carrier { shard: 1, socket: SocketId::default() };
        let id = replay.open(7, true, None).unwrap();
        assert!(replay.push(id, b"{}", false).is_none(), "it has no connection");
        replay.push(id, b"[]", false);
        let text = event_id(INSTANCE, id, 1);
        assert_eq!(read_event_id(INSTANCE, text.as_bytes()), Some((id, 1)));
        let (missed, ended, before) = replay.attach(id, 7, Some(1), carrier).unwrap();
        assert_eq!(
            String::from_utf8(missed).unwrap(),
            format!("id: {}\nevent: message\ndata: []\n\n", event_id(INSTANCE, id, 2))
        );
        assert_eq!((ended, before), (false, None));
        assert!(replay.attach(id, 8, None, carrier).is_none(), "another session's");
        assert!(
            !replay.detach(id, Carrier { shard: 2, ..carrier }),
            "another shard's socket of the same number"
        );
        assert!(replay.attach(id, 7, Some(3), carrier).is_none(), "there was no such event");
        let sent = replay.push(id, b"1", true).unwrap();
        assert_eq!((sent.carrier, sent.ended), (carrier, true));
        assert_eq!(replay.carrier(id), None, "it has ended");
        let (missed, ended, _) = replay.attach(id, 7, Some(2), carrier).unwrap();
        assert!(missed.ends_with(b"data: 1\n\n") && ended);
        assert_eq!(replay.carrier(id), None);
        for text in ["", "1", "1-2-3", "1-2-3-4-5", "a-2-3-4", "1--3-4", "99999-0-0-0"] {
            assert_eq!(read_event_id(INSTANCE, format!("{INSTANCE}-{text}").as_bytes()), None, "{text}");
        }
        let later = Instance { epoch: 8, ..INSTANCE };
        let other = Instance { node: [8; 5], ..INSTANCE };
        for instance in [later, other] {
            assert_eq!(read_event_id(instance, text.as_bytes()), None, "another run's");
        }
        assert_eq!(read_event_id(INSTANCE, b"3-0-0-1"), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut replay = Replay::new(0, INSTANCE, 2, 200);
        let carrier = Carrier { shard: 0, socket: SocketId::default() };
        let one = replay.open(1, false, None).unwrap();
        for _ in 0..100 {
            replay.push(one, &[b'x'; 50], false);
        }
        let (missed, ..) = replay.attach(one, 1, Some(0), carrier).unwrap();
        assert!(missed.len() <= 200, "{}", missed.len());
        let two = replay.open(2, false, Some(carrier)).unwrap();
        assert_eq!(replay.open(3, false, None), None, "both are in use");
        assert!(replay.detach(one, carrier));
        assert!(replay.open(3, false, None).is_some());
        assert!(replay.attach(one, 1, Some(0), carrier).is_none(), "the oldest without a connection went");
        assert_eq!((replay.len(), replay.carrier(two)), (2, Some(carrier)));
    }
}
