//! Inspections for the control socket: the tables of the shard, a part in each turn.

use super::{
    Shard,
    inspections::{Stage, UnderWay},
    spare::SpareBuffers,
};
use crate::{
    connection::Connection,
    control::{
        Budget, ConnectionRow, ReplayRow, SessionRow, ShardInspection, ShardTotals, SubscriptionRow, View,
    },
    mcp::SessionKey,
    session::{ReadPosition, ReplayUsage, SessionState, SessionUsage, Subscriber, SubscriberUsage},
};

/// Entries of the tables that are read in one turn. Reading all connections of a full table in one turn would take milliseconds.
const ENTRIES_PER_TURN: usize = 4096;

/// A connection keeps far more memory than it uses if it keeps at least so many bytes that it does not use,
const WASTE_MIN: usize = 16 * 1024;
/// and at least so many times what it uses.
const WASTE_FACTOR: usize = 4;

/// Hexadecimal digits of a session's key that are shown. They identify a session and do not let anybody use it.
const KEY_DIGITS: usize = 8;

impl Shard {
    /// Advances the oldest inspection, and sends its result once every table was read.
    pub(super) fn advance_inspections(&mut self) {
        let Some(mut under_way) = self.inspections.0.pop_front() else { return };
        under_way.stage = match under_way.stage {
            Stage::Connections(first) => self.inspect_connections(first, &mut under_way),
            Stage::Sessions(position) => self.inspect_sessions(position, &mut under_way),
            Stage::Subscriptions(first) => self.inspect_subscriptions(first, &mut under_way),
            Stage::Done => Stage::Done,
        };
        if matches!(under_way.stage, Stage::Done) {
            self.finish_inspection(under_way);
        } else {
            self.inspections.0.push_front(under_way);
        }
        self.has_more |= !self.inspections.0.is_empty();
    }

    fn inspect_connections(&mut self, first: usize, under_way: &mut UnderWay) -> Stage {
        let shard = self.handle.number();
        let view = under_way.inspection.view;
        let end = self.connections.len().min(first.saturating_add(ENTRIES_PER_TURN));
        for (slot, connection) in (first..end).zip(self.connections.get_mut(first..end).into_iter().flatten())
        {
            let Some(connection) = connection else { continue };
            let (used, kept) = (connection.buffered_bytes(), connection.kept_bytes());
            under_way.used_bytes += used;
            under_way.kept_bytes += kept;
            if matches!(view, View::Buffers { .. }) && !is_wasteful(used, kept) {
                continue;
            }
            under_way.connections.offer(kept, || row(shard, slot, connection, (used, kept)));
            if view == (View::Buffers { shrink: true }) {
                connection.shrink();
                under_way.freed_bytes += kept.saturating_sub(connection.kept_bytes());
            }
        }
        match view {
            _ if end < self.connections.len() => Stage::Connections(end),
            View::Memory => Stage::Sessions(None),
            _ => Stage::Done,
        }
    }

    fn inspect_sessions(&mut self, position: ReadPosition, under_way: &mut UnderWay) -> Stage {
        let shard = self.handle.number();
        let dispatcher = self.dispatcher();
        let now = dispatcher.clock.wall.as_secs();
        let SessionState { table, subscriptions, .. } = &dispatcher.state;
        let next = table.read(position, ENTRIES_PER_TURN, |session| {
            let usage = subscriptions.usage_of(session.subscriber);
            let bytes = session.replay_bytes + usage.map_or(0, |usage| usage.bytes);
            under_way.sessions.offer(bytes, || session_row(shard, now, &session, usage));
        });
        match next {
            Some(position) => Stage::Sessions(Some(position)),
            None if under_way.inspection.view == View::Memory => Stage::Subscriptions(0),
            None => Stage::Done,
        }
    }

    fn inspect_subscriptions(&mut self, first: usize, under_way: &mut UnderWay) -> Stage {
        let shard = self.handle.number();
        let subscriptions = &self.dispatcher().state.subscriptions;
        let next = subscriptions.read(first, ENTRIES_PER_TURN, |usage| {
            under_way.subscriptions.offer(usage.bytes, || SubscriptionRow {
                shard,
                subscriber: match usage.subscriber {
                    Subscriber::Stream(socket) | Subscriber::JsonLines(socket) => {
                        format!("slot {}", socket.index())
                    }
                    Subscriber::Session(key) => format!("session {}", digits(key)),
                },
                topics: usage.topics,
                bytes: usage.bytes as u64,
                pending: usage.pending as usize,
            });
        });
        next.map_or(Stage::Done, Stage::Subscriptions)
    }

    fn finish_inspection(&mut self, mut under_way: UnderWay) {
        let shard = self.handle.number();
        if under_way.inspection.view == (View::Buffers { shrink: true }) {
            under_way.freed_bytes += self.spare_bytes();
            self.spare = SpareBuffers::default();
            self.pipeline.free_spare();
        }
        let with_sessions = under_way.inspection.view.has_sessions();
        let top = if with_sessions { under_way.inspection.top } else { 0 };
        let replay_buffers = self.dispatcher().state.table.largest_replay_buffers(top);
        let replay_buffers = replay_buffers.map(|usage| replay_row(shard, usage)).collect();
        let UnderWay { used_bytes, kept_bytes, freed_bytes, .. } = under_way;
        let inspection = ShardInspection {
            totals: ShardTotals {
                connection_used_bytes: used_bytes as u64,
                connection_kept_bytes: kept_bytes as u64,
                ..self.totals()
            },
            connections: under_way.connections.finish(),
            sessions: under_way.sessions.finish(),
            subscriptions: under_way.subscriptions.finish(),
            replay_buffers,
            freed_bytes: freed_bytes as u64,
        };
        // The receiver may have timed out.
        let _ = under_way.reply.try_send(inspection);
    }

    /// Memory of the spare buffers, in bytes.
    fn spare_bytes(&self) -> usize {
        self.spare.bytes() + self.pipeline.spare_bytes()
    }

    fn totals(&mut self) -> ShardTotals {
        let (shard, limits) = (self.handle.number(), self.limits);
        let spare_bytes = self.spare_bytes() as u64;
        let spare_buffers = (self.spare.len() + usize::from(self.pipeline.spare_bytes() > 0)) as u64;
        let connections = Budget::new(self.live, self.connections_max);
        let provided_buffers = Budget::new(self.ring.buffers_held(), self.ring.buffers());
        let dispatcher = self.dispatcher();
        let SessionState { table, subscriptions, tasks, .. } = &dispatcher.state;
        ShardTotals {
            shard,
            connections,
            calls_in_flight: Budget::new(dispatcher.calls.len(), limits.calls_in_flight_max),
            sessions: Budget::new(table.len(), limits.sessions_kept_max),
            replay_bytes: Budget::new(table.replay_bytes(), limits.replay_total_bytes_max),
            subscriptions: Budget::new(subscriptions.subscribed(), limits.subscriptions_max),
            subscription_bytes: Budget::new(subscriptions.bytes(), limits.subscription_bytes_max),
            buffer_bytes: Budget::new(dispatcher.memory.bytes(), limits.buffers_bytes_max),
            connection_used_bytes: 0,
            connection_kept_bytes: 0,
            tasks: tasks.len() as u64,
            spare_buffers,
            spare_bytes,
            provided_buffers,
        }
    }
}

/// Whether a connection keeps far more memory than it uses.
fn is_wasteful(used: usize, kept: usize) -> bool {
    kept.saturating_sub(used) >= WASTE_MIN && kept >= used.saturating_mul(WASTE_FACTOR)
}

fn row(shard: usize, slot: usize, connection: &Connection, (used, kept): (usize, usize)) -> ConnectionRow {
    let state: &'static str = connection.state().into();
    ConnectionRow {
        shard,
        slot,
        peer: connection.peer.map(|peer| peer.to_string()),
        transport: if connection.json_lines.is_some() { "lines" } else { "http" }.to_owned(),
        state: state.to_owned(),
        used_bytes: used as u64,
        kept_bytes: kept as u64,
        pending_replies: connection.pending_replies(),
    }
}

fn session_row(
    shard: usize,
    now: u64,
    session: &SessionUsage,
    usage: Option<SubscriberUsage<Subscriber>>,
) -> SessionRow {
    SessionRow {
        shard,
        session: digits(session.key),
        streams: session.streams,
        attached: session.attached,
        replay_bytes: session.replay_bytes as u64,
        replay_messages: session.replay_messages,
        subscriptions: usage.map_or(0, |usage| usage.topics),
        subscription_bytes: usage.map_or(0, |usage| usage.bytes as u64),
        expires_in_seconds: session.expires.saturating_sub(now),
    }
}

fn replay_row(shard: usize, usage: ReplayUsage) -> ReplayRow {
    ReplayRow {
        shard,
        session: digits(usage.session),
        kind: if usage.is_reply { "reply" } else { "get" }.to_owned(),
        is_attached: usage.is_attached,
        bytes: usage.bytes as u64,
        messages: usage.messages,
    }
}

/// The first digits of a session's key.
fn digits(key: SessionKey) -> String {
    let mut text = format!("{key:032x}");
    text.truncate(KEY_DIGITS);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_keeps_far_more_than_it_uses_is_wasteful() {
        for (used, kept, expected) in [
            (0, 0, false),
            (0, WASTE_MIN - 1, false),
            (0, WASTE_MIN, true),
            (100_000, 120_000, false),
            (100_000, 399_999, false),
            (100_000, 400_000, true),
        ] {
            assert_eq!(is_wasteful(used, kept), expected, "{used} of {kept}");
        }
    }
}
