//! Draws the view. Every value is text; colour only repeats it.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Cell, Paragraph, RenderDirection, Row as TableRow, Sparkline, Table},
};

use super::{
    super::table::{bytes, percent, printable, seconds},
    columns::{Column, GAP, Row, busy, count, fitting, latency, rate},
    view::{Focus, Order, Point, View},
};
use crate::control::{CohortRow, RolloutRow, Sample};

/// Rows of the terminal from which the charts are shown, and their rows.
const CHARTS_FROM: u16 = 30;
const CHART_ROWS: u16 = 4;

/// Columns of the terminal from which a second chart is shown.
const SECOND_CHART_FROM: u16 = 60;

/// Rows of a table without its data: caption, head.
const TABLE_HEAD_ROWS: u16 = 2;

/// Maximum number of rejection reasons in their line.
const REASONS_MAX: usize = 5;

const FAULT: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const LABEL: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// A name, its value, and whether the value is a fault.
type Fact = (&'static str, String, bool);

/// Draws the view into the whole terminal.
pub(super) fn render(view: &View, frame: &mut Frame<'_>) {
    let area = frame.area();
    let Some(sample) = &view.sample else {
        frame.render_widget(Paragraph::new("waiting for the first sample of the server (q quits)"), area);
        return;
    };
    let totals = flowed(&totals(sample), area.width);
    let notes = flowed(&notes(sample), area.width);
    let charts = if area.height >= CHARTS_FROM { CHART_ROWS + 1 } else { 0 };
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(TABLE_HEAD_ROWS);
    let fixed = 3 + height(&totals) + height(&notes) + charts;
    let tables = area.height.saturating_sub(fixed);
    let shards = rows(sample.shards.len()).min((tables / 2).max(TABLE_HEAD_ROWS + 1));
    let [title, top, charts, shards, _, tools, bottom, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(height(&totals)),
        Constraint::Length(charts),
        Constraint::Length(shards),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(height(&notes)),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title_line(view, sample, area.width), title);
    frame.render_widget(Paragraph::new(totals), top);
    draw_charts(view, frame, charts);
    let caption = format!("shards: {}", sample.shards.len());
    draw_table(&sample.shards, view.shards, view.focus == Focus::Shards, &caption, frame, shards);
    let caption = format!("tools that were called: {}", sample.tools.len() + sample.tools_omitted);
    draw_table(&sample.tools, view.tools, view.focus == Focus::Tools, &caption, frame, tools);
    frame.render_widget(Paragraph::new(notes), bottom);
    frame.render_widget(key_line(area.width), keys);
}

/// Columns of the terminal that a text takes, which are two for a wide character.
fn cells(text: &str) -> usize {
    Span::raw(text).width()
}

fn height(lines: &[Line<'_>]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

/// The server and its state, as far as the width has room for whole parts. Only the name of the server may be cut off.
fn title_line(view: &View, sample: &Sample, width: u16) -> Paragraph<'static> {
    let state = match (sample.is_draining, sample.is_memory_short) {
        (true, _) => "draining",
        (false, true) => "memory is nearly used up",
        (false, false) => "running",
    };
    let mut parts = vec![format!("{} {}", printable(&sample.name), printable(&sample.version))];
    if view.is_paused {
        parts.push("PAUSED".to_owned());
    }
    parts.extend([
        state.to_owned(),
        format!("up {}", seconds(sample.uptime_seconds)),
        format!("pid {}", sample.pid),
        format!("sample of {:.2} s", sample.seconds),
    ]);
    let mut text = String::new();
    for part in parts {
        let more = if text.is_empty() { format!(" {part}") } else { format!(" · {part}") };
        if !text.is_empty() && cells(&text) + cells(&more) > width.into() {
            break;
        }
        text += &more;
    }
    Paragraph::new(text).style(STRONG.add_modifier(Modifier::REVERSED))
}

fn totals(sample: &Sample) -> Vec<Fact> {
    let total = &sample.total;
    let traffic = &total.traffic;
    let resident = sample.resident_bytes.map_or("unknown".to_owned(), |resident| {
        let share = resident as f64 / sample.memory_max.max(1) as f64;
        format!("{} of {} ({})", bytes(resident), bytes(sample.memory_max), percent(share))
    });
    let mut facts: Vec<Fact> = vec![
        ("requests/s", rate(traffic.requests_per_second), false),
        ("p50", latency(traffic.p50_us), false),
        ("p99", latency(traffic.p99_us), false),
        ("errors/s", rate(traffic.errors_per_second), traffic.errors > 0),
        ("busy", busy(total.busy_share), total.busy_share >= 0.9),
        ("calls in flight", count(total.calls_in_flight), false),
        ("connections", count(total.connections), false),
        ("streams", count(total.streams), false),
        ("subscribers", count(total.subscribers), false),
        ("mailboxes", count(total.mailbox_messages), false),
        ("resident", resident, sample.is_memory_short),
    ];
    if let Some(pool) = sample.pool {
        let waiting = match pool.waiting_for_client {
            0 => String::new(),
            waiting => format!(", {waiting} wait for clients"),
        };
        let text = format!("{} running, {} idle, {} queued{waiting}", pool.running, pool.idle, pool.queued);
        facts.push(("blocking pool", text, false));
    }
    facts
}

/// Rejections, and flags that are not in their default position.
fn notes(sample: &Sample) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    if !sample.refusals.is_empty() {
        let mut reasons: Vec<String> = sample
            .refusals
            .iter()
            .take(REASONS_MAX)
            .map(|refusal| format!("{} {}", refusal.name, count(refusal.count)))
            .collect();
        let more = sample.refusals.len().saturating_sub(REASONS_MAX);
        if more > 0 {
            reasons.push(format!("{more} more reasons"));
        }
        facts.push(("rejected", reasons.join(", "), true));
    }
    let off: Vec<String> = sample
        .flags
        .iter()
        .filter(|flag| !flag.is_on || flag.position == "mixed")
        .map(|flag| format!("{} {}", flag.flag, flag.position))
        .collect();
    if !off.is_empty() {
        facts.push(("flags", off.join(", "), false));
    }
    facts.extend(sample.rollouts.iter().map(rollout));
    facts
}

/// The P99 of a cohort and its control, or that the flag was rolled back.
fn rollout(row: &RolloutRow) -> Fact {
    let p99 = |figures: Option<CohortRow>| latency(figures.map(|figures| figures.p99_ns as f64 / 1e3));
    let text = match &row.reason {
        Some(reason) => format!("{} rolled back: {}", row.flag, printable(reason)),
        None => {
            format!(
                "{} {} %: p99 {}, control {}",
                row.flag,
                row.share_percent,
                p99(row.cohort),
                p99(row.control)
            )
        }
    };
    ("rollout", text, row.reason.is_some())
}

/// Puts facts one after the other into lines of a width. One that is longer than a line is broken between its words.
fn flowed(facts: &[Fact], width: u16) -> Vec<Line<'static>> {
    const BETWEEN: &str = "   ";
    let mut lines = Vec::new();
    let (mut spans, mut used) = (Vec::new(), 0);
    for (name, value, is_fault) in facts {
        let needed = cells(name) + 1 + cells(value);
        if used > 0 && used + BETWEEN.len() + needed > usize::from(width) {
            lines.push(Line::from(std::mem::take(&mut spans)));
            used = 0;
        }
        if used > 0 {
            spans.push(Span::raw(BETWEEN));
            used += BETWEEN.len();
        }
        let style = if *is_fault { FAULT } else { STRONG };
        spans.push(Span::styled(format!("{name} "), LABEL));
        used += cells(name) + 1;
        for word in value.split_inclusive(' ') {
            // Only of a fact that is longer than a line.
            if used > 0 && used + cells(word.trim_end()) > usize::from(width) {
                lines.push(Line::from(std::mem::take(&mut spans)));
                used = 0;
            }
            spans.push(Span::styled(word.to_owned(), style));
            used += cells(word);
        }
    }
    if !spans.is_empty() {
        lines.push(Line::from(spans));
    }
    lines
}

/// Draws the history of throughput and P99, the newest at the right.
fn draw_charts(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let max = |value: fn(&Point) -> f64| view.history.iter().map(value).fold(0.0, f64::max);
    let requests = format!("requests/s, at most {}", rate(max(|point| point.requests_per_second)));
    if area.width < SECOND_CHART_FROM {
        return draw_chart(view, frame, area, requests, |point| point.requests_per_second);
    }
    let [left, _, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(2), Constraint::Fill(1)]).areas(area);
    draw_chart(view, frame, left, requests, |point| point.requests_per_second);
    let p99 = format!("p99, at most {}", latency(Some(max(|point| point.p99_us))));
    draw_chart(view, frame, right, p99, |point| point.p99_us);
}

fn draw_chart(view: &View, frame: &mut Frame<'_>, area: Rect, caption: String, value: fn(&Point) -> f64) {
    let [head, chart] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Paragraph::new(caption).style(LABEL), head);
    let newest_first = view.history.iter().rev().map(|point| value(point).round() as u64);
    let data: Vec<u64> = newest_first.take(area.width.into()).collect();
    let sparkline = Sparkline::default()
        .data(data)
        .direction(RenderDirection::RightToLeft)
        .style(Style::new().fg(Color::Cyan));
    frame.render_widget(sparkline, chart);
}

/// Draws a table with its caption. Rows below the area are counted in the caption.
fn draw_table<R: Row>(
    rows: &[R],
    order: Order,
    has_focus: bool,
    caption: &str,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let columns = R::columns();
    let shown = fitting(&columns, area.width);
    let visible = usize::from(body.height.saturating_sub(1));
    let rows = order.apply(rows);
    let scroll = order.scroll.min(rows.len().saturating_sub(visible));
    let hidden = rows.len().saturating_sub(visible);
    let sorted_by = columns.get(order.column).map_or("", |column| column.title);
    let mut text = format!("{caption}, by {sorted_by}");
    if hidden > 0 {
        text += &format!(", rows {} to {}", scroll + 1, scroll + visible.min(rows.len()));
    }
    let style = if has_focus { STRONG } else { LABEL };
    let marker = if has_focus { "▶ " } else { "  " };
    frame.render_widget(Paragraph::new(format!("{marker}{text}")).style(style), head);
    let used: u16 =
        shown.iter().filter_map(|index| columns.get(*index)).map(|column| column.width + GAP).sum();
    let room = (area.width + GAP).saturating_sub(used);
    let data: Vec<&R> = rows.into_iter().skip(scroll).take(visible).collect();
    let widths = shown.iter().filter_map(|index| {
        let column = columns.get(*index)?;
        let name = data.iter().map(|row| cells(&(column.text)(row))).max().unwrap_or(0);
        let name = u16::try_from(name).unwrap_or(u16::MAX).saturating_sub(column.width).min(room);
        Some(Constraint::Length(column.width + if *index == 0 { name } else { 0 }))
    });
    let titles = shown.iter().filter_map(|index| {
        let column = columns.get(*index)?;
        Some(title_cell(column, *index, order))
    });
    let cells =
        |row: &&R| TableRow::new(shown.iter().filter_map(|index| Some(cell(columns.get(*index)?, row))));
    let table = Table::new(data.iter().map(cells), widths)
        .column_spacing(GAP)
        .header(TableRow::new(titles).style(Style::new().add_modifier(Modifier::UNDERLINED)));
    frame.render_widget(table, body);
}

/// The alignment of a column: numbers are at the right.
fn alignment<R>(column: &Column<R>) -> Alignment {
    if column.is_text { Alignment::Left } else { Alignment::Right }
}

fn title_cell<R>(column: &Column<R>, index: usize, order: Order) -> Cell<'static> {
    if index != order.column {
        return Cell::new(Text::from(column.title).alignment(alignment(column)));
    }
    let arrow = if order.is_descending { '▼' } else { '▲' };
    let text = format!("{}{arrow}", column.title);
    Cell::new(Text::from(text).alignment(alignment(column))).style(STRONG)
}

fn cell<R>(column: &Column<R>, row: &R) -> Cell<'static> {
    let style = if (column.is_fault)(row) { FAULT } else { Style::new() };
    Cell::new(Text::from((column.text)(row)).alignment(alignment(column))).style(style)
}

/// The keys, as far as the width has room.
fn key_line(width: u16) -> Line<'static> {
    const KEYS: [(&str, &str); 6] = [
        ("q", "quit"),
        ("p", "pause"),
        ("←→", "sort by"),
        ("r", "reverse"),
        ("tab", "other table"),
        ("↑↓", "scroll"),
    ];
    let (mut spans, mut used) = (Vec::new(), 0);
    for (key, meaning) in KEYS {
        used += cells(key) + cells(meaning) + 3;
        if used > usize::from(width) + 2 {
            break;
        }
        spans.extend([Span::styled(key, STRONG), Span::styled(format!(" {meaning}  "), LABEL)]);
    }
    Line::from(spans)
}
