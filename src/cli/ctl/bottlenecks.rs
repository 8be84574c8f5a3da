//! The replies to `bottlenecks` and `advise` as text.

use super::table::{facts, microseconds, percent, table};
use crate::control::{Advice, Bottlenecks, Priority, StageRow};

pub(super) fn show_bottlenecks(bottlenecks: &Bottlenecks, width: Option<usize>) -> String {
    let Bottlenecks { seconds, requests, samples, sample_interval, stages, shards, .. } = bottlenecks;
    let mut text = show_interval(*seconds, *requests, *samples, *sample_interval);
    if !stages.is_empty() {
        let head = ["stage", "priority", "fix", "share", "of work", "mean", "p50", "p99", "samples"];
        let rows: Vec<_> = stages.iter().map(stage_row).collect();
        text += &format!("\n{}", table(&head, 3, &rows, width));
    }
    let rows: Vec<_> = shards
        .iter()
        .map(|shard| {
            let other = (1.0 - shard.busy - shard.spin - shard.sleep).max(0.0);
            let known = [shard.busy, shard.spin, shard.sleep, other].map(percent);
            let threads = [shard.user, shard.kernel].map(|share| share.map_or("unknown".to_owned(), percent));
            [shard.shard.to_string()].into_iter().chain(known).chain(threads).collect()
        })
        .collect();
    let head = ["shard", "work", "polling", "sleep", "other", "user CPU", "kernel CPU"];
    text + &format!("\nshares of the interval, by shard\n{}", table(&head, 1, &rows, width))
}

fn stage_row(row: &StageRow) -> Vec<String> {
    let priority = match row.priority {
        Some(Priority::High) => "high",
        Some(Priority::Medium) => "medium",
        Some(Priority::Low) => "low",
        None => "wait",
    };
    vec![
        row.stage.clone(),
        priority.to_owned(),
        row.fix.clone(),
        percent(row.share),
        row.work_share.map_or(String::new(), percent),
        microseconds(row.mean_us),
        microseconds(row.p50_us),
        microseconds(row.p99_us),
        row.samples.to_string(),
    ]
}

pub(super) fn show_advice(advice: &Advice, width: Option<usize>) -> String {
    let Advice { seconds, requests, samples, sample_interval, advice, .. } = advice;
    let mut text = show_interval(*seconds, *requests, *samples, *sample_interval);
    if advice.is_empty() {
        text += "\nnothing needs a change\n";
    }
    for row in advice {
        let rows = [
            ("branch", row.branch.clone()),
            ("evidence", row.evidence.clone()),
            ("setting", row.setting.clone()),
            ("change", row.change.clone()),
        ];
        text += &format!("\n{}", facts(&rows, width));
    }
    text
}

fn show_interval(seconds: f64, requests: u64, samples: u64, sample_interval: u32) -> String {
    let timed = match sample_interval {
        0 => "none was timed: limits.stage_sample_interval is 0".to_owned(),
        _ => format!("{samples} were timed, one in {sample_interval}"),
    };
    format!("{requests} requests in {seconds:.1} s; {timed}\n")
}
