//! The allocator: its statistics, and the memory that it keeps.

#[cfg(feature = "jemalloc")]
use super::jemalloc;
use crate::control::Allocator;

/// The statistics; `None` where the allocator has none.
#[cfg(feature = "jemalloc")]
pub(super) fn allocator() -> Option<Allocator> {
    jemalloc::statistics()
}

/// The statistics: the program does not use jemalloc.
#[cfg(not(feature = "jemalloc"))]
pub(super) fn allocator() -> Option<Allocator> {
    None
}

/// Makes the allocator return the memory to the system that it keeps for later.
#[cfg(feature = "jemalloc")]
pub(crate) fn release_free_memory() {
    if !jemalloc::release() {
        corelane_ring::trim_heap();
    }
}

/// As above, of the C library.
#[cfg(not(feature = "jemalloc"))]
pub(crate) fn release_free_memory() {
    corelane_ring::trim_heap();
}
