//! The file that a profile is written to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
};

use super::{
    flame_graph,
    folded::{self, Folded, fold},
    model::Profile,
    pprof,
    report::{Report, ToReport},
    sampler::SampleSource,
    symbols::Symbols,
};

/// Maximum length of an earlier profile.
const EARLIER_BYTES_MAX: u64 = 256 << 20;

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
    pub fn write(self, profile: &impl ToReport, mut to: impl Write) -> io::Result<()> {
        let report = profile.to_report();
        let symbols = Symbols::of(&report);
        match self {
            Self::Pprof => to.write_all(&pprof::encode(&report, &symbols)),
            Self::Svg | Self::Folded => self.write_folded(&report, &fold(&report, &symbols), to),
        }
    }

    /// Writes folded stacks, as a flame graph or as lines.
    fn write_folded(self, report: &Report<'_>, stacks: &Folded, mut to: impl Write) -> io::Result<()> {
        let lines = folded::lines(stacks);
        match self {
            Self::Svg => flame_graph::write(report, &lines, to),
            Self::Folded | Self::Pprof => lines.iter().try_for_each(|line| writeln!(to, "{line}")),
        }
    }

    /// Whether the difference of two profiles can be written: pprof computes it itself (`-diff_base`).
    #[must_use]
    pub fn has_growth(self) -> bool {
        self != Self::Pprof
    }
}

/// The memory in use by stack at an earlier time, to compare a heap profile with.
#[derive(Debug)]
pub struct EarlierHeap {
    folded: Folded,
    /// The name of its file.
    name: String,
}

impl EarlierHeap {
    /// Reads a heap profile that was written as folded stacks, or in the format of pprof.
    ///
    /// # Errors
    /// One line: the file cannot be read, or contains another thing.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        let read =
            file.take(EARLIER_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if read as u64 > EARLIER_BYTES_MAX {
            return Err(format!("it has more than {EARLIER_BYTES_MAX} bytes"));
        }
        let folded = match ProfileFormat::of(path) {
            Some(ProfileFormat::Pprof) => pprof::parse_heap(&bytes)?,
            Some(ProfileFormat::Folded) => folded::parse(&String::from_utf8_lossy(&bytes))?,
            _ => return Err("it is neither .folded nor .pb, which can be read again".to_owned()),
        };
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { folded, name })
    }
}

/// The difference of the memory in use between two heap profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Bytes of the stacks that have more than before.
    pub grown_bytes: u64,
    /// Bytes of the stacks that have less than before.
    pub shrunk_bytes: u64,
}

impl Growth {
    /// One line, which names the earlier profile.
    #[must_use]
    pub fn summary(&self, earlier: &EarlierHeap) -> String {
        let Self { grown_bytes, shrunk_bytes } = self;
        format!("{grown_bytes} bytes added since {}, {shrunk_bytes} bytes freed", earlier.name)
    }
}

/// The stacks that grew, by the bytes that they grew by.
fn grown(now: Folded, earlier: &Folded) -> (Folded, Growth) {
    let total = |stacks: &Folded| stacks.values().fold(0_u64, |sum, value| sum.saturating_add(*value));
    let shrunk = earlier.iter().map(|(stack, before)| (before, now.get(stack).copied().unwrap_or(0)));
    let shrunk_bytes =
        shrunk.fold(0_u64, |sum, (before, now)| sum.saturating_add(before.saturating_sub(now)));
    let growth = |(stack, bytes): (String, u64)| {
        let before = earlier.get(&stack).copied().unwrap_or(0);
        (bytes > before).then_some((stack, bytes.saturating_sub(before)))
    };
    let stacks: Folded = now.into_iter().filter_map(growth).collect();
    let growth = Growth { grown_bytes: total(&stacks), shrunk_bytes };
    (stacks, growth)
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
    pub fn write(self, profile: &impl ToReport) -> io::Result<()> {
        let format = self.format;
        self.replace(|to| format.write(profile, to))
    }

    /// Writes the stacks of a heap profile that grew since an earlier one, in place of the file's content. As folded stacks where the
    /// format has no growth.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_growth(self, profile: &impl ToReport, earlier: &EarlierHeap) -> io::Result<Growth> {
        let mut report = profile.to_report();
        let (stacks, growth) = grown(fold(&report, &Symbols::of(&report)), &earlier.folded);
        report.title = "Growth of the memory in use by the function that allocated it";
        report.empty = "no sampled memory has been added";
        report.summary = growth.summary(earlier);
        let format = self.format;
        self.replace(|to| format.write_folded(&report, &stacks, to))?;
        Ok(growth)
    }

    /// The format of the file.
    #[must_use]
    pub fn format(&self) -> ProfileFormat {
        self.format
    }

    /// Replaces the content of the file.
    fn replace(self, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
        let Self { path, existing, .. } = self;
        let mut file = match existing {
            Some(file) => file,
            None => File::create(path)?,
        };
        if file.metadata()?.is_file() {
            file.set_len(0)?;
            file.rewind()?;
        }
        let mut to = BufWriter::new(&file);
        write(&mut to)?;
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_has_the_stacks_that_grew_only() {
        let stacks = |stacks: &[(&str, u64)]| -> Folded {
            stacks.iter().map(|(stack, bytes)| ((*stack).to_owned(), *bytes)).collect()
        };
        let before = stacks(&[("a;same", 5), ("a;more", 5), ("a;less", 5), ("a;gone", 5)]);
        let now = stacks(&[("a;same", 5), ("a;more", 9), ("a;less", 2), ("a;new", 3)]);
        let (grown, growth) = grown(now, &before);
        assert_eq!(grown, stacks(&[("a;more", 4), ("a;new", 3)]));
        assert_eq!(growth, Growth { grown_bytes: 7, shrunk_bytes: 8 });
    }
}
