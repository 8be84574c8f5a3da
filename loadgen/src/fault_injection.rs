//! Faults planted in the server. A delay must be found by a measurement, in its size: the proof that what is reported comes
//! from what happened. Panics must be found in the server's log.

use std::time::Duration;

/// The tool that takes the planted time.
pub const TOOL: &str = "planted";

/// Where the fixture server reads how long that is, in microseconds.
pub const DELAY_VARIABLE: &str = "CORELANE_FIXTURE_DELAY_US";

/// Where the fixture server reads at which line of its log the log itself panics. Where it is set, there are tools that
/// panic too: `panic_inline`, `panic_async` and `panic_blocking`.
pub const PANICS_VARIABLE: &str = "CORELANE_FIXTURE_PANICS";

/// What was planted in this process.
#[must_use]
pub fn injected_delay() -> Duration {
    let text = std::env::var(DELAY_VARIABLE).unwrap_or_default();
    Duration::from_micros(text.parse().unwrap_or(0))
}
