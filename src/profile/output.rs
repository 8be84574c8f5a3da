//! The file that a profile is written to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Seek, Write},
    path::{Path, PathBuf},
};

use super::{flame_graph, folded, model::Profile, pprof, sampler::SampleSource, symbols::Symbols};

/// The format of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProfileFormat {
    /// An interactive flame graph, `.svg`.
    Svg,
    /// Folded stacks, `.folded` or `.txt`.
    Folded,
    /// The protocol buffer of pprof, uncompressed, `.pb` or `.pprof`.
    Pprof,
}

impl ProfileFormat {
    /// The format for the extension of a file name.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "svg" => Some(Self::Svg),
            "folded" | "txt" => Some(Self::Folded),
            "pb" | "pprof" => Some(Self::Pprof),
            _ => None,
        }
    }

    /// Resolves the symbols of a profile and writes it.
    ///
    /// # Errors
    /// That of `to`.
    pub fn write(self, profile: &Profile, mut to: impl Write) -> io::Result<()> {
        let symbols = Symbols::of(profile);
        match self {
            Self::Svg => flame_graph::write(profile, &folded::lines(profile, &symbols), to),
            Self::Folded => {
                folded::lines(profile, &symbols).iter().try_for_each(|line| writeln!(to, "{line}"))
            }
            Self::Pprof => to.write_all(&pprof::encode(profile, &symbols)),
        }
    }
}

impl Profile {
    /// One line: duration, samples, and what is missing.
    #[must_use]
    pub fn summary(&self) -> String {
        let seconds = self.milliseconds as f64 / 1000.0;
        let mut line = format!("{} samples in {seconds:.1} s at {} Hz", self.samples, self.hz);
        match self.source {
            SampleSource::PerfWithKernel => {}
            SampleSource::Perf => {
                line.push_str(", user frames only: kernel.perf_event_paranoid hides the kernel")
            }
            SampleSource::Timer => line.push_str(", user frames only: perf_event_open is not permitted"),
        }
        for (count, what) in [
            (self.lost, "samples lost"),
            (self.overflowed, "samples of too many distinct stacks dropped"),
            (self.threads_skipped, "threads not sampled"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        line
    }
}

/// A file, opened before the profile is taken. Dropping it without a profile removes a file that did not exist before, and leaves
/// another one as it is.
#[derive(Debug)]
pub struct ProfileOutput {
    file: File,
    format: ProfileFormat,
    /// The path of a file that is to be removed.
    unwritten: Option<PathBuf>,
}

impl ProfileOutput {
    /// Opens the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, format: ProfileFormat) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true);
        match options.clone().create_new(true).open(path) {
            Ok(file) => Ok(Self { file, format, unwritten: Some(path.to_owned()) }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(Self { file: options.open(path)?, format, unwritten: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a profile in place of the file's content.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(mut self, profile: &Profile) -> io::Result<()> {
        self.unwritten = None;
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        let mut to = BufWriter::new(&self.file);
        self.format.write(profile, &mut to)?;
        to.flush()
    }
}

impl Drop for ProfileOutput {
    fn drop(&mut self) {
        if let Some(path) = &self.unwritten {
            // Nothing was written; the error of the profile is the one to report.
            let _ = fs::remove_file(path);
        }
    }
}
