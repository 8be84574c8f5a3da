//! The runs of an ablation.

use std::time::{Duration, SystemTime};

use corelane::Flag;

use super::{
    Measurement, Position,
    plan::{Settings, Turn},
    validation::{VALIDATION, p50_ns},
};
use crate::{
    error::LoadError,
    fault_injection::{PROFILED_VARIABLE, UNOBSERVED_VARIABLE},
    fixture::FixtureSettings,
    job::RunContext,
    result::{NotRun, Outcome, ResultFile, Run},
    suite::{SEED, Suite, TIMEOUT},
};

/// Measures all positions in turn. An interruption ends it with the runs so far.
///
/// # Errors
/// When a server cannot be started or reached, or did not run with the flags of its position.
pub fn run(settings: &Settings, context: &RunContext) -> Result<ResultFile, LoadError> {
    run_turns(settings, &settings.turns(), context)
}

fn run_turns(settings: &Settings, turns: &[Turn], context: &RunContext) -> Result<ResultFile, LoadError> {
    let started = SystemTime::now();
    let (mut runs, mut not_run) = (Vec::new(), Vec::<NotRun>::new());
    'rounds: for round in 0..settings.rounds {
        let mut order: Vec<&Turn> = turns.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for turn in order {
            if context.is_interrupted() {
                break 'rounds;
            }
            let (id, contestant) = (turn.measurement.workload.id, turn.position.contestant());
            let line = format!("round {} of {}: {id}, {contestant}", round + 1, settings.rounds);
            context.progress.print_line(&line);
            let file = settings.suite(turn).run(context)?;
            let unlisted = |other: &NotRun| !not_run.iter().any(|listed| listed.workload == other.workload);
            let reasons: Vec<NotRun> = file.not_run.into_iter().filter(unlisted).collect();
            not_run.extend(reasons);
            for mut run in file.runs {
                complete(&mut run, turn, settings)?;
                runs.push(run);
            }
        }
    }
    Ok(ResultFile::of_this_process(started, runs, not_run))
}

impl Settings {
    /// The suite with the only run of a turn.
    fn suite(&self, turn: &Turn) -> Suite {
        let mut workload = turn.measurement.workload.clone();
        workload.shards = turn.cores.len();
        let variable = match turn.position {
            Position::Unobserved => Some(UNOBSERVED_VARIABLE),
            Position::Profiled => Some(PROFILED_VARIABLE),
            _ => None,
        };
        let variables = variable.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
        Suite {
            workloads: vec![workload],
            repeats: 1,
            duration: Some(self.duration),
            brief: true,
            scale: self.scale,
            timeout: TIMEOUT,
            name: Some(turn.position.contestant()),
            seed: SEED,
            target: None,
            fixture: FixtureSettings {
                cores: turn.cores.clone(),
                delay: turn.delay,
                configuration: Some(turn.position.configuration()),
                variables,
                arguments: ["--spin-us", "0"].map(str::to_owned).to_vec(),
                ..FixtureSettings::default()
            },
            placement: self.placement.clone(),
        }
    }
}

/// Checks the flags of the server, and adds the figures of this ablation.
fn complete(run: &mut Run, turn: &Turn, settings: &Settings) -> Result<(), LoadError> {
    if run.outcome == Outcome::Complete {
        check_flags(run, turn.position)?;
    }
    let generator = settings.placement.cores(1);
    if turn.measurement.workload.id == Measurement::fitting(Flag::ServerPooling).workload.id {
        let shards = if turn.position == Position::AllOn { turn.cores.len() } else { 1 };
        let shared = turn.cores.iter().filter(|core| generator.contains(core)).count();
        let figures = [
            ("shards_count", shards as f64),
            ("cores_shared_with_generator_count", shared as f64),
            ("requests_per_shard_second", run.throughput_per_s / shards as f64),
        ];
        run.figures.extend(figures.map(|(name, figure)| (name.to_owned(), figure)));
    }
    if turn.measurement.workload.id == Measurement::fitting(Flag::SchemaCache).workload.id {
        let core = generator.first().copied().unwrap_or(0);
        run.figures.insert(VALIDATION.to_owned(), p50_ns(turn.position == Position::AllOn, core)?);
    }
    Ok(())
}

/// A gain between servers with the same flags would be noise.
fn check_flags(run: &Run, position: Position) -> Result<(), LoadError> {
    for (flag, is_on) in position.flags().iter() {
        if run.server.flags.get(flag.name()) != Some(&is_on) {
            return Err(LoadError::Resource(format!(
                "{} ran with {flag} {}",
                run.contestant,
                match run.server.flags.get(flag.name()) {
                    Some(true) => "on",
                    Some(false) => "off",
                    None => "unknown",
                }
            )));
        }
    }
    Ok(())
}

/// The flag without which the server of a self-test has the injected delay.
pub const PLANTED_FLAG: Flag = Flag::ZeroCopy;

/// Measures a server with all flags on, one without [`PLANTED_FLAG`] and with an injected delay, and one without another flag.
///
/// # Errors
/// As [`run`].
pub fn run_planted(
    settings: &Settings,
    delay: Duration,
    context: &RunContext,
) -> Result<ResultFile, LoadError> {
    let positions = [Position::AllOn, Position::Without(PLANTED_FLAG), Position::Without(Flag::SchemaCache)];
    let turns = positions.map(|position| {
        let delay = if position == Position::Without(PLANTED_FLAG) { delay } else { Duration::ZERO };
        Turn { delay, ..settings.turn(Measurement::planted(), position) }
    });
    run_turns(settings, &turns, context)
}
