//! Official clients against the real binary. They are installed once, under `target/clients`, at the versions pinned
//! beside the scripts in `tests/clients`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::ServerProcess;

const MODES: [&str; 3] = ["legacy", "auto", "pinned"];

#[test]
fn the_typescript_sdk_lists_and_calls_every_tool() {
    let directory = cache("typescript");
    let source = sources("typescript");
    let manifest = fs::read_to_string(source.join("package-lock.json")).unwrap();
    for file in ["package.json", "package-lock.json", "client.mjs"] {
        fs::copy(source.join(file), directory.join(file)).unwrap();
    }
    install(&directory, &manifest, || {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&directory);
        run(&mut npm);
    });
    let server = ServerProcess::start(&[]);
    for mode in MODES {
        let said = run(Command::new("node").arg(directory.join("client.mjs")).arg(server.url()).arg(mode));
        assert!(said.starts_with(&format!("ok typescript {mode} ")), "{said}");
    }
    server.stop();
}

#[test]
fn the_python_sdk_lists_and_calls_every_tool() {
    let directory = cache("python");
    let source = sources("python");
    let requirements = fs::read_to_string(source.join("requirements.txt")).unwrap();
    let python = directory.join("bin/python");
    install(&directory, &requirements, || {
        run(Command::new("python3").args(["-m", "venv"]).arg(&directory));
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(pip.arg(source.join("requirements.txt")));
    });
    let server = ServerProcess::start(&[]);
    for mode in MODES {
        let said = run(Command::new(&python).arg(source.join("client.py")).arg(server.url()).arg(mode));
        assert!(said.starts_with(&format!("ok python {mode} ")), "{said}");
    }
    server.stop();
}

fn sources(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(client)
}

fn cache(client: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(client);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Installs unless what is there came from the same pins.
fn install(directory: &Path, pins: &str, install: impl FnOnce()) {
    let stamp = directory.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == pins) {
        return;
    }
    install();
    fs::write(stamp, pins).unwrap();
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test.sh installs what the tests need"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}{complained}", output.status);
    said
}
