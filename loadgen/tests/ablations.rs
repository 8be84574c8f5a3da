//! Ablations against real servers, with flags switched by their configuration.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{run, scratch};

const FLAGS: [&str; 6] =
    ["schema_cache", "json_backend", "async_tools", "batch_notifications", "zero_copy", "server_pooling"];

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_flag_has_rows_in_table_result_image_and_page() {
    let home = scratch("ablate");
    let path = |name: &str| home.join(name).to_str().unwrap().to_owned();
    let (json, svg, page) = (path("ablation.json"), path("ablation.svg"), path("PERFORMANCE.md"));
    let arguments = ["ablate", "--rounds", "1", "--duration", "500ms", "--scale", "0.05"];
    let output = run(&[&arguments[..], &["-o", &json, "--plot", &svg]].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let rows = |part: &str| output.out.lines().filter(|line| line.starts_with(&format!("{part} "))).count();
    for flag in FLAGS {
        let expected = match flag {
            // The canonical workload, its own, and the validation alone.
            "schema_cache" => 3,
            // The canonical workload has one shard.
            "server_pooling" => 1,
            _ => 2,
        };
        assert_eq!(rows(flag), expected, "{flag}: {}", output.out);
    }
    for part in ["all flags", "observability", "profile"] {
        assert_eq!(rows(part), 1, "{part}: {}", output.out);
    }
    for words in ["The remainder of", "at scale 0.05: all rows", "Commit ", "2 shards"] {
        assert!(output.out.contains(words), "{words}: {}", output.out);
    }

    let file = read(Path::new(&json));
    let runs = file["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1 + 5 + 1 + 1 + 1 + 6 * 2);
    for run in runs {
        let flags = run["server"]["flags"].as_object().unwrap();
        let off: Vec<&str> = flags
            .iter()
            .filter(|(_, is_on)| **is_on == json!(false))
            .map(|(flag, _)| flag.as_str())
            .collect();
        match run["contestant"].as_str().unwrap() {
            "corelane-all-on" | "corelane-unobserved" | "corelane-profiled" => {
                assert!(off.is_empty(), "{off:?}")
            }
            "corelane-all-off" => assert_eq!(off.len(), FLAGS.len()),
            other => assert_eq!([other.strip_prefix("corelane-without-").unwrap()], off.as_slice()),
        }
        let unobserved = run["contestant"] == "corelane-unobserved";
        let canonical = run["workload"] == "canonical_closed_64";
        assert_eq!(run.get("server_latencies").is_none() && canonical, unobserved, "{}", run["contestant"]);
    }

    let image = std::fs::read_to_string(&svg).unwrap();
    assert!(image.starts_with("<svg xmlns=") && image.matches("<circle").count() == 15, "{image}");
    let budget = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/budget.toml");
    let output = run(&["report", &json, "--markdown", &page, "--budget", budget]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("## What each optimisation gains") && page.contains("| `zero_copy` |"), "{page}");
    assert!(page.contains("No result has more than one server."), "its servers are no peers: {page}");

    gate_fails_when_a_gain_is_too_small(&json, budget);
}

/// The budgets of an ablation: a validation that is hardly faster with the cache is over its budget.
fn gate_fails_when_a_gain_is_too_small(json: &str, budget: &str) {
    let judge = |path: &str| run(&["budget", path, "--budget", budget]);
    let within = judge(json);
    assert_eq!(within.code, Some(0), "{within:?}");
    let mut file = read(Path::new(json));
    for run in file["runs"].as_array_mut().unwrap() {
        if let Some(figure) = run.pointer_mut("/figures/validation_p50_ns") {
            *figure = json!(1000.0);
        }
    }
    let path = Path::new(json).with_file_name("slow.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let over = judge(path.to_str().unwrap());
    assert_eq!(over.code, Some(1), "{over:?}");
    let row = over.out.lines().find(|line| line.starts_with("schema_cache")).unwrap();
    assert!(row.contains("✗ OVER"), "{row}");
}

#[test]
fn planted_delay_is_a_gain_of_its_flag_only() {
    // On a machine that others use, a measurement may fail: three in a row mean that the delay is not measured.
    let mut outputs = (0..3).map(|_| run(&["ablate", "--self-test", "--duration", "1s"]));
    let output = outputs.find(|output| output.code != Some(1)).expect("one self-test in three passes");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("planted 2.0 ms"), "{}", output.out);
}

#[test]
fn unusable_arguments_of_an_ablation_are_rejected() {
    for (arguments, words) in [
        (&["ablate", "--only", "zerocopy"][..], "did you mean zero_copy?"),
        (&["ablate", "--server-core", "4000"], "no core 4000"),
        (&["ablate", "--rounds", "0"], "1..=100"),
        (&["ablate", "-o", "/proc/none/x.json"], "cannot be written"),
    ] {
        let output = run(arguments);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.err.contains(words), "{}", output.err);
    }
}
