//! One reading of the server's `/metrics`.

use std::net::SocketAddr;

use crate::monitor::metrics_text;

/// The values of `/metrics` at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample(String);

impl Sample {
    /// Reads the metrics. Empty if the admin address does not answer.
    pub(super) fn of(admin: SocketAddr) -> Self {
        Self(metrics_text(admin).unwrap_or_default())
    }

    /// The sum of a metric over all of its series whose labels contain `label`.
    pub(super) fn sum(&self, name: &str, label: &str) -> f64 {
        let values = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let labels = series.strip_prefix(name)?;
            let is_series = (labels.is_empty() || labels.starts_with('{')) && labels.contains(label);
            is_series.then(|| value.parse::<f64>().ok()).flatten()
        });
        values.sum()
    }

    /// The commit from which the server was built.
    pub(super) fn commit(&self) -> Option<String> {
        let line = self.0.lines().find(|line| line.starts_with("corelane_build_info{"))?;
        Some(line.split_once("commit=\"")?.1.split_once('"')?.0.to_owned())
    }

    /// The number of rejections for a reason.
    pub(super) fn refusals(&self, reason: &str) -> f64 {
        self.sum("corelane_refusals_total", &format!("reason=\"{reason}\""))
    }

    /// The number of events of a kind.
    pub(super) fn events(&self, event: &str) -> f64 {
        self.sum("corelane_events_total", &format!("event=\"{event}\""))
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let sample = Sample(
            "# HELP corelane_refusals_total x\n\
             corelane_refusals_total{shard=\"0\",reason=\"busy\"} 2\n\
             corelane_refusals_total{shard=\"1\",reason=\"busy\"} 3\n\
             corelane_refusals_total{shard=\"1\",reason=\"not_json\"} 7\n\
             corelane_refusals_total_more{reason=\"busy\"} 100\n\
             corelane_log_lines_unwritten_total 4\n\
             corelane_build_info{version=\"1\",commit=\"abc\"} 1\n"
                .to_owned(),
        );
        assert_eq!(sample.commit().as_deref(), Some("abc"));
        assert_eq!((sample.refusals("busy"), sample.refusals("not_json")), (5.0, 7.0));
        assert_eq!(sample.refusals("peer_lost"), 0.0);
        assert_eq!(sample.sum("corelane_log_lines_unwritten_total", ""), 4.0);
    }
}
