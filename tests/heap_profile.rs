//! Heap profiles of a running server, by `corelane ctl memory --heap`, with the real binary. Most tests need the feature `jemalloc`;
//! scripts/test.sh runs this file with it too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use support::{ServerProcess, config_file, corelane, echo, run, serve};

/// A server, its control socket, and a directory for its profiles, removed when this is dropped.
struct Profiled {
    server: ServerProcess,
    directory: PathBuf,
}

impl Profiled {
    /// Starts a server with settings of jemalloc.
    fn start(name: &str, malloc_conf: Option<&str>) -> Self {
        // Short: the path of a socket has at most 107 bytes.
        let directory = std::env::temp_dir().join(format!("clheap-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        let socket = directory.join("control");
        // A loaded machine takes long to write a profile; the requests of the tests stay incomplete meanwhile.
        let limits = "[limits]\nbody_timeout = \"2m\"\nbody_total_timeout = \"5m\"\n";
        let config = config_file(&format!("heap-{name}"), limits);
        let mut command =
            serve(&["--config", &config, "--shards", "2", "--control", socket.to_str().unwrap()]);
        command.env_remove("_RJEM_MALLOC_CONF");
        if let Some(settings) = malloc_conf {
            command.env("_RJEM_MALLOC_CONF", settings);
        }
        Self { server: ServerProcess::spawn(command), directory }
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).to_str().unwrap().to_owned()
    }

    /// Runs `ctl memory --heap`: exit code, stdout, stderr.
    fn heap(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = corelane(&["ctl", "--socket", &self.path("control"), "memory", "--heap"]);
        command.args(arguments);
        run(command)
    }

    /// The error line of a heap profile that is refused; the server serves on, and no file is left.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.heap(arguments);
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
        assert_eq!(self.server.connect().post("", echo("x")).status, 200);
        assert!(!Path::new(&self.path("heap.svg")).exists());
        stderr
    }
}

impl Drop for Profiled {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn output_that_cannot_be_written_is_refused_before_a_server_is_looked_for() {
    let missing = Path::new(env!("CARGO_TARGET_TMPDIR")).join("missing");
    let socket = missing.join("control");
    let heap = |arguments: &[&str]| {
        let mut command = corelane(&["ctl", "--socket", socket.to_str().unwrap(), "memory", "--heap"]);
        command.args(arguments);
        run(command)
    };
    let output = missing.join("heap.svg");
    for (arguments, error) in [
        (&["-o", output.to_str().unwrap()][..], "cannot write "),
        (&["-o", "heap.png"], "names no format"),
        (&["-o", "/dev/null", "--format", "svg", "--since", output.to_str().unwrap()], "cannot read "),
        (&["-o", "/dev/null", "--format", "pprof", "--since", "/dev/null"], "cannot read "),
    ] {
        let (code, stdout, stderr) = heap(arguments);
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
        assert!(stderr.contains(error), "{stderr}");
    }
    // Wrong usage.
    for arguments in [&[][..], &["-o", "heap.svg", "--top", "5"]] {
        assert_eq!(heap(arguments).0, Some(2), "{arguments:?}");
    }
}

#[cfg(not(feature = "jemalloc"))]
#[test]
fn heap_profile_of_a_server_without_jemalloc_is_refused() {
    let profiled = Profiled::start("without", Some("prof:true"));
    let error = profiled.refused(&["-o", &profiled.path("heap.svg")]);
    assert!(error.contains("--features jemalloc") && error.contains("heap_profile_unsupported"), "{error}");
}

#[cfg(feature = "jemalloc")]
mod with_jemalloc {
    use std::fs;

    use serde_json::Value;

    use super::{
        Profiled,
        support::{Client, eventually},
    };

    /// One sample in 64 KiB, so that each buffer of the tests is almost certainly sampled.
    const SAMPLED: &str = "prof:true,lg_prof_sample:16";

    /// The function that allocates the buffers of incomplete requests.
    const PLANTED: &str = "http1::framer::Framer::hold";

    const BODY_BYTES: usize = 600_000;

    /// Connections that have each sent a part of a request, which the server keeps in a buffer.
    fn with_buffers(profiled: &Profiled, connections: usize) -> Vec<Client> {
        let connect = |_| {
            let mut client = profiled.server.connect();
            let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
            client.send(format!("{head}Content-Length: {}\r\n\r\n", BODY_BYTES + 1));
            client.send(vec![b' '; BODY_BYTES]);
            client
        };
        (0..connections).map(connect).collect()
    }

    /// Writes a heap profile; the figures that are printed.
    fn heap(profiled: &Profiled, arguments: &[&str]) -> Value {
        let (code, stdout, stderr) = profiled.heap(&[arguments, &["--json"]].concat());
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        serde_json::from_str(&stdout).unwrap()
    }

    /// The bytes of all stacks of a file, and those of the stacks with the planted function.
    fn widths(path: &str) -> (u64, u64) {
        let text = fs::read_to_string(path).unwrap();
        let width = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
        let planted = text.lines().filter(|line| line.contains(PLANTED)).map(width).sum();
        (text.lines().map(width).sum(), planted)
    }

    /// Writes heap profiles until the buffers of these connections are in one. The width of all stacks.
    fn await_buffers(profiled: &Profiled, connections: usize, path: &str) -> u64 {
        let mut total = 0;
        eventually("the buffers of the connections", || {
            let bytes = heap(profiled, &["-o", path])["bytes"].as_u64().unwrap();
            let planted;
            (total, planted) = widths(path);
            assert_eq!(bytes, total);
            // Buffers are estimated within a few percent, and may be larger than their content.
            planted as f64 > 0.8 * (connections * BODY_BYTES) as f64
        });
        total
    }

    #[test]
    fn buffers_of_connections_are_the_widest_frame_of_a_heap_profile() {
        let profiled = Profiled::start("widest", Some(SAMPLED));
        let clients = with_buffers(&profiled, 48);
        let path = profiled.path("heap.folded");
        let total = await_buffers(&profiled, 48, &path);
        let (_, planted) = widths(&path);
        assert!(planted * 2 > total, "{planted} of {total} bytes");
        // The functions of the allocator are left out.
        assert!(!fs::read_to_string(&path).unwrap().contains("_rjem_"));
        for (name, word) in [("heap.svg", "<script"), ("heap.pb", "inuse_space")] {
            let path = profiled.path(name);
            heap(&profiled, &["-o", &path]);
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            assert!(text.contains(word) && text.contains(PLANTED), "{name}");
        }
        drop(clients);
    }

    #[test]
    fn difference_of_two_heap_profiles_has_only_what_grew() {
        let profiled = Profiled::start("growth", Some(SAMPLED));
        let path = |name| profiled.path(name);
        let mut clients = with_buffers(&profiled, 12);
        await_buffers(&profiled, 12, &path("before.folded"));
        heap(&profiled, &["-o", &path("before.pb")]);
        clients.extend(with_buffers(&profiled, 12));
        let total = await_buffers(&profiled, 24, &path("after.folded"));
        for earlier in ["before.folded", "before.pb"] {
            let arguments = ["--since", &path(earlier), "-o", &path("growth.folded")];
            let grown = heap(&profiled, &arguments)["grown_bytes"].as_u64().unwrap();
            let (width, planted) = widths(&path("growth.folded"));
            assert_eq!(grown, width);
            assert!(planted * 5 > width * 4, "{planted} of {width} bytes are planted");
            // Only the second half of the buffers, and nothing else of what is in use.
            let expected = (12 * BODY_BYTES) as f64;
            assert!((0.6 * expected..1.8 * expected).contains(&(planted as f64)), "{planted}");
            assert!(width * 2 < total, "{width} of {total} bytes");
        }
        drop(clients);
        let arguments = ["--since", &path("after.folded"), "-o", &path("growth.svg")];
        eventually("buffers that are freed", || {
            let freed = heap(&profiled, &arguments)["shrunk_bytes"].as_u64().unwrap();
            freed as f64 > 0.8 * (24 * BODY_BYTES) as f64
        });
        assert!(fs::read_to_string(path("growth.svg")).unwrap().contains("bytes added since after.folded"));
        let arguments = ["--since", &path("before.pb"), "-o", &path("growth.pb")];
        let (code, _, stderr) = profiled.heap(&arguments);
        assert_eq!((code, stderr.contains("pprof -diff_base")), (Some(1), true), "{stderr}");
    }

    #[test]
    fn heap_profile_is_refused_where_it_was_not_enabled_at_the_start() {
        for (name, settings) in [("off", None), ("inactive", Some("prof:true,prof_active:false"))] {
            let profiled = Profiled::start(name, settings);
            let error = profiled.refused(&["-o", &profiled.path("heap.svg")]);
            assert!(
                error.contains("_RJEM_MALLOC_CONF=prof:true") && error.contains("heap_profile_off"),
                "{error}"
            );
        }
    }
}
