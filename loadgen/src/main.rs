//! The load generator's binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// The allocator of corelane's own binary: allocations during a measurement are fast and memory use stays low.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    corelane_loadgen::cli::main()
}
