//! The load generator's binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// As corelane's own binary: what allocates while it measures should be fast and stay small.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    corelane_loadgen::cli::main()
}
