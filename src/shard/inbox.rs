//! How other threads reach a shard: to end it, to give it something else to serve, to ask how it is. What other shards have to
//! say is in the mailbox beside it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use corelane_ring::{Ring, Waker};
use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_queue::ArrayQueue;

use crate::{
    mcp::Event,
    mesh::{Broadcast, Mailbox},
    registry::{Lists, Snapshot},
    telemetry::metrics::{ShardReport, ToolSeries},
};

/// Reports that can be asked for at one time; one more is not answered. The admin interface asks for one at a time.
const REPORTS_MAX: usize = 16;

/// How often who waits for a sign of life looks for it.
const SIGN_OF_LIFE: Duration = Duration::from_micros(200);

/// A handle to a shard, for any thread.
#[derive(Clone)]
pub struct ShardHandle {
    pub(super) inbox: Arc<Inbox>,
    pub(super) mailbox: Arc<Mailbox>,
    waker: Waker,
    number: usize,
}

/// What a shard serves, and where it counts the calls of its tools. A copy shares both.
#[derive(Clone)]
pub struct Served {
    /// What it serves.
    pub snapshot: Snapshot,
    /// By the tools' positions.
    pub tools: ToolSeries,
}

impl Served {
    /// What a shard is to serve: tools that were there before, by their names, are counted on.
    fn new(snapshot: Snapshot, before: Option<&Self>) -> Self {
        let names = snapshot.tools().iter().map(|tool| tool.callable().name());
        let Some(before) = before else {
            return Self { tools: ToolSeries::new(names), snapshot };
        };
        let tools_before = before.snapshot.tools();
        if std::ptr::eq(tools_before, snapshot.tools()) {
            return Self { snapshot, tools: before.tools.clone() };
        }
        let tools = before.tools.with(snapshot.tools().iter().enumerate().map(|(position, tool)| {
            // Almost all are where they were: then nothing of them is looked at.
            if tools_before.get(position).is_some_and(|before| Arc::ptr_eq(before, tool)) {
                return ("", Some(position));
            }
            let name = tool.callable().name();
            (name, before.snapshot.tool(name).map(|before| before.callable().position()))
        }));
        Self { snapshot, tools }
    }
}

/// What has been asked of a shard and not yet done.
pub(super) struct Inbox {
    /// Something is in here. Set last, taken first, so that a busy shard looks at one flag a turn.
    news: AtomicBool,
    drain: AtomicBool,
    /// The newest one: what it replaces was never served.
    snapshot: Mutex<Option<(Box<Served>, Arc<Takeover>)>>,
    /// What the shard was last told to serve: the next change is made from it.
    newest: Mutex<Option<Served>>,
    /// What the shard served before: freeing it takes time, so the thread that makes the next change does it.
    retired: Mutex<Option<Served>>,
    reports: ArrayQueue<Sender<ShardReport>>,
    /// How often the shard has looked in here.
    looks: AtomicU64,
    ended: AtomicBool,
}

impl ShardHandle {
    /// A handle to the shard of this number, which runs `ring`. At most `messages_max` messages of other shards wait for it.
    #[must_use]
    pub fn new(number: usize, ring: &Ring, messages_max: usize) -> Self {
        let inbox = Arc::new(Inbox {
            news: AtomicBool::new(false),
            drain: AtomicBool::new(false),
            snapshot: Mutex::new(None),
            newest: Mutex::new(None),
            retired: Mutex::new(None),
            reports: ArrayQueue::new(REPORTS_MAX),
            looks: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let (told, waker) = (Arc::clone(&inbox), ring.waker());
        let wake = Box::new(move || {
            told.news.swap(true, Ordering::SeqCst);
            waker.wake();
        });
        Self { inbox, mailbox: Arc::new(Mailbox::new(messages_max, wake)), waker: ring.waker(), number }
    }

    /// Which shard it is.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Where other shards put what they have to say.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Take no more connections, finish what is in flight, end.
    pub fn drain(&self) {
        self.inbox.drain.store(true, Ordering::Relaxed);
        self.tell();
    }

    /// The shard begins with this.
    pub fn begin(&self, served: Served) {
        *self.inbox.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(served);
    }

    /// What the shard was last told to serve.
    #[must_use]
    pub fn newest(&self) -> Option<Served> {
        self.inbox.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serve this from the next turn on.
    pub fn replace(&self, snapshot: Snapshot, takeover: Arc<Takeover>) {
        drop(self.inbox.retired.lock().unwrap_or_else(PoisonError::into_inner).take());
        let before = self.newest();
        let served = Served::new(snapshot, before.as_ref());
        self.begin(served.clone());
        let newest = Some((Box::new(served), Arc::clone(&takeover)));
        let mut waiting = self.inbox.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        // What it replaces is never served here, so clients are told of its changes when all shards serve this one.
        let replaced = std::mem::replace(&mut *waiting, newest);
        if let Some((_, replaced)) = &replaced {
            takeover.add(replaced.take_changed());
            replaced.done();
        }
        drop(waiting);
        self.tell();
    }

    /// Say how you are. Nothing comes if the shard has ended, or is stuck.
    #[must_use]
    pub fn report(&self) -> Receiver<ShardReport> {
        let (sender, receiver) = bounded(1);
        // One too many: its receiver finds nobody at the other end.
        let _ = self.inbox.reports.push(sender);
        self.tell();
        receiver
    }

    /// Whether the shard looks into its inbox before `until`. It need not do anything else for this.
    #[must_use]
    pub fn is_alive(&self, until: Instant) -> bool {
        let looks = self.inbox.looks.load(Ordering::Relaxed);
        self.tell();
        while self.inbox.looks.load(Ordering::Relaxed) == looks {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(SIGN_OF_LIFE);
        }
        true
    }

    /// Whether the shard has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.inbox.ended.load(Ordering::Relaxed)
    }

    /// The shard's last word.
    pub fn end(&self) {
        self.inbox.ended.store(true, Ordering::Relaxed);
    }

    fn tell(&self) {
        // In one order with the sleeper's announcement: either it sees this, or its waker sees that it sleeps.
        self.inbox.news.swap(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// How a change of the registry makes its way: clients hear of it when the last shard serves it, so that whoever asks then,
/// and whomever, sees it.
pub struct Takeover {
    changed: AtomicU8,
    left: AtomicUsize,
    broadcast: Broadcast,
}

impl Takeover {
    /// Of a change to these lists, on that many shards.
    #[must_use]
    pub fn new(changed: Lists, shards: usize, broadcast: Broadcast) -> Arc<Self> {
        let changed = AtomicU8::new(changed.bits());
        Arc::new(Self { changed, left: AtomicUsize::new(shards), broadcast })
    }

    /// The lists that clients have not been told of; nobody else tells them from here on.
    fn take_changed(&self) -> Lists {
        Lists::from_bits(self.changed.swap(0, Ordering::AcqRel))
    }

    fn add(&self, lists: Lists) {
        self.changed.fetch_or(lists.bits(), Ordering::AcqRel);
    }

    /// One more shard serves it, or something newer.
    pub(super) fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.take_changed().iter().for_each(|list| self.broadcast.publish(Event::list_changed(list)));
        }
    }
}

impl Inbox {
    /// Whether something is in here.
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::SeqCst)
    }

    /// As [`Inbox::has_news`]; not again for the same.
    pub(super) fn take_news(&self) -> bool {
        let has_news = self.has_news() && self.news.swap(false, Ordering::SeqCst);
        if has_news {
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
        has_news
    }

    pub(super) fn drains(&self) -> bool {
        self.drain.load(Ordering::Relaxed)
    }

    /// Keeps what is served no longer until another thread frees it. Only two changes in a row without a thread between
    /// them would free one here.
    pub(super) fn retire(&self, served: Served) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        *retired = Some(served);
    }

    pub(super) fn take_snapshot(&self) -> Option<(Served, Arc<Takeover>)> {
        let taken = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|(served, takeover)| (*served, takeover))
    }

    /// Whether somebody waits for a report.
    pub(super) fn is_asked(&self) -> bool {
        !self.reports.is_empty()
    }

    pub(super) fn next_report(&self) -> Option<Sender<ShardReport>> {
        self.reports.pop()
    }
}
