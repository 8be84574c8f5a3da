//! Statistics of jemalloc, the pages that it keeps, and its heap profiles.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::fd::AsRawFd,
    sync::{Mutex, PoisonError},
};

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Map, Value};
use tikv_jemalloc_ctl::{
    Access, AsName, Result as CtlResult, arenas, epoch, stats,
    stats_print::{Options, stats_print},
    thread,
};

use crate::{
    control::{Allocator, Arena, Fault},
    profile::HeapProfile,
};

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

/// The file that jemalloc writes its dumps to. In memory: the server may have no directory that it can write to.
struct DumpFile {
    file: File,
    /// Its path in /proc, with the zero byte of a C string.
    path: &'static [u8],
}

/// Opened by the first heap profile, and kept: jemalloc requires a static path, which is leaked once in this way. Locked while a dump
/// is written.
static DUMP_FILE: Mutex<Option<DumpFile>> = Mutex::new(None);

impl DumpFile {
    fn open() -> io::Result<Self> {
        let file = File::from(memfd_create("heap-profile", MemfdFlags::CLOEXEC)?);
        let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        Ok(Self { file, path: Box::leak(path.into_bytes().into_boxed_slice()) })
    }

    /// Makes jemalloc write a dump, and reads it.
    fn dump(&mut self) -> io::Result<String> {
        b"prof.dump\0".name().write(self.path).map_err(|error| io::Error::other(error.to_string()))?;
        let mut dump = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut dump)?;
        // Frees its memory.
        self.file.set_len(0)?;
        // A mapped file may have any name.
        Ok(String::from_utf8_lossy(&dump).into_owned())
    }
}

/// Takes a heap profile. Threads that allocate go on meanwhile: jemalloc locks the table of sampled stacks while it copies counts, and
/// only a sampled allocation waits for that.
///
/// # Errors
/// The program does not allocate from jemalloc, heap profiles are off, or the dump failed.
pub(super) fn heap_profile() -> Result<HeapProfile, Fault> {
    if !is_global() {
        let message = "the program does not allocate with jemalloc, so there is no heap profile";
        return Err(Fault::new("heap_profile_allocator", message));
    }
    let is_on = |name: &'static [u8]| Access::<bool>::read(name.name()).unwrap_or(false);
    if !is_on(b"opt.prof\0") || !is_on(b"prof.active\0") {
        let message = "heap profiles are off; remedy: start the server with _RJEM_MALLOC_CONF=prof:true in its environment";
        return Err(Fault::new("heap_profile_off", message));
    }
    let failed =
        |error: io::Error| Fault::new("heap_profile_system", format!("the heap dump failed: {error}"));
    let mut guard = DUMP_FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let dump = match guard.as_mut() {
        Some(file) => file.dump(),
        None => DumpFile::open().and_then(|file| guard.insert(file).dump()),
    };
    drop(guard);
    let dump = dump.map_err(failed)?;
    HeapProfile::from_dump(&dump).map_err(|error| Fault::new(error.name(), error.to_string()))
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
        // Pages are kept for this time, and returned at once where it is none. An arena that is not in use has none. Not `update`: it
        // passes one variable as the old and the new value, and jemalloc stores the old one there before it reads the new one.
        if let Ok(milliseconds) = Access::<isize>::read(&decay) {
            decay.write(0_isize)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    #[test]
    fn free_pages_of_idle_threads_are_returned() {
        const MIB: u64 = 1 << 20;
        // Each below the size whose pages jemalloc returns at once. It may return some of the others while they are freed.
        let buffers: Vec<_> = (0..64).map(|_| vec![1_u8; MIB as usize]).collect();
        drop(std::hint::black_box(buffers));
        let before = statistics().unwrap();
        assert!(release());
        let after = statistics().unwrap();
        let free = |statistics: &Allocator| statistics.resident.saturating_sub(statistics.active);
        assert!(free(&before) >= 16 * MIB, "{before:?}");
        assert!(free(&after) < 8 * MIB, "{after:?}");
    }
}
