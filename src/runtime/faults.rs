//! A slowdown for tests of the rollback of flags: the feature `faults`.

use std::{env, sync::OnceLock, time::Duration};

use crate::policy::{Flag, Flags};

/// Names the flag whose cohort is slow.
const VARIABLE: &str = "CORELANE_FAULT_SLOW_FLAG";

/// By how much an async handler is slower.
const SLOWDOWN: Duration = Duration::from_millis(2);

/// Waits for [`SLOWDOWN`] if the flag of [`VARIABLE`] is on. A timer, because a shard that is blocked is slow for all.
pub(super) async fn slow_down(flags: Flags) {
    static FLAG: OnceLock<Option<Flag>> = OnceLock::new();
    let flag = FLAG.get_or_init(|| env::var(VARIABLE).ok()?.parse().ok());
    if flag.is_some_and(|flag| flags.is_on(flag)) {
        glommio::timer::sleep(SLOWDOWN).await;
    }
}
