//! The turns of a round.

use std::{fmt, str::FromStr, time::Duration};

use corelane::Flag;

use super::{Measurement, Position};
use crate::placement::{Placement, available};

/// What is switched off, or on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A flag.
    Flag(Flag),
    /// The histograms of latencies.
    Observability,
    /// A CPU profile, which is off in all other positions.
    Profile,
}

/// Name of [`Part::Observability`].
const OBSERVABILITY: &str = "observability";
/// Name of [`Part::Profile`].
const PROFILE: &str = "profile";

impl Part {
    /// All parts, in the order of their rows.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Flag::ALL.iter().map(|flag| Self::Flag(*flag)).chain([Self::Observability, Self::Profile]).collect()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(formatter),
            Self::Observability => formatter.write_str(OBSERVABILITY),
            Self::Profile => formatter.write_str(PROFILE),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            OBSERVABILITY => Ok(Self::Observability),
            PROFILE => Ok(Self::Profile),
            _ => text.parse().map(Self::Flag).map_err(|unknown: corelane::UnknownFlag| {
                format!("{unknown} (not flags: {OBSERVABILITY}, {PROFILE})")
            }),
        }
    }
}

/// Settings of an ablation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is switched off, in turn.
    pub parts: Vec<Part>,
    /// Number of runs of each position.
    pub rounds: u32,
    /// Measured time of a run.
    pub duration: Duration,
    /// Fraction of connections and calls in flight.
    pub scale: f64,
    /// Core of the servers with one shard, and the first of those with several.
    pub server_core: usize,
    /// Placement of the generator's threads.
    pub placement: Placement,
}

/// One run of a round.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) measurement: Measurement,
    pub(super) position: Position,
    /// Cores of the server; as many shards as cores.
    pub(super) cores: Vec<usize>,
    /// Delay that is injected into the server.
    pub(super) delay: Duration,
}

impl Settings {
    /// The turns of a round.
    pub(super) fn turns(&self) -> Vec<Turn> {
        let flags = || {
            self.parts.iter().filter_map(|part| match part {
                Part::Flag(flag) => Some(*flag),
                Part::Observability | Part::Profile => None,
            })
        };
        let mut canonical = vec![Position::AllOn];
        // The canonical workload has one shard, on which this flag has no effect.
        canonical.extend(flags().filter(|flag| *flag != Flag::ServerPooling).map(Position::Without));
        if flags().count() == Flag::ALL.len() {
            canonical.push(Position::AllOff);
        }
        for (part, position) in
            [(Part::Observability, Position::Unobserved), (Part::Profile, Position::Profiled)]
        {
            if self.parts.contains(&part) {
                canonical.push(position);
            }
        }
        if canonical.len() == 1 {
            canonical.clear();
        }
        let canonical = canonical.into_iter().map(|position| (Measurement::canonical(), position));
        let fitting = flags().flat_map(|flag| {
            [Position::AllOn, Position::Without(flag)].map(|position| (Measurement::fitting(flag), position))
        });
        canonical.chain(fitting).map(|(measurement, position)| self.turn(measurement, position)).collect()
    }

    pub(super) fn turn(&self, measurement: Measurement, position: Position) -> Turn {
        let is_pooled = measurement.workload.id == Measurement::fitting(Flag::ServerPooling).workload.id;
        let cores = if is_pooled { self.pool_cores() } else { vec![self.server_core] };
        let measurement = measurement.scaled(self.scale, self.duration);
        Turn { measurement, position, cores, delay: Duration::ZERO }
    }

    /// A core for each shard of a server with several: all cores that the generator does not use; with fewer than two of them
    /// the first two cores of the machine, one of which the generator uses too.
    fn pool_cores(&self) -> Vec<usize> {
        let generator = self.placement.cores(1);
        let mut all = available();
        all.sort_by_key(|core| (*core != self.server_core, *core));
        let free: Vec<usize> = all.iter().copied().filter(|core| !generator.contains(core)).collect();
        match free.len() {
            2.. => free,
            _ => all.into_iter().cycle().take(2).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(parts: Vec<Part>) -> Vec<(String, String)> {
        let settings = Settings {
            parts,
            rounds: 1,
            duration: Duration::from_secs(1),
            scale: 1.0,
            server_core: 0,
            placement: Placement::default(),
        };
        let name = |turn: &Turn| (turn.measurement.workload.id.to_owned(), turn.position.contestant());
        settings.turns().iter().map(name).collect()
    }

    #[test]
    fn every_flag_is_switched_off_in_two_workloads() {
        let all = turns(Part::all());
        // Five flags, all of them, the histograms and a profile in the canonical workload beside all on; six pairs.
        assert_eq!(all.len(), 1 + 5 + 1 + 1 + 1 + 6 * 2);
        for flag in Flag::ALL {
            let off = Position::Without(*flag).contestant();
            let expected = if *flag == Flag::ServerPooling { 1 } else { 2 };
            assert_eq!(all.iter().filter(|(_, contestant)| *contestant == off).count(), expected, "{flag}");
        }
    }

    #[test]
    fn selected_parts_have_their_runs_only() {
        let names = |parts| -> Vec<String> { turns(parts).into_iter().map(|(_, name)| name).collect() };
        assert_eq!(names(vec![Part::Observability]), ["corelane-all-on", "corelane-unobserved"]);
        assert_eq!(names(vec![Part::Profile]), ["corelane-all-on", "corelane-profiled"]);
        assert_eq!(
            names(vec![Part::Flag(Flag::ServerPooling)]),
            ["corelane-all-on", "corelane-without-server_pooling"]
        );
        assert_eq!(turns(vec![Part::Flag(Flag::ZeroCopy)]).len(), 4);
    }

    #[test]
    fn parts_are_read_by_their_names() {
        for part in Part::all() {
            assert_eq!(part.to_string().parse(), Ok(part));
        }
        assert_eq!(
            "zerocopy".parse::<Part>().unwrap_err(),
            "unknown flag \"zerocopy\"; did you mean zero_copy? (not flags: observability, profile)"
        );
    }
}
