//! The official conformance suite against `examples/everything`, as `scripts/conformance.sh` runs it.

#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn the_official_suite_finds_nothing_that_is_not_expected() {
    let mut script = Command::new("scripts/conformance.sh");
    let output = script.arg("--start").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "scripts/conformance.sh: {}", output.status);
    // A run that judged nothing is no success.
    for revision in ["2025-11-25", "2026-07-28"] {
        let passed = said.lines().filter(|line| line.starts_with(revision) && line.contains(": Passed: "));
        assert!(passed.count() >= 11, "scenarios of {revision} are missing");
    }
}
