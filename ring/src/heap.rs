//! The heap of the C library.

/// Returns free memory of the C library's allocator to the system (malloc_trim(3)). Without effect on a program with another
/// allocator or another C library than that of GNU. It holds the lock of one arena at a time, for milliseconds where much is free.
pub fn trim_heap() {
    // SAFETY: any thread may call it at any time; it frees no memory that is allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
