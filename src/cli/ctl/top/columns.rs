//! The columns of the tables: their texts, their order, and which of them a width has room for.

use std::cmp::Ordering;

use super::super::table::{bytes, printable};
use crate::control::{ShardSample, ToolSample, Traffic};

/// Columns of the terminal between two columns of a table.
pub(super) const GAP: u16 = 1;

/// Cells of the bar of a busy share.
const BAR_CELLS: usize = 6;

/// One column of a table of `R`.
pub(super) struct Column<R> {
    pub(super) title: &'static str,
    /// Whether it is text, which is at the left.
    pub(super) is_text: bool,
    /// Width, in columns of the terminal. That of the first column is a minimum.
    pub(super) width: u16,
    /// Columns of a lower rank are shown where the width has no room for all.
    pub(super) rank: u8,
    pub(super) text: fn(&R) -> String,
    pub(super) compare: fn(&R, &R) -> Ordering,
    /// Whether the value is shown as a fault.
    pub(super) is_fault: fn(&R) -> bool,
}

/// A row of a table.
pub(super) trait Row: Sized + 'static {
    fn traffic(&self) -> &Traffic;

    /// The columns. The first is the name.
    fn columns() -> Vec<Column<Self>>;
}

fn never<R>(_: &R) -> bool {
    false
}

/// Absent latencies sort below all others.
fn compare_latencies(left: Option<f64>, right: Option<f64>) -> Ordering {
    left.unwrap_or(-1.0).total_cmp(&right.unwrap_or(-1.0))
}

fn traffic_columns<R: Row>() -> [Column<R>; 4] {
    [
        Column {
            title: "req/s",
            is_text: false,
            width: 9,
            rank: 0,
            text: |row| rate(row.traffic().requests_per_second),
            compare: |left, right| {
                left.traffic().requests_per_second.total_cmp(&right.traffic().requests_per_second)
            },
            is_fault: never,
        },
        Column {
            title: "p50",
            is_text: false,
            width: 8,
            rank: 1,
            text: |row| latency(row.traffic().p50_us),
            compare: |left, right| compare_latencies(left.traffic().p50_us, right.traffic().p50_us),
            is_fault: never,
        },
        Column {
            title: "p99",
            is_text: false,
            width: 8,
            rank: 0,
            text: |row| latency(row.traffic().p99_us),
            compare: |left, right| compare_latencies(left.traffic().p99_us, right.traffic().p99_us),
            is_fault: never,
        },
        Column {
            title: "err/s",
            is_text: false,
            width: 7,
            rank: 0,
            text: |row| rate(row.traffic().errors_per_second),
            compare: |left, right| {
                left.traffic().errors_per_second.total_cmp(&right.traffic().errors_per_second)
            },
            is_fault: |row| row.traffic().errors > 0,
        },
    ]
}

/// A column of counts.
macro_rules! count_column {
    ($title:literal, $width:literal, $rank:literal, $row:ident => $value:expr, $text:expr) => {
        Column {
            title: $title,
            is_text: false,
            width: $width,
            rank: $rank,
            text: |$row: &Self| $text($value),
            compare: |left, right| {
                let value = |$row: &Self| $value;
                value(left).cmp(&value(right))
            },
            is_fault: never,
        }
    };
}

impl Row for ShardSample {
    fn traffic(&self) -> &Traffic {
        &self.load.traffic
    }

    fn columns() -> Vec<Column<Self>> {
        let number = Column {
            title: "shard",
            is_text: true,
            width: 6,
            rank: 0,
            text: |row: &Self| row.shard.to_string(),
            compare: |left: &Self, right| left.shard.cmp(&right.shard),
            is_fault: |row| row.state != "running",
        };
        let state = Column {
            title: "state",
            is_text: true,
            width: 12,
            rank: 2,
            text: |row: &Self| row.state.clone(),
            compare: |left: &Self, right| left.state.cmp(&right.state),
            is_fault: |row| row.state != "running",
        };
        let busy = Column {
            title: "busy",
            is_text: false,
            width: 12,
            rank: 0,
            text: |row: &Self| busy(row.load.busy_share),
            compare: |left: &Self, right| left.load.busy_share.total_cmp(&right.load.busy_share),
            is_fault: |row| row.load.busy_share >= 0.9,
        };
        let mut columns = vec![number, busy];
        columns.extend(traffic_columns());
        columns.extend([
            count_column!("calls", 6, 3, row => row.load.calls_in_flight, count),
            count_column!("conns", 6, 4, row => row.load.connections, count),
            count_column!("streams", 7, 5, row => row.load.streams, count),
            count_column!("mailbox", 7, 6, row => row.load.mailbox_messages, count),
            count_column!("memory", 9, 4, row => row.load.memory_bytes, bytes),
            state,
        ]);
        columns
    }
}

impl Row for ToolSample {
    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn columns() -> Vec<Column<Self>> {
        let name = Column {
            title: "tool",
            is_text: true,
            width: 16,
            rank: 0,
            text: |row: &Self| printable(&row.name),
            compare: |left: &Self, right| left.name.cmp(&right.name),
            is_fault: never,
        };
        let mut columns = vec![name];
        columns.extend(traffic_columns());
        columns.push(count_column!("calls", 6, 2, row => row.calls_in_flight, count));
        columns
    }
}

/// The positions of the columns that a width has room for.
pub(super) fn fitting<R>(columns: &[Column<R>], width: u16) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..columns.len()).collect();
    ranked.sort_by_key(|index| columns.get(*index).map(|column| column.rank));
    let (mut used, mut shown) = (0, Vec::new());
    for index in ranked {
        let needed = columns.get(index).map_or(0, |column| column.width + GAP);
        if used + needed > width + GAP {
            break;
        }
        used += needed;
        shown.push(index);
    }
    shown.sort_unstable();
    shown
}

/// The rows by one column. Equal ones are in the order of their names.
pub(super) fn sorted<R: Row>(rows: &[R], column: usize, is_descending: bool) -> Vec<&R> {
    let columns = R::columns();
    let mut rows: Vec<&R> = rows.iter().collect();
    if let Some(name) = columns.first() {
        rows.sort_by(|left, right| (name.compare)(left, right));
    }
    if let Some(column) = columns.get(column) {
        rows.sort_by(|left, right| {
            let order = (column.compare)(left, right);
            if is_descending { order.reverse() } else { order }
        });
    }
    rows
}

/// A count with separators.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate: with a decimal below 10.
pub(super) fn rate(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else if rate < 9.95 {
        format!("{rate:.1}")
    } else {
        count(rate.round() as u64)
    }
}

/// A time in microseconds, with three digits and a unit.
pub(super) fn latency(microseconds: Option<f64>) -> String {
    let Some(microseconds) = microseconds else { return "-".to_owned() };
    let (value, unit) = match microseconds {
        ..999.5 => (microseconds, "µs"),
        ..999_500.0 => (microseconds / 1e3, "ms"),
        _ => (microseconds / 1e6, "s"),
    };
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

/// A share as a bar and in percent.
pub(super) fn busy(share: f64) -> String {
    let cells = (share * BAR_CELLS as f64).round() as usize;
    let bar: String = (0..BAR_CELLS).map(|cell| if cell < cells { '█' } else { '░' }).collect();
    format!("{bar} {:>3.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_the_width() {
        let titles = |width| -> Vec<&str> {
            let columns = ShardSample::columns();
            fitting(&columns, width).into_iter().map(|index| columns[index].title).collect()
        };
        assert_eq!(titles(60), ["shard", "busy", "req/s", "p50", "p99", "err/s"]);
        assert_eq!(titles(80), ["shard", "busy", "req/s", "p50", "p99", "err/s", "calls", "state"]);
        assert_eq!(titles(140).len(), ShardSample::columns().len());
    }

    #[test]
    fn rows_are_sorted_by_a_column() {
        let tool = |name: &str, calls_in_flight, p50_us| ToolSample {
            name: name.to_owned(),
            calls_in_flight,
            traffic: Traffic { p50_us, ..Traffic::default() },
        };
        let tools = [tool("b", 1, None), tool("a", 1, Some(5.0)), tool("c", 3, Some(1.0))];
        let names = |column, is_descending| -> String {
            sorted(&tools, column, is_descending).iter().map(|tool| tool.name.as_str()).collect()
        };
        assert_eq!((names(0, false).as_str(), names(0, true).as_str()), ("abc", "cba"));
        assert_eq!(names(2, true), "acb", "by p50, absent ones last");
        assert_eq!(names(5, true), "cab", "by calls, then by name");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.04, 3.26, 9.96, 71_234.4].map(rate), ["0", "0.0", "3.3", "10", "71,234"]);
        let times = [None, Some(0.5), Some(12.0), Some(999.7), Some(12_345.0), Some(2e6), Some(1e8)];
        assert_eq!(times.map(latency), ["-", "0.50 µs", "12.0 µs", "1.00 ms", "12.3 ms", "2.00 s", "100 s"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([busy(0.5), busy(1.0)], ["███░░░  50 %", "██████ 100 %"]);
    }
}
