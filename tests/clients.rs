//! Official clients against the real binary. They are installed once, under `target/clients`, at the versions pinned
//! beside the scripts in `tests/clients`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use support::{ServerProcess, corelane, example};

/// What every client says of its session in `mode`, a line a step; a script ends at the first thing that is wrong.
fn steps(client: &str, session: &str, mode: &str) -> Vec<String> {
    let is_legacy = matches!(mode, "v1" | "legacy");
    let mut steps = vec![if is_legacy { "start 2025-11-25" } else { "start 2026-07-28" }];
    if is_legacy {
        steps.push("ping");
    }
    if session == "demo" {
        steps.extend(["list", "echo", "add", "digest", "twenty sleeps", "invalid arguments", "failing tool"]);
        steps.extend(["unknown tool", "list again"]);
    } else {
        steps.extend(["pages", "resources", "prompts", "completion", "elicitation", "sampling", "roots"]);
        steps.extend(["progress", "log", "cancellation", "resource updated", "list changed", "unsubscribe"]);
    }
    steps.push("close");
    steps.into_iter().map(|step| format!("{client} {mode}: {step}")).collect()
}

/// Runs a client in each mode: with the demo server and with the talking one, over HTTP, one server for all of them, and
/// over standard input and output, a server for each.
fn sessions(client: &str, modes: &[&str], command: impl Fn() -> Command) {
    let session = |session: &str, mode: &str, target: &Command| {
        let mut command = command();
        command.args([session, mode]).arg(target.get_program()).args(target.get_args());
        // Those servers hear of no admin address either.
        command.env("CORELANE_ADMIN", "none");
        let said = run(&mut command);
        print!("{said}");
        assert_eq!(said.lines().collect::<Vec<_>>(), steps(client, session, mode));
    };
    // Lists of several pages.
    let pages = cache(client).join("pages.toml");
    fs::write(&pages, "[limits]\nlist_page_items_max = 2\n").unwrap();
    let pages = pages.to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--shards", "2"];
    let demo = ServerProcess::spawn(corelane(&serve));
    let talking = ServerProcess::spawn(example("talking", &[&serve[..], &["--config", pages]].concat()));
    for mode in modes {
        session("demo", mode, &Command::new(demo.url()));
        session("demo", mode, &corelane(&["stdio"]));
        session("talking", mode, &Command::new(talking.url()));
        session("talking", mode, &example("talking", &["stdio", "--config", pages]));
    }
    demo.stop();
    // A call that was cancelled counts for a minute if it was not: then the drain would take ten seconds.
    let began = Instant::now();
    talking.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn the_typescript_sdks_hold_their_sessions() {
    let directory = cache("typescript");
    let source = sources("typescript");
    let manifest = fs::read_to_string(source.join("package-lock.json")).unwrap();
    for file in ["package.json", "package-lock.json", "check.mjs", "client.mjs", "demo.mjs", "talking.mjs"] {
        fs::copy(source.join(file), directory.join(file)).unwrap();
    }
    install(&directory, &manifest, || {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&directory);
        run(&mut npm);
    });
    sessions("typescript", &["v1", "legacy", "auto", "pinned"], || {
        let mut node = Command::new("node");
        node.arg(directory.join("client.mjs"));
        node
    });
}

#[test]
fn the_python_sdk_holds_its_sessions() {
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
    sessions("python", &["legacy", "auto", "pinned"], || {
        let mut client = Command::new(&python);
        client.arg(source.join("client.py"));
        client
    });
}

#[test]
fn the_rust_sdk_holds_its_sessions() {
    // Built here, because cargo builds no other package's binary for a test.
    sessions("rust", &["legacy", "auto", "pinned"], || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["run", "--quiet", "--locked", "--package", "corelane-client-check", "--"]);
        cargo
    });
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
