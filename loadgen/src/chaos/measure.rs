//! One fault, measured: the bystander before the fault, during it and after it, and what the fault shows.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    definition::{Fault, Log, Setting},
    observation::{Failure, Observation},
    outcome::{Bars, FaultOutcome, Service},
    scene::Scene,
};
use crate::{
    attack::{Settings, attacker::enter, launch::Launch, server::Server},
    error::LoadError,
    fault_injection,
    job::{Job, RunContext, run_job, run_job_with},
    progress::ProgressTarget,
    result::{Outcome, Run},
};

/// Pause between the begin of the load and the fault.
const LEAD: Duration = Duration::from_millis(200);
/// Maximum length of the load during a fault.
const DURING_MAX: Duration = Duration::from_secs(120);
/// Errors of the bystander that a fault which aborts calls explains.
const ABORTS: [&str; 2] = ["connection_closed", "connection_reset"];
/// Time that a turn of the killed shard takes, and the length of a turn from which it is slow.
const KILL_US: &str = "40000";

/// Measures a fault on a server of its own. `overrides` replace limits of the server, as `KEY=VALUE`.
///
/// # Errors
/// When the server cannot be started or reached, or the user interrupts.
pub fn measure(
    fault: &Fault,
    settings: &Settings,
    overrides: &[(String, String)],
    bars: &Bars,
    context: &RunContext,
) -> Result<FaultOutcome, LoadError> {
    let began = Instant::now();
    if let Err(reason) = (fault.permitted)() {
        return Ok(FaultOutcome::skipped(fault.id, reason));
    }
    let directory = Scratch::new()?;
    let config = directory.0.join("corelane.toml");
    let written = fs::write(&config, configuration(fault.settings, overrides));
    written.map_err(|error| LoadError::Resource(format!("{}: {error}", config.display())))?;
    let settings = Settings { config: Some(config), ..settings.clone() };
    let server = start(fault, &settings, &directory.0)?;
    let quiet = quiet(context);
    let phase = |name: &str, duration: Duration| {
        let mut job = fault.bystander.job(&server, &settings, duration)?;
        job.workload = format!("chaos_{}_{name}", fault.id);
        Ok::<_, LoadError>(job)
    };
    let before = run_job(&phase("before", settings.duration)?, &quiet)?;
    let scene = Scene {
        server: &server,
        server_core: settings.server_core,
        duration: settings.duration,
        directory: &directory.0,
    };
    let commit = scene.sample().commit();
    let job = phase("during", DURING_MAX)?;
    let (during, observed) = inject_beside(fault, &scene, &job);
    if context.is_interrupted() {
        return Err(LoadError::Interrupted);
    }
    let (during, observed) =
        (during?, observed.ok_or_else(|| LoadError::Resource("the fault did not begin".to_owned()))?);
    let after = match server.has_ended() {
        true => None,
        false => Some(run_job(&phase("after", settings.duration)?, &quiet)?),
    };
    let observation = match observed {
        Ok(observation) => observation,
        Err(Failure::NotPermitted(reason)) => return Ok(FaultOutcome::skipped(fault.id, reason)),
        Err(Failure::Failed(reason)) => failed(reason),
    };
    let service = service(&before, &during, after.as_ref(), observation.aborts_max);
    let injected_s = observation.injected.saturating_duration_since(began).as_secs_f64();
    Ok(FaultOutcome { commit, ..FaultOutcome::judged(fault.id, injected_s, observation, service, bars) })
}

/// Injects the fault beside the load, which ends when the fault has been observed. Returns the run of the load, and the observation if the
/// load could connect.
fn inject_beside(
    fault: &Fault,
    scene: &Scene<'_>,
    job: &Job,
) -> (Result<Run, LoadError>, Option<Result<Observation, Failure>>) {
    let ended = Arc::new(AtomicBool::new(false));
    let ending = RunContext { progress: ProgressTarget::Nobody, interrupted: Arc::clone(&ended) };
    let (connected, is_connected) = crossbeam_channel::bounded(1);
    let core = job.plan.cores.first().copied().unwrap_or(0);
    thread::scope(|scope| {
        let load = scope.spawn(move || run_job_with(job, &ending, Some(connected)));
        let injecting = scope.spawn(move || {
            is_connected.recv().ok()?;
            if fault.is_background {
                enter(core);
            }
            let until = Instant::now() + LEAD + scene.duration;
            thread::sleep(LEAD);
            let observed = (fault.inject)(scene);
            thread::sleep(until.saturating_duration_since(Instant::now()));
            Some(observed)
        });
        let observed = injecting.join().ok().flatten();
        ended.store(true, Ordering::Relaxed);
        let load = load.join().map_err(|_| LoadError::Resource("the load panicked".to_owned()));
        (load.and_then(|run| run), observed)
    })
}

/// The observation of a fault that could not be injected as planned.
fn failed(reason: String) -> Observation {
    let mut observation = Observation::new("", "–");
    observation.wrong(reason);
    observation
}

fn quiet(context: &RunContext) -> RunContext {
    RunContext { progress: ProgressTarget::Nobody, interrupted: Arc::clone(&context.interrupted) }
}

fn start(fault: &Fault, settings: &Settings, directory: &Path) -> Result<Server, LoadError> {
    let killing = format!("slow_turn {}", fault_injection::TOOL);
    let variables =
        [(fault_injection::PANICS_VARIABLE, killing.as_str()), (fault_injection::DELAY_VARIABLE, KILL_US)];
    let launch = Launch { shards: fault.shards, ..Launch::default() };
    let launch = match fault.log {
        Log::Plain => launch,
        Log::Panicking => Launch { variables: &variables, ..launch },
        Log::SmallDisk => Launch { mounting: Some((super::disk_full::MOUNT, directory)), ..launch },
    };
    Server::launch(settings, &launch, None)
}

/// The configuration of a fault's server. A limit of `overrides` replaces that of the fault.
fn configuration(settings: &[Setting], overrides: &[(String, String)]) -> String {
    let mut text = String::new();
    for table in ["server", "limits", "log"] {
        text.push_str(&format!("[{table}]\n"));
        for (_, key, value) in settings.iter().filter(|(of, key, _)| {
            *of == table && !(table == "limits" && overrides.iter().any(|(other, _)| other == key))
        }) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        if table == "limits" {
            overrides.iter().for_each(|(key, value)| text.push_str(&format!("{key} = {value}\n")));
        }
    }
    text
}

/// The service of the bystander.
fn service(before: &Run, during: &Run, after: Option<&Run>, aborts_max: u64) -> Service {
    let runs = || [Some(before), Some(during), after].into_iter().flatten();
    let explained = ABORTS.iter().filter_map(|kind| during.errors_count.get(*kind)).sum::<u64>();
    let aborted = explained.min(aborts_max);
    let is_gone = |run: &Run| matches!(run.outcome, Outcome::ServerGone { .. });
    let p99 = |run: &Run| (run.latency.count > 0).then_some(run.latency.p99_us);
    Service {
        requests: runs().map(|run| run.requests_count).sum(),
        aborted,
        failed: runs().map(Run::errors_total).sum::<u64>() - aborted,
        p99_before_us: p99(before),
        p99_during_us: p99(during),
        p99_after_us: after.and_then(p99),
        first_error: runs().find_map(|run| run.first_error.clone()).filter(|_| aborts_max == 0),
        has_survived: after.is_some() && !runs().any(is_gone),
    }
}

/// A directory of its own, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, LoadError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("corelane-chaos-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| LoadError::Resource(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::configuration;

    #[test]
    fn overrides_replace_the_limits_of_a_fault() {
        let settings = [("limits", "connections_max", "100"), ("server", "memory_max", "\"64MiB\"")];
        let text = configuration(&settings, &[]);
        assert!(text.contains("[server]\nmemory_max = \"64MiB\"\n"), "{text}");
        assert!(text.contains("[limits]\nconnections_max = 100\n"), "{text}");
        let text = configuration(&settings, &[("connections_max".to_owned(), "500".to_owned())]);
        assert!(text.contains("[limits]\nconnections_max = 500\n") && !text.contains("= 100"), "{text}");
    }
}
