//! `ctl memory`: what uses memory, or a heap profile of the server in a file.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{profile, rows::Top};
use crate::{
    control::Request,
    profile::{EarlierHeap, HeapProfile, ProfileFormat, ProfileOutput},
};

/// Arguments of `ctl memory`.
#[derive(Args)]
pub(super) struct MemoryArguments {
    #[command(flatten)]
    top: Top,

    /// Write which functions allocated the memory in use; requires jemalloc, and _RJEM_MALLOC_CONF=prof:true at the start
    #[arg(long, requires = "output", conflicts_with = "top")]
    heap: bool,

    /// Write only what grew since an earlier heap profile: a file in the format .folded or .pb
    #[arg(long, value_name = "FILE", requires = "heap")]
    since: Option<PathBuf>,

    /// File to write
    #[arg(long, short, value_name = "FILE", requires = "heap")]
    output: Option<PathBuf>,

    /// Format of the file [default: by its extension: .svg, .folded or .txt, .pb or .pprof]
    #[arg(long, value_enum, requires = "heap")]
    format: Option<ProfileFormat>,
}

/// The file of a heap profile, and what it is compared with.
pub(super) struct HeapOutput {
    path: PathBuf,
    output: ProfileOutput,
    earlier: Option<EarlierHeap>,
}

impl MemoryArguments {
    pub(super) fn request(&self) -> Request {
        if self.heap { Request::HeapProfile } else { Request::Memory { top: self.top.rows() } }
    }

    /// Opens the files of a heap profile; `None` without one.
    ///
    /// # Errors
    /// One line: the format is not known, the output cannot be written, or the earlier profile cannot be read.
    pub(super) fn open(&self) -> Result<Option<HeapOutput>, String> {
        let (true, Some(path)) = (self.heap, &self.output) else { return Ok(None) };
        let read = |path: &PathBuf| {
            EarlierHeap::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        // Read first: it may be the file that is written.
        let earlier = self.since.as_ref().map(read).transpose()?;
        let (path, output) = profile::open(path, self.format)?;
        if earlier.is_some() && !output.format().has_growth() {
            let remedy = "remedy: write both profiles as .pb and compare them with pprof -diff_base";
            return Err(format!("--since writes .svg or .folded; {remedy}"));
        }
        Ok(Some(HeapOutput { path, output, earlier }))
    }
}

/// Writes the heap profile. Returns what is printed.
///
/// # Errors
/// One line: the file cannot be written.
pub(super) fn write(to: HeapOutput, heap: &HeapProfile, is_json: bool) -> Result<String, String> {
    let HeapOutput { path, output, earlier } = to;
    let path = path.display().to_string();
    let growth = match &earlier {
        Some(earlier) => output.write_growth(heap, earlier).map(Some),
        None => output.write(heap).map(|()| None),
    };
    let growth = growth.map_err(|error| format!("cannot write {path}: {error}"))?;
    if !is_json {
        let growth = growth.zip(earlier).map(|(growth, earlier)| growth.summary(&earlier));
        return Ok(format!("{path}: {}\n", growth.unwrap_or_else(|| heap.summary())));
    }
    let summary = json!({
        "output": path,
        "bytes": heap.bytes,
        "objects": heap.objects,
        "sample_bytes": heap.sample_bytes,
        "overflowed_bytes": heap.overflowed_bytes,
        "grown_bytes": growth.map(|growth| growth.grown_bytes),
        "shrunk_bytes": growth.map(|growth| growth.shrunk_bytes),
    });
    Ok(format!("{summary}\n"))
}
