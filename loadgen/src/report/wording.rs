//! Phrases about a run, shared by the terminal and the page.

use crate::{
    figures::UPDATES_PUBLISHED,
    result::{GeneratorSide, Outcome, Pacing, Parameters, Run, ServerInfo, ServerProcess},
    units::{bytes, count, latency, percent, seconds},
};

/// Note on closed loops.
pub(crate) const CLOSED_LOOP: &str = "A closed loop hides stalls: while the server does not answer it does not ask, so \
    the requests that would have waited are missing from these figures.";

/// Note on the two rows of an open loop.
pub(crate) const OPEN_LOOP: &str = "Corrected counts from when a request was to be sent, uncorrected from when it was: \
    the difference is what waited behind a stall.";

/// Beginning of the warning that the generator was the limit.
pub(crate) const BOTTLENECK: &str = "THE GENERATOR WAS THE LIMIT";

/// Whether the load is a closed loop.
pub(crate) fn is_closed(run: &Run) -> bool {
    run.parameters.pacing == Pacing::Closed
}

/// `corelane 0.1.0 at http://127.0.0.1:8080/mcp`
pub(crate) fn server(server: &ServerInfo) -> String {
    let name = if server.name.is_empty() { "a server without a name" } else { &server.name };
    let version = if server.version.is_empty() { String::new() } else { format!(" {}", server.version) };
    format!("{name}{version} at {}", server.url)
}

/// `MCP 2026-07-28`
pub(crate) fn era(era: &str) -> String {
    if era == "none" { "plain HTTP".to_owned() } else { format!("MCP {era}") }
}

/// `open loop, 20,000/s evenly spaced`
pub(crate) fn pacing(pacing: &Pacing) -> String {
    match pacing {
        Pacing::Closed => "closed loop".to_owned(),
        Pacing::OpenConstant { rate_per_s } => format!("open loop, {}/s evenly spaced", count(*rate_per_s)),
        Pacing::OpenPoisson { rate_per_s } => {
            format!("open loop, {}/s at random (Poisson)", count(*rate_per_s))
        }
    }
}

/// `64 connections, 1 request in flight on each, 2 threads`
pub(crate) fn load(parameters: &Parameters) -> String {
    let depth = match parameters.pipeline_depth {
        1 => "1 request in flight on each".to_owned(),
        depth => format!("up to {depth} requests in flight on each"),
    };
    let connections = plural(u64::from(parameters.connections_count), "connection");
    let threads = plural(u64::from(parameters.threads_count), "thread");
    format!("{connections}, {depth}, {threads}")
}

/// `30 s measured after 2 s of warm-up`
pub(crate) fn time(run: &Run) -> String {
    let measured = match run.outcome {
        Outcome::Complete => seconds(run.measured_s),
        _ => format!("{} of {}", seconds(run.measured_s), seconds(run.parameters.duration_s)),
    };
    let warmup = match run.parameters.warmup_s {
        warmup_s if warmup_s > 0.0 => format!(" after {} of warm-up", seconds(warmup_s)),
        _ => String::new(),
    };
    let scale = match run.parameters.scale {
        1.0 => String::new(),
        scale => format!(", at {} of its full size", percent(scale * 100.0)),
    };
    format!("{measured} measured{warmup}{scale}")
}

/// The end of a run, if it was not complete.
pub(crate) fn ending(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Complete => None,
        Outcome::Interrupted => {
            Some("It was interrupted: this is what had been measured by then.".to_owned())
        }
        Outcome::ServerGone { after_s } => {
            Some(format!("The server stopped answering {} into the run.", seconds(*after_s)))
        }
    }
}

/// `4,000/s: 120,000 of 120,038 requests answered right`, or `10,000/s: 100 updates delivered 100,000 times`
pub(crate) fn throughput(run: &Run) -> String {
    if run.figures.contains_key(UPDATES_PUBLISHED) {
        return format!(
            "{}/s: {} delivered {}",
            count(run.throughput_per_s),
            plural(run.requests_count, "update"),
            plural(run.replies_count, "time")
        );
    }
    format!(
        "{}/s: {} of {} answered right",
        count(run.throughput_per_s),
        count(run.replies_count as f64),
        plural(run.requests_count, "request")
    )
}

/// `1.2 MiB sent, 980 KiB received`
pub(crate) fn traffic(run: &Run) -> String {
    format!("{} sent, {} received", bytes(run.sent_bytes), bytes(run.received_bytes))
}

/// `38: 30 timeout, 8 status`
pub(crate) fn errors(run: &Run) -> String {
    if run.errors_total() == 0 {
        return "none".to_owned();
    }
    let kinds = run.errors_count.iter().filter(|(_, number)| **number > 0);
    let kinds: Vec<_> =
        kinds.map(|(kind, number)| format!("{} {}", count(*number as f64), spaced(kind))).collect();
    format!("{}: {}", count(run.errors_total() as f64), kinds.join(", "))
}

/// `120 reconnects, 3 requests sent again`; `None` if every connection lasted.
pub(crate) fn reconnects(run: &Run) -> Option<String> {
    let resent = match run.resent_count {
        0 => String::new(),
        count => format!(", {} sent again", plural(count, "request")),
    };
    let any = run.reconnects_count > 0 || run.resent_count > 0;
    any.then(|| format!("{}{resent}", plural(run.reconnects_count, "reconnect")))
}

/// Busy time, processor time and schedule lag of the generator.
pub(crate) fn generator(generator: &GeneratorSide) -> String {
    let lag = match generator.schedule_lag.count {
        0 => String::new(),
        _ => format!("; requests left at most {} late (p99)", latency(generator.schedule_lag.p99_us)),
    };
    format!(
        "busiest thread at work {} of the time, process at {} of a core{lag}",
        percent(generator.busy_percent),
        percent(generator.cpu_percent)
    )
}

/// Processor time, memory and context switches of the server's process.
pub(crate) fn process(process: &ServerProcess) -> String {
    let resident = match (process.samples.first(), process.samples.last()) {
        (Some(first), Some(last)) => {
            format!(", {} → {} resident", bytes(first.resident_bytes), bytes(last.resident_bytes))
        }
        _ => String::new(),
    };
    format!(
        "process {} at {} of a core{resident}, {}",
        process.pid,
        percent(process.cpu_percent),
        plural(process.context_switches_count, "context switch")
    )
}

/// Name and value of a figure as text; the end of the name is the unit.
pub(crate) fn figure(name: &str, value: f64) -> (String, String) {
    let units = ["_bytes", "_ns", "_us", "_ms", "_per_s", "_s", "_percent", "_count"];
    let known = units.into_iter().find_map(|unit| Some((name.strip_suffix(unit)?, unit)));
    let (name, unit) = known.unwrap_or((name, ""));
    let text = match unit {
        // `as` saturates, and a figure in bytes is never negative.
        "_bytes" => bytes(value.round() as u64),
        "_ns" => latency(value / 1e3),
        "_us" => latency(value),
        "_ms" => latency(value * 1e3),
        "_s" => latency(value * 1e6),
        "_per_s" => format!("{}/s", count(value)),
        "_percent" => percent(value),
        _ => count(value),
    };
    (spaced(name), text)
}

/// The measured value of a check, with the unit of its demand: `0.21 s` for `p99<1s`.
pub(crate) fn measured(demand: &str, measured: f64) -> String {
    let unit = demand.rsplit(|character: char| character.is_ascii_digit()).next().unwrap_or_default();
    format!("{} {unit}", count(measured)).trim_end().to_owned()
}

/// `1 thread`, `2 threads`, `3 context switches`
pub(crate) fn plural(number: u64, thing: &str) -> String {
    let ending = match number {
        1 => "",
        _ if thing.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {thing}{ending}", count(number as f64))
}

/// Replaces underscores by blanks.
fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn phrases_describe_a_run() {
        let run = sample::run();
        assert_eq!(server(&run.server), "corelane 0.1.0 at http://127.0.0.1:8080/mcp");
        assert_eq!(pacing(&run.parameters.pacing), "open loop, 4,000/s at random (Poisson)");
        assert_eq!(load(&run.parameters), "64 connections, 1 request in flight on each, 1 thread");
        assert_eq!(time(&run), "30 s measured after 2 s of warm-up");
        assert_eq!(errors(&run), "38: 8 status, 30 timeout");
        assert_eq!(ending(&run.outcome), None);
        assert_eq!(throughput(&run), "4,000/s: 120,000 of 120,038 requests answered right");
        let mut fan_out = run.clone();
        fan_out.requests_count = 120;
        fan_out.figures.insert(UPDATES_PUBLISHED.to_owned(), 130.0);
        assert_eq!(throughput(&fan_out), "4,000/s: 120 updates delivered 120,000 times");
        assert_eq!(errors(&sample::empty()), "none");
    }

    #[test]
    fn phrase_of_a_figure_has_the_unit_of_its_name() {
        let text = |name, value| {
            let (name, value) = figure(name, value);
            format!("{name}: {value}")
        };
        assert_eq!(text("memory_per_connection_bytes", 1_536.0), "memory per connection: 1.5 KiB");
        assert_eq!(text("idle_cpu_percent", 0.2), "idle cpu: 0.2 %");
        assert_eq!(text("first_reply_ms", 12.0), "first reply: 12.0 ms");
        assert_eq!(text("accepted_per_s", 20_000.0), "accepted: 20,000/s");
        assert_eq!(text("ratio", 1.5), "ratio: 1.5");
        assert_eq!(text("memory_bytes", -1.0), "memory: 0 B");
    }

    #[test]
    fn phrase_of_a_check_has_the_unit_of_its_demand() {
        assert_eq!(measured("p99<1ms", 0.82), "0.82 ms");
        assert_eq!(measured("errors<0.1%", 0.03), "0.03 %");
        assert_eq!(measured("throughput>10000", 12_345.0), "12,345");
    }
}
