//! The HdrHistogram project's Python library reads the written files and finds the same values.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{path::Path, process::Command};

use serde_json::Value;
use support::{Fixture, run, scratch};

#[test]
fn hdrhistogram_library_reads_the_same_values() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hdrhistogram");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hdrhistogram-venv");
    let python = venv.join("bin/python");
    if !venv.join("complete").exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
        assert!(made.unwrap().success(), "python3-venv is needed");
        let requirements = source.join("requirements.txt");
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        assert!(Command::new(&python).args(install).arg(requirements).status().unwrap().success());
        std::fs::write(venv.join("complete"), "").unwrap();
    }
    let server = Fixture::start();
    let home = scratch("hdrhistogram");
    let path = |name: &str| home.join(name).to_str().unwrap().to_owned();
    let (json, hlog, hgrm, base64) =
        (path("run.json"), path("run.hlog"), path("run.hgrm"), path("run.base64"));
    let arguments = ["run", &server.url, "--rate", "500", "-d", "3s", "--poisson"];
    let output = run(&[&arguments[..], &["--json", &json, "--hlog", &hlog, "--hgrm", &hgrm]].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let latency = &file["runs"][0]["latency"];
    std::fs::write(&base64, latency["histogram_ns"].as_str().unwrap()).unwrap();
    let output =
        Command::new(&python).arg(source.join("check.py")).args([&hlog, &base64, &hgrm]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (name, theirs) in
        [("p50_us", "p50_ns"), ("p90_us", "p90_ns"), ("p99_us", "p99_ns"), ("max_us", "max_ns")]
    {
        let (ours, theirs) =
            (latency[name].as_f64().unwrap() * 1e3, found["histogram"][theirs].as_f64().unwrap());
        assert!((ours - theirs).abs() < 1.0, "{name}: {ours} and {theirs}");
    }
    assert_eq!(found["histogram"]["count"], latency["count"]);
    assert_eq!(found["hgrm"]["rows_unlike"].as_array().unwrap().len(), 0, "{}", found["hgrm"]);
    // The log contains the replies of the measured time; the last ones may arrive after it.
    let logged = found["hlog"]["count"].as_u64().unwrap();
    assert!(logged.abs_diff(latency["count"].as_u64().unwrap()) <= 5, "{logged}");
    assert_eq!(
        found["hlog"]["intervals"].as_array().unwrap().len(),
        file["runs"][0]["intervals"].as_array().unwrap().len()
    );
}
