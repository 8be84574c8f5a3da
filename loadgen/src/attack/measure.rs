//! One attack, measured: the bystander beside the attack, and beside the same attack on another server of the same core.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{attacker::Attacker, definition::Attack, server::Server, settings::Settings};
use crate::{
    error::LoadError,
    job::{RunContext, run_job_with},
    progress::ProgressTarget,
    result::{Outcome, Run},
    statistics::median,
};

/// The service that a bystander must get.
#[derive(Clone, Copy, Debug)]
pub struct Bars {
    /// Maximum ratio of the p99 beside the attack to that of the control.
    pub ratio_max: f64,
    /// A p99 of the control below this counts as this, in microseconds.
    pub floor_us: f64,
}

/// The result of one attack.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Name of the attack.
    pub attack: &'static str,
    /// Medians of the p99 of the bystander over the rounds, in microseconds.
    pub attacked_p99_us: f64,
    /// As above, of the control.
    pub control_p99_us: f64,
    /// Ratio of the two; the control counts as at least the floor.
    pub ratio: f64,
    /// Requests of the bystander that were refused, failed or timed out beside the attack.
    pub refusals: u64,
    /// Requests of the attacker in a second, at the attacked server.
    pub attack_per_s: f64,
    /// Bytes of the server's log in a second, beside the attack.
    pub log_bytes_per_s: f64,
    /// Message of the first error of the bystander.
    pub first_error: Option<String>,
    /// Whether nothing was refused, the server did not end, and the ratio is within the bar.
    pub passed: bool,
}

/// Names of the two cases in results.
const ATTACKED: &str = "attacked";
const CONTROL: &str = "control";

/// Measures an attack: attacked, control, attacked, control …, each with servers of their own. The runs are appended to
/// `runs`.
///
/// # Errors
/// When a server cannot be started or reached. An interruption ends the measurement without a verdict.
pub fn measure(
    attack: &Attack,
    settings: &Settings,
    bars: Bars,
    context: &RunContext,
    runs: &mut Vec<Run>,
) -> Result<Verdict, LoadError> {
    let mut own = Vec::new();
    for _ in 0..settings.rounds {
        for contestant in [ATTACKED, CONTROL] {
            let (beside, other) = (Server::start(settings, None)?, Server::start(settings, None)?);
            let victim = if contestant == ATTACKED { &beside } else { &other };
            let counter = AtomicU64::new(0);
            let mut run = run_beside_attack(
                attack,
                &AttackRun { victim, counter: &counter, requests_max: u64::MAX, duration: settings.duration },
                &beside,
                settings,
                context,
            )?;
            contestant.clone_into(&mut run.contestant);
            own.push(run);
        }
    }
    let verdict = judge(attack.id, &own, bars);
    runs.append(&mut own);
    Ok(verdict)
}

fn judge(attack: &'static str, runs: &[Run], bars: Bars) -> Verdict {
    let of = |contestant: &'static str| runs.iter().filter(move |run| run.contestant == contestant);
    let middle = |contestant, value: &dyn Fn(&Run) -> f64| {
        median(&of(contestant).map(value).collect::<Vec<f64>>()).unwrap_or(f64::NAN)
    };
    let p99 = |run: &Run| run.latency.p99_us;
    let (attacked_p99_us, control_p99_us) = (middle(ATTACKED, &p99), middle(CONTROL, &p99));
    let figure = |name: &'static str| {
        middle(ATTACKED, &move |run: &Run| run.figures.get(name).copied().unwrap_or(0.0))
    };
    let ratio = attacked_p99_us / control_p99_us.max(bars.floor_us);
    let refusals = of(ATTACKED).map(Run::errors_total).sum();
    let survived = of(ATTACKED).all(|run| run.outcome == Outcome::Complete);
    Verdict {
        attack,
        attacked_p99_us,
        control_p99_us,
        ratio,
        refusals,
        attack_per_s: figure(ATTACK_RATE),
        log_bytes_per_s: figure(LOG_RATE),
        first_error: of(ATTACKED).find_map(|run| run.first_error.clone()),
        passed: survived && refusals == 0 && ratio <= bars.ratio_max,
    }
}

/// Names of the figures of a run.
const ATTACK_RATE: &str = "attack_requests_per_s";
const LOG_RATE: &str = "log_bytes_per_s";

/// The attack beside a run.
pub(super) struct AttackRun<'a> {
    /// The attacked server.
    pub(super) victim: &'a Server,
    /// Requests of the attack so far, and their maximum.
    pub(super) counter: &'a AtomicU64,
    pub(super) requests_max: u64,
    /// Length of the run.
    pub(super) duration: Duration,
}

/// Measures the bystander at `server` while the attack is on.
pub(super) fn run_beside_attack(
    attack: &Attack,
    attack_run: &AttackRun<'_>,
    server: &Server,
    settings: &Settings,
    context: &RunContext,
) -> Result<Run, LoadError> {
    let mut job = attack.bystander.job(server, settings, attack_run.duration)?;
    job.workload = format!("attack_{}", attack.id);
    let core = job.plan.cores.first().copied().unwrap_or(0);
    let quiet =
        RunContext { progress: ProgressTarget::Nobody, interrupted: Arc::clone(&context.interrupted) };
    let stopped = AtomicBool::new(false);
    let victim = attack_run.victim;
    let requests_before = attack_run.counter.load(Ordering::Relaxed);
    let log_before = victim.log_bytes();
    let (connected, is_connected) = crossbeam_channel::bounded(1);
    thread::scope(|scope| {
        let attacker = Attacker {
            target: &victim.target,
            address: victim.address(),
            lines: victim.lines,
            admin: victim.admin,
            core,
            stopped: &stopped,
            requests: attack_run.counter,
            requests_max: attack_run.requests_max,
        };
        scope.spawn(move || {
            // The run may have failed to connect.
            if is_connected.recv().is_ok() {
                (attack.run)(&attacker);
            }
        });
        let streams = scope.spawn(|| attack.bystander.open_streams(server, &stopped));
        let began = Instant::now();
        let run = run_job_with(&job, &quiet, Some(connected));
        stopped.store(true, Ordering::Relaxed);
        let elapsed_s = began.elapsed().as_secs_f64().max(0.001);
        let streams = streams.join().map_err(|_| LoadError::Resource("the bystander panicked".to_owned()))?;
        let mut run = run?;
        if let Some(streams) = streams {
            streams.add_to(&mut run)?;
        }
        if run.outcome == Outcome::Interrupted {
            return Err(LoadError::Interrupted);
        }
        let requests = attack_run.counter.load(Ordering::Relaxed) - requests_before;
        run.figures.insert(ATTACK_RATE.to_owned(), requests as f64 / elapsed_s);
        let log_bytes = victim.log_bytes() - log_before;
        run.figures.insert(LOG_RATE.to_owned(), log_bytes as f64 / elapsed_s);
        Ok(run)
    })
}
