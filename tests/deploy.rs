//! The deployment files in deploy/ with the real binary: whatever can run here runs, the rest is parsed. A missing
//! program is reported and its part skipped, or fails where `CI` is set.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use support::{ServerProcess, corelane, echo, eventually, modern};

const WAIT_MAX: Duration = Duration::from_secs(20);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn deploy(name: &str) -> String {
    fs::read_to_string(root().join("deploy").join(name)).unwrap()
}

/// A separate directory for each test.
fn scratch(name: &str) -> PathBuf {
    let directory = env::temp_dir().join(format!("corelane-deploy-{}-{name}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), text)
}

/// Whether the command can be started. A missing program is reported, and fails where `CI` is set.
fn is_installed(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    let found = command.status().is_ok_and(|status| status.success());
    assert!(
        found || env::var_os("CI").is_none(),
        "{program} {arguments:?} does not run: scripts/test.sh installs it"
    );
    if !found {
        println!("{program} {arguments:?} does not run: its part is not tested");
    }
    found
}

fn sbin() -> String {
    format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap())
}

/// The Python interpreter of Debian, which has the packages installed by apt.
fn python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" }
}

/// The server under the container's seccomp filter, without these system calls.
fn contained(without: &[&str]) -> Command {
    let mut command = corelane(&[]);
    let settings: Vec<_> =
        command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = Command::new(python());
    for (key, value) in settings {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    command
        .arg("-B")
        .arg(root().join("tests/support/container_profile.py"))
        .arg(root().join("deploy/seccomp.json"));
    for name in without {
        command.args(["--without", name]);
    }
    command.args(["--", env!("CARGO_BIN_EXE_corelane"), "serve", "--listen", "127.0.0.1:0"]);
    command
}

#[test]
fn seccomp_profile_allows_every_kind_of_tool() {
    if !is_installed(python(), &["-c", "import seccomp"]) {
        return;
    }
    let server = ServerProcess::spawn(contained(&[]));
    let filtered = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    assert!(filtered.contains("Seccomp:\t2\n"), "the filter is not in force");
    let mut client = server.connect();
    for (tool, arguments) in [
        ("echo", json!({"message": "hello"})),
        ("sleep", json!({"ms": 1})),
        ("digest", json!({"text": "hello"})),
    ] {
        let result = client.call(tool, arguments);
        assert_ne!(result["isError"], json!(true), "{tool}: {result}");
    }
    server.stop();
}

#[test]
fn profile_without_an_io_uring_call_is_named_in_the_start_error() {
    if !is_installed(python(), &["-c", "import seccomp"]) {
        return;
    }
    let (succeeded, text) = run(&mut contained(&["io_uring_setup", "io_uring_enter", "io_uring_register"]));
    assert!(!succeeded && text.lines().count() == 1, "{text}");
    for word in ["seccomp", "io_uring_setup", "--security-opt"] {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn seccomp_profile_denies_what_the_container_default_denies() {
    let profile: Value = serde_json::from_str(&deploy("seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().unwrap();
    let unconditional =
        rules.iter().filter(|rule| rule["args"].is_null() && rule["action"] == "SCMP_ACT_ALLOW");
    let allowed: Vec<&str> = unconditional
        .flat_map(|rule| rule["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    for name in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(allowed.contains(&name), "{name} is not allowed");
    }
    for name in [
        "mount",
        "unshare",
        "setns",
        "bpf",
        "keyctl",
        "clone",
        "reboot",
        "init_module",
        "userfaultfd",
        "syslog",
    ] {
        assert!(!allowed.contains(&name), "{name} is allowed");
    }
}

#[test]
fn service_manager_is_notified_of_ready_and_stopping() {
    let path = scratch("notify").join("socket");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut command = corelane(&["serve", "--listen", "127.0.0.1:0", "--shards", "1"]);
    command.env("NOTIFY_SOCKET", &path);
    let server = ServerProcess::spawn(command);
    let notifications = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert!(notifications().lines().any(|line| line == "READY=1"));
    server.connect().post("", echo("served when ready"));
    server.signal("-TERM");
    assert!(notifications().lines().any(|line| line == "STOPPING=1"));
    assert!(server.wait(WAIT_MAX).0.success());
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn systemd_unit_is_valid() {
    if !is_installed("systemd-analyze", &["--version"]) {
        return;
    }
    let directory = scratch("systemd");
    let unit = directory.join("corelane.service");
    // The binary is not installed at the path named by the unit.
    fs::write(
        &unit,
        deploy("corelane.service").replace("/usr/local/bin/corelane", env!("CARGO_BIN_EXE_corelane")),
    )
    .unwrap();
    let (succeeded, text) = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
    // The output includes remarks on other units of this machine.
    assert!(succeeded && !text.contains("corelane.service:"), "{text}");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn dockerfile_copies_existing_files_and_its_commands_parse() {
    let text = deploy("Dockerfile").replace("\\\n", " ");
    let (mut copied, mut user) = (0, false);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            Some(&"COPY") if !words[1].starts_with("--from") => {
                for source in &words[1..words.len() - 1] {
                    assert!(root().join(source).exists(), "{source} does not exist");
                    copied += 1;
                }
            }
            Some(&"RUN") => {
                let (succeeded, text) =
                    run(Command::new("sh").args(["-n", "-c", line.strip_prefix("RUN ").unwrap()]));
                assert!(succeeded, "{text}");
            }
            Some(&"FROM") => user = line.contains("nonroot"),
            _ => {}
        }
    }
    assert!(copied > 3 && user, "too few files are copied, or the last stage runs as root");
    // Every file that the manifest names must be in the build context.
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for member in ["loadgen", "tests/clients/rust"] {
        assert!(
            manifest.contains(&format!("\"{member}\"")) && text.contains(&format!("COPY {member} ")),
            "{member}"
        );
    }
}

#[test]
fn shipped_settings_are_valid() {
    let directory = scratch("settings");
    let kubernetes = deploy("kubernetes.yaml");
    let (_, map) = kubernetes.split_once("corelane.toml: |\n").unwrap();
    let lines = map.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let in_manifest: String = lines.map(|line| format!("{}\n", line.trim_start())).collect();
    for (name, text) in [("container.toml", deploy("container.toml")), ("kubernetes.toml", in_manifest)] {
        assert!(text.contains("allowed_hosts"), "{name}: {text}");
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        let (succeeded, text) = run(&mut corelane(&["check", path.to_str().unwrap()]));
        assert!(succeeded, "{name}: {text}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn prometheus_accepts_the_scrape_configuration() {
    let mut command = Command::new("promtool");
    command.args(["check", "config"]).arg(root().join("deploy/prometheus.yml"));
    let Ok(output) = command.output() else {
        return support::missing::report("promtool", "scripts/test.sh installs it");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A proxy in front of a server; stopped on drop.
struct Proxy {
    process: Child,
    directory: PathBuf,
    port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Proxy {
    /// Creates a certificate: `certificate.pem` and `key.pem`, both in `both.pem`.
    fn certificate(directory: &Path) {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=mcp.example.com",
        ]);
        openssl
            .arg("-keyout")
            .arg(directory.join("key.pem"))
            .arg("-out")
            .arg(directory.join("certificate.pem"));
        let (succeeded, text) = run(&mut openssl);
        assert!(succeeded, "{text}");
        let both =
            ["certificate.pem", "key.pem"].map(|name| fs::read_to_string(directory.join(name)).unwrap());
        fs::write(directory.join("both.pem"), both.concat()).unwrap();
    }

    fn start(mut command: Command, directory: PathBuf, port: u16) -> Self {
        command.env("PATH", sbin()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        eventually("the proxy's start", || {
            assert!(process.try_wait().unwrap().is_none(), "the proxy ended: see {}", directory.display());
            TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok()
        });
        Self { process, directory, port }
    }

    fn curl(&self, headers: &str, body: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-N", "-k", "--max-time", "20", "--noproxy", "*"]);
        curl.args(["--resolve", &format!("mcp.example.com:{}:127.0.0.1", self.port)]);
        for header in ["Content-Type: application/json", "Accept: application/json, text/event-stream"] {
            curl.args(["-H", header]);
        }
        for header in headers.lines() {
            curl.args(["-H", header]);
        }
        curl.args(["-d", body, &format!("https://mcp.example.com:{}/mcp", self.port)]);
        curl
    }

    /// Calls a tool, and reads an event of a stream while the stream is open.
    fn carries_calls_and_streams(&self) {
        // A proxy with health checks replies 503 until the first check succeeds.
        let mut text = String::new();
        eventually("the proxy's check", || {
            (_, text) = run(&mut self.curl("", &echo("through the proxy")));
            !text.contains("503")
        });
        let reply: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(reply["result"]["content"][0]["text"], "through the proxy");

        let (headers, body) = modern(
            "subscriptions/listen",
            json!({"notifications": {"resourceSubscriptions": ["demo://counter"]}}),
        );
        let mut listening = self.curl(&headers, &body).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
        let mut event = |word: &str| {
            let found = lines
                .by_ref()
                .map(Result::unwrap)
                .find(|line| line.starts_with("data:") && line.contains(word));
            assert!(found.is_some(), "the stream ended without {word}");
        };
        event("acknowledged");
        let (headers, body) =
            modern("tools/call", json!({"name": "touch", "arguments": {"uri": "demo://counter"}}));
        let (succeeded, text) = run(&mut self.curl(&headers, &body));
        assert!(succeeded && text.contains("result"), "{text}");
        event("resources/updated");
        assert!(listening.try_wait().unwrap().is_none(), "the stream ended with its first event");
        listening.kill().unwrap();
        listening.wait().unwrap();
    }
}

/// A server that accepts the host name of the samples.
fn proxied(directory: &Path, admin: &str) -> ServerProcess {
    let settings = directory.join("corelane.toml");
    fs::write(&settings, "[http]\nallowed_hosts = [\"mcp.example.com\"]\n").unwrap();
    ServerProcess::start(&["--shards", "2", "--config", settings.to_str().unwrap(), "--admin", admin])
}

#[test]
fn nginx_sample_forwards_calls_and_event_streams() {
    if !is_installed("sh", &["-c", "PATH=$PATH:/usr/sbin; nginx -v && command -v curl openssl"]) {
        return;
    }
    let (directory, port) = (scratch("nginx"), free_port());
    Proxy::certificate(&directory);
    let server = proxied(&directory, "none");
    let path = |name: &str| directory.join(name).display().to_string();
    let sample = deploy("nginx.conf")
        .replace("127.0.0.1:8080", &server.address.to_string())
        .replace("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl"))
        .replace("/etc/ssl/certs/mcp.example.com.pem", &path("certificate.pem"))
        .replace("/etc/ssl/private/mcp.example.com.key", &path("key.pem"));
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", path(kind)))
        .concat();
    let whole = format!(
        "daemon off; master_process off; pid {};\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{sample}\n}}\n",
        path("pid")
    );
    fs::write(directory.join("nginx.conf"), whole).unwrap();
    let mut nginx = Command::new("sh");
    nginx.args(["-c", "exec nginx -e \"$0/error.log\" -c \"$0/nginx.conf\""]).arg(&directory);
    Proxy::start(nginx, directory, port).carries_calls_and_streams();
    drop(server);
}

#[test]
fn haproxy_sample_forwards_calls_and_event_streams() {
    if !is_installed("sh", &["-c", "PATH=$PATH:/usr/sbin; haproxy -v && command -v curl openssl"]) {
        return;
    }
    let (directory, port, admin) = (scratch("haproxy"), free_port(), free_port());
    Proxy::certificate(&directory);
    let server = proxied(&directory, &format!("127.0.0.1:{admin}"));
    let sample = deploy("haproxy.cfg")
        .replace("127.0.0.1:8080", &server.address.to_string())
        .replace("port 9464", &format!("port {admin}"))
        .replace("bind :443", &format!("bind 127.0.0.1:{port}"))
        .replace("/etc/haproxy/mcp.example.com.pem", &directory.join("both.pem").display().to_string());
    fs::write(directory.join("haproxy.cfg"), sample).unwrap();
    let mut haproxy = Command::new("sh");
    haproxy.args(["-c", "exec haproxy -db -f \"$0/haproxy.cfg\""]).arg(&directory);
    Proxy::start(haproxy, directory, port).carries_calls_and_streams();
    drop(server);
}
