//! Slow tools beside fast ones: a hundred sleeps at once, and what `echo` feels of a thousand sleeps and a full blocking pool.
//!
//! One process, the shard on core 0 and the clients on core 1. Every reply is read and checked. Phases are measured in turn, so that
//! the machine's mood is in all of them: `cargo bench --bench mixed`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::indexing_slicing)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use corelane::{Config, NoArguments, Tool, demo};
use serde_json::{Value, json};

const ROUNDS: usize = 5;
const ECHOES: usize = 20_000;
const SLEEPERS: usize = 1000;
/// More than the pool's threads and its queue take together.
const HOLDERS: usize = 1200;
/// How long the slow calls take: longer than what is measured beside them.
const SLOW: Duration = Duration::from_secs(8);

struct Connection(TcpStream);

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(stream)
    }

    fn send(&mut self, tool: &str, arguments: &Value) {
        self.0.write_all(&request(tool, arguments)).unwrap();
    }

    /// The reply, head and body, once it contains what it must.
    fn expect(&mut self, part: &str) {
        let mut buffer = [0; 4096];
        let length = self.0.read(&mut buffer).unwrap();
        let reply = String::from_utf8_lossy(&buffer[..length]);
        assert!(reply.contains(part), "{part} is not in {reply}");
    }
}

fn request(tool: &str, arguments: &Value) -> Vec<u8> {
    let params = json!({"name": tool, "arguments": arguments});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length:";
    format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median and 99th percentile of `echo` on one connection, in microseconds.
fn echo(address: SocketAddr) -> [f64; 2] {
    let mut connection = Connection::open(address);
    let request = request("echo", &json!({"message": "hello world"}));
    let mut latencies = Vec::with_capacity(ECHOES);
    for _ in 0..ECHOES {
        let asked = Instant::now();
        connection.0.write_all(&request).unwrap();
        connection.expect("\"text\":\"hello world\"");
        latencies.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    latencies.sort_by(f64::total_cmp);
    [latencies[ECHOES / 2], latencies[ECHOES * 99 / 100]]
}

/// A hundred sleeps of 5 ms on as many connections, in milliseconds from the first request to the last reply.
fn sleeps(address: SocketAddr) -> f64 {
    let mut connections: Vec<_> = (0..100).map(|_| Connection::open(address)).collect();
    let asked = Instant::now();
    for connection in &mut connections {
        connection.send("sleep", &json!({"ms": 5}));
    }
    for connection in &mut connections {
        connection.expect("slept 5 ms");
    }
    asked.elapsed().as_secs_f64() * 1e3
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let hold = Tool::new("hold").run_blocking(|_: NoArguments, cx| {
        let until = Instant::now() + SLOW;
        while Instant::now() < until && !cx.is_cancelled() {
            thread::sleep(Duration::from_millis(1));
        }
        "held"
    });
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], cpus: Some(vec![0]), ..Config::default() };
    let server = demo::server().tool(hold).build().start(&config).unwrap();
    let address = server.addresses()[0];
    core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
    let batches: Vec<f64> = (0..20).map(|_| sleeps(address)).collect();
    let worst = batches.iter().copied().fold(0.0, f64::max);
    let batch = median(batches);
    println!(
        "async_100x5ms over 100 connections: {batch:.1} ms (median of 20; worst {worst:.1}); goal 10, limit 50"
    );
    let mut phases: [Vec<[f64; 2]>; 2] = Default::default();
    for _ in 0..ROUNDS {
        phases[0].push(echo(address));
        let mut sleepers: Vec<_> = (0..SLEEPERS).map(|_| Connection::open(address)).collect();
        for sleeper in &mut sleepers {
            sleeper.send("sleep", &json!({"ms": SLOW.as_millis()}));
        }
        let mut holders: Vec<_> = (0..HOLDERS).map(|_| Connection::open(address)).collect();
        for holder in &mut holders {
            holder.send("hold", &json!({}));
        }
        // The last one finds the pool and its queue full.
        holders.last_mut().unwrap().expect("Server busy");
        phases[1].push(echo(address));
        for sleeper in &mut sleepers {
            sleeper.expect("slept");
        }
        drop(holders);
        // What still waits for a thread goes by its deadline.
        thread::sleep(Duration::from_secs(1));
    }
    let [quiet, loaded] =
        phases.map(|phase| [0, 1].map(|figure| median(phase.iter().map(|row| row[figure]).collect())));
    let ratio = loaded[1] / quiet[1];
    println!(
        "echo, quiet:                                     p50 {:5.1} µs, p99 {:5.1} µs",
        quiet[0], quiet[1]
    );
    println!(
        "echo beside {SLEEPERS} sleeps and a full blocking pool: p50 {:5.1} µs, p99 {:5.1} µs",
        loaded[0], loaded[1]
    );
    println!("p99 ratio {ratio:.2}; limit 2 (medians of {ROUNDS} rounds in turn)");
    server.stopper().drain();
    server.join().unwrap();
    if batch <= 50.0 && ratio <= 2.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
