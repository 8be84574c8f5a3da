//! The bare binary: the demo tools behind the library's command line.

use std::process::ExitCode;

/// Measured against the system's allocator and jemalloc: docs/DECISIONS.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    corelane::demo::server().main()
}
