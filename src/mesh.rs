//! Messages between shards: events for subscribers, and requests for state that another shard owns. Each shard has a bounded queue.
//! Ordinary requests are handled without it.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use corelane_ring::SocketId;
use crossbeam_queue::ArrayQueue;

use crate::{
    call::Level,
    jsonrpc::OwnedId,
    mcp::{
        ClientAnswer, EndRecord, Event, Instance, Session, SessionKey, Sessions, ShardLives, StreamId,
        TaskRequest, TaskView,
    },
    runtime::Ticket,
};

/// Message to a shard.
pub enum Message {
    /// An event for subscribers.
    Event(Arc<Event>),
    /// A request from another shard.
    Request {
        /// The requesting shard.
        from: u16,
        /// Ticket of the answer.
        ticket: Ticket,
        /// The request.
        request: Request,
    },
    /// The answer to a request.
    Answer {
        /// Ticket of the request.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// A session has lost its subscriptions on its home shard. The receiving shard rejects its further requests.
    SessionEvicted(Session),
    /// A client's answer to a request of a call on the receiving shard.
    ClientAnswer(ClientAnswer),
    /// A legacy client has cancelled a request.
    Cancel(SessionKey, OwnedId),
    /// Events of a stream owned by another shard, for a connection of the receiving shard.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The connection.
        socket: SocketId,
        /// Complete encoded events.
        events: Vec<u8>,
        /// Whether the stream ends with these events.
        ended: bool,
    },
    /// The connection of a stream owned by the receiving shard has closed.
    Detached {
        /// The stream.
        stream: StreamId,
        /// The connection's shard: socket ids are unique per shard only.
        from: u16,
        /// The connection.
        socket: SocketId,
        /// It received nothing of the stream.
        is_unused: bool,
    },
    /// A connection is attached to a stream owned by the receiving shard. It is ended if the owner has no such stream, because
    /// a message between the two shards was lost for lack of room.
    CheckAttached {
        /// The stream.
        stream: StreamId,
        /// The shard of the connection.
        from: u16,
        /// The connection.
        socket: SocketId,
    },
}

/// Request to the shard that owns some state.
#[derive(Clone, Debug)]
pub enum Request {
    /// Set the log level of a session.
    SetLevel(Session, Level),
    /// Mark a session as ended, and end and free its streams.
    End(Session),
    /// Subscribe a session to a resource.
    Subscribe(Session, String),
    /// Unsubscribe a session from a resource.
    Unsubscribe(Session, String),
    /// A request for a task.
    Task(TaskRequest),
    /// Attach a connection to a stream of a session.
    Attach {
        /// The session.
        session: Session,
        /// The connection, on the requesting shard.
        socket: SocketId,
        /// Which stream.
        stream: StreamRequest,
    },
}

/// The stream of a session that a connection is attached to.
#[derive(Clone, Copy, Debug)]
pub enum StreamRequest {
    /// A new one.
    New,
    /// The one of the last event that the client received, after this event.
    Resume(StreamId, u64),
    /// As [`StreamRequest::Resume`], of a reply, which no other stream can replace.
    ResumeReply(StreamId, u64),
    /// A new one, because the stream of the last event is unknown. The client is notified that all of its topics may have
    /// changed.
    Replace,
}

/// Answer to a [`Request`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// The request succeeded.
    Done,
    /// State of the task.
    Task(Box<TaskView>),
    /// The session, stream or task does not exist.
    Unknown,
    /// A limit of the shard is reached.
    Full,
    /// The peer uses its share of a table.
    PeerShare,
    /// The session has the maximum number of subscriptions.
    TooMany,
    /// The URIs of the session's subscriptions have the maximum size.
    TooManyBytes,
    /// The connection is attached to the stream: the encoded events to replay, and whether the stream has ended.
    Attached(StreamId, Vec<u8>, bool),
}

/// Queue of one shard.
pub struct Mailbox {
    queue: ArrayQueue<Message>,
    /// Whether an event was dropped because the queue was full.
    missed: AtomicBool,
    /// The shard has failed and is being restarted: requests are rejected.
    is_down: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    /// Creates a queue of at most `capacity` messages. `wake` wakes its shard after a push.
    #[must_use]
    pub fn new(capacity: usize, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let queue = ArrayQueue::new(capacity.max(1));
        Self { queue, missed: AtomicBool::new(false), is_down: AtomicBool::new(false), wake }
    }

    /// Rejects requests from now on, and removes and returns all messages.
    pub fn close(&self) -> Vec<Message> {
        self.is_down.store(true, Ordering::SeqCst);
        (0..self.queue.capacity()).map_while(|_| self.queue.pop()).collect()
    }

    /// Accepts requests again.
    pub fn open(&self) {
        self.is_down.store(false, Ordering::SeqCst);
    }

    /// Enqueues a message. Returns `false` if the queue is full, or for a request to a shard that is being restarted.
    pub fn post(&self, message: Message) -> bool {
        if self.is_down.load(Ordering::Relaxed) && matches!(message, Message::Request { .. }) {
            return false;
        }
        let is_queued = self.queue.push(message).is_ok();
        (self.wake)();
        is_queued
    }

    /// Enqueues an event. If the queue is full, the shard later notifies every subscriber that all of its topics may have changed.
    pub fn publish(&self, event: &Arc<Event>) {
        if self.queue.push(Message::Event(Arc::clone(event))).is_err() {
            self.missed.store(true, Ordering::Release);
        }
        (self.wake)();
    }

    /// Removes the next message.
    #[must_use]
    pub fn take(&self) -> Option<Message> {
        self.queue.pop()
    }

    /// Number of queued messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is neither a message nor a dropped event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.missed.load(Ordering::Acquire)
    }

    /// Whether an event was dropped since the last call.
    #[must_use]
    pub fn take_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed) && self.missed.swap(false, Ordering::Acquire)
    }
}

/// Queue of the thread that stores ends of sessions beyond the process. It answers when the record is on disk.
pub struct EndStore {
    /// The record, and the shard and ticket of the request to be answered.
    pub queue: crossbeam_channel::Sender<(EndRecord, u16, Ticket)>,
    /// The records that were stored before this run, until all shards have started.
    pub restored: Mutex<Vec<EndRecord>>,
}

/// Queues of all shards of a server, set when all shards have started, and the id of this instance.
#[derive(Clone)]
pub struct Broadcast {
    mailboxes: Arc<OnceLock<Vec<Arc<Mailbox>>>>,
    end_store: Option<Arc<EndStore>>,
    instance: Instance,
    lives: ShardLives,
}

impl Default for Broadcast {
    /// Creates the id of a new instance.
    fn default() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let [a, b, c, d, ..] = since.as_secs().to_le_bytes();
        let mut node = [0; 5];
        // If no random bytes are available, the epoch still distinguishes the instances of one machine.
        let _ = getrandom::fill(&mut node);
        let instance = Instance { epoch: u32::from_le_bytes([a, b, c, d]), node };
        Self { mailboxes: Arc::default(), end_store: None, instance, lives: ShardLives::default() }
    }
}

impl Broadcast {
    /// The instance's id.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// Sets where ends of sessions are stored.
    #[must_use]
    pub fn with_end_store(self, store: EndStore) -> Self {
        Self { end_store: Some(Arc::new(store)), ..self }
    }

    /// Whether ends of sessions are stored.
    #[must_use]
    pub fn has_end_store(&self) -> bool {
        self.end_store.is_some()
    }

    /// Stores that a session has ended, and then answers `ticket` of the shard `from`. Returns `false` if the queue is full.
    #[must_use]
    pub fn store_end(&self, session: &Session, from: u16, ticket: Ticket) -> bool {
        let Session { key, peer, expires, .. } = *session;
        let record = EndRecord::Session { key, peer, expires };
        self.end_store.as_ref().is_some_and(|store| store.queue.try_send((record, from, ticket)).is_ok())
    }

    /// Ends the sessions that ended in earlier runs of the process.
    pub fn restore(&self, sessions: &mut Sessions) {
        if let Some(store) = &self.end_store {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let restored = store.restored.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.restore(&restored, now.as_secs());
        }
    }

    /// Sets the queues, once, after the shards have started.
    pub fn connect(&self, mailboxes: Vec<Arc<Mailbox>>) {
        if let Some(store) = &self.end_store {
            *store.restored.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        }
        self.lives.set_shards(mailboxes.len());
        let _ = self.mailboxes.set(mailboxes);
    }

    /// The lives of the shards.
    #[must_use]
    pub fn lives(&self) -> &ShardLives {
        &self.lives
    }

    /// The queues by shard.
    #[must_use]
    pub fn mailboxes(&self) -> &[Arc<Mailbox>] {
        self.mailboxes.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Sends a message to a shard. Returns `false` if its queue is full or the shard does not exist.
    pub fn post(&self, shard: u16, message: Message) -> bool {
        self.mailboxes().get(usize::from(shard)).is_some_and(|mailbox| mailbox.post(message))
    }

    /// Sends an event to all shards, as one shared message each.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        self.mailboxes().iter().for_each(|mailbox| mailbox.publish(&event));
    }
}
