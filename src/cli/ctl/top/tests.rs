//! Tests of the drawn view, and of the arguments.

use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend};

use super::{
    interval,
    render::render,
    view::{Action, Focus, View},
};
use crate::{
    config::Percent,
    control::{
        CohortRow, Counted, FlagSample, PoolSample, RolloutRow, Sample, ShardLoad, ShardSample, ToolSample,
        Traffic,
    },
};

fn traffic(requests: u64, errors: u64) -> Traffic {
    Traffic {
        requests,
        requests_per_second: requests as f64,
        errors,
        errors_per_second: errors as f64,
        p50_us: (requests > 0).then_some(12.5),
        p99_us: (requests > 0).then_some(1830.0),
    }
}

fn shard(shard: usize, state: &str, busy_share: f64, requests: u64) -> ShardSample {
    let load = ShardLoad {
        traffic: traffic(requests, 0),
        busy_share,
        calls_in_flight: 3,
        connections: 1200,
        streams: 7,
        subscribers: 9,
        mailbox_messages: 1,
        memory_bytes: 5 << 20,
    };
    ShardSample { shard, state: state.to_owned(), load }
}

fn rollout(reason: Option<&str>) -> RolloutRow {
    RolloutRow {
        flag: "zero_copy".to_owned(),
        share_percent: Percent::from_hundredths(250),
        state: String::new(),
        verdict: None,
        reason: reason.map(str::to_owned),
        rolled_back_at: None,
        rollbacks: 0,
        cohort: Some(CohortRow { members: 1, calls: 1, errors: 0, p50_ns: 0, p95_ns: 0, p99_ns: 2_000_000 }),
        control: None,
    }
}

fn sample() -> Sample {
    let tool = |name: &str, requests, errors| ToolSample {
        name: name.to_owned(),
        traffic: traffic(requests, errors),
        calls_in_flight: 2,
    };
    Sample {
        name: "demo".to_owned(),
        version: "1.0".to_owned(),
        pid: 4242,
        uptime_seconds: 3700,
        seconds: 1.0,
        resident_bytes: Some(64 << 20),
        memory_max: 8 << 30,
        pool: Some(PoolSample { queued: 5, running: 4, idle: 0, waiting_for_client: 1 }),
        total: ShardLoad { traffic: traffic(71_234, 12), busy_share: 0.5, ..shard(0, "", 0.0, 0).load },
        shards: vec![shard(0, "running", 0.95, 70_000), shard(1, "unresponsive", 0.0, 1234)],
        tools: vec![
            tool("echo", 70_000, 0),
            tool("a\u{1b}[31mred", 1200, 12),
            tool("a tool with a name that is longer than a narrow terminal has room for", 34, 0),
        ],
        flags: vec![FlagSample { flag: "zero_copy".into(), position: "off".into(), ..FlagSample::default() }],
        rollouts: vec![rollout(None), rollout(Some("P99 is 2.1 times that of the control"))],
        refusals: vec![Counted { name: "busy".into(), count: 12 }],
        ..Sample::default()
    }
}

fn view() -> View {
    let mut view = View::default();
    view.update(sample());
    view
}

/// The screen as lines of text.
fn drawn(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| render(view, frame)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn view_has_each_number_at_any_width_from_60_columns() {
    for (width, height) in [(60, 24), (60, 40), (80, 24), (140, 50), (200, 20)] {
        let text = drawn(&view(), width, height);
        for words in [
            "demo 1.0",
            "running",
            "requests/s 71,234",
            "p50 12.5 µs",
            "p99 1.83 ms",
            "errors/s 12",
            "███░░░  50 %",
            "calls in flight 3",
            "connections 1,200",
            "streams 7",
            "resident 64.0 MiB",
            "5 queued",
            "shards: 2",
            "██████  95 %",
            "70,000",
            "echo",
            "rejected busy 12",
            "zero_copy off",
            "zero_copy 2.5 %: p99 2.00 ms, control -",
            "zero_copy rolled back: P99 is 2.1 times",
            "q quit",
            "p pause",
            "req/s▼",
        ] {
            assert!(text.contains(words), "{words:?} at {width} columns:\n{text}");
        }
    }
    let wide = drawn(&view(), 140, 40);
    for words in
        ["unresponsive", "5.00 MiB", "mailbox", "pid 4242", "up 1 h 1 min", "requests/s, at most 71,234"]
    {
        assert!(wide.contains(words), "{words:?}:\n{wide}");
    }
    assert!(drawn(&View::default(), 60, 10).contains("waiting for the first sample"));
}

#[test]
fn names_of_tools_contain_no_control_characters() {
    let text = drawn(&view(), 80, 24);
    assert!(text.contains("a\u{fffd}[31mred") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn facts_longer_than_a_narrow_terminal_are_broken_between_words() {
    for width in [20, 40] {
        let text = drawn(&view(), width, 60);
        let words: Vec<&str> = text.split(|letter: char| letter.is_whitespace() || letter == '"').collect();
        let text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        for words in [
            "resident 64.0 MiB of 8.00 GiB (0.8 %)",
            "5 queued, 1 wait for clients",
            "zero_copy 2.5 %: p99 2.00 ms, control -",
            "zero_copy rolled back: P99 is 2.1 times that of the control",
            "at most 71,234",
        ] {
            assert!(text.contains(words) || (width == 20 && words.starts_with("at")), "{words:?}: {text}");
        }
    }
}

#[test]
fn name_of_the_server_may_have_wide_characters_and_be_longer_than_the_terminal() {
    let mut view = View::default();
    view.update(Sample { name: "会議室を予約する道具です".to_owned(), ..sample() });
    // The backend prints a blank in the second cell of a wide character.
    let title = |width| drawn(&view, width, 24).split('"').nth(1).unwrap_or_default().replace(' ', "");
    assert_eq!(title(38), "会議室を予約する道具です1.0", "no room for the state");
    assert_eq!(title(60).matches('·').count(), 2, "{}", title(60));
    assert!(title(20).contains("会議室を予約"), "{}", title(20));
}

#[test]
fn small_terminals_are_drawn_without_a_panic() {
    for (width, height) in [(1, 1), (20, 3), (59, 8), (60, 12), (300, 5), (10, 100)] {
        drawn(&view(), width, height);
    }
}

#[test]
fn keys_sort_pause_and_scroll() {
    let mut view = view();
    let first_tool = |view: &View| {
        let text = drawn(view, 140, 40);
        let rows = text.lines().skip_while(|line| !line.contains("tools that were called")).skip(2);
        rows.map(|row| row.trim_matches(['"', ' ']).split("  ").next().unwrap().to_owned()).next().unwrap()
    };
    assert_eq!(first_tool(&view), "echo");
    view.act(Action::Reverse);
    assert!(first_tool(&view).starts_with("a tool"), "fewest requests first");
    (0..3).for_each(|_| view.act(Action::NextColumn));
    assert!(drawn(&view, 140, 40).contains("err/s▼"));
    assert_eq!(first_tool(&view), "a\u{fffd}[31mred");
    view.act(Action::SwitchTable);
    assert_eq!(view.focus, Focus::Shards);
    view.act(Action::PreviousColumn);
    assert!(drawn(&view, 140, 40).contains("state▼"), "the last column");
    view.act(Action::SwitchTable);
    view.act(Action::Down(100));
    assert_eq!(view.tools.scroll, 2, "the last row");
    view.act(Action::First);
    view.act(Action::Pause);
    view.update(Sample { pid: 7, ..sample() });
    let text = drawn(&view, 140, 40);
    assert!(text.contains("PAUSED") && text.contains("pid 4242"), "{text}");
    assert_eq!(view.history.len(), 2);
    view.act(Action::Pause);
    view.update(Sample { pid: 7, ..sample() });
    assert!(drawn(&view, 140, 40).contains("pid 7"));
}

#[test]
fn rows_beyond_the_height_are_scrolled() {
    let mut view = View::default();
    let tools = (0..50).map(|index| ToolSample {
        name: format!("tool-{index:02}"),
        traffic: traffic(100 - index, 0),
        calls_in_flight: 0,
    });
    view.update(Sample { tools: tools.collect(), ..sample() });
    let text = drawn(&view, 80, 24);
    assert!(text.contains("tool-00") && !text.contains("tool-49") && text.contains("rows 1 to "), "{text}");
    view.act(Action::Down(49));
    assert!(drawn(&view, 80, 24).contains("tool-49"));
}

#[test]
fn interval_is_a_number_of_seconds_or_has_a_unit() {
    for (text, milliseconds) in [("1", 1000), ("0.5", 500), ("250ms", 250), ("1m", 60_000)] {
        assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
    }
    for text in ["", "0", "-1", "0.01", "61", "2m", "soon", "nan", "1e300"] {
        assert!(interval(text).is_err(), "{text}");
    }
}
