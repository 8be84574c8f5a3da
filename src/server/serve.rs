//! Serving until a signal: what the command line does.

use std::{
    thread,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tracing::{info, warn};

use super::{
    builder::Server,
    error::{StartError, resource},
    listening::Listening,
    machine::{check_descriptors, is_too_few},
    placement::Placements,
    running::{Running, Stopper},
    shard_thread::ENDPOINT,
    stdio,
};
use crate::{
    config::{Config, Endpoint, Limits, Listen, LogFormat, Transport},
    telemetry::metrics::ShardMetrics,
};

/// A second signal within this long of the first is the same one, heard twice.
const SIGNAL_ECHO: Duration = Duration::from_millis(250);

/// Connections of a server that has one client. A table for a hundred thousand would be set aside for nothing.
const STDIO_CONNECTIONS: u32 = 16;

impl Server {
    /// Serves until SIGINT or SIGTERM, then drains. Prints a line for each listener to stderr once it is ready.
    /// Reports `READY=1` and `STOPPING=1` to the service manager that `NOTIFY_SOCKET` names, if any (sd_notify(3)).
    ///
    /// # Errors
    /// When it cannot start.
    pub fn serve(&self, config: &Config) -> Result<(), StartError> {
        check_descriptors(config)?;
        let signals = signals()?;
        let running = self.start(config)?;
        for listen in &running.listeners {
            let line = start_line(listen, &running.placement);
            // Scripts wait for this line, in these words, whatever the format of the log.
            eprintln!("{line}");
            if config.log.format == LogFormat::Json {
                info!("{line}");
            }
        }
        notify_service_manager(&[NotifyState::Ready]);
        let metrics = self.run(running, signals, &config.limits)?;
        if config.stats {
            print!("{metrics}");
        }
        Ok(())
    }

    /// Serves the one client at standard input and output until it closes its end, or until SIGINT or SIGTERM; then
    /// drains. One shard, on whatever core is free unless `cpus` says otherwise; nothing is listened on but the admin
    /// address, if there is one. What tools print to standard output goes to standard error.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn serve_stdio(&self, config: &Config) -> Result<(), StartError> {
        let limits = Limits {
            connections_max: config.limits.connections_max.min(STDIO_CONNECTIONS),
            // Nobody balances the load of one client.
            drain_delay: Duration::ZERO,
            ..config.limits
        };
        let config = &Config { shards: Some(1), limits, ..config.clone() };
        check_descriptors(config)?;
        let signals = signals()?;
        let secret = self.prepare(config)?;
        let placement = Placements::one_of_many(config)?;
        let (socket, bridge) =
            stdio::bridge().map_err(|error| resource("with standard input and output", &error))?;
        let running = self.launch(config, &secret, placement, Listening::adopt(socket.into()))?;
        let metrics = self.run(running, signals, &limits)?;
        if let Err(error) = bridge.join(limits.write_timeout) {
            warn!(%error, "what was left to write to standard output is lost");
        }
        if config.stats {
            eprint!("{metrics}");
        }
        Ok(())
    }

    /// Waits for the end, by a signal or otherwise.
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
        let stop = running.stopper();
        let (drain_delay, drain_timeout) = (limits.drain_delay, limits.drain_timeout);
        let watcher = signals.handle();
        let signalled = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut first = None;
                for signal in signals.forever() {
                    if signal == SIGHUP {
                        warn!("SIGHUP is ignored: a running server does not reload its configuration; restart it");
                        continue;
                    }
                    match first {
                        None => {
                            notify_service_manager(&[NotifyState::Stopping]);
                            first = Some(Instant::now());
                            drain_after(drain_delay, drain_timeout, signal, &stop);
                        }
                        // Whoever signals a process and then its group means it once.
                        Some(first) if first.elapsed() < SIGNAL_ECHO => {}
                        // The second signal is meant.
                        Some(_) => std::process::exit(128 + signal),
                    }
                }
            })
            .map_err(|error| resource("a thread", &error))?;
        let metrics = running.join()?;
        info!("drain ended");
        watcher.close();
        // Nothing is left to panic in there.
        let _ = signalled.join();
        Ok(metrics)
    }
}

/// What an operator, and a script, is told of a listener that is ready.
fn start_line(listen: &Listen, placement: &str) -> String {
    match (listen.transport, &listen.endpoint) {
        (Transport::Http, Endpoint::Tcp(_)) => {
            format!("listening on http://{listen}{ENDPOINT} ({placement})")
        }
        (Transport::Http, Endpoint::Unix(_)) => {
            format!("listening on {listen} (HTTP at {ENDPOINT}, {placement})")
        }
        (Transport::Lines, _) => format!("listening on {listen} (newline-delimited JSON, {placement})"),
    }
}

/// Reports a state to systemd, where `NOTIFY_SOCKET` is set.
fn notify_service_manager(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, state) {
        warn!(%error, "cannot report the server's state to NOTIFY_SOCKET");
    }
}

/// Announces the end at once, and begins the drain after `delay`: on a thread of its own, so that a second signal is handled
/// meanwhile.
fn drain_after(delay: Duration, drain_timeout: Duration, signal: i32, stop: &Stopper) {
    if delay.is_zero() {
        info!(signal, ?drain_timeout, "drain began");
        return stop.drain();
    }
    stop.unready();
    info!(signal, ?delay, ?drain_timeout, "not ready: drain begins after drain_delay");
    let later = stop.clone();
    let waiting = thread::Builder::new().name("drain-delay".to_owned()).spawn(move || {
        thread::sleep(delay);
        info!(?drain_timeout, "drain began");
        later.drain();
    });
    if waiting.is_err() {
        warn!("drain begins without drain_delay: no thread could be started for it");
        stop.drain();
    }
}

fn signals() -> Result<Signals, StartError> {
    Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|error| resource("signal handling", &error))
}
