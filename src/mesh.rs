//! The one crossing between shards: events for whoever subscribed, and what concerns the state another shard keeps. A bounded
//! queue for each shard; nothing that answers an ordinary request comes through here.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use corelane_ring::SocketId;
use crossbeam_queue::ArrayQueue;

use crate::{
    jsonrpc::OwnedId,
    mcp::{ClientAnswer, Event, Instance, Session, SessionKey, TaskRequest, TaskView},
    registry::Level,
    runtime::Ticket,
};

/// What one shard tells another.
pub enum Message {
    /// Something has changed.
    Event(Arc<Event>),
    /// Do this, and answer.
    Ask {
        /// Who asks.
        from: u16,
        /// Under what the answer is expected.
        ticket: Ticket,
        /// What is to be done.
        request: Request,
    },
    /// It is done, or not.
    Answer {
        /// What was asked.
        ticket: Ticket,
        /// What it came to.
        answer: Answer,
    },
    /// A client has answered a question of a call that runs here.
    ClientAnswer(ClientAnswer),
    /// A legacy client does not want an answer any more.
    Cancel(SessionKey, OwnedId),
    /// Events of a stream that is kept elsewhere, for a connection here.
    Stream {
        /// The connection.
        socket: SocketId,
        /// Whole events.
        events: Vec<u8>,
        /// The stream has ended with them.
        ended: bool,
    },
    /// The connection that carried a stream kept here has gone.
    Detached {
        /// The stream.
        stream: StreamId,
        /// Whose connection it was: sockets of two shards may have the same number.
        from: u16,
        /// The connection.
        socket: SocketId,
    },
}

/// What is asked of the shard that keeps something.
#[derive(Clone, Debug)]
pub enum Request {
    /// Remember which log messages a session wants.
    SetLevel(SessionKey, Level),
    /// Remember that a session has ended, and let go of what is its.
    End(SessionKey),
    /// A session wants to hear of a resource.
    Subscribe(Session, String),
    /// Or no more.
    Unsubscribe(Session, String),
    /// Something about a task.
    Task(TaskRequest),
    /// A connection is to carry a session's stream.
    Attach {
        /// Whose.
        session: Session,
        /// The connection, at the shard that asks.
        socket: SocketId,
        /// Which stream, and what was last seen of it; the session's own from now on without.
        resume: Option<(StreamId, u64)>,
    },
}

/// What that came to.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done.
    Done,
    /// How the task is.
    Task(Box<TaskView>),
    /// What was asked for is not there.
    Unknown,
    /// The session has its stream already.
    Taken,
    /// There is no room.
    Full,
    /// The session hears of as many things as one may.
    TooMany,
    /// A stream is carried from now on: this much of it at once, and whether that is all.
    Attached(StreamId, Vec<u8>, bool),
}

/// Names a stream that can be resumed: who keeps it, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId {
    /// The shard that keeps it.
    pub shard: u16,
    /// Its place there.
    pub index: u32,
    /// Which of the streams that had this place.
    pub generation: u32,
}

/// One shard's queue.
pub struct Mailbox {
    queue: ArrayQueue<Message>,
    /// An event was lost for want of room.
    missed: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    /// A queue of at most `capacity` messages; `wake` tells its shard to look.
    #[must_use]
    pub fn new(capacity: usize, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { queue: ArrayQueue::new(capacity.max(1)), missed: AtomicBool::new(false), wake }
    }

    /// Puts a message in. `false`: there is no room.
    pub fn post(&self, message: Message) -> bool {
        let is_taken = self.queue.push(message).is_ok();
        (self.wake)();
        is_taken
    }

    /// Puts an event in; where there is no room, all that hear of anything here hear that everything may have changed.
    pub fn publish(&self, event: &Arc<Event>) {
        if self.queue.push(Message::Event(Arc::clone(event))).is_err() {
            self.missed.store(true, Ordering::Release);
        }
        (self.wake)();
    }

    /// The next message.
    #[must_use]
    pub fn take(&self) -> Option<Message> {
        self.queue.pop()
    }

    /// Messages in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is anything in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.missed.load(Ordering::Acquire)
    }

    /// Whether an event was lost since this was last asked.
    #[must_use]
    pub fn take_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed) && self.missed.swap(false, Ordering::Acquire)
    }
}

/// The queues of all shards of a server, set once all have started; and the id of this run of it.
#[derive(Clone)]
pub struct Broadcast {
    mailboxes: Arc<OnceLock<Vec<Arc<Mailbox>>>>,
    instance: Instance,
}

impl Default for Broadcast {
    /// Of a new instance.
    fn default() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let [a, b, c, d, ..] = since.as_secs().to_le_bytes();
        let mut node = [0; 5];
        // Without randomness the epoch still distinguishes one run from the next.
        let _ = getrandom::fill(&mut node);
        let instance = Instance { epoch: u32::from_le_bytes([a, b, c, d]), node };
        Self { mailboxes: Arc::default(), instance }
    }
}

impl Broadcast {
    /// The instance whose shards these are.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// Once, by whoever started the shards.
    pub fn connect(&self, mailboxes: Vec<Arc<Mailbox>>) {
        let _ = self.mailboxes.set(mailboxes);
    }

    /// All queues, in the order of the shards.
    #[must_use]
    pub fn mailboxes(&self) -> &[Arc<Mailbox>] {
        self.mailboxes.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Tells one shard. `false`: it has no room, or there is no such shard.
    pub fn post(&self, shard: u16, message: Message) -> bool {
        self.mailboxes().get(usize::from(shard)).is_some_and(|mailbox| mailbox.post(message))
    }

    /// Tells all shards of an event: one message for each.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        self.mailboxes().iter().for_each(|mailbox| mailbox.publish(&event));
    }
}
