//! How other threads reach a shard: to end it, to give it something else to serve, to ask how it is.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_queue::ArrayQueue;

use crate::{
    metrics::ShardReport,
    registry::Snapshot,
    ring::{Ring, Waker},
};

/// Reports that can be asked for at one time; one more is not answered. The admin interface asks for one at a time.
const REPORTS_MAX: usize = 16;

/// How often who waits for a sign of life looks for it.
const SIGN_OF_LIFE: Duration = Duration::from_micros(200);

/// A handle to a shard, for any thread.
#[derive(Clone)]
pub struct ShardHandle {
    pub(super) inbox: Arc<Inbox>,
    waker: Waker,
}

/// What has been asked of a shard and not yet done.
pub(super) struct Inbox {
    /// Something is in here. Set last, taken first, so that a busy shard looks at one flag a turn.
    news: AtomicBool,
    drain: AtomicBool,
    /// The newest one: what it replaces was never served.
    snapshot: Mutex<Option<Box<Snapshot>>>,
    reports: ArrayQueue<Sender<ShardReport>>,
    /// How often the shard has looked in here.
    looks: AtomicU64,
    ended: AtomicBool,
}

impl ShardHandle {
    /// A handle to the shard that runs `ring`.
    #[must_use]
    pub fn new(ring: &Ring) -> Self {
        let inbox = Inbox {
            news: AtomicBool::new(false),
            drain: AtomicBool::new(false),
            snapshot: Mutex::new(None),
            reports: ArrayQueue::new(REPORTS_MAX),
            looks: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        };
        Self { inbox: Arc::new(inbox), waker: ring.waker() }
    }

    /// Take no more connections, finish what is in flight, end.
    pub fn drain(&self) {
        self.inbox.drain.store(true, Ordering::Relaxed);
        self.tell();
    }

    /// Serve this from the next turn on.
    pub fn replace(&self, snapshot: Snapshot) {
        *self.inbox.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(snapshot));
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

    pub(super) fn take_snapshot(&self) -> Option<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).take().map(|snapshot| *snapshot)
    }

    pub(super) fn next_report(&self) -> Option<Sender<ShardReport>> {
        self.reports.pop()
    }
}
