//! `ctl flags` and `ctl rollout`: their arguments, and their replies as text.

use clap::Subcommand;
use humantime_serde::re::humantime::format_rfc3339_seconds;

use super::table::{facts, table};
use crate::{
    config::Percent,
    control::{CohortRow, FlagList, Rearmed, Request, RolloutList, RolloutRow, ShareChange},
};

/// What `ctl flags` does.
#[derive(Subcommand)]
pub(super) enum FlagsCommand {
    /// Show the flags (the default)
    #[command(after_help = "Example:\n  corelane ctl flags show")]
    Show,

    /// Turn a flag on or off for all sessions and connections
    #[command(
        after_help = "Examples:\n  corelane ctl flags set zero_copy off\n  corelane ctl flags set json_backend serde"
    )]
    Set {
        /// The flag, a key of [performance]
        flag: String,

        /// on or off; simd or serde for json_backend
        position: String,
    },
}

impl FlagsCommand {
    /// The request. `None` shows the flags.
    pub(super) fn request(command: Option<&Self>) -> Request {
        match command {
            None | Some(Self::Show) => Request::Flags,
            Some(Self::Set { flag, position }) => {
                Request::SetFlag { flag: flag.clone(), position: position.clone() }
            }
        }
    }
}

/// What `ctl rollout` does.
#[derive(Subcommand)]
pub(super) enum RolloutCommand {
    /// Show the rollouts (the default)
    #[command(after_help = "Example:\n  corelane ctl rollout show --json")]
    Show,

    /// Turn a flag on for a part of the sessions and connections, and off for all others
    #[command(after_help = "Example:\n  corelane ctl rollout set zero_copy 1")]
    Set {
        /// The flag, a key of [performance]
        flag: String,

        /// 0 to 100, with at most two decimals
        #[arg(allow_hyphen_values = true)]
        percent: String,
    },

    /// Allow a flag that was rolled back to be on again
    #[command(after_help = "Example:\n  corelane ctl rollout rearm zero_copy")]
    Rearm {
        /// The flag, a key of [performance]
        flag: String,
    },
}

impl RolloutCommand {
    /// The request. `None` shows the rollouts.
    ///
    /// # Errors
    /// One line: the share is no percentage.
    pub(super) fn request(command: Option<&Self>) -> Result<Request, String> {
        Ok(match command {
            None | Some(Self::Show) => Request::Rollout,
            Some(Self::Set { flag, percent }) => {
                let percent = percent.parse().map_err(|error: String| format!("{error}, 0 to 100"))?;
                Request::SetShare { flag: flag.clone(), percent }
            }
            Some(Self::Rearm { flag }) => Request::Rearm { flag: flag.clone() },
        })
    }
}

pub(super) fn show_flags(list: &FlagList, width: Option<usize>) -> String {
    let row = |flag: &crate::control::FlagRow| {
        let note = match (flag.is_restart_only, flag.is_rolled_back) {
            (true, _) => "changed by a restart only",
            (false, true) => "rolled back",
            (false, false) => "",
        };
        vec![
            flag.flag.clone(),
            flag.position.clone(),
            note.to_owned(),
            share(flag.share_percent),
            flag.requests_on.to_string(),
            flag.requests_off.to_string(),
        ]
    };
    let rows: Vec<_> = list.flags.iter().map(row).collect();
    table(&["flag", "position", "note", "share", "requests on", "requests off"], 3, &rows, width)
}

pub(super) fn show_rollouts(list: &RolloutList, width: Option<usize>) -> String {
    let row = |flag: &RolloutRow| {
        let result = flag.verdict.as_deref().unwrap_or_default();
        vec![
            flag.flag.clone(),
            plain(&flag.state),
            plain(result),
            share(flag.share_percent),
            flag.rollbacks.to_string(),
        ]
    };
    let rows: Vec<_> = list.flags.iter().map(row).collect();
    let mut text = table(&["flag", "state", "comparison", "share", "rollbacks"], 3, &rows, width);
    let cohorts: Vec<_> = list.flags.iter().flat_map(cohort_rows).collect();
    if !cohorts.is_empty() {
        let head = ["flag", "of", "members", "calls", "errors", "p50", "p95", "p99"];
        text += "\nsince the share was set\n";
        text += &table(&head, 2, &cohorts, width);
    }
    for flag in &list.flags {
        if let (Some(reason), Some(at)) = (&flag.reason, flag.rolled_back_at) {
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
            let lines = [
                ("rolled back", flag.flag.clone()),
                ("at", format_rfc3339_seconds(at).to_string()),
                ("because of", reason.clone()),
                ("to allow it again", format!("corelane ctl rollout rearm {}", flag.flag)),
            ];
            text.push('\n');
            text += &facts(&lines, width);
        }
    }
    text
}

fn cohort_rows(flag: &RolloutRow) -> Vec<Vec<String>> {
    let row = |(of, row): (&str, &CohortRow)| {
        let [p50, p95, p99] = [row.p50_ns, row.p95_ns, row.p99_ns].map(milliseconds);
        let counts = [row.members, row.calls, row.errors].map(|count| count.to_string());
        let names = [flag.flag.clone(), of.to_owned()];
        names.into_iter().chain(counts).chain([p50, p95, p99]).collect()
    };
    let rows = [("cohort", &flag.cohort), ("control", &flag.control)];
    rows.into_iter().filter_map(|(of, row)| Some((of, row.as_ref()?))).map(row).collect()
}

pub(super) fn show_change(change: &ShareChange) -> String {
    let ShareChange { flag, share_percent, before_percent } = change;
    format!("{flag}: {share_percent} % of the sessions and connections (before: {before_percent} %)\n")
}

pub(super) fn show_rearmed(rearmed: &Rearmed) -> String {
    let Rearmed { flag, was_rolled_back } = rearmed;
    if *was_rolled_back {
        format!("{flag} may be on again; its share is 0 %: corelane ctl rollout set {flag} PERCENT\n")
    } else {
        format!("{flag} was not rolled back\n")
    }
}

fn share(percent: Percent) -> String {
    format!("{percent} %")
}

/// A name of the protocol as words.
fn plain(name: &str) -> String {
    name.replace('_', " ")
}

fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.3} ms", nanoseconds as f64 / 1e6)
}
