//! Settings of all attacks.

use std::{path::PathBuf, time::Duration};

use crate::placement::Placement;

/// Settings of all attacks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of one measurement.
    pub duration: Duration,
    /// Number of pairs of measurements, attacked and control.
    pub rounds: u32,
    /// Requests of the bystander in a second.
    pub rate_per_s: f64,
    /// Core of the servers.
    pub server_core: usize,
    /// Cores of attacker and bystander.
    pub placement: Placement,
    /// Configuration file of the servers.
    pub config: Option<PathBuf>,
}
