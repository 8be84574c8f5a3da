use strum::VariantArray;

use super::*;
use crate::{
    policy::Flags,
    telemetry::interval::{Counts, ShardInterval, StageTime, ToolTime},
};

/// A server with two shards at a third of their load, all flags on, and nothing to change.
fn healthy() -> MetricSet {
    let shard = |shard| ShardInterval { shard, busy: 2.0, spin: 1.0, sleep: 6.0, threads: None };
    let interval = Interval {
        seconds: 10.0,
        shards: vec![shard(0), shard(1)],
        stages: Default::default(),
        samples: 1000,
        counts: Counts {
            requests: 64_000,
            tool_calls: 60_000,
            received_bytes: 64_000 * 600,
            sent_bytes: 64_000 * 300,
            schema_cache_hits: 60_000,
            notifications: 100,
            ..Counts::default()
        },
        flags: Flags::ALL,
        first_tool: Some(ToolTime { name: "search".to_owned(), calls: 60_000, mean_us: 30.0 }),
        buffer_bytes: 1 << 20,
    };
    let mut metrics = MetricSet {
        interval,
        cores: 2,
        resident_bytes: 1 << 28,
        memory_max: 1 << 31,
        buffer_bytes_max: 1 << 29,
    };
    for (stage, mean_us) in [
        (Stage::ReceiveWait, 5.0),
        (Stage::Frame, 0.5),
        (Stage::Guard, 0.2),
        (Stage::Decode, 1.0),
        (Stage::Route, 1.0),
        (Stage::Validate, 0.5),
        (Stage::Run, 10.0),
        (Stage::RunPending, 5000.0),
        (Stage::Encode, 1.0),
        (Stage::SendWait, 20.0),
    ] {
        metrics.set(stage, 64_000, mean_us);
    }
    metrics.set(Stage::Publish, 100, 10.0);
    metrics
}

impl MetricSet {
    fn set(&mut self, stage: Stage, requests: u64, mean_us: f64) {
        let seconds = mean_us * requests as f64 / 1e6;
        let time = StageTime { seconds, requests, p50_us: mean_us, p99_us: mean_us * 3.0 };
        self.interval.stages.insert(stage, time);
    }

    /// Gives a stage this share of the work.
    fn set_share(&mut self, stage: Stage, share: f64) {
        self.interval.stages.remove(&stage);
        let requests = self.interval.counts.requests;
        let others = self.interval.work_seconds();
        self.set(stage, requests, others * share / (1.0 - share) * 1e6 / requests as f64);
        assert!((self.interval.work_share(&[stage]) - share).abs() < 1e-9);
    }

    fn set_off(&mut self, branch: Branch) {
        self.interval.flags = self.interval.flags.with(branch.flag(), false);
    }

    fn set_load(&mut self, load: f64) {
        for shard in &mut self.interval.shards {
            (shard.spin, shard.sleep) = (0.0, (1.0 - load) * self.interval.seconds);
        }
    }

    /// The only advice.
    #[track_caller]
    fn only(&self) -> Advice {
        let advice = advise(self);
        assert_eq!(advice.len(), 1, "{advice:?}");
        advice.into_iter().next().unwrap()
    }

    /// The branch and setting of the only advice.
    #[track_caller]
    fn advised(&self) -> (Branch, String) {
        let Advice { branch, setting, evidence, change } = self.only();
        assert!(
            !change.is_empty() && evidence.contains(|letter: char| letter.is_ascii_digit()),
            "{evidence}"
        );
        (branch, setting)
    }
}

/// The threshold of each branch with its flag off: a set just below it, and one at it.
fn off_sets(branch: Branch) -> [MetricSet; 2] {
    [0.98, 1.0].map(|part| {
        let mut metrics = healthy();
        metrics.set_off(branch);
        match branch {
            Branch::Validation => metrics.set_share(Stage::Validate, SHARE_OFF * part + 1e-6),
            Branch::Json => metrics.set_share(Stage::Decode, SHARE_OFF * part + 1e-6),
            Branch::SequentialCalls => {
                metrics.interval.counts.serialized_calls = (60_000.0 * SERIALIZED_SHARE * part) as u64;
            }
            Branch::FanOut => metrics.set_share(Stage::Publish, SHARE_OFF * part + 1e-6),
            Branch::Copies => {
                metrics.interval.counts.copied_bytes = (64_000.0 * LARGE_MESSAGE_BYTES * part) as u64;
            }
            Branch::Throughput => {
                metrics.interval.shards.truncate(1);
                metrics.set_load(LOAD_SATURATED * part + 1e-6);
            }
        }
        metrics
    })
}

#[test]
fn healthy_server_needs_no_change() {
    assert_eq!(advise(&healthy()), []);
    let mut saturated_once = healthy();
    saturated_once.set_load(LOAD_SATURATED - 0.01);
    assert_eq!(advise(&saturated_once), [], "a high load alone");
    let mut idle = healthy();
    (idle.interval.stages, idle.interval.counts, idle.interval.samples) =
        (Default::default(), Counts::default(), 0);
    idle.set_load(0.0);
    assert_eq!(advise(&idle), [], "without requests");
}

#[test]
fn all_flags_off_alone_are_no_bottleneck() {
    let mut metrics = healthy();
    metrics.interval.flags = Flags::from_bits(0);
    metrics.interval.counts.copied_bytes = metrics.interval.counts.received_bytes;
    assert_eq!(advise(&metrics), []);
}

#[test]
fn each_branch_advises_its_flag_from_its_threshold_on() {
    for branch in Branch::VARIANTS {
        let [below, at] = off_sets(*branch);
        assert_eq!(advise(&below), [], "{branch:?}");
        assert_eq!(at.advised(), (*branch, format!("performance.{}", branch.flag())));
    }
    let restart = off_sets(Branch::Throughput)[1].only().change;
    assert!(restart.contains("restart"), "{restart}");
}

#[test]
fn shares_of_few_samples_are_not_judged() {
    for branch in [Branch::Validation, Branch::Json] {
        let [_, mut metrics] = off_sets(branch);
        metrics.interval.samples = SAMPLES_MIN - 1;
        assert_eq!(advise(&metrics), [], "{branch:?}");
    }
}

#[test]
fn branch_whose_flag_is_off_comes_first() {
    let [_, mut metrics] = off_sets(Branch::Copies);
    metrics.set_load(LOAD_SATURATED);
    metrics.set_share(Stage::Validate, 0.6);
    let branches: Vec<_> = advise(&metrics).iter().map(|advice| advice.branch).collect();
    assert_eq!(branches, [Branch::Copies, Branch::Validation, Branch::Throughput]);
}

#[test]
fn flag_that_is_on_is_followed_by_the_next_remedy() {
    let loaded = || {
        let mut metrics = healthy();
        metrics.set_load(0.6);
        metrics
    };
    let mut metrics = loaded();
    metrics.set_share(Stage::Validate, SHARE_ON);
    assert_eq!(metrics.advised(), (Branch::Validation, "limits.validation_inline_work_max".to_owned()));
    assert!(metrics.only().evidence.contains("\"search\""), "the tool is named");
    metrics.set_load(0.4);
    assert_eq!(advise(&metrics), [], "at a low load");

    let mut metrics = loaded();
    metrics.set_share(Stage::Decode, 0.6);
    assert_eq!(advise(&metrics), [], "small messages have no smaller form");
    metrics.interval.counts.sent_bytes = 64_000 * 10_000;
    assert_eq!(metrics.advised(), (Branch::Json, "limits.body_bytes_max".to_owned()));

    let mut metrics = loaded();
    metrics.set(Stage::Run, 64_000, INLINE_MEAN_US);
    assert_eq!(metrics.advised(), (Branch::SequentialCalls, "run_blocking".to_owned()));
    metrics.set(Stage::Run, 64_000, INLINE_MEAN_US - 1.0);
    assert_eq!(advise(&metrics), [], "fast inline tools");
    metrics.interval.counts.busy_refusals = 640;
    assert_eq!(metrics.advised(), (Branch::SequentialCalls, "limits.calls_in_flight_max".to_owned()));

    let mut metrics = loaded();
    metrics.set_share(Stage::Publish, SHARE_ON);
    assert_eq!(metrics.advised(), (Branch::FanOut, "limits.subscriptions_max".to_owned()));
    metrics.interval.counts.slow_readers = 1;
    assert_eq!(metrics.advised(), (Branch::FanOut, "limits.outbox_bytes_max".to_owned()));
    metrics.interval.counts.events_missed = 1;
    assert_eq!(metrics.advised(), (Branch::FanOut, "limits.broadcast_queue_max".to_owned()));

    let mut metrics = healthy();
    metrics.resident_bytes = metrics.memory_max / 10 * 9;
    assert_eq!(metrics.advised(), (Branch::Copies, "server.memory_max".to_owned()));
    let mut metrics = healthy();
    metrics.interval.buffer_bytes = metrics.buffer_bytes_max;
    assert_eq!(metrics.advised(), (Branch::Copies, "limits.body_bytes_max".to_owned()));
    let mut metrics = healthy();
    metrics.interval.counts.memory_refusals = 1;
    assert_eq!(metrics.advised(), (Branch::Copies, "limits.body_bytes_max".to_owned()));

    let mut metrics = healthy();
    metrics.set_load(LOAD_SATURATED);
    assert_eq!(metrics.advised(), (Branch::Throughput, "server.cpus".to_owned()));
    metrics.cores = 4;
    assert_eq!(metrics.advised(), (Branch::Throughput, "server.shards".to_owned()));
    metrics.set_off(Branch::Throughput);
    metrics.cores = 1;
    assert_eq!(metrics.advised().0, Branch::Throughput);
    assert_ne!(metrics.advised().1, "performance.server_pooling", "one core has one shard");
}
