//! Statistics of jemalloc, and the pages that it keeps.

use serde_json::{Map, Value};
use tikv_jemalloc_ctl::{
    Access, AsName, Result as CtlResult, arenas, epoch, stats,
    stats_print::{Options, stats_print},
    thread,
};

use crate::control::{Allocator, Arena};

/// Length of the statistics as JSON: enough for most machines, so that the buffer does not grow while they are written.
const STATISTICS_BYTES: usize = 256 * 1024;

/// The statistics; `None` where the allocator has none.
pub(super) fn statistics() -> Option<Allocator> {
    if !is_global() {
        return None;
    }
    // The statistics are as old as the last epoch.
    epoch::advance().ok()?;
    let number = |read: tikv_jemalloc_ctl::Result<usize>| read.ok().map(|bytes| bytes as u64);
    Some(Allocator {
        name: "jemalloc".to_owned(),
        allocated: number(stats::allocated::read())?,
        active: number(stats::active::read())?,
        resident: number(stats::resident::read())?,
        retained: number(stats::retained::read())?,
        metadata: number(stats::metadata::read())?,
        arenas: arenas().unwrap_or_default(),
    })
}

/// Whether the program allocates from jemalloc: the library may be built with it and the program use another allocator.
fn is_global() -> bool {
    let Ok(allocated) = thread::allocatedp::read() else { return false };
    let before = allocated.get();
    let probe = std::hint::black_box(Vec::<u8>::with_capacity(1024));
    let after = allocated.get();
    drop(probe);
    after > before
}

/// Returns the unused pages of all arenas to the system, and `true` if the program allocates from jemalloc. An arena whose threads are
/// idle would keep them.
pub(super) fn release() -> bool {
    if !is_global() {
        return false;
    }
    let _ = release_pages();
    true
}

fn release_pages() -> CtlResult<()> {
    let mut decay = b"arena.0.dirty_decay_ms\0".name().mib::<[usize; 3]>()?;
    for arena in 0..arenas::narenas::read()? {
        decay[1] = arena as usize;
        // Pages are kept for this time, and returned at once where it is none. An arena that is not in use has none.
        if let Ok(milliseconds) = Access::<isize>::update(&decay, 0) {
            decay.write(milliseconds)?;
        }
    }
    Ok(())
}

/// The arenas that have been used.
fn arenas() -> Option<Vec<Arena>> {
    let mut text = Vec::with_capacity(STATISTICS_BYTES);
    // It has a private field.
    let mut options = Options::default();
    options.json_format = true;
    options.skip_constants = true;
    options.skip_merged_arenas = true;
    options.skip_bin_size_classes = true;
    options.skip_large_size_classes = true;
    options.skip_mutex_statistics = true;
    stats_print(&mut text, options).ok()?;
    let statistics: Value = serde_json::from_slice(&text).ok()?;
    let arenas = statistics.pointer("/jemalloc/stats.arenas")?.as_object()?;
    let mut arenas: Vec<Arena> =
        arenas.iter().filter_map(|(key, arena)| arena_of(key, arena.as_object()?)).collect();
    arenas.sort_by_key(|arena| arena.arena);
    Some(arenas)
}

/// An arena; `None` for a key that is not the number of one.
fn arena_of(key: &str, arena: &Map<String, Value>) -> Option<Arena> {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
    let allocated = |kind: &str| number(arena.get(kind).and_then(|kind| kind.get("allocated")));
    Some(Arena {
        arena: key.parse().ok()?,
        threads: number(arena.get("nthreads")),
        allocated: allocated("small") + allocated("large"),
        resident: number(arena.get("resident")),
    })
}
