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

/// The file for a profile, which can be written. Until the profile is, an existing file stays as it is and a new one does not exist,
/// even if the process is killed.
#[derive(Debug)]
pub struct ProfileOutput {
    path: PathBuf,
    /// An existing file, which may be a pipe.
    existing: Option<File>,
    format: ProfileFormat,
}

impl ProfileOutput {
    /// Opens the file, or checks that it can be created.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, format: ProfileFormat) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true);
        let existing = match options.clone().create_new(true).open(path) {
            Ok(_) => {
                fs::remove_file(path)?;
                None
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Some(options.open(path)?),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), existing, format })
    }

    /// Writes a profile in place of the file's content.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(self, profile: &Profile) -> io::Result<()> {
        let Self { path, existing, format } = self;
        let mut file = match existing {
            Some(file) => file,
            None => File::create(path)?,
        };
        if file.metadata()?.is_file() {
            file.set_len(0)?;
            file.rewind()?;
        }
        let mut to = BufWriter::new(&file);
        format.write(profile, &mut to)?;
        to.flush()
    }
}
