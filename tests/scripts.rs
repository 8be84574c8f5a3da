//! Options of the scripts: help has no side effects, and an unknown option fails before any build.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn scripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "sh")).collect();
    assert!(found.len() > 5, "too few scripts were found");
    found
}

fn output(script: &Path, argument: &str) -> Output {
    // Run from another directory, with a PATH that has no build or installation tools.
    Command::new("/bin/bash")
        .arg(script)
        .arg(argument)
        .current_dir("/")
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap()
}

fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '-');
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

#[test]
fn script_help_is_printed_without_side_effects() {
    for script in scripts() {
        for option in ["--help", "-h"] {
            let output = output(&script, option);
            assert_eq!(output.status.code(), Some(0), "{} {option}", script.display());
            assert!(output.stderr.is_empty(), "{} {option}", script.display());
            let text = String::from_utf8(output.stdout).unwrap();
            let source = fs::read_to_string(&script).unwrap();
            let comment = source.lines().skip(1).take_while(|line| line.starts_with('#'));
            let expected: String = comment
                .map(|line| format!("{}\n", line.trim_start_matches('#').strip_prefix(' ').unwrap_or("")))
                .collect();
            assert_eq!(text, expected, "{}", script.display());
            assert!(text.lines().count() > 1, "{} explains nothing", script.display());
        }
    }
}

#[test]
fn unknown_option_of_a_script_is_a_usage_error() {
    for script in scripts() {
        for option in ["--no-such-option", "--hel", "-z", "--no-such=1"] {
            let output = output(&script, option);
            assert_eq!(output.status.code(), Some(2), "{} {option}", script.display());
            assert!(output.stdout.is_empty(), "{} {option}", script.display());
            let text = String::from_utf8(output.stderr).unwrap();
            let name = option.split('=').next().unwrap();
            assert!(text.lines().count() == 1 && text.contains(name) && text.contains("--help"), "{text}");
        }
    }
}

/// The words of Rust sources that follow a text, up to the closing quote.
fn quoted_after(text: &str, directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            quoted_after(text, &entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&entry).unwrap();
            let names = source.split(text).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(
                names.filter(|name| !name.contains('/') && !name.starts_with('-')).map(str::to_owned),
            );
        }
    }
}

#[test]
fn programs_that_tests_start_are_installed_by_the_test_script() {
    // On every Debian: dash, and the essential packages coreutils and util-linux. On every machine that builds this: cargo.
    const PRESENT: [&str; 10] =
        ["sh", "mkfifo", "nohup", "stty", "nsenter", "setpriv", "taskset", "unshare", "cargo", "rustc"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut started = BTreeSet::new();
    for directory in ["tests", "loadgen/tests"] {
        quoted_after(concat!("Command::", "new(\""), &root.join(directory), &mut started);
        quoted_after(concat!("--", "net\", \""), &root.join(directory), &mut started);
    }
    assert!(started.contains("kill") && started.contains("ip"), "{started:?}");
    let scripts = ["install.sh", "test.sh"];
    let scripts = scripts.map(|name| fs::read_to_string(root.join("scripts").join(name)).unwrap()).concat();
    let installed = scripts.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        match words.next()? {
            "need" => words.next(),
            word => word.strip_prefix("need_"),
        }
    });
    let installed: BTreeSet<&str> = installed.collect();
    let missing: Vec<_> = started
        .iter()
        .filter(|name| !PRESENT.contains(&name.as_str()) && !installed.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not installed by scripts/test.sh: {missing:?}");
}

#[test]
fn serve_script_names_every_option_of_serve() {
    let help = Command::new(env!("CARGO_BIN_EXE_corelane")).args(["serve", "--help"]).output().unwrap();
    // Lines that begin with an option, not prose about it.
    let help = String::from_utf8(help.stdout).unwrap();
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let mut serve = lines.flat_map(|line| options(line.split("  ").next().unwrap())).collect::<BTreeSet<_>>();
    serve.remove("--help");
    assert!(serve.contains("--listen"), "{help}");

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string(root.join("scripts/serve.sh")).unwrap();
    let comment: String =
        script.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let mut named = options(&comment);
    assert!(named.remove("--release") && named.remove("--help"));
    assert_eq!(named, serve, "the options at the top of scripts/serve.sh");
}
