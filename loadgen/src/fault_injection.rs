//! Faults that tests inject into the fixture server. A measurement must report an injected delay with its true size,
//! and the server's log must contain an injected panic.

use std::time::Duration;

/// Name of the tool that takes the injected time.
pub const TOOL: &str = "planted";

/// Environment variable of the fixture server: the injected delay in microseconds.
pub const DELAY_VARIABLE: &str = "CORELANE_FIXTURE_DELAY_US";

/// Environment variable of the fixture server: if it is set, no latencies are recorded.
pub const UNOBSERVED_VARIABLE: &str = "CORELANE_FIXTURE_UNOBSERVED";

/// Environment variable of the fixture server: if it is set, a CPU profile of the server is taken while it runs.
pub const PROFILED_VARIABLE: &str = "CORELANE_FIXTURE_PROFILED";

/// Environment variable of the fixture server: the log message at which the log itself panics, and after a blank the tool that such a
/// message must name, if any. If it is set, there are also tools that panic: `panic_inline`, `panic_async` and `panic_blocking`.
pub const PANICS_VARIABLE: &str = "CORELANE_FIXTURE_PANICS";

/// The delay that was injected into this process.
#[must_use]
pub fn injected_delay() -> Duration {
    let text = std::env::var(DELAY_VARIABLE).unwrap_or_default();
    Duration::from_micros(text.parse().unwrap_or(0))
}
