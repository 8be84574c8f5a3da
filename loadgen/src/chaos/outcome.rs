//! The outcome of a fault: what was measured, and whether it is within the bars.

use std::time::Duration;

use serde::Serialize;

use super::observation::Observation;

/// The bars of all faults.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bars {
    /// Time from the fault until the server shows it, in milliseconds.
    pub detected_ms_max: f64,
    /// Time from the end of the fault until the server serves as before, in milliseconds.
    pub recovered_ms_max: f64,
    /// The p99 of the bystander during and after the fault, in microseconds.
    pub p99_us_max: f64,
}

/// Whether a fault passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything is within the bars.
    Passed,
    /// Something is not.
    Failed,
    /// This machine or this user does not permit the fault.
    Skipped,
}

/// The service of the bystander, over the load before, during and after the fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Service {
    /// Requests.
    pub requests: u64,
    /// Requests that the fault itself aborted: those in flight on connections of a shard that failed.
    pub aborted: u64,
    /// Other requests that were refused, failed, timed out, or got a wrong reply.
    pub failed: u64,
    /// The p99 before the fault, in microseconds.
    pub p99_before_us: Option<f64>,
    /// During it.
    pub p99_during_us: Option<f64>,
    /// After it.
    pub p99_after_us: Option<f64>,
    /// Message of the first error.
    pub first_error: Option<String>,
    /// Whether the process lives and answers.
    pub has_survived: bool,
}

/// The outcome of one fault.
#[derive(Clone, Debug, Serialize)]
pub struct FaultOutcome {
    /// Name of the fault.
    pub fault: &'static str,
    /// The commit from which the server was built, if it is known.
    pub commit: Option<String>,
    /// When it was injected, in seconds since the server of this fault was started.
    pub injected_at_s: f64,
    /// Time from then until the server showed it, in milliseconds.
    pub detected_ms: Option<f64>,
    /// The metric, log line or reply that showed it.
    pub shown_by: &'static str,
    /// How the server refused.
    pub refusal: &'static str,
    /// Time from the end of the fault until the server served as before, in milliseconds.
    pub recovered_ms: Option<f64>,
    /// Calls of any client that got neither a result nor a refusal, and calls of the bystander that failed.
    pub lost: u64,
    /// The bystander.
    pub bystander: Service,
    /// What else was hurt; `None` if nothing was.
    pub cascade: Option<String>,
    /// Whether everything is within the bars.
    pub status: Status,
    /// What is not within the bars, or why the fault was skipped.
    pub reasons: Vec<String>,
}

impl FaultOutcome {
    /// The outcome of a fault that is not permitted here.
    pub(super) fn skipped(fault: &'static str, reason: String) -> Self {
        Self::without_observation(fault, Status::Skipped, reason)
    }

    /// The outcome of a fault whose server could not be started or reached.
    #[must_use]
    pub fn failed(fault: &'static str, reason: String) -> Self {
        Self::without_observation(fault, Status::Failed, reason)
    }

    fn without_observation(fault: &'static str, status: Status, reason: String) -> Self {
        Self {
            fault,
            commit: None,
            injected_at_s: 0.0,
            detected_ms: None,
            shown_by: "",
            refusal: "",
            recovered_ms: None,
            lost: 0,
            bystander: Service::default(),
            cascade: None,
            status,
            reasons: vec![reason],
        }
    }

    /// Judges an observation.
    pub(super) fn judged(
        fault: &'static str,
        injected_at_s: f64,
        observation: Observation,
        bystander: Service,
        bars: &Bars,
    ) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let mut outcome = Self {
            fault,
            commit: None,
            injected_at_s,
            detected_ms: observation.detected.map(ms),
            shown_by: observation.shown_by,
            refusal: observation.refusal,
            recovered_ms: observation.recovered.map(ms),
            lost: observation.lost + bystander.failed,
            cascade: cascade(observation.hurt, &bystander, bars),
            bystander,
            status: Status::Passed,
            reasons: Vec::new(),
        };
        let mut reasons: Vec<String> = observation.wrong.into_iter().collect();
        reasons.extend(late("detected", outcome.detected_ms, bars.detected_ms_max));
        reasons.extend(late("recovered", outcome.recovered_ms, bars.recovered_ms_max));
        if outcome.lost > 0 {
            let error = observation.first_loss.or_else(|| outcome.bystander.first_error.clone());
            let error = error.map_or(String::new(), |error| format!(": {error}"));
            reasons.push(format!("{} calls were lost{error}", outcome.lost));
        }
        reasons.extend(outcome.cascade.clone());
        if !reasons.is_empty() {
            outcome.status = Status::Failed;
        }
        outcome.reasons = reasons;
        outcome
    }
}

/// Who else was hurt: the whole server, the neighbours that the fault observed, or the bystander.
fn cascade(hurt: Option<String>, bystander: &Service, bars: &Bars) -> Option<String> {
    if !bystander.has_survived {
        return Some("the server ended or does not answer".to_owned());
    }
    let slow = [("during", bystander.p99_during_us), ("after", bystander.p99_after_us)];
    let slow = slow.into_iter().find_map(|(when, p99)| match p99 {
        Some(p99) if p99 <= bars.p99_us_max => None,
        Some(p99) => Some(format!("the bystander's p99 {when} the fault was {:.1} ms", p99 / 1e3)),
        None => Some(format!("the bystander got no reply {when} the fault")),
    });
    let failed = bystander.failed;
    hurt.or_else(|| (failed > 0).then(|| format!("{failed} calls of the bystander failed"))).or(slow)
}

fn late(what: &str, ms: Option<f64>, max: f64) -> Option<String> {
    match ms {
        Some(ms) if ms <= max => None,
        Some(ms) => Some(format!("{what} after {ms:.0} ms, not within {max:.0} ms")),
        None => Some(format!("not {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARS: Bars = Bars { detected_ms_max: 1_000.0, recovered_ms_max: 5_000.0, p99_us_max: 100_000.0 };

    fn good() -> (Observation, Service) {
        let mut observation = Observation::new("refusals_total", "413");
        observation.detected = Some(Duration::from_millis(5));
        observation.recovered = Some(Duration::from_millis(7));
        let p99 = Some(500.0);
        let service = Service {
            requests: 10,
            p99_before_us: p99,
            p99_during_us: p99,
            p99_after_us: p99,
            has_survived: true,
            ..Service::default()
        };
        (observation, service)
    }

    fn reasons(change: impl Fn(&mut Observation, &mut Service)) -> Vec<String> {
        let (mut observation, mut service) = good();
        change(&mut observation, &mut service);
        let outcome = FaultOutcome::judged("x", 1.0, observation, service, &BARS);
        assert_eq!(outcome.status == Status::Passed, outcome.reasons.is_empty());
        outcome.reasons
    }

    #[test]
    fn each_bar_fails_a_fault_alone() {
        assert_eq!(reasons(|_, _| ()), [""; 0]);
        let late = |ms| Some(Duration::from_millis(ms));
        assert_eq!(reasons(|it, _| it.detected = late(1001)), ["detected after 1001 ms, not within 1000 ms"]);
        assert_eq!(reasons(|it, _| it.detected = None), ["not detected"]);
        assert_eq!(
            reasons(|it, _| it.recovered = late(5001)),
            ["recovered after 5001 ms, not within 5000 ms"]
        );
        assert_eq!(reasons(|it, _| it.recovered = None), ["not recovered"]);
        assert_eq!(reasons(|it, _| it.wrong("status 200")), ["status 200"]);
        assert_eq!(reasons(|it, _| it.lost(2, &"reset")), ["2 calls were lost: reset"]);
        assert_eq!(reasons(|it, _| it.hurt = Some("shard 1".to_owned())), ["shard 1"]);
        let lost = reasons(|_, bystander| bystander.failed = 3);
        assert_eq!(lost, ["3 calls were lost", "3 calls of the bystander failed"]);
        let slow = reasons(|_, bystander| bystander.p99_during_us = Some(100_001.0));
        assert_eq!(slow, ["the bystander's p99 during the fault was 100.0 ms"]);
        let silent = reasons(|_, bystander| bystander.p99_after_us = None);
        assert_eq!(silent, ["the bystander got no reply after the fault"]);
        let dead = reasons(|_, bystander| bystander.has_survived = false);
        assert_eq!(dead, ["the server ended or does not answer"]);
        assert_eq!(reasons(|_, bystander| bystander.aborted = 16), [""; 0], "they are reported, not lost");
    }
}
