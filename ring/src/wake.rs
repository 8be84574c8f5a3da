//! Waking a shard's thread through two eventfds: the ring polls one, the executor reads the other.

use std::{
    fs::File,
    future::Future,
    io::{self, Write},
    os::fd::{FromRawFd, IntoRawFd, OwnedFd},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use glommio::io::BufferedFile;

use super::sleep_state::{SleepState, SleepsIn};

/// Handle that wakes a ring's thread from any thread. Costs a fence and a load while the thread is awake.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

struct Shared {
    sleep: SleepState,
    /// Wakes a thread that is blocked in its ring. Never read: the multishot poll completes at each write, and the
    /// counter of 64 bits does not overflow.
    polled: File,
    /// Wakes a thread that is parked in the executor. The ring signals it too, on each completion.
    read: File,
}

impl Waker {
    /// Makes the thread check its queues. Push to the queue first, then wake.
    pub fn wake(&self) {
        let mut event = match self.shared.sleep.wake() {
            Some(SleepsIn::Ring) => &self.shared.polled,
            Some(SleepsIn::Executor) => &self.shared.read,
            None => return,
        };
        // Writing to an eventfd fails only if its counter would overflow; then it is readable already.
        let _ = event.write(&1_u64.to_ne_bytes());
    }
}

type Read = Pin<Box<dyn Future<Output = ()>>>;

/// The sleeping thread's side.
///
/// glommio 0.9 parks with a runnable task if its preemption timer fires before the first task of a round has run
/// (`executor::run_task_queues` then returns `false`, as if no task were runnable). A thread therefore sleeps in its own ring
/// where possible, and in glommio only while tasks of the executor exist; the executor needs a preemption timer that is far longer
/// than any pause of the thread.
pub struct Parker {
    waker: Waker,
    reader: Rc<BufferedFile>,
    read: Option<Read>,
}

impl Parker {
    /// Creates the eventfds. Must be called on a glommio executor's thread.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let (polled, read) = (File::from(eventfd()?), File::from(eventfd()?));
        let shared = Arc::new(Shared { sleep: SleepState::default(), polled, read });
        Self::woken_by(&Waker { shared })
    }

    /// As [`Parker::new`], with the eventfds of a parker that has been dropped: its wakers wake this one.
    ///
    /// # Errors
    /// As [`Parker::new`].
    pub(super) fn woken_by(waker: &Waker) -> io::Result<Self> {
        let waker = waker.clone();
        waker.shared.sleep.end();
        let reader = waker.shared.read.try_clone()?;
        // SAFETY: ownership of the duplicate moves into the file.
        let reader = unsafe { BufferedFile::from_raw_fd(reader.into_raw_fd()) };
        Ok(Self { waker, reader: Rc::new(reader), read: None })
    }

    /// Returns a handle for other threads and tasks.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The eventfd that the ring polls.
    pub(super) fn polled(&self) -> &File {
        &self.waker.shared.polled
    }

    /// The eventfd that the ring signals on a completion.
    pub(super) fn signalled(&self) -> &File {
        &self.waker.shared.read
    }

    /// Makes [`Waker::wake`] end a wait in the ring. Check for work once more after this call and before sleeping.
    pub(super) fn announce_in_ring(&self) {
        self.waker.shared.sleep.announce(SleepsIn::Ring);
    }

    /// As [`Parker::announce_in_ring`], for a thread that parks in the executor.
    pub(super) fn announce_in_executor(&self) {
        self.waker.shared.sleep.announce(SleepsIn::Executor);
    }

    pub(super) fn awake(&self) {
        self.waker.shared.sleep.end();
    }

    /// Completes when the executor's eventfd has been signalled.
    pub(super) fn poll_signalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let reader = &self.reader;
        let read = self.read.get_or_insert_with(|| {
            let reader = Rc::clone(reader);
            Box::pin(async move {
                // Neither the counter nor an error matters: the turn loop checks its queues in any case.
                let _ = reader.read_at(0, size_of::<u64>()).await;
            })
        });
        match read.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.read = None;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ends the pending read, if there is one, and lets the executor close the eventfd. Waits for neither, so it cannot
    /// hang: the executor keeps the read's buffer until its completion.
    pub fn close(self) {
        let mut event = &self.waker.shared.read;
        let _ = event.write(&1_u64.to_ne_bytes());
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked below.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
