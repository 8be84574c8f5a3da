//! Gains in words, for terminal, page and image.

use super::{Ablation, Gain};
use crate::metric::ratio;

impl Gain {
    /// The gain as `1.25 ×`, or a dash.
    #[must_use]
    pub fn shown_ratio(&self) -> String {
        self.ratio.map_or_else(|| "–".to_owned(), ratio)
    }

    /// The interval as `1.21–1.29 ×`, or a dash.
    #[must_use]
    pub fn shown_interval(&self) -> String {
        let Some([low, high]) = self.interval else { return "–".to_owned() };
        let low = ratio(low);
        format!("{}–{}", low.trim_end_matches(" ×"), ratio(high))
    }
}

impl Ablation<'_> {
    /// The product of the single gains beside that of all flags, as a sentence.
    #[must_use]
    pub fn combined_text(&self) -> Option<String> {
        let combined = self.combined?;
        Some(format!(
            "In the canonical workload the single gains multiply to {}; all flags on beside all off gain {}. The remainder of {} \
             is what flags gain, or lose, only together.",
            ratio(combined.product),
            ratio(combined.all),
            ratio(combined.remainder())
        ))
    }

    /// The limitations of the gains and those that are losses, one line each with its rows.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        for gain in &self.gains {
            let name = format!("{} in {}", gain.part, gain.workload);
            let verdict = match gain.ratio {
                None => Some("not measured"),
                Some(_) if gain.interval.is_none() => Some("too few rounds for an interval"),
                Some(_) if !gain.is_certain() => Some("no difference beyond the noise"),
                Some(ratio) if ratio < 1.0 => Some("worse when on"),
                Some(_) => None,
            };
            for remark in verdict.map(str::to_owned).into_iter().chain(gain.remarks.iter().cloned()) {
                match lines.iter_mut().find(|(other, _)| *other == remark) {
                    Some((_, names)) => names.push(name.clone()),
                    None => lines.push((remark, vec![name.clone()])),
                }
            }
        }
        let line = |(remark, names): (String, Vec<String>)| {
            let rows = if names.len() == self.gains.len() { "all rows".to_owned() } else { names.join(", ") };
            format!("{remark}: {rows}")
        };
        lines.into_iter().map(line).collect()
    }

    /// Machine, commit, flags and method.
    #[must_use]
    pub fn origin(&self) -> String {
        let of = &self.file.environment;
        let rounds = self.gains.iter().flat_map(|gain| gain.runs_count).max().unwrap_or(0);
        format!(
            "Commit {}; {}, {} cores, Linux {}; rounds: {rounds}, on and off in turn, each by a new process. All flags are on except \
             those in the first column; servers do not spin. req/core-s: requests per second of the server's processor time; all \
             calls: median time of 100 calls of 5 ms; last P95: time of an update to its last subscriber; validation: median time \
             of one, measured in the generator with the server's validator. Observability is the histograms of latencies \
             and the samples of stages, profile a CPU profile at 99 Hz, which is off in all other rows; below 1 × they cost.",
            of.commit, of.cpu_model, of.cores_count, of.kernel
        )
    }
}
