//! Execution of the commands of other threads, between two turns of a shard.

use std::sync::Arc;

use super::{
    Shard,
    commands::{COMMANDS_MAX, Command, REPORTS_MAX},
    snapshot_swap::Served,
};
use crate::telemetry::metrics::{ConnectionStates, ShardReport};

/// Slots of the connection table that are counted by state in one turn; a report is sent when all were counted. Counting
/// 131,072 slots in one turn would take milliseconds.
const SLOTS_COUNTED_PER_TURN: usize = 8192;

impl Shard {
    /// Handles the messages of other shards and executes queued commands. Returns whether there were any.
    pub(super) fn take_commands(&mut self) -> bool {
        if !self.handle.commands.take_signal() && !std::mem::take(&mut self.has_more) {
            return false;
        }
        self.take_messages();
        let commands = Arc::clone(&self.handle.commands);
        // Commands queued before the signal was taken. Later commands set it again.
        for _ in 0..COMMANDS_MAX {
            let Some(command) = commands.pop() else { break };
            self.execute(command);
        }
        if !self.reports_due.is_empty() {
            match self.census.advance(&self.connections, SLOTS_COUNTED_PER_TURN) {
                Some(states) => self.send_reports(states),
                None => self.has_more = true,
            }
        }
        self.advance_inspections();
        true
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Swap(served, swap) => {
                let Served { snapshot, tools } = *served;
                if let Some((snapshot, tools)) = self.pipeline.replace(snapshot, tools) {
                    self.handle.snapshots.retire(Served { snapshot, tools });
                }
                swap.done();
            }
            Command::Report(sender) if self.reports_due.len() < REPORTS_MAX => self.reports_due.push(sender),
            // Rejected, because the maximum number of reports is due: dropping the sender closes its channel.
            Command::Report(_) => {}
            Command::AcceptQueued => {
                self.listeners.iter().for_each(|listener| self.ring.accept_queued(*listener));
            }
            Command::Inspect(inspection, reply) => self.inspections.begin(inspection, reply),
            Command::SetFlags(flags) => self.pipeline.set_flags(*flags),
            Command::Drain => self.begin_drain(),
        }
    }

    /// Sends all due reports.
    fn send_reports(&mut self, connection_states: ConnectionStates) {
        for _ in 0..self.handle.take_executor_resumed() {
            self.pipeline.metrics().event("executor_resumed");
        }
        while let Some(sender) = self.reports_due.pop() {
            let connections = self.live;
            let dispatcher = self.dispatcher();
            dispatcher.collect_counts();
            let report = ShardReport {
                shard: dispatcher.shard,
                flags: dispatcher.flags(),
                metrics: dispatcher.observer.metrics().clone(),
                connections,
                connection_states,
                calls_in_flight: dispatcher.calls.len(),
                tool_calls: dispatcher.calls.by_tool(),
                listeners: dispatcher.state.subscriptions.listeners(),
                subscribed: dispatcher.state.subscriptions.subscribed(),
                subscription_bytes: dispatcher.state.subscriptions.bytes(),
                sessions_kept: dispatcher.state.table.len(),
                replay_streams: dispatcher.state.table.streams(),
                replay_bytes: dispatcher.state.table.replay_bytes(),
                replay_streams_attached: dispatcher.state.table.streams_attached(),
                tasks: dispatcher.state.tasks.len(),
                buffer_bytes: dispatcher.memory.bytes(),
            };
            // The receiver may have timed out.
            let _ = sender.try_send(report);
        }
    }
}
