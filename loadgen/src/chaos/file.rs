//! The result of `chaos` as JSON.

use serde::Serialize;

use super::outcome::{Bars, FaultOutcome};
use crate::result::Environment;

/// The outcomes of one command, with what is needed to repeat it.
#[derive(Clone, Debug, Serialize)]
pub struct ChaosFile {
    /// Always `corelane-chaos-1`.
    pub schema: &'static str,
    /// Start time: RFC 3339, UTC.
    pub started: String,
    /// The machine and the build.
    pub environment: Environment,
    /// The bars.
    pub bars: Bars,
    /// Limits of the servers that replace those of the faults.
    pub limits: Vec<String>,
    /// The faults, in the order of their injection.
    pub faults: Vec<FaultOutcome>,
}

/// Name and version of the schema.
pub const SCHEMA: &str = "corelane-chaos-1";
