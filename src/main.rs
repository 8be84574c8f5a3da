//! The bare binary: the demo tools behind the library's command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Measured against the system's allocator and mimalloc: docs/DECISIONS.md.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    corelane::demo::server().main()
}
