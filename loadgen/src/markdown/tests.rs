use super::*;
use crate::{
    result::{Instructions, NotRun, Outcome, Pacing, ProcessSample, Run, ServerProcess, StageTimes, Stages},
    sample, units,
};

fn budget() -> Budget {
    Budget::parse(include_str!("../../../bench/budget.toml")).unwrap()
}

fn open(mut run: Run, rate_per_s: f64) -> Run {
    run.parameters.pacing = Pacing::OpenConstant { rate_per_s };
    run.latency_uncorrected.p99_us = 333.0;
    run
}

fn with_memory(mut run: Run, resident_bytes: u64) -> Run {
    let samples = vec![ProcessSample { at_s: 1.0, cpu_percent: 99.0, resident_bytes }];
    run.server_process =
        Some(ServerProcess { pid: 1, cpu_percent: 99.0, context_switches_count: 0, samples });
    run
}

/// A result with one run of each kind.
fn result() -> ResultFile {
    let mut nginx = sample::run("static_closed_64", "nginx-static");
    nginx.parameters.era = "none".to_owned();
    nginx.throughput_per_s = 160_000.0;
    nginx.generator.bottleneck = Some("its thread was busy 99 % of the time".to_owned());
    let mut rmcp = sample::run("canonical_closed_64", "rmcp");
    rmcp.throughput_per_s = 35_000.0;
    let mut idle = open(sample::run("idle_50k", "corelane"), 500.0);
    idle.parameters.connections_count = 50_000;
    idle.parameters.scale = 0.5;
    idle.figures.insert("memory_per_connection_bytes".to_owned(), 1_500.0);
    idle.figures.insert("connections_live".to_owned(), 25_000.0);
    let mut sustained = open(sample::run("sustained_100k", "corelane"), 100_000.0);
    sustained.latency.p99_us = 45_678.0;
    let mut broken = sample::run("discover", "corelane");
    broken.errors_count.insert("wrong_reply".to_owned(), 2);
    broken.first_error = Some("a | b\nis no reply".to_owned());
    let mut file = sample::file(vec![
        with_memory(sample::run("canonical_closed_64", "corelane"), 30 << 20),
        nginx,
        rmcp,
        idle,
        sustained,
        open(sample::run("peers_open", "corelane"), 20_000.0),
        open(sample::run("peers_open", "rmcp"), 20_000.0),
        broken,
    ]);
    file.command_line =
        ["/somewhere/target/release/corelane-loadgen", "baseline", "--output=/tmp/x/now.json"]
            .map(str::to_owned)
            .to_vec();
    file.not_run.push(NotRun { workload: "burst".to_owned(), reason: "too few cores".to_owned() });
    file.instructions = Some(Instructions {
        counts: [("canonical".to_owned(), 14_506)].into(),
        allocations: [("canonical".to_owned(), 0)].into(),
        about: [].into(),
    });
    file.stages = Some(Stages {
        stages: [(
            "validate_20".to_owned(),
            StageTimes { p50_ns: 812.0, p95_ns: 977.0, p99_ns: 1_800.0, mean_ns: 830.0, count: 9, batch: 1 },
        )]
        .into(),
        about: [].into(),
    });
    file
}

/// The text of one section.
fn part<'page>(page: &'page str, head: &str) -> &'page str {
    let start = page.find(head).unwrap_or_else(|| panic!("no {head} in\n{page}"));
    let body = &page[start..];
    body[2..].find("\n## ").map_or(body, |end| &body[..end + 2])
}

fn assert_says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
}

#[test]
fn page_header_contains_command_machine_and_commit() {
    let page = performance(&[result()], &budget());
    let header = page.split("\n## ").next().unwrap();
    assert_says(
        header,
        &[COMMAND, "A Processor, 2 cores", "`corelane-loadgen baseline --output=now.json`", "0367b34"],
    );
    assert!(!page.contains("/somewhere") && !page.contains("/tmp"), "{page}");
}

#[test]
fn budget_section_lists_exceeded_rows_with_their_values() {
    let page = performance(&[result()], &budget());
    let section = part(&page, "## Budgets and goals");
    let measured = units::latency(45_678.0);
    assert_says(
        section,
        &[
            "What falls short",
            &format!("- P99 at 100,000 requests a second: {measured}; the budget is ≤"),
            &format!("| {measured} | **✗ OVER** |"),
            "goal ✗ falls short",
            "| encodings of one update to 1,000 subscribers | *≤ 1* | – | no result has it |",
            "† idle connections live at once: at scale 0.5",
        ],
    );
}

#[test]
fn budget_section_without_misses_lists_nothing() {
    let mut fast = sample::run("canonical_closed_64", "corelane");
    fast.throughput_per_s = 250_000.0;
    let page = performance(&[sample::file(vec![fast])], &budget());
    let section = part(&page, "## Budgets and goals");
    assert!(section.contains("nothing falls short") && !section.contains('✗'), "{section}");
}

#[test]
fn peers_of_one_result_share_a_table() {
    let page = performance(&[result()], &budget());
    let section = part(&page, "## Beside other servers");
    assert_says(
        section,
        &[
            "### 64 connections, closed loop",
            &format!(
                "| **corelane**, 2026-07-28 | {} | 0.88 × | 1.00 × | {} |",
                units::count(140_000.0),
                units::bytes(30 << 20)
            ),
            &format!("| rmcp, 2026-07-28 | {} | 0.22 × | 0.25 × | – |", units::count(35_000.0)),
            "nginx-static, fixed reply †",
            "† The generator was the limit",
            "20,000 requests a second for each, open loop",
        ],
    );
}

#[test]
fn latency_section_of_an_open_loop_has_both_latencies() {
    let page = performance(&[result()], &budget());
    let section = part(&page, "## Latency by workload");
    assert_says(
        section,
        &[
            "`sustained_100k`",
            "100,000/s, even",
            &units::latency(45_678.0),
            "*uncorrected*",
            &units::latency(333.0),
        ],
    );
    let closed = section.lines().filter(|line| line.contains("canonical_closed_64")).count();
    assert_eq!(closed, 2, "one line of its load, one of its latencies: {section}");
    assert_eq!(section.matches("*uncorrected*").count(), 3 + 1, "{section}");
}

#[test]
fn remaining_sections_contain_their_values() {
    let page = performance(&[result()], &budget());
    assert_says(part(&page, "## Instructions"), &["| `canonical` | 14,506 | 0 |"]);
    assert_says(part(&page, "## Single stages"), &["| `validate_20` | 812 ns | 977 ns |"]);
    assert_says(part(&page, "## 50,000 idle"), &["Run at scale 0.5", "25,000", &units::bytes(1_500)]);
    assert_says(
        part(&page, "## What these figures do not show"),
        &[
            "| `burst` | too few cores |",
            "| static_closed_64 (nginx-static) | its thread was busy 99 % of the time |",
            "| discover | 2 errors; the first: a \\| b is no reply |",
        ],
    );
}

#[test]
fn every_table_has_equal_rows_of_at_most_six_columns() {
    let page = performance(&[result()], &budget());
    let columns = |line: &str| line.replace("\\|", "").matches('|').count() - 1;
    let mut above: Option<usize> = None;
    for line in page.lines() {
        let here = line.starts_with('|').then(|| columns(line));
        if let (Some(above), Some(here)) = (above, here) {
            assert_eq!(above, here, "{line}");
        }
        assert!(here.is_none_or(|columns| columns <= 6), "{line}");
        above = here;
    }
}

#[test]
fn page_without_results_is_complete() {
    let page = performance(&[], &budget());
    assert_says(&page, &["There are no results yet", "No result has more than one server", "was not run"]);
    let mut gone = result();
    gone.runs.truncate(1);
    gone.runs[0].outcome = Outcome::ServerGone { after_s: 1.5 };
    let page = performance(&[gone], &budget());
    assert_says(&page, &["the server stopped answering after 1.5 s; the budget is ≥", "✗ OVER"]);
}

#[test]
fn gains_of_an_ablation_are_a_section_and_no_peers() {
    let run = |contestant: &str, per_core_second: f64| {
        let mut run = sample::run("canonical_closed_64", contestant);
        run.figures.insert("requests_per_core_second".to_owned(), per_core_second);
        run
    };
    let round = || [run("corelane-all-on", 100.0), run("corelane-without-zero_copy", 125.0)];
    let file = sample::file((0..3).flat_map(|_| round()).collect());
    let page = performance(&[file], &budget());
    let section = part(&page, "## What each optimisation gains");
    assert_says(
        section,
        &[
            "| `zero_copy` | `canonical_closed_64`, req/core-s | 100/s | 125/s | 0.80 × | 0.80–0.80 × |",
            "- worse when on: all rows",
            "Commit 0367b34",
        ],
    );
    assert!(!page.contains("| corelane-all-on, 2026-07-28"), "{page}");
}
