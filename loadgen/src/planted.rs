//! A delay planted in the server, which a measurement must find in its size: the proof that what is reported comes from
//! what happened.

use std::time::Duration;

/// The tool that takes the planted time.
pub const TOOL: &str = "planted";

/// Where the fixture server reads how long that is, in microseconds.
pub const DELAY_VARIABLE: &str = "CORELANE_FIXTURE_DELAY_US";

/// What was planted in this process.
#[must_use]
pub fn delay_of_this_process() -> Duration {
    let text = std::env::var(DELAY_VARIABLE).unwrap_or_default();
    Duration::from_micros(text.parse().unwrap_or(0))
}
