//! `ctl top`: a live view of the server, or one line of JSON for each interval.

mod columns;
mod reader;
mod render;
mod screen;
mod view;

use std::{
    io::{self, IsTerminal, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use clap::Args;
use humantime_serde::re::humantime::parse_duration;

use self::reader::{SampleReader, request};
use crate::control::{INTERVAL_MAX_MS, INTERVAL_MIN_MS, Request};

/// Arguments of `ctl top`.
#[derive(Args)]
pub(super) struct TopArguments {
    /// Time between two samples, 0.05 to 60 seconds: `2`, `500ms`
    #[arg(long, short, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,

    /// Ends after this many samples
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Parses an interval: a number of seconds, or a number with a unit.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::try_from_secs_f64);
    let interval = match seconds {
        Some(seconds) => seconds.map_err(|error| error.to_string())?,
        None => parse_duration(text).map_err(|error| error.to_string())?,
    };
    let range = Duration::from_millis(INTERVAL_MIN_MS.into())..=Duration::from_millis(INTERVAL_MAX_MS.into());
    if range.contains(&interval) { Ok(interval) } else { Err("it may be 0.05 to 60 seconds".to_owned()) }
}

impl TopArguments {
    pub(super) fn request(&self) -> Request {
        request(self.interval)
    }

    /// Shows samples until the user ends it, or until `count`. `connect` connects to the server.
    ///
    /// # Errors
    /// One line: the output is no terminal and JSON was not requested, there is no server, or it has gone.
    pub(super) fn run(
        &self,
        connect: impl FnOnce() -> Result<UnixStream, String>,
        is_json: bool,
    ) -> Result<(), String> {
        if is_json {
            return self.print(SampleReader::new(connect()?));
        }
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Err("top needs a terminal; remedy: --json prints one line for each interval".to_owned());
        }
        screen::show(SampleReader::new(connect()?), self.interval, self.count)
    }

    /// Prints one line for each sample. Ends without an error when the reader of the output has gone.
    fn print(&self, mut samples: SampleReader) -> Result<(), String> {
        let mut output = io::stdout();
        let mut left = self.count;
        while left != Some(0) {
            let sample = samples.next(self.interval)?;
            let line = serde_json::to_string(&sample)
                .map_err(|error| format!("cannot encode the sample: {error}"))?;
            match output.write_all(format!("{line}\n").as_bytes()).and_then(|()| output.flush()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(format!("cannot write the sample: {error}")),
            }
            left = left.map(|left| left - 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
