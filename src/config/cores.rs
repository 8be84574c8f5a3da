//! Lists of cores.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Core numbers without repetition, written as `0,2-5`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cores(pub Vec<usize>);

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const CPU_MAX: usize = 4095;
        let number = |part: &str| {
            let cpu = part.trim().parse::<usize>().map_err(|_| format!("{part:?} is not a core number"))?;
            if cpu > CPU_MAX { Err(format!("core numbers end at {CPU_MAX}")) } else { Ok(cpu) }
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(format!("{part:?} is a descending range"));
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("core {cpu} is named twice"));
                }
                cpus.push(cpu);
            }
        }
        Ok(Self(cpus))
    }
}

impl TryFrom<String> for Cores {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cores> for String {
    fn from(Cores(cpus): Cores) -> Self {
        cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_list_of_cores_is_rejected_with_a_reason() {
        assert_eq!("0,2-5".parse::<Cores>().unwrap().0, [0, 2, 3, 4, 5]);
        assert_eq!(String::from(Cores(vec![5, 0])), "5,0");
        for (text, reason) in [
            ("", "not a core number"),
            ("a", "not a core number"),
            ("3-1", "descending range"),
            ("1,0-2", "named twice"),
            ("0-99999", "end at"),
        ] {
            let message = text.parse::<Cores>().unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
