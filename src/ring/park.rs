//! Sleeping and being woken: an eventfd that the ring signals on a completion and any thread may write to.

use std::{
    fs::File,
    future::Future,
    io::{self, Write},
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use glommio::{io::BufferedFile, timer::Timer};

/// Wakes a ring's thread from any thread, with a ring or without. Cheap when the thread is awake: one atomic swap.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

struct Shared {
    /// Set by the sleeper just before it looks for work a last time, cleared by whoever wakes it.
    sleeping: AtomicBool,
    event: File,
}

impl Waker {
    /// Makes the sleeper look at its queues. Push to the queue first, then wake.
    pub fn wake(&self) {
        if self.shared.sleeping.swap(false, Ordering::SeqCst) {
            // An eventfd's write fails only when its counter would overflow: then it is readable already.
            let _ = (&self.shared.event).write(&1_u64.to_ne_bytes());
        }
    }
}

/// A sleeper looks for itself this often. glommio 0.9 can mistake the end of one of its own timers for the end of the
/// read (seen with its preemption timer set to 1 ms: a shard that never woke). The read given up that way stays with the
/// kernel and takes the next signal, once. One look a second costs too little to measure.
const LOST_SIGNAL: Duration = Duration::from_secs(1);

type Read = Pin<Box<dyn Future<Output = ()>>>;

/// The sleeping side: one read of the eventfd is always under way through glommio.
pub struct Parker {
    waker: Waker,
    event: Rc<BufferedFile>,
    read: Option<Read>,
    timer: Option<Pin<Box<Timer>>>,
}

impl Parker {
    /// Makes the eventfd. Must be called on a glommio executor's thread.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked below.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let reader = event.try_clone()?;
        // SAFETY: ownership of the duplicate moves into the file.
        let event_reader = unsafe { BufferedFile::from_raw_fd(reader.into_raw_fd()) };
        let shared = Shared { sleeping: AtomicBool::new(false), event: File::from(event) };
        Ok(Self {
            waker: Waker { shared: Arc::new(shared) },
            event: Rc::new(event_reader),
            read: None,
            timer: None,
        })
    }

    /// A handle for other threads and tasks.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(super) fn event(&self) -> &File {
        &self.waker.shared.event
    }

    /// From here on [`Waker::wake`] writes to the eventfd. Look for work once more after this, before sleeping.
    pub(super) fn announce(&self) {
        self.waker.shared.sleeping.store(true, Ordering::SeqCst);
    }

    pub(super) fn awake(&mut self) {
        self.waker.shared.sleeping.store(false, Ordering::SeqCst);
        self.timer = None;
    }

    /// Resolves when the eventfd has been signalled, or after [`LOST_SIGNAL`].
    pub(super) fn poll_signalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(Timer::new(LOST_SIGNAL)));
        if timer.as_mut().poll(context).is_ready() {
            self.timer = None;
            return Poll::Ready(());
        }
        let event = &self.event;
        let read = self.read.get_or_insert_with(|| {
            let event = Rc::clone(event);
            Box::pin(async move {
                // What the counter says does not matter, nor does a failed read: the turn loop looks by itself.
                let _ = event.read_at(0, size_of::<u64>()).await;
            })
        });
        match read.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.read = None;
                self.timer = None;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ends the read under way and closes the eventfd's reading side.
    pub async fn close(mut self) {
        if let Some(read) = self.read.take() {
            self.announce();
            self.waker.wake();
            read.await;
        }
        if let Ok(event) = Rc::try_unwrap(self.event) {
            let _ = event.close().await;
        }
    }
}
