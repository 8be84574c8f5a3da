//! The replies as text, for people.

use super::{
    bottlenecks::{show_advice, show_bottlenecks},
    flags::{show_change, show_flags, show_rearmed, show_rollouts},
    table::{bytes, facts, percent, seconds, table, terminal_width},
};
use crate::{
    config::LogLevel,
    control::{
        Allocator, Budget, Buffers, ConnectionRow, Connections, Fragmentation, LogLevels, Memory, ReplayRow,
        Reply, SessionRow, Sessions, ShardTotals, Status, SubscriptionRow, ToolRow,
    },
};

/// The text shown for an allocator without statistics.
const NO_STATISTICS: &str = "not available (the program does not allocate with jemalloc)";

/// Writes a reply.
pub(super) fn show(reply: &Reply) -> String {
    let width = terminal_width();
    match reply {
        Reply::Status(status) => show_status(status, width),
        Reply::Connections(connections) => show_connections(connections, width),
        Reply::Sessions(sessions) => show_sessions(sessions, width),
        Reply::Memory(memory) => show_memory(memory, width),
        Reply::Buffers(buffers) => show_buffers(buffers, width),
        Reply::Fragmentation(fragmentation) => show_fragmentation(fragmentation, width),
        Reply::LogLevel(LogLevels { level, before: None }) => format!("{}\n", level_name(*level)),
        Reply::LogLevel(LogLevels { level, before: Some(before) }) => {
            format!("{} (before: {})\n", level_name(*level), level_name(*before))
        }
        Reply::Profile(profile) => format!("{}\n", profile.summary()),
        Reply::HeapProfile(profile) => format!("{}\n", profile.summary()),
        Reply::Flags(list) => show_flags(list, width) + &show_unresponsive(&list.unresponsive),
        Reply::Rollout(list) => show_rollouts(list, width),
        Reply::ShareChange(change) => show_change(change),
        Reply::Rearmed(rearmed) => show_rearmed(rearmed),
        Reply::Bottlenecks(bottlenecks) => {
            show_bottlenecks(bottlenecks, width) + &show_unresponsive(&bottlenecks.unresponsive)
        }
        Reply::Advise(advice) => show_advice(advice, width) + &show_unresponsive(&advice.unresponsive),
        Reply::Sample(sample) => format!("{:.0} requests/s\n", sample.total.traffic.requests_per_second),
        Reply::Drain { has_started: true } => "the drain has begun\n".to_owned(),
        Reply::Drain { has_started: false } => "the drain had begun before\n".to_owned(),
    }
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn or_unknown(value: Option<u64>) -> String {
    value.map_or("unknown".to_owned(), bytes)
}

fn show_status(status: &Status, width: Option<usize>) -> String {
    let state = match (status.is_draining, status.is_memory_short) {
        (true, _) => "draining",
        (false, true) => "running, memory is nearly used up",
        (false, false) => "running",
    };
    let mut text = facts(
        &[
            ("server", format!("{} {}", status.name, status.version)),
            ("state", state.to_owned()),
            ("pid", status.pid.to_string()),
            ("up", seconds(status.uptime_seconds)),
            ("listen", status.listen.join(", ")),
            ("admin", status.admin.clone().unwrap_or_else(|| "none".to_owned())),
            ("log level", status.log_level.map_or("set by the program", level_name).to_owned()),
            ("resident", or_unknown(status.resident_bytes)),
        ],
        width,
    );
    let rows: Vec<Vec<String>> = status
        .shards
        .iter()
        .map(|shard| {
            vec![
                shard.shard.to_string(),
                shard.state.clone(),
                shard.connections.to_string(),
                shard.calls_in_flight.to_string(),
                shard.sessions.to_string(),
                shard.subscribers.to_string(),
                shard.replies.to_string(),
                format!("{:.1} s", shard.busy_seconds),
                shard.mailbox_messages.to_string(),
            ]
        })
        .collect();
    let head = ["shard", "state", "conns", "calls", "sessions", "subs", "replies", "busy", "mailbox"];
    text.push('\n');
    text + &table(&head, 2, &rows, width)
}

/// A line with a number of things.
fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}\n", if number == 1 { one } else { several })
}

/// A table with its caption; nothing if it has no rows.
fn section(
    caption: &str,
    head: &[&str],
    names: usize,
    rows: Vec<Vec<String>>,
    width: Option<usize>,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{caption}\n{}", table(head, names, &rows, width))
}

fn show_unresponsive(unresponsive: &[usize]) -> String {
    if unresponsive.is_empty() {
        return String::new();
    }
    let shards: Vec<String> = unresponsive.iter().map(usize::to_string).collect();
    format!("\nno answer from shard {}\n", shards.join(", "))
}

fn connection_rows(rows: &[ConnectionRow]) -> Vec<Vec<String>> {
    rows.iter()
        .map(|row| {
            vec![
                row.peer.clone().unwrap_or_else(|| "unknown".to_owned()),
                row.transport.clone(),
                row.state.clone(),
                row.shard.to_string(),
                row.slot.to_string(),
                bytes(row.used_bytes),
                bytes(row.kept_bytes),
                row.pending_replies.to_string(),
            ]
        })
        .collect()
}

const CONNECTION_HEAD: [&str; 8] = ["peer", "transport", "state", "shard", "slot", "used", "kept", "pending"];

fn show_connections(connections: &Connections, width: Option<usize>) -> String {
    let shown = connections.connections.len();
    let rows = connection_rows(&connections.connections);
    let caption = format!("{shown} of them, by the memory of their buffers");
    counted(connections.total, "connection", "connections")
        + &section(&caption, &CONNECTION_HEAD, 3, rows, width)
        + &show_unresponsive(&connections.unresponsive)
}

fn session_rows(rows: &[SessionRow]) -> Vec<Vec<String>> {
    rows.iter()
        .map(|row| {
            vec![
                row.session.clone(),
                row.shard.to_string(),
                format!("{} of {}", row.attached, row.streams),
                bytes(row.replay_bytes),
                row.replay_messages.to_string(),
                row.subscriptions.to_string(),
                bytes(row.subscription_bytes),
                seconds(row.expires_in_seconds),
            ]
        })
        .collect()
}

const SESSION_HEAD: [&str; 8] =
    ["session", "shard", "streams open", "replay", "messages", "topics", "topic bytes", "expires in"];

fn show_sessions(sessions: &Sessions, width: Option<usize>) -> String {
    let caption = format!("{} of them, by their memory", sessions.sessions.len());
    counted(sessions.total, "session with state", "sessions with state")
        + &section(&caption, &SESSION_HEAD, 1, session_rows(&sessions.sessions), width)
        + &show_unresponsive(&sessions.unresponsive)
}

fn budget(budget: Budget) -> String {
    format!("{} of {}", bytes(budget.used), bytes(budget.max))
}

fn count(budget: Budget) -> String {
    format!("{} of {}", budget.used, budget.max)
}

/// The budgets of the shards: one column for each shard.
fn totals_table(shards: &[ShardTotals], width: Option<usize>) -> String {
    type Row = (&'static str, fn(&ShardTotals) -> String);
    let rows: [Row; 10] = [
        ("connections", |shard| count(shard.connections)),
        ("buffers, used", |shard| bytes(shard.connection_used_bytes)),
        ("buffers, kept", |shard| bytes(shard.connection_kept_bytes)),
        ("buffers of 16 KiB and more", |shard| budget(shard.buffer_bytes)),
        ("calls in flight", |shard| count(shard.calls_in_flight)),
        ("sessions", |shard| count(shard.sessions)),
        ("replay buffers", |shard| budget(shard.replay_bytes)),
        ("subscriptions", |shard| count(shard.subscriptions)),
        ("subscribed names", |shard| budget(shard.subscription_bytes)),
        ("spare buffers", |shard| bytes(shard.spare_bytes)),
    ];
    let numbers: Vec<String> = shards.iter().map(|shard| format!("shard {}", shard.shard)).collect();
    let head: Vec<&str> = [""].into_iter().chain(numbers.iter().map(String::as_str)).collect();
    let rows =
        rows.map(|(name, value)| [name.to_owned()].into_iter().chain(shards.iter().map(value)).collect());
    section("use and limits by shard", &head, 1, rows.into(), width)
}

fn allocator_facts(allocator: Option<&Allocator>) -> Vec<(&'static str, String)> {
    let Some(allocator) = allocator else { return vec![("allocator", NO_STATISTICS.to_owned())] };
    vec![
        ("allocator", allocator.name.clone()),
        ("allocated", bytes(allocator.allocated)),
        ("active", bytes(allocator.active)),
        ("resident (allocator)", bytes(allocator.resident)),
        ("retained", bytes(allocator.retained)),
        ("metadata", bytes(allocator.metadata)),
    ]
}

fn subscription_rows(rows: &[SubscriptionRow]) -> Vec<Vec<String>> {
    rows.iter()
        .map(|row| {
            vec![
                row.subscriber.clone(),
                row.shard.to_string(),
                row.topics.to_string(),
                bytes(row.bytes),
                row.pending.to_string(),
            ]
        })
        .collect()
}

fn replay_rows(rows: &[ReplayRow]) -> Vec<Vec<String>> {
    rows.iter()
        .map(|row| {
            vec![
                row.session.clone(),
                row.kind.clone(),
                if row.is_attached { "open" } else { "closed" }.to_owned(),
                row.shard.to_string(),
                bytes(row.bytes),
                row.messages.to_string(),
            ]
        })
        .collect()
}

fn tool_rows(rows: &[ToolRow]) -> Vec<Vec<String>> {
    let row = |row: &ToolRow| vec![row.name.clone(), bytes(row.schema_bytes), row.subschemas.to_string()];
    rows.iter().map(row).collect()
}

fn show_memory(memory: &Memory, width: Option<usize>) -> String {
    let mut known = vec![
        ("resident", or_unknown(memory.resident_bytes)),
        ("limit of the process", bytes(memory.memory_max)),
    ];
    known.extend(allocator_facts(memory.allocator.as_ref()));
    let mut text = facts(&known, width);
    text += &totals_table(&memory.shards, width);
    text += &section("connections", &CONNECTION_HEAD, 3, connection_rows(&memory.connections), width);
    text += &section("sessions", &SESSION_HEAD, 1, session_rows(&memory.sessions), width);
    let head = ["subscriber", "shard", "topics", "bytes", "pending"];
    text += &section("subscriptions", &head, 1, subscription_rows(&memory.subscriptions), width);
    let head = ["session", "kind", "connection", "shard", "bytes", "messages"];
    text += &section("replay buffers", &head, 3, replay_rows(&memory.replay_buffers), width);
    let head = ["tool", "schema bytes", "subschemas"];
    text += &section("tools, by their schemas", &head, 1, tool_rows(&memory.tools), width);
    text + &show_unresponsive(&memory.unresponsive)
}

fn show_buffers(buffers: &Buffers, width: Option<usize>) -> String {
    let mut text = match buffers.connections.len() {
        0 => "no connection keeps far more memory than it uses\n".to_owned(),
        1 => "1 connection keeps far more memory than it uses\n".to_owned(),
        connections => format!("{connections} connections keep far more memory than they use\n"),
    };
    let rows = connection_rows(&buffers.connections);
    let caption =
        if buffers.freed_bytes.is_some() { "before they were shrunk" } else { "not shrunk: --shrink" };
    text += &section(caption, &CONNECTION_HEAD, 3, rows, width);
    let shards = buffers.shards.iter().map(|shard| {
        vec![
            shard.shard.to_string(),
            bytes(shard.connection_used_bytes),
            bytes(shard.connection_kept_bytes),
            shard.spare_buffers.to_string(),
            bytes(shard.spare_bytes),
            count(shard.provided_buffers),
        ]
    });
    let head = ["shard", "used", "kept", "spare", "spare bytes", "receive buffers held"];
    text += &section("buffers by shard", &head, 1, shards.collect(), width);
    if let Some(freed) = buffers.freed_bytes {
        text += &format!("\nfreed {}\n", bytes(freed));
    }
    text + &show_unresponsive(&buffers.unresponsive)
}

fn show_fragmentation(fragmentation: &Fragmentation, width: Option<usize>) -> String {
    let mut known = vec![("resident", or_unknown(fragmentation.resident_bytes))];
    known.extend(allocator_facts(fragmentation.allocator.as_ref()));
    if let Some(ratio) = fragmentation.ratio {
        known.push(("fragmentation", percent(ratio)));
    }
    let mut text = facts(&known, width);
    let arenas = fragmentation.allocator.iter().flat_map(|allocator| &allocator.arenas).map(|arena| {
        let free = arena.resident.saturating_sub(arena.allocated) as f64 / arena.resident.max(1) as f64;
        vec![
            arena.arena.to_string(),
            arena.threads.to_string(),
            bytes(arena.allocated),
            bytes(arena.resident),
            percent(free),
        ]
    });
    let head = ["arena", "threads", "allocated", "resident", "fragmentation"];
    text += &section("arenas", &head, 1, arenas.collect(), width);
    if fragmentation.is_high {
        text += "\nwarning: more than 50 % of the resident memory is not allocated\n";
    }
    text
}
