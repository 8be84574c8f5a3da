//! The allocator: its statistics, the memory that it keeps, and its heap profiles.

#[cfg(feature = "jemalloc")]
use super::jemalloc;
use crate::{
    control::{Allocator, Fault},
    profile::HeapProfile,
};

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

/// Takes a heap profile.
///
/// # Errors
/// As `jemalloc::heap_profile`.
#[cfg(feature = "jemalloc")]
pub(super) fn heap_profile() -> Result<HeapProfile, Fault> {
    jemalloc::heap_profile()
}

/// Takes no heap profile: the program does not use jemalloc.
///
/// # Errors
/// Always.
#[cfg(not(feature = "jemalloc"))]
pub(super) fn heap_profile() -> Result<HeapProfile, Fault> {
    let message = "the server is built without jemalloc, whose heap profiles these are; remedy: build it with --features jemalloc, and \
                   start it with _RJEM_MALLOC_CONF=prof:true in its environment";
    Err(Fault::new("heap_profile_unsupported", message))
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
