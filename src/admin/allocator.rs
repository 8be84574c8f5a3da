//! Statistics of the allocator.

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
