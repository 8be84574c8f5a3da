use super::*;
use crate::{
    result::{Instructions, NotRun, Outcome, ResultFile, StageTimes, Stages},
    sample,
};

fn shipped() -> Budget {
    Budget::parse(include_str!("../../../bench/budget.toml")).unwrap()
}

fn parse(rows: &str) -> Budget {
    Budget::parse(rows).unwrap_or_else(|why| panic!("{why}"))
}

fn row(rest: &str) -> String {
    format!(
        "[[row]]\nid = 'a'\nwhat = 'echo'\nsource = 'roadmap'\nworkload = 'canonical_closed_64'\n{rest}\n"
    )
}

fn one(rest: &str, files: &[ResultFile]) -> Assessment {
    assess(&parse(&row(rest)), files).remove(0)
}

fn measured() -> ResultFile {
    sample::file(vec![sample::run("canonical_closed_64", "corelane")])
}

/// Ids of the workloads that the generator can run.
const WORKLOADS: [&str; 36] = [
    "canonical_closed_64",
    "canonical_closed_1",
    "canonical_closed_8",
    "legacy_closed_64",
    "static_closed_1",
    "static_closed_8",
    "static_closed_64",
    "tool_call_simple",
    "tool_call_medium",
    "tool_call_complex",
    "json_small",
    "json_medium",
    "json_large",
    "schema_simple",
    "schema_medium",
    "schema_complex",
    "initialize",
    "discover",
    "tools_list",
    "resource_read",
    "resource_list",
    "prompt_simple",
    "prompt_medium",
    "prompt_complex",
    "tcp_burst_100_1kib",
    "sustained_10k_1kib",
    "sustained_10k_100kib",
    "idle_50k",
    "sustained_100k",
    "burst",
    "fanout_1k",
    "fanout_10k_10hz",
    "fanout_10k_100hz",
    "async_100x5ms",
    "ping_beside_slow_tools",
    "soak",
];

/// Figures that the generator can measure.
const FIGURES: [&str; 13] = [
    "encodings_per_update",
    "validation_p50_ns",
    "memory_per_connection_bytes",
    "connections_live",
    "requests_per_core_second",
    "makespan_ms",
    "recovered_after_s",
    "throughput_beside_idle_ratio",
    "latency_p95_steady_ratio",
    "memory_growth_ratio",
    "throughput_steady_ratio",
    "last_socket_p95_us",
    "stale_readers_count",
];

#[test]
fn shipped_budget_names_existing_workloads_and_figures() {
    let budget = shipped();
    assert!(budget.rows.len() > 60, "{}", budget.rows.len());
    let descriptions: std::collections::BTreeSet<&str> =
        budget.rows.iter().map(|row| row.what.as_str()).collect();
    assert_eq!(descriptions.len(), budget.rows.len(), "two rows say the same of themselves");
    // A row with `waits_for` may name workloads that do not exist yet.
    for row in budget.rows.iter().filter(|row| row.waits_for.is_none()) {
        let other = row.ratio_to.iter().map(|other| (&other.workload, &other.metric));
        for (workload, metric) in other.chain([(&row.workload, &row.metric)]) {
            if let Some(workload) = workload {
                let is_known = WORKLOADS.contains(&workload.as_str())
                    || crate::ablation::of_workload(workload).is_some();
                assert!(is_known, "{}: {workload}", row.id);
            }
            if let crate::metric::Metric::Figure(name) = metric {
                assert!(FIGURES.contains(&name.as_str()), "{}: {name}", row.id);
            }
        }
    }
}

#[test]
fn shipped_budget_rows_can_fail() {
    for row in &shipped().rows {
        let bad = match row.better {
            crate::metric::Better::Lower => 1e12,
            crate::metric::Better::Higher => 0.0,
        };
        let limits = [row.bound, row.goal].into_iter().flatten();
        assert!(limits.into_iter().all(|limit| !row.within(bad, limit)), "{}", row.id);
    }
}

#[test]
fn assessment_without_results_is_not_run() {
    let assessments = assess(&shipped(), &[]);
    assert!(!over(&assessments));
    assert!(assessments.iter().all(|assessment| matches!(assessment.status, Status::NotRun(_))));
    let text = table(&assessments);
    assert!(
        text.contains("– not run") && text.contains("no result has it: throughput, nginx_per_core_second"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn exceeded_budget_is_over() {
    let assessment = one("metric = 'p95'\nmax = 300", &[measured()]);
    assert!(assessment.over() && over(std::slice::from_ref(&assessment)));
    assert_eq!(assessment.measured, Some(350.0));
    assert!(table(&[assessment]).contains("✗ OVER"));
    assert!(!one("metric = 'p95'\nmax = 350", &[measured()]).over());
    assert!(one("metric = 'throughput_per_s'\nmin = 150_000", &[measured()]).over());
    assert!(!one("metric = 'throughput_per_s'\nmin = 100_000", &[measured()]).over());
}

#[test]
fn missed_goal_is_not_over() {
    let assessment = one("metric = 'p95'\nmax = 1000\ngoal = 100", &[measured()]);
    assert_eq!((&assessment.status, assessment.goal_reached), (&Status::Within, Some(false)));
    assert!(assessment.falls_short() && !assessment.over());
    let only = one("metric = 'p95'\ngoal = 100\nbetter = 'lower'", &[measured()]);
    assert_eq!((&only.status, only.over()), (&Status::Short, false));
    let reached = one("metric = 'p95'\ngoal = 400\nbetter = 'lower'", &[measured()]);
    assert_eq!((&reached.status, reached.goal_reached), (&Status::Within, Some(true)));
}

#[test]
fn measured_value_is_the_median_of_the_repeats() {
    let mut file = measured();
    file.runs[0].latency.p95_us = 900.0;
    for p95_us in [340.0, 350.0] {
        let mut run = sample::run("canonical_closed_64", "corelane");
        run.latency.p95_us = p95_us;
        file.runs.push(run);
    }
    let assessment = one("metric = 'p95'\nmax = 1000", &[file]);
    assert_eq!((assessment.measured, assessment.repeats_count), (Some(350.0), 3));
    assert_eq!((assessment.p50_us, assessment.p95_us), (Some(200.0), Some(350.0)));
}

#[test]
fn ratio_uses_values_of_one_file() {
    let ratio = "metric = 'throughput_per_s'\nmin = 1.0\n\
                 ratio_to = { workload = 'static_closed_64', contestant = 'nginx-static' }";
    let nginx = sample::file(vec![sample::run("static_closed_64", "nginx-static")]);
    let apart = one(ratio, &[measured(), nginx.clone()]);
    assert_eq!(apart.status, Status::NotRun("nothing in the same file to divide by".to_owned()));
    let mut together = nginx;
    together.runs.push(sample::run("canonical_closed_64", "corelane"));
    together.runs[1].throughput_per_s = 154_000.0;
    let assessment = one(ratio, &[measured(), together.clone()]);
    assert!((assessment.measured.unwrap() - 1.1).abs() < 1e-9);
    assert!(assessment.shown.as_ref().unwrap().contains('×'), "{assessment:?}");
    together.runs[1].throughput_per_s = 100_000.0;
    together.runs[0].generator.bottleneck = Some("busy".to_owned());
    let assessment = one(ratio, &[together]);
    assert!(assessment.over());
    assert_eq!(assessment.remarks, ["nginx-static: the generator was the limit"]);
}

#[test]
fn stages_and_counts_are_read_from_the_file() {
    let mut file = measured();
    let times = |p50_ns, p95_ns| StageTimes {
        p50_ns,
        p95_ns,
        p99_ns: p95_ns,
        mean_ns: p50_ns,
        count: 1000,
        batch: 1,
    };
    file.stages = Some(Stages {
        stages: [
            ("validate_20".to_owned(), times(900.0, 1_500.0)),
            ("compile_and_validate_20".to_owned(), times(90_000.0, 99_000.0)),
        ]
        .into(),
        about: [].into(),
    });
    file.instructions = Some(Instructions {
        counts: [].into(),
        allocations: [("canonical".to_owned(), 1)].into(),
        about: [].into(),
    });
    let assessments = assess(&shipped(), &[file]);
    let of = |id: &str| assessments.iter().find(|assessment| assessment.id == id).unwrap();
    assert_eq!(of("validate_p95").goal_reached, Some(true));
    assert_eq!(of("validate_p95").p50_us, Some(0.9));
    assert_eq!(of("validate_cached").measured, Some(100.0));
    assert!(of("allocations").over());
}

#[test]
fn missing_run_has_a_reason() {
    let mut file = measured();
    file.runs.clear();
    file.not_run
        .push(NotRun { workload: "canonical_closed_64".to_owned(), reason: "nginx is missing".to_owned() });
    let assessment = one("metric = 'p95'\nmax = 1000", &[file]);
    assert_eq!(assessment.status, Status::NotRun("nginx is missing".to_owned()));
    let mut interrupted = measured();
    interrupted.runs[0].outcome = Outcome::Interrupted;
    let assessment = one("metric = 'p95'\nmax = 1000", &[interrupted]);
    assert_eq!(assessment.status, Status::NotRun("the run was interrupted".to_owned()));
}

#[test]
fn dead_server_exceeds_the_budget() {
    let mut file = measured();
    file.runs[0].outcome = Outcome::ServerGone { after_s: 2.0 };
    let assessment = one("metric = 'p95'\nmax = 1000", &[file]);
    assert!(assessment.over());
    assert_eq!(assessment.remarks, ["the server stopped answering after 2.0 s"]);
}

#[test]
fn scale_and_errors_are_remarks() {
    let mut file = measured();
    file.runs[0].parameters.scale = 0.1;
    file.runs[0].errors_count.insert("timeout".to_owned(), 3);
    let text = table(&[one("metric = 'p95'\nmax = 1000", &[file])]);
    assert!(text.contains("at scale 0.1: a\n3 errors: a"), "{text}");
}

#[test]
fn invalid_row_is_rejected() {
    for (rest, why) in [
        ("metric = 'p95'", "max or min is missing, or goal and better"),
        ("metric = 'p95'\ngoal = 1", "max or min is missing, or goal and better"),
        ("metric = 'p95'\nmax = 1\nmin = 1", "only one of max and min"),
        ("metric = 'p95'\nmax = 1\nbetter = 'lower'", "already determine better"),
        ("metric = 'p95'\nmax = 1\ngoal = 2", "looser"),
        ("metric = 'p95'\nmax = nan", "not a number"),
        ("metric = 'p96'\nmax = 1", "is not a metric"),
        ("metric = 'p95'\nmax = 1\nunit = 'ms'", "unknown field"),
    ] {
        let error = Budget::parse(&row(rest)).unwrap_err();
        assert!(error.contains(why), "{rest}: {error}");
    }
    let no_workload = "[[row]]\nid = 'a'\nwhat = 'a'\nsource = 'goal'\nmetric = 'p95'\nmax = 1\n";
    assert!(Budget::parse(no_workload).unwrap_err().contains("has no workload"));
    let twice = row("metric = 'p95'\nmax = 1").repeat(2);
    assert_eq!(Budget::parse(&twice).unwrap_err(), "two rows have the id \"a\"");
}

/// A result with all six operations of the roadmap, the slowest of which takes this long.
fn of_the_roadmap(validation_p95_ns: f64) -> ResultFile {
    let mut file = sample::file(vec![
        sample::run("tool_call_simple", "corelane"),
        sample::run("resource_read", "corelane"),
    ]);
    let stage = |name: &str, p95_ns: f64| {
        let times =
            StageTimes { p50_ns: 100.0, p95_ns, p99_ns: p95_ns, mean_ns: 100.0, count: 1600, batch: 16 };
        (name.to_owned(), times)
    };
    let stages = [
        stage("json_encode_small", 200.0),
        stage("json_decode_small", 300.0),
        stage("validate_20", validation_p95_ns),
        stage("registry_1000", 50.0),
    ];
    file.stages = Some(Stages { stages: stages.into(), about: [].into() });
    file
}

#[test]
fn roadmap_table_has_its_six_operations() {
    let rows = roadmap(&assess(&shipped(), &[of_the_roadmap(133.0)]));
    let operations: Vec<&str> = rows.iter().map(|row| row.operation).collect();
    assert_eq!(
        operations,
        [
            "JSON encode (small)",
            "JSON decode (small)",
            "Schema validation",
            "Tool call (simple)",
            "Resource read",
            "Registry lookup"
        ]
    );
    assert!(rows.iter().all(|row| row.status == Status::Within) && !roadmap_over(&rows), "{rows:?}");
    let budgets: Vec<String> = rows.iter().map(|row| row.budgets.join(" ")).collect();
    assert_eq!(
        budgets,
        [
            "500 µs 1.50 ms",
            "500 µs 1.50 ms",
            "2.00 ms 5.00 ms",
            "3.00 ms 12.0 ms",
            "1.00 ms 3.00 ms",
            "10.0 µs 100 µs"
        ]
    );
    let text = roadmap_table(&rows);
    assert!(text.contains("133 ns") && text.contains("in process"), "{text}");
}

#[test]
fn roadmap_row_over_a_budget_or_without_a_figure_fails() {
    let over = roadmap(&assess(&shipped(), &[of_the_roadmap(6e6)]));
    assert!(roadmap_over(&over) && over[2].status == Status::Over);
    assert!(roadmap_table(&over).contains("✗ OVER"));
    let nothing = roadmap(&assess(&shipped(), &[]));
    assert!(roadmap_over(&nothing) && nothing[0].current == "–");
}
