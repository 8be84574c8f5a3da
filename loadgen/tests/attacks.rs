//! Attacks in a bounded form: the bystander is served, and a server that refuses it is reported.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use serde_json::Value;
use support::{run, scratch};

/// A bar on the ratio that no machine is too slow for: the tests check refusals.
const ANY_RATIO: [&str; 2] = ["--ratio-max", "1000000"];

/// The columns of an attack's row: p99 attacked, p99 control, ratio, refusals, requests, log, verdict.
fn row<'a>(out: &'a str, attack: &str) -> Vec<&'a str> {
    let line =
        out.lines().find(|line| line.starts_with(attack)).unwrap_or_else(|| panic!("no {attack}: {out}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).skip(1).collect()
}

#[test]
fn every_attack_leaves_the_bystander_served() {
    let path = scratch("attacks").join("runs.json");
    let arguments = ["attack", "all", "--rounds", "1", "--duration", "700ms", "--rate", "100"];
    let json = ["--json", path.to_str().unwrap()];
    let output = run(&[&arguments[..], &ANY_RATIO, &json].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let runs = file["runs"].as_array().unwrap();
    let list = run(&["attack", "list"]).out;
    assert_eq!(runs.len(), 2 * list.lines().count(), "attacked and control");
    for run in runs {
        assert_eq!(run["errors_count"], serde_json::json!({}), "{} {}", run["workload"], run["first_error"]);
        assert!(run["replies_count"].as_u64().unwrap() > 0);
        assert!(run["figures"]["attack_requests_per_s"].as_f64().unwrap() > 0.0, "{}", run["workload"]);
    }
    for line in list.lines() {
        let attack = line.split(' ').next().unwrap();
        assert_eq!(row(&output.out, attack).last(), Some(&"✓"), "{}", output.out);
    }
}

/// Without shares of clients the attacker fills the table of tasks.
#[test]
fn refused_bystander_exits_with_1() {
    let config = scratch("attacks-refused").join("corelane.toml");
    std::fs::write(&config, "[limits]\npeer_share_percent = 100\ntasks_max = 16\n").unwrap();
    let arguments = ["attack", "task_table", "--rounds", "1", "--duration", "1s", "--rate", "100"];
    let output = run(&[&arguments[..], &ANY_RATIO, &["--config", config.to_str().unwrap()]].concat());
    assert_eq!(output.code, Some(1), "{output:?}");
    let row = row(&output.out, "task_table");
    assert!(row[3].parse::<u32>().unwrap() > 0 && row.last() == Some(&"✗"), "{}", output.out);
    assert!(output.out.contains("first error of the bystander"), "{}", output.out);
}

#[test]
fn ratio_above_the_bar_exits_with_1() {
    let arguments = ["attack", "panics", "--rounds", "1", "--duration", "500ms", "--ratio-max", "0.000001"];
    let output = run(&arguments);
    assert_eq!(output.code, Some(1), "{output:?}");
    let row = row(&output.out, "panics");
    assert_eq!((row[3], row.last()), ("0", Some(&"✗")), "{}", output.out);
}

#[test]
fn malformed_requests_leave_no_descriptor_and_no_memory() {
    let output = run(&["attack", "malformed", "--requests", "3000", "--duration", "500ms", "--rate", "100"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("process") && output.out.contains("lives ✓"), "{}", output.out);
}

#[test]
fn unusable_arguments_of_attacks_are_one_line() {
    for (arguments, words) in [
        (&["attack", "panic"][..], "no attack \"panic\"; the nearest name is panics,"),
        (&["attack", "panics", "--memory-group", "64MiB"], "--minutes or --requests"),
        (&["attack", "panics", "--server-core", "4000"], "core"),
    ] {
        let output = run(arguments);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.err.contains(words) && output.err.lines().count() == 1, "{}", output.err);
    }
}
