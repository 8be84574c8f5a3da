//! Attacks in turn on one server, which must live, serve the bystander, and return its memory and descriptors.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    definition::Attack,
    footprint::Footprint,
    measure::{AttackRun, run_beside_attack},
    memory_group::MemoryGroup,
    server::Server,
    settings::Settings,
};
use crate::{
    error::LoadError,
    job::{RunContext, run_job},
    result::Run,
};

/// How long the attacks go on.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// For a time.
    Time(Duration),
    /// For a number of requests of the attacker.
    Requests(u64),
}

/// The result of one attack of a series: sums over its turns.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Name of the attack.
    pub attack: &'static str,
    /// Requests of the bystander.
    pub requests: u64,
    /// Those that were refused, failed or timed out.
    pub refusals: u64,
    /// The largest p99 of the bystander in a turn, in microseconds.
    pub p99_us: f64,
    /// Resident memory of the server at the end of the last turn, in bytes.
    pub resident_bytes: u64,
    /// Message of the first error of the bystander.
    pub first_error: Option<String>,
}

/// The result of a series of attacks.
#[derive(Clone, Debug)]
pub struct Endured {
    /// By attack.
    pub turns: Vec<Turns>,
    /// Requests of the attacker.
    pub attack_requests: u64,
    /// Length of the series.
    pub elapsed: Duration,
    /// Before the first attack, and when memory and descriptors were returned, or `RETURN_TIMEOUT` was over.
    pub before: Footprint,
    /// See `before`.
    pub after: Footprint,
    /// Time until then, from the end of the last attack.
    pub returned_within: Duration,
    /// Memory that may stay resident above that before, in bytes.
    pub kept_bytes_max: u64,
    /// Processes of the memory group that were killed, if there is a group.
    pub kills: Option<u64>,
    /// Whether the server was there at the end.
    pub survived: bool,
}

/// Time limit for the server to return memory and descriptors: the lifetime of the tasks of the attack, and more.
const RETURN_TIMEOUT: Duration = Duration::from_secs(90);
/// Memory that may stay resident above the footprint before the attacks, in bytes: buffers that are kept for reuse, and, after a series
/// of all attacks, sessions that have not expired, pages of the allocator that are not empty, and what was freed since it last
/// returned memory.
const KEPT_BYTES_MAX: u64 = 32 << 20;
const KEPT_BYTES_MAX_ALL: u64 = 64 << 20;
/// Length of the run before the attacks, which lets the server allocate what it keeps.
const WARM_UP: Duration = Duration::from_secs(1);

impl Endured {
    /// Whether the server returned what the attacks made it hold.
    #[must_use]
    pub fn has_returned(&self) -> bool {
        has_returned(&self.before, &self.after, self.kept_bytes_max)
    }

    /// Whether nothing was killed or refused, and everything returned.
    #[must_use]
    pub fn passed(&self) -> bool {
        let refusals: u64 = self.turns.iter().map(|turns| turns.refusals).sum();
        self.survived && self.kills.unwrap_or(0) == 0 && refusals == 0 && self.has_returned()
    }
}

fn has_returned(before: &Footprint, now: &Footprint, kept_bytes_max: u64) -> bool {
    now.descriptors <= before.descriptors && now.resident_bytes <= before.resident_bytes + kept_bytes_max
}

/// Sends attacks in turn to one server. The runs of the bystander are appended to `runs`.
///
/// # Errors
/// When the server cannot be started. One that ends later is a result.
pub fn endure(
    attacks: &[&Attack],
    length: Length,
    settings: &Settings,
    group: Option<&MemoryGroup>,
    context: &RunContext,
    runs: &mut Vec<Run>,
) -> Result<Endured, LoadError> {
    let server = Server::start(settings, group)?;
    for attack in attacks {
        run_job(&attack.bystander.job(&server, settings, WARM_UP / 4)?, context)?;
    }
    let before = server.footprint().unwrap_or_default();
    let counter = AtomicU64::new(0);
    let began = Instant::now();
    let kept_bytes_max = if attacks.len() > 1 { KEPT_BYTES_MAX_ALL } else { KEPT_BYTES_MAX };
    let (time_max, requests_max) = match length {
        Length::Time(time) => (time, u64::MAX),
        Length::Requests(requests) => (Duration::MAX, requests),
    };
    let mut turns: Vec<Turns> = Vec::new();
    for attack in attacks.iter().cycle() {
        let left = time_max.saturating_sub(began.elapsed());
        let is_over = left.is_zero() || counter.load(Ordering::Relaxed) >= requests_max;
        if is_over || server.has_ended() || context.is_interrupted() {
            break;
        }
        context.progress.print_line(&format!("{} · {} s", attack.id, began.elapsed().as_secs()));
        let attack_run = AttackRun {
            victim: &server,
            counter: &counter,
            requests_max,
            duration: settings.duration.min(left.max(Duration::from_millis(500))),
        };
        match run_beside_attack(attack, &attack_run, &server, settings, context) {
            Ok(run) => {
                let resident = server.footprint().map_or(0, |footprint| footprint.resident_bytes);
                add(&mut turns, attack.id, &run, resident);
                runs.push(run);
            }
            Err(LoadError::Interrupted) => break,
            // The end of the server is the result.
            Err(_) if server.has_ended() => break,
            Err(error) => return Err(error),
        }
    }
    let elapsed = began.elapsed();
    let ended = Instant::now();
    let footprint = || server.footprint().unwrap_or_default();
    while !has_returned(&before, &footprint(), kept_bytes_max)
        && ended.elapsed() < RETURN_TIMEOUT
        && !server.has_ended()
        && !context.is_interrupted()
    {
        thread::sleep(Duration::from_millis(200));
    }
    Ok(Endured {
        turns,
        attack_requests: counter.into_inner(),
        elapsed,
        before,
        after: footprint(),
        returned_within: ended.elapsed(),
        kept_bytes_max,
        kills: group.map(MemoryGroup::kills),
        survived: !server.has_ended(),
    })
}

fn add(turns: &mut Vec<Turns>, attack: &'static str, run: &Run, resident_bytes: u64) {
    let index = turns.iter().position(|turns| turns.attack == attack).unwrap_or_else(|| {
        turns.push(Turns {
            attack,
            requests: 0,
            refusals: 0,
            p99_us: 0.0,
            resident_bytes: 0,
            first_error: None,
        });
        turns.len() - 1
    });
    let Some(turns) = turns.get_mut(index) else { return };
    turns.requests += run.requests_count;
    turns.refusals += run.errors_total();
    turns.p99_us = turns.p99_us.max(run.latency.p99_us);
    turns.resident_bytes = resident_bytes;
    if turns.first_error.is_none() {
        turns.first_error.clone_from(&run.first_error);
    }
}
