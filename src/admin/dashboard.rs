//! `/dashboard`: one page without external parts, and `/dashboard.json`, which it polls.

use std::{
    collections::VecDeque,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::sample::{Sampler, Samples};
use crate::control::Sample;

/// The page.
pub(super) const PAGE: &str = include_str!("dashboard.html");

/// A sample is returned to all viewers for this time, so that their number does not change what they cost.
const SAMPLE_AGE_MAX: Duration = Duration::from_millis(900);

/// After this time without a viewer, the next sample begins anew.
const PAUSE_MIN: Duration = Duration::from_secs(10);

/// Interval of the first sample.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);

/// Totals in the history: five minutes of a page that polls every two seconds.
const HISTORY_MAX: usize = 150;

/// Tools in a sample.
const TOOLS_MAX: usize = 100;

/// The header lines of the page. Its own style and script are allowed by their hashes, and nothing else
/// (<https://www.w3.org/TR/CSP3/>).
pub(super) static PAGE_HEADERS: LazyLock<String> = LazyLock::new(|| {
    let hash = |element: &str| {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let content = PAGE.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
        BASE64_STANDARD.encode(Sha256::digest(content.map_or("", |(content, _)| content)))
    };
    format!(
        "Content-Security-Policy: default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n",
        hash("style"),
        hash("script"),
    )
});

/// Header lines of the data.
pub(super) const DATA_HEADERS: &str =
    "X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n";

/// Totals of one sample.
#[derive(Clone, Copy, Debug, Serialize)]
struct Point {
    /// End of the interval, since the start of the server.
    uptime_seconds: f64,
    requests_per_second: f64,
    errors_per_second: f64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    busy_share: f64,
    resident_bytes: Option<u64>,
    connections: u64,
    streams: u64,
}

impl Point {
    fn new(sample: &Sample, uptime: Duration) -> Self {
        let total = sample.total;
        Self {
            uptime_seconds: uptime.as_secs_f64(),
            requests_per_second: total.traffic.requests_per_second,
            errors_per_second: total.traffic.errors_per_second,
            p50_us: total.traffic.p50_us,
            p99_us: total.traffic.p99_us,
            busy_share: total.busy_share,
            resident_bytes: sample.resident_bytes,
            connections: total.connections,
            streams: total.streams,
        }
    }
}

/// The data of the page.
#[derive(Serialize)]
struct Data<'a> {
    sample: &'a Sample,
    /// Oldest first. Samples are taken while there is a viewer.
    history: &'a VecDeque<Point>,
}

/// Makes the data of the page. Nothing is sampled without requests.
#[derive(Default)]
pub(super) struct Dashboard {
    samples: Samples,
    history: VecDeque<Point>,
    /// The newest data, and when it was made.
    newest: Option<(Instant, String)>,
}

impl Dashboard {
    /// The data as JSON: at most 0.9 s old.
    pub(super) fn data(&mut self, sampler: &Sampler) -> String {
        if let Some((made, data)) = &self.newest
            && made.elapsed() < SAMPLE_AGE_MAX
        {
            return data.clone();
        }
        if self.samples.age().is_none_or(|age| age > PAUSE_MIN) {
            self.samples.begin(sampler);
            thread::sleep(FIRST_INTERVAL);
        }
        let sample = self.samples.next(sampler, TOOLS_MAX);
        if self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Point::new(&sample, sampler.started.elapsed()));
        let data = encode(&sample, &self.history);
        self.newest = Some((Instant::now(), data.clone()));
        data
    }
}

fn encode(sample: &Sample, history: &VecDeque<Point>) -> String {
    // All keys are strings, so encoding does not fail.
    serde_json::to_string(&Data { sample, history }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ToolSample;

    #[test]
    fn names_are_strings_of_the_data() {
        let name = "<script>alert(1)</script>\"\\\u{2028}\n";
        let tools = vec![ToolSample { name: name.to_owned(), ..ToolSample::default() }];
        let sample = Sample { name: name.to_owned(), tools, ..Sample::default() };
        let data = encode(&sample, &VecDeque::from([Point::new(&sample, Duration::from_secs(1))]));
        let read: serde_json::Value = serde_json::from_str(&data).unwrap();
        assert_eq!(
            (&read["sample"]["tools"][0]["name"], &read["sample"]["name"]),
            (&name.into(), &name.into())
        );
        assert_eq!(data.lines().count(), 1);
        assert_eq!(read["history"][0]["uptime_seconds"], 1.0);
    }

    #[test]
    fn page_has_one_style_and_one_script_and_nothing_external() {
        for element in ["style", "script"] {
            let open = format!("<{element}");
            assert_eq!(PAGE.matches(&open).count(), 1, "{element}");
            assert!(PAGE.contains(&format!("<{element}>")) && PAGE.contains(&format!("</{element}>")));
        }
        // The only address is the name of a namespace.
        assert_eq!(PAGE.replace("http://www.w3.org/2000/svg", "").matches("://").count(), 0);
        for forbidden in [
            "src=",
            "@import",
            "url(",
            "style=",
            "onclick",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        let empty = BASE64_STANDARD.encode(Sha256::digest(""));
        assert!(
            !PAGE_HEADERS.contains(&empty) && PAGE_HEADERS.matches("sha256-").count() == 2,
            "{}",
            *PAGE_HEADERS
        );
    }
}
