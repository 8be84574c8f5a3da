//! Official clients against the real binary. They are installed once, below `target/clients`, at the versions pinned
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

/// The expected output of every client for a session in `mode`, one line per step; a script exits at its first failure.
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

/// Runs a client in both modes with the demo server and with the `talking` example: over HTTP with one server for all
/// clients, over standard input and output with one server each.
fn sessions(client: &str, modes: &[&str], command: impl Fn() -> Command) {
    let session = |session: &str, mode: &str, target: &Command| {
        let mut command = command();
        command.args([session, mode]).arg(target.get_program()).args(target.get_args());
        // These servers have no admin address either.
        command.env("CORELANE_ADMIN", "none").env("CORELANE_CONTROL", "none");
        let stdout = run(&mut command);
        print!("{stdout}");
        assert_eq!(stdout.lines().collect::<Vec<_>>(), steps(client, session, mode));
    };
    // Forces lists of several pages.
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
    // A call that was not cancelled would run for a minute, and the drain would take ten seconds.
    let began = Instant::now();
    talking.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn typescript_sdks_complete_their_sessions() {
    let directory = npm("typescript");
    for script in ["check.mjs", "client.mjs", "demo.mjs", "talking.mjs"] {
        fs::copy(sources("typescript").join(script), directory.join(script)).unwrap();
    }
    sessions("typescript", &["v1", "legacy", "auto", "pinned"], || {
        let mut node = Command::new("node");
        node.arg(directory.join("client.mjs"));
        node
    });
}

#[test]
fn python_sdk_completes_its_sessions() {
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
fn rust_sdk_completes_its_sessions() {
    // Built here, because cargo builds no binary of another package for a test.
    sessions("rust", &["legacy", "auto", "pinned"], || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["run", "--quiet", "--locked", "--package", "corelane-client-check", "--"]);
        cargo
    });
}

/// Runs the command line of the MCP Inspector, in both eras, over both transports.
#[test]
fn inspector_lists_and_calls_tools() {
    let directory = npm("inspector");
    // The Inspector needs a newer Node.js than distributions ship, so Node.js is pinned beside it.
    let packages = fs::read_dir(directory.join("node_modules")).unwrap();
    let node = packages.map(|package| package.unwrap().path().join("bin/node")).find(|node| node.exists());
    let script = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js";
    let server = ServerProcess::start(&[]);
    let inspect = |era: &str, target: &Command, arguments: &[&str]| -> serde_json::Value {
        let mut inspector = Command::new(node.as_ref().unwrap());
        inspector.arg(directory.join(script)).arg("--cli");
        inspector.arg(target.get_program()).args(target.get_args());
        inspector.args(["--format", "json", "--protocol-era", era]).args(arguments);
        // The Inspector keeps files there, and passes its environment to the server.
        inspector.env("HOME", &directory).env("CORELANE_ADMIN", "none").env("CORELANE_CONTROL", "none");
        let stdout = run(&mut inspector);
        let response: serde_json::Value =
            serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
        response.get("result").unwrap_or(&response).clone()
    };
    for era in ["legacy", "modern"] {
        for target in [Command::new(server.url()), corelane(&["stdio"])] {
            let tools = inspect(era, &target, &["--method", "tools/list", "--strict"]);
            let names = tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap());
            assert_eq!(names.collect::<Vec<_>>(), ["echo", "add", "sleep", "digest", "touch"]);
            let echo = ["--method", "tools/call", "--tool-name", "echo", "--tool-arg", "message=hi there"];
            assert_eq!(inspect(era, &target, &echo)["content"][0]["text"], "hi there");
            let resources = inspect(era, &target, &["--method", "resources/list"]);
            assert_eq!(resources["resources"][0]["uri"], "demo://counter");
            let prompts = inspect(era, &target, &["--method", "prompts/list"]);
            assert_eq!(prompts["prompts"][0]["arguments"][0]["name"], "name");
        }
    }
    server.stop();
}

/// Installs the npm packages of a client's manifest, and returns the directory.
fn npm(client: &str) -> PathBuf {
    let (directory, source) = (cache(client), sources(client));
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source.join(file), directory.join(file)).unwrap();
    }
    install(&directory, &fs::read_to_string(source.join("package-lock.json")).unwrap(), || {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&directory);
        run(&mut npm);
    });
    directory
}

fn sources(client: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(client)
}

fn cache(client: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(client);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Runs the installation unless the present one was made from the same pins.
fn install(directory: &Path, pins: &str, install: impl FnOnce()) {
    let stamp = directory.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == pins) {
        return;
    }
    install();
    fs::write(stamp, pins).unwrap();
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; scripts/test.sh installs the required programs")
    });
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    stdout
}
