//! The `corelane` binary: the demo server behind the library's command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// jemalloc: docs/DECISIONS.md has the measurements against the system's allocator and mimalloc.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    corelane::demo::server().main()
}
