//! Runs against a real server: counts are exact in every form of output.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use serde_json::Value;
use support::{Fixture, run, run_measured, scratch};

/// Asserts that every request was answered.
fn assert_clean(run: &Value) {
    assert_eq!(run["outcome"], "complete");
    assert_eq!(run["errors_count"], serde_json::json!({}), "{}", run["first_error"]);
    let count = run["requests_count"].as_u64().unwrap();
    assert!(count > 0);
    assert_eq!(run["replies_count"], count);
    assert_eq!(run["latency"]["count"], count);
}

fn served(run: &Value, method: &str) -> u64 {
    let rows = run["server_latencies"].as_array().unwrap();
    rows.iter().find(|row| row["method"] == method).map_or(0, |row| row["count"].as_u64().unwrap())
}

#[test]
fn open_loop_follows_its_schedule_in_both_revisions() {
    let server = Fixture::start();
    for era in ["2026-07-28", "2025-11-25"] {
        let arguments = ["run", &server.url, "--era", era, "--rate", "400", "-d", "2s", "-c", "8"];
        let (result, output) = run_measured(&format!("open-{era}"), &arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_clean(&result);
        assert_eq!(result["requests_count"], 800);
        assert_eq!(result["parameters"]["era"], era);
        assert_eq!(result["generator"]["schedule_lag"]["count"], 800);
        // The server also counts the warm-up and the first replies.
        assert!(served(&result, "tools/call") >= 1200, "{}", result["server_latencies"]);
        assert_eq!(result["server"]["limits"]["body_bytes_max"], 4_194_304.0);
        assert_eq!(result["server_process"]["pid"], server.child.id());
    }
}

#[test]
fn closed_loop_sends_the_next_request_after_a_reply() {
    let server = Fixture::start();
    for pipeline in ["1", "4"] {
        let arguments = ["run", &server.url, "--closed", "-d", "1s", "-c", "3", "--pipeline", pipeline];
        let (result, output) = run_measured(&format!("closed-{pipeline}"), &arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_clean(&result);
        assert!(output.out.contains("A closed loop hides stalls"));
    }
}

#[test]
fn run_has_the_server_name_and_consistent_counts() {
    let server = Fixture::start();
    for (name, expected) in [(&[][..], "corelane"), (&["--name", "mine"], "mine")] {
        let mut arguments =
            vec!["run", &server.url, "--rate", "300", "-d", "1s", "--header", "X-A: b", "--seed", "7"];
        arguments.extend(name);
        let (result, output) = run_measured(&format!("name-{expected}"), &arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(result["contestant"], expected);
        assert_eq!(result["workload"], "tools/call echo");
        let parts = result["intervals"].as_array().unwrap();
        assert!(parts.len() >= 50, "{} intervals", parts.len());
        let sum = |pointer: &str| -> u64 {
            parts.iter().map(|part| part.pointer(pointer).unwrap().as_u64().unwrap()).sum()
        };
        assert_eq!(sum("/replies_count"), 300);
        assert_eq!(sum("/latency/count"), result["latency"]["count"].as_u64().unwrap());
        assert!(result["generator"]["busy_percent"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn mix_follows_its_weights_and_echoes_are_checked() {
    let server = Fixture::start();
    let (result, output) = run_measured(
        "mix",
        &[
            "run",
            &server.url,
            "--rate",
            "1000",
            "-d",
            "2s",
            "--poisson",
            "--tool",
            r#"echo={"message":"{{random:9}} {{counter}} {{pad:20}} \"=\""}=70"#,
            "--tool",
            r#"add={"a":{{counter}},"b":1}=20"#,
            "--list=10",
        ],
    );
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_clean(&result);
    let share = |index: usize| {
        result["requests"][index]["replies_count"].as_f64().unwrap()
            / result["replies_count"].as_f64().unwrap()
    };
    for (index, weight) in [0.7, 0.2, 0.1].into_iter().enumerate() {
        assert!((share(index) - weight).abs() < 0.05, "{index}: {}", share(index));
    }
}

#[test]
fn files_of_every_kind_are_written() {
    let server = Fixture::start();
    let home = scratch("files");
    let path = |name: &str| home.join("made/on/the/way").join(name).to_str().unwrap().to_owned();
    let files =
        ["json", "html", "hgrm", "hlog"].map(|kind| (format!("--{kind}"), path(&format!("run.{kind}"))));
    let mut arguments = vec!["run", &server.url, "--rate", "200", "-d", "1s", "--slo", "p99<10s"];
    arguments.extend(files.iter().flat_map(|(flag, path)| [flag.as_str(), path.as_str()]));
    let output = run(&arguments);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("p99<10s"), "{}", output.out);
    let read = |index: usize| std::fs::read_to_string(&files[index].1).unwrap();
    assert!(read(1).contains("<svg") && !read(1).contains("<script"));
    assert!(read(2).contains("#[Mean"));
    assert!(read(3).starts_with('#'));
    // The published schema, the printed schema and the written result must agree.
    let published = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/result.schema.json");
    let published = std::fs::read_to_string(published).unwrap();
    assert_eq!(
        run(&["report", "--schema"]).out,
        published,
        "corelane-loadgen report --schema > docs/result.schema.json"
    );
    let schema: Value = serde_json::from_str(&published).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut result: Value = serde_json::from_str(&read(0)).unwrap();
    assert!(validator.is_valid(&result), "{:?}", validator.iter_errors(&result).next().unwrap().to_string());
    result["runs"][0]["latency"]["p50_us"] = "fast".into();
    assert!(!validator.is_valid(&result));
    // A page can be generated from the result again.
    let again = path("again.html");
    assert_eq!(run(&["report", &files[0].1, "--html", &again]).code, Some(0));
    assert!(std::fs::read_to_string(again).unwrap().contains("<svg"));
}

#[test]
fn missed_demand_exits_with_1() {
    let server = Fixture::start();
    let run = |demand| run(&["run", &server.url, "--rate", "100", "-d", "1s", "--slo", demand]);
    assert_eq!(run("p50<1ns").code, Some(1));
    assert_eq!(run("throughput>1000000").code, Some(1));
    assert_eq!(run("throughput>50").code, Some(0));
}

#[test]
fn idle_connections_are_held_and_counted() {
    let server = Fixture::start();
    let (result, output) =
        run_measured("idle", &["idle", &server.url, "-c", "2000", "--rate", "0.1", "-d", "2s"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(result["figures"]["connections_live"], 2000.0);
    assert!(result["figures"]["memory_per_connection_bytes"].as_f64().unwrap() < 8192.0);
    assert!(result["figures"]["throughput_beside_idle_ratio"].as_f64().unwrap() > 0.0);
}

#[test]
fn storm_opens_a_connection_for_each_request() {
    let server = Fixture::start();
    for era in ["2026-07-28", "2025-11-25"] {
        let arguments = ["storm", &server.url, "--era", era, "-c", "4", "-d", "1s"];
        let (result, output) = run_measured(&format!("storm-{era}"), &arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_clean(&result);
    }
}

#[test]
fn search_finds_and_confirms_a_rate() {
    let server = Fixture::start();
    let home = scratch("saturate");
    let json = home.join("search.json");
    let arguments = ["saturate", &server.url, "--slo", "p50<1s", "--rate-max", "300", "--trial", "500ms"];
    let output = run(&[&arguments[..], &["--json", json.to_str().unwrap()]].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("p50<1s hold at 300 requests/s"), "{}", output.out);
    let none = run(&["saturate", &server.url, "--slo", "p50<1ns", "--rate-max", "64", "--trial", "200ms"]);
    assert_eq!(none.code, Some(1), "{none:?}");
}

#[test]
fn short_soak_reports_growth() {
    let server = Fixture::start();
    let (result, output) = run_measured("soak", &["soak", &server.url, "--rate", "300", "-d", "4s"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    for figure in ["memory_growth_ratio", "throughput_steady_ratio", "latency_p99_growth_ratio"] {
        assert!(result["figures"][figure].as_f64().unwrap() > 0.0, "{figure}");
    }
}

#[test]
fn named_workloads_run_at_their_scale() {
    let server = Fixture::start();
    for workload in ["schema_complex", "json_large", "async_100x5ms", "burst", "ping_beside_slow_tools"] {
        let arguments = ["run", &server.url, "--workload", workload, "--scale", "0.02", "-d", "3s"];
        let (result, output) = run_measured(workload, &arguments);
        assert_eq!(output.code, Some(0), "{workload}: {output:?}");
        assert_eq!(result["workload"], workload);
        assert_eq!(result["parameters"]["scale"], 0.02);
        assert_clean(&result);
    }
}
