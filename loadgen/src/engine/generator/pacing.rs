//! The next request of each pacing.

use super::Generator;
use crate::engine::{
    Pacing,
    client::{Client, ConnectionState},
};

impl Generator {
    /// Fills a connection of a closed loop up to its pipeline depth.
    pub(super) fn fill_pipeline(&mut self, index: u32) {
        let taken = self.clients.get(index as usize).map_or(0, |client| client.in_flight.len());
        for _ in taken..self.plan.pipeline as usize {
            self.send_request(index, self.now_ns);
        }
    }

    /// Handles a free request slot after a reply.
    pub(super) fn on_slot_free(&mut self, index: u32) {
        match &self.plan.pacing {
            Pacing::Open(..) => self.push_free(index),
            Pacing::Closed if self.now_ns < self.window_ns.1 && !self.is_stopped() => {
                self.now_ns = self.now_ns.max(self.start_ns);
                self.send_request(index, self.now_ns);
            }
            Pacing::Volley => self.start_volley(),
            Pacing::Storm => {
                let Some(client) = self.clients.get_mut(index as usize) else { return };
                client.reset_session();
                if let Some(socket) = client.socket {
                    self.close_connection(index, socket);
                }
            }
            Pacing::Closed => {}
        }
    }

    /// Completes a volley when no reply is outstanding, and starts the next one once every client is ready or in
    /// backoff.
    pub(super) fn start_volley(&mut self) {
        if self.in_flight > 0 || self.start_ns == 0 || self.plan.pacing != Pacing::Volley {
            return;
        }
        let now = self.clock();
        if let Some(fired) = self.volley_ns.take().filter(|fired| self.is_measured(*fired)) {
            self.recording.makespan.saturating_record(now.saturating_sub(fired).max(1));
        }
        let is_settled = |client: &Client| {
            matches!(client.state, ConnectionState::Ready | ConnectionState::Backoff { .. })
        };
        let is_over = now >= self.window_ns.1 || self.is_stopped();
        if is_over || self.ready == 0 || !self.clients.iter().all(is_settled) {
            return;
        }
        self.now_ns = now;
        self.volley_ns = Some(now);
        for index in 0..u32::try_from(self.clients.len()).unwrap_or(u32::MAX) {
            if self.clients.get(index as usize).is_some_and(|client| client.state == ConnectionState::Ready) {
                (0..self.plan.pipeline).for_each(|_| self.send_request(index, now));
            }
        }
    }
}
