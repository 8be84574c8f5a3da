//! Positions of the flags of a server.

use corelane::{Flag, Flags};

/// Prefix of the contestants of an ablation that lack one flag.
const WITHOUT: &str = "corelane-without-";

/// The flags of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// All flags on.
    AllOn,
    /// All flags on except this one.
    Without(Flag),
    /// All flags off.
    AllOff,
    /// All flags on, no histograms of latencies, and no samples of stages.
    Unobserved,
    /// All flags on, while a CPU profile is taken.
    Profiled,
}

impl Position {
    /// The name of the server in results.
    #[must_use]
    pub fn contestant(self) -> String {
        match self {
            Self::AllOn => "corelane-all-on".to_owned(),
            Self::Without(flag) => format!("{WITHOUT}{flag}"),
            Self::AllOff => "corelane-all-off".to_owned(),
            Self::Unobserved => "corelane-unobserved".to_owned(),
            Self::Profiled => "corelane-profiled".to_owned(),
        }
    }

    /// The position of a server with this name; `None` if it is not of an ablation.
    #[must_use]
    pub fn of_contestant(name: &str) -> Option<Self> {
        let fixed = [Self::AllOn, Self::AllOff, Self::Unobserved, Self::Profiled];
        let found = fixed.into_iter().find(|position| position.contestant() == name);
        found.or_else(|| Some(Self::Without(name.strip_prefix(WITHOUT)?.parse().ok()?)))
    }

    /// The positions of all flags.
    #[must_use]
    pub fn flags(self) -> Flags {
        match self {
            Self::AllOn | Self::Unobserved | Self::Profiled => Flags::ALL,
            Self::Without(flag) => Flags::ALL.with(flag, false),
            Self::AllOff => Flags::from_bits(0),
        }
    }

    /// The configuration file of the server.
    #[must_use]
    pub fn configuration(self) -> String {
        let lines = self.flags().iter().map(|(flag, is_on)| match flag {
            Flag::JsonBackend => format!("{flag} = {:?}\n", flag.position(is_on)),
            _ => format!("{flag} = {is_on}\n"),
        });
        let observed = if self == Self::Unobserved { "[limits]\nstage_sample_interval = 0\n" } else { "" };
        format!("[performance]\n{}{observed}", lines.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_name_their_positions() {
        let single = Flag::ALL.iter().map(|flag| Position::Without(*flag));
        let fixed = [Position::AllOn, Position::AllOff, Position::Unobserved, Position::Profiled];
        for position in fixed.into_iter().chain(single) {
            assert_eq!(Position::of_contestant(&position.contestant()), Some(position));
        }
        for other in ["corelane", "corelane-without-spin", "nginx-static"] {
            assert_eq!(Position::of_contestant(other), None);
        }
    }

    #[test]
    fn configuration_switches_one_flag_off() {
        let text = Position::Without(Flag::JsonBackend).configuration();
        assert!(text.contains("json_backend = \"serde\"\n") && text.contains("zero_copy = true\n"), "{text}");
        assert_eq!(Position::AllOff.configuration().matches("= false").count(), Flag::ALL.len() - 1);
        assert!(!Position::AllOn.configuration().contains("false"));
        assert!(Position::Unobserved.configuration().ends_with("stage_sample_interval = 0\n"));
    }
}
