//! Every gate of the command line, passed and failed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{
    Fixture, MEASURING, Stub, StubReply, echo_reply, loadgen, run, scratch, standard_reply, wait_for_exit,
    wait_for_line,
};

/// Writes a result with three repeats of a run against a real server.
fn result(home: &Path) -> PathBuf {
    let server = Fixture::start();
    let path = home.join("baseline.json");
    let output = run(&[
        "baseline",
        "--url",
        &server.url,
        "--only",
        "canonical_closed_8",
        "--repeats",
        "3",
        "--duration",
        "500ms",
        "--output",
        path.to_str().unwrap(),
    ]);
    assert_eq!(output.code, Some(0), "{output:?}");
    path
}

fn changed(from: &Path, name: &str, change: impl Fn(&mut Value)) -> String {
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(from).unwrap()).unwrap();
    change(&mut file);
    let path = from.with_file_name(name);
    std::fs::write(&path, file.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Multiplies a value of every run by a factor.
fn scaled(file: &mut Value, pointer: &str, factor: f64) {
    for run in file["runs"].as_array_mut().unwrap() {
        let figure = run.pointer_mut(pointer).unwrap();
        *figure = json!(figure.as_f64().unwrap() * factor);
    }
}

#[test]
fn comparison_exits_with_0_1_or_2() {
    let home = scratch("compare");
    let path = result(&home);
    // Noise of the machine is excluded: the same run three times, without a bottleneck of the generator.
    let baseline = changed(&path, "steady.json", |file| {
        let mut run = file["runs"][0].clone();
        run["generator"].as_object_mut().unwrap().remove("bottleneck");
        file["runs"] = json!([run, run, run]);
    });
    let baseline = Path::new(&baseline);
    let current = baseline.to_str().unwrap();
    let compare = |other: &str| run(&["compare", other, current]);
    assert_eq!(compare(current).code, Some(0), "{:?}", compare(current));
    let slower = changed(baseline, "slower.json", |file| scaled(file, "/latency/p99_us", 1.3));
    let output = compare(&slower);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.out.contains("REGRESSED"), "{}", output.out);
    let fewer = changed(baseline, "fewer.json", |file| scaled(file, "/throughput_per_s", 0.8));
    assert_eq!(compare(&fewer).code, Some(1));
    // An improvement is not a regression, and a wider threshold accepts more.
    let faster = changed(baseline, "faster.json", |file| scaled(file, "/latency/p99_us", 0.5));
    assert_eq!(compare(&faster).code, Some(0));
    assert_eq!(run(&["compare", &slower, current, "--threshold", "0.5"]).code, Some(0));
    let elsewhere = changed(baseline, "elsewhere.json", |file| {
        file["environment"]["cpu_model"] = json!("another");
    });
    let otherwise = changed(baseline, "otherwise.json", |file| {
        for run in file["runs"].as_array_mut().unwrap() {
            run["parameters"]["connections_count"] = json!(9);
        }
    });
    let switched = changed(baseline, "switched.json", |file| {
        for run in file["runs"].as_array_mut().unwrap() {
            assert_eq!(run["server"]["flags"]["zero_copy"], json!(true));
            run["server"]["flags"]["zero_copy"] = json!(false);
        }
    });
    let broken = changed(baseline, "broken.json", |file| file["runs"][0]["latency"] = json!("fast"));
    let foreign = changed(baseline, "foreign.json", |file| file["schema"] = json!("another-1"));
    for (path, words) in [
        (elsewhere, "cannot be compared"),
        (otherwise, "cannot be compared"),
        (switched, "zero_copy is off, and on in the baseline"),
        (broken, "not a usable result"),
        (foreign, "not a usable result"),
    ] {
        let output = compare(&path);
        assert_eq!(output.code, Some(2), "{path}: {output:?}");
        assert!(output.err.contains(words) && output.err.lines().count() == 1, "{path}: {}", output.err);
    }
}

#[test]
fn exceeded_budget_exits_with_1() {
    let home = scratch("budget");
    let path = result(&home);
    let budget = home.join("budget.toml");
    let judge = |max: f64| {
        let row = format!(
            "[[row]]\nid = \"p99\"\nwhat = \"p99\"\nsource = \"goal\"\nworkload = \"canonical_closed_8\"\n\
             metric = \"p99\"\nmax = {max:.1}\n"
        );
        std::fs::write(&budget, row).unwrap();
        run(&["budget", path.to_str().unwrap(), "--budget", budget.to_str().unwrap()])
    };
    let within = judge(1e9);
    assert_eq!(within.code, Some(0), "{within:?}");
    assert!(within.out.contains('✓'));
    let over = judge(0.1);
    assert_eq!(over.code, Some(1), "{over:?}");
    assert!(over.out.contains("✗ OVER"), "{}", over.out);
    std::fs::write(&budget, "[[row]]\nid = 5\n").unwrap();
    let broken = run(&["budget", path.to_str().unwrap(), "--budget", budget.to_str().unwrap()]);
    assert_eq!(broken.code, Some(2), "{broken:?}");
}

#[test]
fn baseline_is_kept_when_a_workload_fails() {
    let home = scratch("keep");
    let kept = home.join("kept.json");
    std::fs::write(&kept, "the old one").unwrap();
    let stub = Stub::start(|request, number| {
        standard_reply(request).unwrap_or_else(|| {
            if number % 7 == 6 { StubReply::Close } else { StubReply::Json(echo_reply(request)) }
        })
    });
    let output = run(&[
        "baseline",
        "--url",
        &stub.url(),
        "--only",
        "canonical_closed_8",
        "--repeats",
        "1",
        "--duration",
        "500ms",
        "--output",
        kept.to_str().unwrap(),
    ]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.out.contains("FAILED: canonical_closed_8"), "{}", output.out);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "the old one");
}

#[test]
fn regression_compares_with_the_baseline() {
    let home = scratch("regression");
    let path = result(&home);
    let server = Fixture::start();
    let common = ["--url", &server.url, "--repeats", "3", "--duration", "500ms"];
    let against = |baseline: &str| {
        let arguments = ["regression", "--baseline", baseline, "--threshold", "0.9"];
        run(&[&arguments[..], &common[..]].concat())
    };
    let fast = changed(&path, "fast.json", |file| {
        for pointer in ["/latency/p50_us", "/latency/p95_us", "/latency/p99_us"] {
            scaled(file, pointer, 0.01);
        }
    });
    let output = against(&fast);
    // A generator at its limit, as in an unoptimized build, is not compared: then the baseline is not usable.
    assert!(matches!(output.code, Some(1 | 2)), "{output:?}");
    assert!(output.out.contains("REGRESSED") || output.out.contains("generator"), "{output:?}");
}

#[test]
fn self_test_measures_the_planted_delay() {
    // On a machine that others use, a measurement may fail: three in a row mean that the delay is not measured.
    let mut outputs = (0..3).map(|_| run(&["regression", "--self-test"]));
    let output = outputs.find(|output| output.code != Some(1)).expect("one self-test in three passes");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("planted 300 µs"), "{}", output.out);
}

#[test]
fn performance_markdown_is_generated_from_results() {
    let home = scratch("markdown");
    let path = result(&home);
    let page = home.join("PERFORMANCE.md");
    let budget = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/budget.toml");
    let output =
        run(&["report", path.to_str().unwrap(), "--markdown", page.to_str().unwrap(), "--budget", budget]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("canonical_closed_8") && page.contains("not run"), "{page}");
}

#[test]
fn unusable_baseline_is_rejected_with_the_reason() {
    let home = scratch("unusable");
    let kept = home.join("kept.json");
    std::fs::write(&kept, "the old one").unwrap();
    let server = Fixture::start();
    let arguments =
        ["baseline", "--url", &server.url, "--only", "discover", "--repeats", "1", "--scale", "0.05"];
    let options = ["--duration", "5s", "--output", kept.to_str().unwrap()];
    let mut child = loadgen(&[&arguments[..], &options].concat()).spawn().unwrap();
    wait_for_line(&mut child, &["discover: ", MEASURING]);
    // The generator is stopped while requests are due. If its connection was free, it could have sent them. A stop
    // while it waits for a reply has no effect, so there are several.
    let id = child.id().to_string();
    let signal = |name: &str| std::process::Command::new("kill").args([name, &id]).status().unwrap();
    for _ in 0..8 {
        signal("-STOP");
        std::thread::sleep(std::time::Duration::from_millis(200));
        signal("-CONT");
        std::thread::sleep(std::time::Duration::from_millis(53));
    }
    let output = wait_for_exit(child, std::time::Duration::from_secs(60));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.out.contains("FAILED: discover: the generator was the limit: "), "{}", output.out);
    assert!(output.out.contains("was not changed"), "{}", output.out);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "the old one");
}

#[test]
fn roadmap_table_is_measured_and_its_gate_fails() {
    let budget = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/budget.toml");
    let measured = run(&["budget", "--roadmap", "--budget", budget, "--duration", "500ms"]);
    // An unoptimized server on a busy machine may be over the budget of a call.
    assert!(matches!(measured.code, Some(0 | 1)), "{measured:?}");
    let operations = [
        "JSON encode (small)",
        "JSON decode (small)",
        "Schema validation",
        "Tool call (simple)",
        "Resource read",
        "Registry lookup",
    ];
    for operation in operations {
        let row = measured.out.lines().find(|line| line.starts_with(operation));
        let row = row.unwrap_or_else(|| panic!("no {operation}: {measured:?}"));
        assert!((row.contains('✓') || row.contains("✗ OVER")) && !row.contains('–'), "{row}");
    }
    assert_eq!(measured.code == Some(1), measured.out.contains("✗ OVER"), "{}", measured.out);
    assert!(measured.out.contains("in process"), "{}", measured.out);

    // A result without the six operations does not pass.
    let path = result(&scratch("roadmap"));
    let arguments = ["budget", "--roadmap", path.to_str().unwrap(), "--budget", budget];
    let output = run(&arguments);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.out.contains("– not run") && output.out.contains("no result has it"), "{}", output.out);
    let stage = json!({"p50_ns": 1e3, "p95_ns": 6e6, "p99_ns": 6e6, "mean_ns": 1e3, "count": 1, "batch": 1});
    let slow = changed(&path, "slow.json", |file| file["stages"] = json!({"stages": {"validate_20": stage}}));
    let output = run(&["budget", "--roadmap", &slow, "--budget", budget]);
    assert_eq!(output.code, Some(1), "{output:?}");
    let row = output.out.lines().find(|line| line.starts_with("Schema validation")).unwrap();
    assert!(row.contains("6.00 ms") && row.contains("✗ OVER"), "{row}");
}
