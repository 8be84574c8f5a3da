//! How many rows a list has.

use clap::Args;

use crate::control::TOP_MAX;

/// How many rows to list.
#[derive(Args)]
pub(super) struct Top {
    /// Rows of each list, largest first
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u16).range(1..=i64::try_from(TOP_MAX).unwrap_or(i64::MAX)))]
    top: u16,
}

impl Top {
    pub(super) fn rows(&self) -> usize {
        self.top.into()
    }
}
