//! The handlers of the requests about flags and their rollouts.

use tracing::info;

use super::{
    super::{collect::collect, rollouts::rollout_row},
    shared::Shared,
};
use crate::{
    config::Percent,
    control::{Fault, FlagList, FlagRow, Rearmed, RolloutList, ShareChange},
    policy::{Flag, FlagError, RolloutReport, UnknownFlag, rollback::RolloutState},
    shard::ShardHandle,
};

/// The flags, and the requests that each position has served.
pub(super) fn flags(shared: &Shared) -> FlagList {
    let (reports, unresponsive) = collect(&shared.shards, ShardHandle::report);
    let requests =
        |flag, is_on| reports.iter().map(|(_, report)| report.metrics.flags.requests(flag, is_on)).sum();
    let row = |report: RolloutReport| {
        let RolloutReport { flag, share, state, .. } = report;
        let position = match share {
            Percent::ZERO => flag.position(false),
            Percent::ALL => flag.position(true),
            _ => "cohort",
        };
        FlagRow {
            flag: flag.name().to_owned(),
            position: position.to_owned(),
            share_percent: share,
            is_restart_only: flag.is_restart_only(),
            is_rolled_back: matches!(state, RolloutState::RolledBack { .. }),
            requests_on: requests(flag, true),
            requests_off: requests(flag, false),
        }
    };
    FlagList { flags: shared.flags.reports().into_iter().map(row).collect(), unresponsive }
}

/// Turns a flag on or off.
pub(super) fn set_flag(shared: &Shared, flag: &str, position: &str) -> Result<ShareChange, Fault> {
    let flag = known(flag)?;
    let Some(is_on) = flag.parse_position(position) else {
        let (on, off) = (flag.position(true), flag.position(false));
        return Err(Fault::new("position_unknown", format!("{flag} is {on} or {off}, not {position:?}")));
    };
    change(shared, flag, if is_on { Percent::ALL } else { Percent::ZERO })
}

/// Changes the share of a flag.
pub(super) fn set_share(shared: &Shared, flag: &str, share: Percent) -> Result<ShareChange, Fault> {
    change(shared, known(flag)?, share)
}

fn change(shared: &Shared, flag: Flag, share: Percent) -> Result<ShareChange, Fault> {
    let before = shared.flags.set_share(flag, share).map_err(fault)?;
    let (percent, percent_before) = (share.to_string(), before.to_string());
    info!(
        flag = flag.name(),
        percent, percent_before, "the share of a flag was changed through the control socket"
    );
    Ok(ShareChange { flag: flag.name().to_owned(), share_percent: share, before_percent: before })
}

/// Allows a flag to be on again.
pub(super) fn rearm(shared: &Shared, flag: &str) -> Result<Rearmed, Fault> {
    let flag = known(flag)?;
    let was_rolled_back = shared.flags.rearm(flag).map_err(fault)?;
    if was_rolled_back {
        info!(flag = flag.name(), "a flag was rearmed through the control socket");
    }
    Ok(Rearmed { flag: flag.name().to_owned(), was_rolled_back })
}

fn known(flag: &str) -> Result<Flag, Fault> {
    flag.parse().map_err(|error: UnknownFlag| Fault::new("flag_unknown", error.to_string()))
}

fn fault(error: FlagError) -> Fault {
    let reason = match error {
        FlagError::RestartOnly(_) => "flag_restart_only",
        FlagError::RolledBack(..) => "flag_rolled_back",
        FlagError::OutOfRange(_) => "percent_out_of_range",
    };
    Fault::new(reason, error.to_string())
}

/// The rollouts.
pub(super) fn rollouts(shared: &Shared) -> RolloutList {
    RolloutList { flags: shared.flags.reports().into_iter().map(rollout_row).collect() }
}
