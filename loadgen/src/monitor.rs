//! The server's process, found by its listening port, and its metrics, read from the admin address.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use procfs::{
    net::TcpState,
    process::{FDTarget, Process},
};

use crate::{
    error::LoadError,
    result::{ProcessSample, ServerLatency, ServerProcess},
    target::Target,
};

/// Time limit for a request to the admin address.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of attempts to read the metrics of a server that is known to have some, because it may be overloaded.
const READ_ATTEMPTS_MAX: usize = 4;

/// The server's process and admin address.
#[derive(Debug, Default)]
pub struct ServerMonitor {
    /// Id of the server's process.
    pub pid: Option<i32>,
    /// The admin address.
    pub admin: Option<SocketAddr>,
}

impl ServerMonitor {
    /// Uses the given values, and finds the others: the process by its listening socket if the server is on this
    /// machine, the admin address among the other sockets on which it listens.
    #[must_use]
    pub fn find(target: &Target, pid: Option<i32>, admin: Option<SocketAddr>) -> Self {
        let pid = pid.or_else(|| listener_pid(target.tcp()?));
        let admin = admin.or_else(|| {
            let others =
                listening_addresses(pid?).into_iter().filter(|address| Some(*address) != target.tcp());
            others.into_iter().find(|address| metrics(*address).is_some())
        });
        Self { pid, admin }
    }

    /// Like [`Self::find`], but checks the given values.
    ///
    /// # Errors
    /// When there is no such process, or the address does not serve corelane's `/metrics`.
    pub fn checked(target: &Target, pid: Option<i32>, admin: Option<SocketAddr>) -> Result<Self, LoadError> {
        if let Some(pid) = pid.filter(|pid| ProcessSnapshot::at(*pid).is_none()) {
            return Err(LoadError::Usage(format!(
                "--server-pid {pid}: no such process, or it is not visible in /proc"
            )));
        }
        if let Some(admin) = admin.filter(|admin| metrics(*admin).is_none()) {
            return Err(LoadError::Usage(format!(
                "--admin {admin}: does not serve corelane's /metrics; give the address of `corelane serve --admin`"
            )));
        }
        Ok(Self::find(target, pid, admin))
    }

    /// Reads the server's metrics.
    #[must_use]
    pub fn metrics(&self) -> Option<Metrics> {
        let admin = self.admin?;
        (0..READ_ATTEMPTS_MAX).find_map(|_| metrics(admin))
    }

    /// Whether the process may spin while it is idle, so that its processor time is not a measure of its work. A
    /// corelane server does, unless its command line or environment disables it. `name` is the server's own name.
    #[must_use]
    pub fn may_spin(&self, name: &str) -> bool {
        let is_corelane = self.admin.is_some() || name == "corelane";
        let process = self.pid.and_then(|pid| Process::new(pid).ok());
        is_corelane && !process.is_some_and(|process| is_started_without_spin(&process))
    }

    /// Takes the first snapshot of the process.
    #[must_use]
    pub fn start_sampling(&self) -> Option<ProcessSampler> {
        let pid = self.pid?;
        let first = ProcessSnapshot::at(pid)?;
        Some(ProcessSampler { pid, first, last: first, samples: Vec::new() })
    }

    /// Resident memory of the process, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        ProcessSnapshot::at(self.pid?).map(|snapshot| snapshot.resident_bytes)
    }
}

/// Processor time that a process has used, in seconds.
pub(crate) fn cpu_s(stat: &procfs::process::Stat) -> f64 {
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

/// Whether a process was started with spinning disabled. An argument takes precedence over a variable.
fn is_started_without_spin(process: &Process) -> bool {
    let arguments = process.cmdline().unwrap_or_default();
    let of_argument = arguments.iter().enumerate().find_map(|(index, argument)| {
        let value = argument.strip_prefix(SPIN_ARGUMENT)?;
        match value.strip_prefix('=') {
            Some(value) => Some(value.to_owned()),
            None => arguments.get(index + 1).filter(|_| value.is_empty()).cloned(),
        }
    });
    let of_variable = || {
        let value = process.environ().ok()?.remove(OsStr::new(SPIN_VARIABLE))?;
        value.into_string().ok()
    };
    of_argument.or_else(of_variable).is_some_and(|value| value == "0")
}

/// Argument and variable that set corelane's spin time in microseconds.
const SPIN_ARGUMENT: &str = "--spin-us";
const SPIN_VARIABLE: &str = "CORELANE_SPIN_US";

/// State of a process at one time.
#[derive(Clone, Copy, Debug)]
struct ProcessSnapshot {
    at: Instant,
    cpu_s: f64,
    resident_bytes: u64,
    switches: u64,
}

impl ProcessSnapshot {
    fn at(pid: i32) -> Option<Self> {
        let process = Process::new(pid).ok()?;
        let stat = process.stat().ok()?;
        let switches = process
            .tasks()
            .ok()?
            .flatten()
            .filter_map(|task| task.status().ok())
            .map(|status| {
                status.voluntary_ctxt_switches.unwrap_or(0) + status.nonvoluntary_ctxt_switches.unwrap_or(0)
            })
            .sum();
        Some(Self {
            at: Instant::now(),
            cpu_s: cpu_s(&stat),
            resident_bytes: stat.rss * procfs::page_size(),
            switches,
        })
    }

    fn cpu_percent_since(&self, before: &Self) -> f64 {
        let elapsed = self.at.saturating_duration_since(before.at).as_secs_f64();
        if elapsed > 0.0 { (self.cpu_s - before.cpu_s) / elapsed * 100.0 } else { 0.0 }
    }
}

/// Snapshots of one process.
#[derive(Debug)]
pub struct ProcessSampler {
    pid: i32,
    first: ProcessSnapshot,
    last: ProcessSnapshot,
    samples: Vec<ProcessSample>,
}

impl ProcessSampler {
    /// Takes a snapshot `at_s` seconds after the beginning of the measured time.
    pub fn sample(&mut self, at_s: f64) {
        let Some(snapshot) = ProcessSnapshot::at(self.pid) else { return };
        self.samples.push(ProcessSample {
            at_s,
            cpu_percent: snapshot.cpu_percent_since(&self.last),
            resident_bytes: snapshot.resident_bytes,
        });
        self.last = snapshot;
    }

    /// Whether there are no snapshots after the first one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Summarizes the snapshots.
    #[must_use]
    pub fn finish(self) -> ServerProcess {
        ServerProcess {
            pid: self.pid,
            cpu_percent: self.last.cpu_percent_since(&self.first),
            context_switches_count: self.last.switches.saturating_sub(self.first.switches),
            samples: self.samples,
        }
    }
}

/// The server's own metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Cumulative counts by method and upper bound in seconds.
    buckets: BTreeMap<String, Vec<(f64, u64)>>,
    /// Limits in force.
    pub limits: BTreeMap<String, f64>,
    /// Optimizations, on or off.
    pub flags: BTreeMap<String, bool>,
    /// Flags that are on for a part of the sessions and connections only.
    pub flag_shares: BTreeMap<String, f64>,
    /// The commit from which the server was built, if it is known.
    pub commit: Option<String>,
    /// Number of notifications that were encoded, if the server counts them.
    pub notifications_encoded: Option<u64>,
}

impl Metrics {
    /// Parses the Prometheus text format, as far as corelane uses it.
    fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let label = |key: &str| {
                let rest = name.split_once(&format!("{key}=\""))?.1;
                Some(rest.split_once('"')?.0.to_owned())
            };
            match name.split('{').next() {
                Some("corelane_request_duration_seconds_bucket") => {
                    if let (Some(method), Some(bound)) = (label("method"), label("le")) {
                        let bound =
                            if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap_or(0.0) };
                        metrics.buckets.entry(method).or_default().push((bound, value as u64));
                    }
                }
                Some("corelane_notifications_encoded_total") => {
                    metrics.notifications_encoded = Some(value as u64);
                }
                Some("corelane_build_info") => metrics.commit = label("commit"),
                Some("corelane_limit") => {
                    metrics.limits.extend(label("limit").map(|limit| (limit, value)));
                }
                Some("corelane_flag_share") if value > 0.0 && value < 1.0 => {
                    metrics.flag_shares.extend(label("flag").map(|flag| (flag, value)));
                }
                Some("corelane_flag") => {
                    metrics.flags.extend(label("flag").map(|flag| (flag, value != 0.0)));
                }
                _ => {}
            }
        }
        metrics
    }

    /// The latencies between `before` and these metrics, by method.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<ServerLatency> {
        let mut latencies = Vec::new();
        for (method, buckets) in &self.buckets {
            let empty = Vec::new();
            let earlier = before.buckets.get(method).unwrap_or(&empty);
            let count_before = |index: usize| earlier.get(index).map_or(0, |(_, count)| *count);
            let counts: Vec<(f64, u64)> = buckets
                .iter()
                .enumerate()
                .map(|(index, (bound, count))| (*bound, count.saturating_sub(count_before(index))))
                .collect();
            let count = counts.last().map_or(0, |(_, count)| *count);
            if count == 0 {
                continue;
            }
            let bound_of = |quantile: f64| {
                let rank = (quantile * count as f64).ceil() as u64;
                let bound = counts.iter().find(|(_, below)| *below >= rank).map_or(0.0, |(bound, _)| *bound);
                if bound.is_finite() { bound * 1e6 } else { crate::latency::LATENCY_NS_MAX as f64 / 1e3 }
            };
            latencies.push(ServerLatency {
                method: method.clone(),
                count,
                p50_us_max: bound_of(0.5),
                p99_us_max: bound_of(0.99),
                p99_9_us_max: bound_of(0.999),
            });
        }
        latencies
    }
}

/// Reads the metrics of an admin address; `None` if corelane does not serve them there.
fn metrics(address: SocketAddr) -> Option<Metrics> {
    metrics_text(address).map(|text| Metrics::parse(&text))
}

/// Reads the metrics of an admin address as text; `None` if corelane does not serve them there.
pub(crate) fn metrics_text(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, ADMIN_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT)).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    (head.starts_with("HTTP/1.1 200") && body.contains("corelane_build_info")).then(|| body.to_owned())
}

/// All listening TCP sockets of this machine: address and inode.
fn listeners() -> Vec<(SocketAddr, u64)> {
    let v4 = procfs::net::tcp().unwrap_or_default();
    let v6 = procfs::net::tcp6().unwrap_or_default();
    let entries = v4.into_iter().chain(v6).filter(|entry| entry.state == TcpState::Listen);
    entries.map(|entry| (entry.local_address, entry.inode)).collect()
}

/// The process that listens on an address of this machine.
fn listener_pid(target: SocketAddr) -> Option<i32> {
    let inodes: Vec<u64> = listeners()
        .into_iter()
        .filter(|(address, _)| {
            address.port() == target.port() && (address.ip() == target.ip() || address.ip().is_unspecified())
        })
        .map(|(_, inode)| inode)
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let own = i32::try_from(std::process::id()).ok();
    let mut processes = procfs::process::all_processes().ok()?.flatten();
    processes
        .find(|process| {
            Some(process.pid) != own && sockets(process).iter().any(|inode| inodes.contains(inode))
        })
        .map(|process| process.pid)
}

/// The addresses on which a process listens.
fn listening_addresses(pid: i32) -> Vec<SocketAddr> {
    let Ok(process) = Process::new(pid) else { return Vec::new() };
    let own = sockets(&process);
    listeners().into_iter().filter(|(_, inode)| own.contains(inode)).map(|(address, _)| address).collect()
}

fn sockets(process: &Process) -> Vec<u64> {
    let descriptors = process.fd().into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| match descriptor.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_latencies_are_differences_of_two_readings() {
        let at = |low: u64, high: u64| {
            Metrics::parse(&format!(
                "# HELP x\ncorelane_request_duration_seconds_bucket{{method=\"ping\",le=\"0.001\"}} {low}\n\
                 corelane_request_duration_seconds_bucket{{method=\"ping\",le=\"0.01\"}} {high}\n\
                 corelane_request_duration_seconds_bucket{{method=\"ping\",le=\"+Inf\"}} {high}\n\
                 corelane_limit{{limit=\"body_bytes_max\"}} 4194304\n\
                 corelane_flag_share{{flag=\"zero_copy\"}} 0.01\n\
                 corelane_flag_share{{flag=\"json_backend\"}} 1\n"
            ))
        };
        let latencies = at(190, 200).since(&at(100, 100));
        assert_eq!(latencies.len(), 1);
        let ping = &latencies[0];
        assert_eq!((ping.count, ping.p50_us_max, ping.p99_us_max), (100, 1_000.0, 10_000.0));
        assert_eq!(at(1, 1).limits["body_bytes_max"], 4_194_304.0);
        assert_eq!(at(1, 1).flag_shares, BTreeMap::from([("zero_copy".to_owned(), 0.01)]));
        assert!(at(1, 1).since(&at(1, 1)).is_empty(), "a method nobody called");
    }

    #[test]
    fn spinning_is_detected_from_argument_and_variable() {
        let spins = |script: &str, variable: &str, name: &str| {
            let mut command = std::process::Command::new("sh");
            // Words behind the script become the process's arguments, like a server's flags.
            command.args(["-c", "read line", "sh"]).args(script.split_whitespace());
            command.env(SPIN_VARIABLE, variable).stdin(std::process::Stdio::piped());
            let mut child = command.spawn().unwrap();
            let monitor = ServerMonitor { pid: i32::try_from(child.id()).ok(), admin: None };
            // The kernel shows the arguments shortly after the process has started.
            while Process::new(monitor.pid.unwrap()).unwrap().cmdline().unwrap().is_empty() {
                std::thread::yield_now();
            }
            let spins = monitor.may_spin(name);
            child.kill().unwrap();
            child.wait().unwrap();
            spins
        };
        assert!(!spins("serve --spin-us 0", "", "corelane"));
        assert!(!spins("serve --spin-us=0", "50", "corelane"));
        assert!(!spins("serve", "0", "corelane"));
        assert!(spins("serve --spin-us 50", "0", "corelane"));
        assert!(spins("serve", "", "corelane"));
        assert!(!spins("serve", "", "another"));
    }

    #[test]
    fn process_is_found_by_its_listening_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // The generator's own process is excluded.
        assert_eq!(listener_pid(listener.local_addr().unwrap()), None);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(listening_addresses(own).contains(&listener.local_addr().unwrap()));
        let monitor = ServerMonitor { pid: Some(own), admin: None };
        let mut sampler = monitor.start_sampling().unwrap();
        sampler.sample(1.0);
        let process = sampler.finish();
        assert!(process.samples[0].resident_bytes > 100_000);
    }
}
