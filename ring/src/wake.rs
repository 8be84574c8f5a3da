//! Sleeping and being woken: two eventfds, one that the ring itself polls and one that the executor reads.

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

use super::sleep_state::{Place, SleepState};

/// Wakes a ring's thread from any thread. Cheap when the thread is awake: a fence and a load.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

struct Shared {
    sleep: SleepState,
    /// Wakes a thread that is blocked in its ring. Never read: the multishot poll completes at each write, and the
    /// counter cannot overflow in the life of a process.
    polled: File,
    /// Wakes a thread that is parked in the executor. The ring signals it too, on each completion.
    read: File,
}

impl Waker {
    /// Makes the sleeper look at its queues. Push to the queue first, then wake.
    pub fn wake(&self) {
        let mut event = match self.shared.sleep.wake() {
            Some(Place::Ring) => &self.shared.polled,
            Some(Place::Executor) => &self.shared.read,
            None => return,
        };
        // An eventfd's write fails only when its counter would overflow: then it is readable already.
        let _ = event.write(&1_u64.to_ne_bytes());
    }
}

type Read = Pin<Box<dyn Future<Output = ()>>>;

/// The sleeping side.
///
/// glommio 0.9 parks although a task is runnable when its preemption timer fires before the first task of a round has
/// run (`executor::run_task_queues` returns `false` then, as it does when nothing is runnable). So a thread sleeps in its
/// own ring where it can, and in glommio only while tasks of the executor are alive; the executor needs a preemption
/// timer that is far longer than any pause of the thread.
pub struct Parker {
    waker: Waker,
    reader: Rc<BufferedFile>,
    read: Option<Read>,
}

impl Parker {
    /// Makes the eventfds. Must be called on a glommio executor's thread.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let (polled, read) = (eventfd()?, eventfd()?);
        let reader = read.try_clone()?;
        // SAFETY: ownership of the duplicate moves into the file.
        let reader = unsafe { BufferedFile::from_raw_fd(reader.into_raw_fd()) };
        let shared =
            Shared { sleep: SleepState::default(), polled: File::from(polled), read: File::from(read) };
        Ok(Self { waker: Waker { shared: Arc::new(shared) }, reader: Rc::new(reader), read: None })
    }

    /// A handle for other threads and tasks.
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

    /// From here on [`Waker::wake`] ends a wait in the ring. Look for work once more after this, before sleeping.
    pub(super) fn announce_in_ring(&self) {
        self.waker.shared.sleep.announce(Place::Ring);
    }

    /// As [`Parker::announce_in_ring`], for a thread that parks in the executor.
    pub(super) fn announce_in_executor(&self) {
        self.waker.shared.sleep.announce(Place::Executor);
    }

    pub(super) fn awake(&self) {
        self.waker.shared.sleep.end();
    }

    /// Resolves when the executor's eventfd has been signalled.
    pub(super) fn poll_signalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let reader = &self.reader;
        let read = self.read.get_or_insert_with(|| {
            let reader = Rc::clone(reader);
            Box::pin(async move {
                // What the counter says does not matter, nor does a failed read: the turn loop looks by itself.
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

    /// Ends the read under way, if there is one, and lets the executor close the eventfd. Waits for neither, so it cannot
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
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
