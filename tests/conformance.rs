//! The official conformance suite against `examples/everything`, as run by `scripts/conformance.sh`.

#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn official_conformance_suite_passes() {
    let mut script = Command::new("scripts/conformance.sh");
    let output = script.arg("--start").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    print!("{stdout}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "scripts/conformance.sh: {}", output.status);
    // A run without verdicts is not a success: each revision requires this number of scenarios, and has this number of
    // others.
    for (revision, required, more) in [("2025-11-25", 30, 3), ("2026-07-28", 37, 13)] {
        let of_revision = || stdout.lines().filter(|line| line.starts_with(revision));
        let passed = of_revision().filter(|line| line.contains(" \u{2713} ")).count();
        assert_eq!(passed, required + more, "scenarios of {revision} are missing");
        let failed = of_revision().filter(|line| line.contains(" \u{2717} ")).count();
        assert_eq!(failed, 0, "{revision}");
    }
}
