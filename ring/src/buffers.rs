//! Ring of provided buffers: the kernel selects one when bytes arrive, and its owner returns it by dropping it.

use std::{
    cell::Cell,
    io,
    ptr::NonNull,
    rc::Rc,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::Submitter;

/// Writable bytes after the received ones in every buffer: an in-place JSON parser may read this far past the end of its input.
pub const PADDING_BYTES: usize = 64;

/// Number of buffers that a pool makes available at first, and each time that there are too few: as many as a busy turn reaps
/// completions. The kernel uses the available buffers in turn, so each of them occupies memory after some requests, however few
/// connections there are.
const BUFFERS_STEP: u16 = 256;

/// Size of the buffers into which a socket receives: each has a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BufferSize {
    /// A request of usual length.
    Usual,
    /// A part of a long message.
    Large,
}

/// The bit of a buffer's id in the kernel that tells the pools apart, because a completion does not name the buffer group.
const LARGE_ID: u16 = 1 << 15;

impl BufferSize {
    /// The size of the buffer that a completion names.
    pub(super) fn of(id: u16) -> Self {
        if id & LARGE_ID == 0 { Self::Usual } else { Self::Large }
    }

    /// The buffer group in the kernel.
    pub(super) fn group(self) -> u16 {
        match self {
            Self::Usual => 0,
            Self::Large => 1,
        }
    }

    fn id_bit(self) -> u16 {
        self.group() * LARGE_ID
    }
}

/// An available buffer, as the kernel reads it: `struct io_uring_buf` of Linux's `io_uring.h`. In the first entry of a ring the last
/// field is the ring's tail (`struct io_uring_buf_ring`).
#[repr(C)]
struct Entry {
    address: u64,
    length: u32,
    id: u16,
    tail: AtomicU16,
}

const _: () = assert!(size_of::<Entry>() == 16 && std::mem::offset_of!(Entry, tail) == 14);

/// Anonymous memory from `mmap`: page-aligned, zeroed, unmapped on drop.
struct Pages {
    start: NonNull<u8>,
    length: usize,
}

impl Pages {
    fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping, which affects no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, length })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping was created by `new` with this length, and no borrow of it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// The buffers, and the ring of entries that makes them available to the kernel. A buffer is either available or held by exactly one
/// [`ReceivedBuffer`].
pub(super) struct BufferPool {
    /// `count` entries of 16 bytes; the tail lives in the first one's reserved field.
    entries: Pages,
    storage: Pages,
    size: BufferSize,
    count: u16,
    /// Number of buffers that have been made available. The others have never been used, and occupy no memory.
    provided: Cell<u16>,
    stride: usize,
    tail: Cell<u16>,
    /// Number of buffers that are held by a [`ReceivedBuffer`].
    held: Cell<u16>,
    /// Whether each buffer is held; updated in debug builds only.
    is_held: Box<[Cell<bool>]>,
}

impl BufferPool {
    /// Creates `count` (a power of two below 2^15) buffers of `stride` bytes each, of which the last [`PADDING_BYTES`] receive no data.
    pub(super) fn new(size: BufferSize, count: u16, stride: usize) -> io::Result<Rc<Self>> {
        if !count.is_power_of_two()
            || count >= LARGE_ID
            || stride <= PADDING_BYTES
            || u32::try_from(stride).is_err()
        {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let pool = Self {
            entries: Pages::new(usize::from(count) * size_of::<Entry>())?,
            storage: Pages::new(usize::from(count) * stride)?,
            size,
            count,
            provided: Cell::new(0),
            stride,
            tail: Cell::new(0),
            held: Cell::new(0),
            is_held: vec![Cell::new(true); usize::from(count)].into(),
        };
        pool.grow();
        Ok(Rc::new(pool))
    }

    /// Makes further buffers available. Returns whether there were any.
    pub(super) fn grow(&self) -> bool {
        let first = self.provided.get();
        let more = BUFFERS_STEP.min(self.count - first);
        self.provided.set(first + more);
        self.held.set(self.held.get() + more);
        (first..first + more).for_each(|id| self.give_back(id));
        more > 0
    }

    /// Whether so many of the available buffers are held that a receive may have ended for lack of them. Completions of such receives are
    /// also reaped after the buffers were given back.
    pub(super) fn is_short(&self) -> bool {
        self.held.get() >= self.provided.get() / 4
    }

    /// Number of buffers that have been made available.
    pub(super) fn provided(&self) -> u16 {
        self.provided.get()
    }

    /// Registers the pool with the kernel. The caller keeps the pool alive until the ring has no operation left.
    pub(super) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.start.as_ptr() as u64;
        // SAFETY: the entries are page-aligned, zeroed and sized for `count`; the ring's owner keeps them alive.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, self.size.group(), 0) }
    }

    /// Number of held buffers.
    pub(super) fn held(&self) -> u16 {
        self.held.get()
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Number of bytes that a buffer receives.
    pub(super) fn capacity(&self) -> usize {
        self.stride - PADDING_BYTES
    }

    /// Takes a buffer that the kernel has filled.
    ///
    /// # Panics
    /// The buffer has not been made available, or `length` exceeds its capacity; in debug builds also if the buffer is held already.
    pub(super) fn take(self: &Rc<Self>, id: u16, length: usize) -> ReceivedBuffer {
        let id = id & !LARGE_ID;
        let is_provided = id < self.provided.get();
        assert!(is_provided && length <= self.capacity(), "{length} bytes in buffer {id}");
        debug_assert!(!self.set_held(id, true), "buffer {id} is held already");
        self.held.set(self.held.get() + 1);
        ReceivedBuffer { pool: Rc::clone(self), id, length }
    }

    /// Records whether a buffer is held, and returns whether it was.
    fn set_held(&self, id: u16, is_held: bool) -> bool {
        self.is_held.get(usize::from(id)).is_some_and(|held| held.replace(is_held))
    }

    fn start_of(&self, id: u16) -> NonNull<u8> {
        assert!(id < self.count);
        // SAFETY: `id < count`, so the offset stays inside the storage.
        unsafe { self.storage.start.add(usize::from(id) * self.stride) }
    }

    fn give_back(&self, id: u16) {
        let tail = self.tail.get();
        let position = usize::from(tail & (self.count - 1));
        let address = self.start_of(id).as_ptr() as u64;
        let capacity = u32::try_from(self.capacity()).unwrap_or(0);
        // SAFETY: `position < count`, so the offset stays inside the entries.
        let entry = unsafe { self.entries.start.cast::<Entry>().add(position) }.as_ptr();
        // The fields are written individually, without a reference to the entry: the kernel may read the tail in the first one.
        // SAFETY: the entry is aligned, alive, and not read by the kernel before the tail has passed it.
        unsafe { (*entry).address = address };
        // SAFETY: as above.
        unsafe { (*entry).length = capacity };
        // SAFETY: as above.
        unsafe { (*entry).id = id | self.size.id_bit() };
        debug_assert!(self.set_held(id, false), "buffer {id} is available already");
        self.tail.set(tail.wrapping_add(1));
        self.held.set(self.held.get() - 1);
        self.shared_tail().store(self.tail.get(), Ordering::Release);
    }

    /// The tail that the kernel reads: the number of buffers made available, modulo 2^16.
    fn shared_tail(&self) -> &AtomicU16 {
        let first = self.entries.start.cast::<Entry>().as_ptr();
        // SAFETY: the first entry is aligned and lives as long as the pool. The field is initialised, because the memory is zeroed, and
        // the process writes it only through this reference.
        unsafe { &(*first).tail }
    }
}

/// Received bytes, in the buffer the kernel wrote them to. Dropping it returns the buffer to the kernel.
pub struct ReceivedBuffer {
    pool: Rc<BufferPool>,
    id: u16,
    length: usize,
}

impl ReceivedBuffer {
    /// Number of received bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no bytes were received; always `false` in [`super::Event::Received`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether the bytes fill the buffer, so that there may be more.
    pub(super) fn is_full(&self) -> bool {
        self.length == self.pool.capacity()
    }

    /// The received bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: this value owns the buffer: the kernel does not access it before it is given back, `&self` permits
        // only reads, and every byte is initialised (zeroed pages).
        unsafe { std::slice::from_raw_parts(self.pool.start_of(self.id).as_ptr(), self.length) }
    }

    /// The received bytes, followed by [`PADDING_BYTES`] of padding.
    pub fn padded_mut(&mut self) -> &mut [u8] {
        let length = self.length + PADDING_BYTES;
        // SAFETY: as in `bytes`, and `&mut self` makes this the only reference; `take` has checked that the length
        // leaves room for the padding within the stride.
        unsafe { std::slice::from_raw_parts_mut(self.pool.start_of(self.id).as_ptr(), length) }
    }
}

impl std::fmt::Debug for ReceivedBuffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ReceivedBuffer")
            .field("id", &self.id)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Drop for ReceivedBuffer {
    fn drop(&mut self) {
        self.pool.give_back(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_buffer_is_available_again_and_padding_is_writable() {
        let pool = BufferPool::new(BufferSize::Usual, 8, 256).unwrap();
        assert_eq!(pool.held(), 0);
        let mut buffer = pool.take(5, 192);
        assert_eq!(pool.held(), 1);
        buffer.padded_mut().fill(7);
        assert_eq!(buffer.bytes(), [7; 192]);
        assert_eq!(buffer.padded_mut().len(), 256);
        drop(buffer);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    #[should_panic(expected = "193 bytes in buffer 5")]
    fn received_length_beyond_the_buffer_panics() {
        BufferPool::new(BufferSize::Usual, 8, 256).unwrap().take(5, 193);
    }

    #[test]
    #[should_panic(expected = "1 bytes in buffer 8")]
    fn buffer_that_is_not_available_panics() {
        BufferPool::new(BufferSize::Usual, 8, 256).unwrap().take(8, 1);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "buffer 5 is held already")]
    fn second_owner_of_a_buffer_panics() {
        let pool = BufferPool::new(BufferSize::Usual, 8, 256).unwrap();
        let _first = pool.take(5, 1);
        pool.take(5, 1);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "buffer 5 is available already")]
    fn available_buffer_given_back_panics() {
        BufferPool::new(BufferSize::Usual, 8, 256).unwrap().give_back(5);
    }

    #[test]
    fn pool_makes_buffers_available_in_steps_up_to_all() {
        let pool = BufferPool::new(BufferSize::Usual, 1024, 256).unwrap();
        for provided in [256, 512, 768, 1024, 1024] {
            assert_eq!((pool.provided(), pool.held()), (provided, 0));
            let last = pool.take(provided - 1, 192);
            assert_eq!(pool.held(), 1);
            drop(last);
            assert_eq!(pool.grow(), provided < 1024);
        }
    }

    #[test]
    #[should_panic(expected = "1 bytes in buffer 256")]
    fn buffer_of_a_pool_that_has_not_grown_panics() {
        BufferPool::new(BufferSize::Usual, 512, 256).unwrap().take(256, 1);
    }

    #[test]
    fn invalid_sizes_are_rejected() {
        assert!(BufferPool::new(BufferSize::Usual, 6, 256).is_err());
        assert!(BufferPool::new(BufferSize::Usual, 8, PADDING_BYTES).is_err());
    }
}
