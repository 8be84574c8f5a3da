//! `ctl profile`: writes a CPU profile of the server to a file.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::{
    control::Request,
    profile::{Profile, ProfileFormat, ProfileOutput},
};

/// Arguments of `ctl profile`.
#[derive(Args)]
pub(super) struct ProfileArguments {
    /// Duration
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// Samples per second of CPU time of each thread
    #[arg(long, value_name = "N", default_value_t = 99, value_parser = clap::value_parser!(u32).range(1..=999))]
    hz: u32,

    /// Shard to sample, may be repeated [default: all threads]
    #[arg(long = "shard", value_name = "N")]
    shards: Vec<usize>,

    /// File to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// Format of the file [default: by its extension: .svg, .folded or .txt, .pb or .pprof]
    #[arg(long, value_enum)]
    format: Option<ProfileFormat>,
}

impl ProfileArguments {
    pub(super) fn request(&self) -> Request {
        Request::Profile { seconds: self.seconds, hz: self.hz, shards: self.shards.clone() }
    }

    /// Opens the file.
    ///
    /// # Errors
    /// One line: the format is not known, or the file cannot be written.
    pub(super) fn open(&self) -> Result<(PathBuf, ProfileOutput), String> {
        open(&self.output, self.format)
    }
}

/// Opens the file of a profile, in a format or in that of its extension.
///
/// # Errors
/// One line: the format is not known, or the file cannot be written.
pub(super) fn open(output: &Path, format: Option<ProfileFormat>) -> Result<(PathBuf, ProfileOutput), String> {
    let path = output.display();
    let format = format.or_else(|| ProfileFormat::of(output)).ok_or_else(|| {
        format!("the extension of {path} names no format; remedy: use .svg, .folded or .pb, or --format")
    })?;
    let file =
        ProfileOutput::create(output, format).map_err(|error| format!("cannot write {path}: {error}"))?;
    Ok((output.to_owned(), file))
}

/// Writes the profile. Returns what is printed.
///
/// # Errors
/// One line: the file cannot be written.
pub(super) fn write(
    (path, output): (PathBuf, ProfileOutput),
    profile: &Profile,
    is_json: bool,
) -> Result<String, String> {
    let path = path.display().to_string();
    output.write(profile).map_err(|error| format!("cannot write {path}: {error}"))?;
    if !is_json {
        return Ok(format!("{path}: {}\n", profile.summary()));
    }
    let summary = json!({
        "output": path,
        "milliseconds": profile.milliseconds,
        "hz": profile.hz,
        "source": profile.source,
        "samples": profile.samples,
        "lost": profile.lost,
        "overflowed": profile.overflowed,
        "threads_skipped": profile.threads_skipped,
    });
    Ok(format!("{summary}\n"))
}
