//! Serves until a signal arrives, then drains.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGALRM, SIGHUP, SIGINT, SIGIO, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXFSZ},
    iterator::Signals,
};
use tracing::{info, warn};

use super::{
    builder::Server,
    drain::notify_service_manager,
    error::{StartError, resource},
    listening::Listening,
    machine::{check_descriptors, is_too_few},
    placement::Placements,
    running::Running,
    shard_thread::ENDPOINT,
    stdio,
};
use crate::{
    config::{Config, Endpoint, Limits, Listen, LogFormat, Transport},
    telemetry::{log::print, metrics::ShardMetrics},
};

/// A second signal within this time of the first counts as the same one: shells signal a process and then its group.
const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(250);

/// Maximum connections on stdio, which has one client; the default would reserve a table of 100,000 slots.
const STDIO_CONNECTIONS: u32 = 16;

impl Server {
    /// Serves until SIGINT or SIGTERM, then drains. Prints a line for each listener to stderr once it is ready.
    /// Reports `READY=1` and `STOPPING=1` to the service manager that `NOTIFY_SOCKET` names, if any (sd_notify(3)).
    ///
    /// # Errors
    /// The server cannot start, or stopped with a failure. [`StartError::CallsAbandoned`] after a drain that has not completed all
    /// calls.
    pub fn serve(&self, config: &Config) -> Result<(), StartError> {
        check_descriptors(config)?;
        let signals = signals()?;
        let running = self.start(config)?;
        for listen in &running.listeners {
            let line = start_line(listen, &running.placement);
            // Printed whatever the format of the log: scripts wait for this line.
            print(io::stderr(), format!("{line}\n"));
            if config.log.format == LogFormat::Json {
                info!("{line}");
            }
        }
        notify_service_manager(&[NotifyState::Ready]);
        let metrics = self.run(running, signals, &config.limits)?;
        if config.stats {
            print(io::stdout(), metrics.to_string());
        }
        check_abandoned(&metrics)
    }

    /// Serves the one client at standard input and output until standard input ends, or until SIGINT or SIGTERM; then
    /// drains. Runs one shard, which is not pinned unless `cpus` is set, and opens no listener but the admin address, if
    /// one is configured. Standard output of tools is redirected to standard error.
    ///
    /// # Errors
    /// The server cannot start, or stopped with a failure.
    pub fn serve_stdio(&self, config: &Config) -> Result<(), StartError> {
        let limits = Limits {
            connections_max: config.limits.connections_max.min(STDIO_CONNECTIONS),
            // The delay is for load balancers; stdio has none.
            drain_delay: Duration::ZERO,
            ..config.limits
        };
        let config = &Config { shards: Some(1), limits, ..config.clone() };
        check_descriptors(config)?;
        let signals = signals()?;
        let signing_key = self.prepare(config)?;
        let placement = Placements::for_stdio(config)?;
        let (socket, bridge) = stdio::bridge()
            .map_err(|error| resource("the server: opening standard input and output failed", &error))?;
        let running = self.launch(config, &signing_key, placement, Listening::adopt(socket.into()))?;
        let metrics = self.run(running, signals, &limits)?;
        if let Err(error) = bridge.join(limits.write_timeout) {
            warn!(%error, "output to the client was lost: standard output was closed or blocked");
        }
        if config.stats {
            print(io::stderr(), metrics.to_string());
        }
        check_abandoned(&metrics)
    }

    /// Waits until the server has stopped, and drains it at the first signal. A second signal exits at once.
    ///
    /// # Errors
    /// A shard failed, or the signal thread could not be started.
    fn run(
        &self,
        running: Running,
        mut signals: Signals,
        limits: &Limits,
    ) -> Result<ShardMetrics, StartError> {
        let info = self.registry.read(|registry| registry.info.clone());
        info!(
            name = info.name,
            version = info.version,
            shards = running.shards.len(),
            admin = running.admin_address().map(display),
            connections_max = limits.connections_max,
            calls_in_flight_max = limits.calls_in_flight_max,
            body_bytes_max = limits.body_bytes_max,
            "started"
        );
        if let Some(connections) = running.connections_allowed.filter(|allowed| is_too_few(*allowed, limits))
        {
            warn!(
                connections_max = limits.connections_max,
                "the descriptor limit allows {connections} connections for each shard, fewer than connections_max; \
                 remedy: ulimit -n {} (systemd: LimitNOFILE), or a lower connections_max",
                u64::from(limits.connections_max) + u64::from(limits.connections_reserve) + 1
            );
        }
        let drain = running.drain.clone();
        let watcher = signals.handle();
        let signalled = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut first = None;
                let mut ignored = Vec::new();
                for signal in signals.forever() {
                    if !DRAINING.contains(&signal) {
                        if !ignored.contains(&signal) {
                            ignored.push(signal);
                            warn_ignored(signal);
                        }
                        continue;
                    }
                    match first {
                        None => {
                            first = Some(Instant::now());
                            let _ = drain.as_ref().map(|drain| drain.start(Some(signal)));
                        }
                        Some(first) if first.elapsed() < SIGNAL_DEBOUNCE => {}
                        Some(_) => std::process::exit(128 + signal),
                    }
                }
            })
            .map_err(|error| resource("the signal thread", &error))?;
        let metrics = running.join()?;
        info!("drain ended");
        watcher.close();
        // A panic of the signal thread has been logged, and the server has stopped anyway.
        let _ = signalled.join();
        Ok(metrics)
    }
}

/// The line that reports a ready listener, on stderr. Its wording is stable: scripts wait for it.
fn start_line(listen: &Listen, placement: &str) -> String {
    match (listen.transport, &listen.endpoint) {
        (Transport::Http, Endpoint::Tcp(_)) => {
            format!("listening on http://{listen}{ENDPOINT} ({placement})")
        }
        (Transport::Http, Endpoint::Unix(_)) => {
            format!("listening on {listen} (HTTP at {ENDPOINT}, {placement})")
        }
        (Transport::JsonLines, _) => format!("listening on {listen} (newline-delimited JSON, {placement})"),
    }
}

/// Signals that start the drain.
const DRAINING: [i32; 3] = [SIGINT, SIGTERM, SIGQUIT];

/// Signals that would end the process without a drain, and are ignored. SIGPIPE is ignored by the standard library, and SIGPROF belongs
/// to profilers.
const IGNORED: [i32; 7] = [SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGIO, SIGXFSZ];

/// Registers the handlers of the signals.
fn signals() -> Result<Signals, StartError> {
    Signals::new(DRAINING.iter().chain(&IGNORED)).map_err(|error| resource("signal handling", &error))
}

/// Logs an ignored signal.
fn warn_ignored(signal: i32) {
    if signal == SIGHUP {
        warn!("SIGHUP is ignored: a running server does not reload its configuration; restart it");
    } else {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
        warn!(signal, "{name} is ignored; SIGTERM stops the server");
    }
}

/// The error of a drain that has not completed all calls.
fn check_abandoned(metrics: &ShardMetrics) -> Result<(), StartError> {
    match metrics.events("call_abandoned") {
        0 => Ok(()),
        calls => Err(StartError::CallsAbandoned { calls }),
    }
}
