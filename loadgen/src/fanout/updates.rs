//! Received notifications, and the updates that they cover.

use serde_json::Value;

use super::measuring::FanOut;

impl FanOut {
    pub(super) fn on_message(&mut self, index: usize, status: u16, body: &[u8]) {
        if index + 1 == self.streams.len() {
            let (Some(sent), Some(request)) =
                (self.publisher.in_flight.pop_front(), self.plan.requests.first())
            else {
                return;
            };
            self.publisher.replies += 1;
            if let Err(error) = request.check(&sent, status, body) {
                self.failure = Some(format!("the update could not be published: {error}"));
            }
            return;
        }
        if self
            .streams
            .get(index)
            .is_some_and(|stream| !stream.last_update.is_empty() && stream.last_update == body)
        {
            return self.on_update(index);
        }
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        match message.get("method").and_then(Value::as_str) {
            Some("notifications/resources/updated") => {
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.last_update = body.to_vec();
                }
                self.on_update(index);
            }
            Some("notifications/subscriptions/acknowledged") => {
                if let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.listening) {
                    stream.listening = true;
                    self.listening += 1;
                }
            }
            Some(_) => {}
            None => {
                let excerpt = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
                self.failure =
                    Some(format!("the reply to subscriptions/listen has status {status}: {excerpt}"));
            }
        }
    }

    pub(super) fn on_update(&mut self, index: usize) {
        let now = self.now_ns;
        let subscribers = u32::try_from(self.streams.len() - 1).unwrap_or(u32::MAX);
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.updates += 1;
        let from = stream.delivered;
        let until =
            if self.is_coalescing { self.published.len() } else { (from + 1).min(self.published.len()) };
        stream.delivered = until;
        let covered = self.published.get_mut(from..until).unwrap_or_default();
        let Some(oldest) = covered.first().map(|published| published.at_ns) else {
            // The notification belongs to an update that an earlier one was taken to cover.
            if self.is_coalescing && stream.updates <= self.published.len() {
                return;
            }
            // More notifications than published updates.
            *self.recording.errors.entry("update_unasked").or_default() += 1;
            return;
        };
        for published in covered {
            published.delivered += 1;
            if published.delivered == subscribers && published.at_ns >= self.window_ns.0 {
                self.last_socket.saturating_record((now - published.at_ns.min(now)).max(1));
            }
        }
        let latency = now.saturating_sub(oldest).max(1);
        if self.is_measured(now) {
            self.interval_at(now).completed += 1;
        }
        if self.is_measured(oldest) {
            let interval = self.interval_at(oldest);
            interval.replies += 1;
            interval.latency.saturating_record(latency);
            self.recording.replies += 1;
            self.recording.replies_in_time += u64::from(now < self.window_ns.1);
            self.recording.latency.saturating_record(latency);
            self.recording.uncorrected.saturating_record(latency);
            if let Some(kind) = self.recording.kinds.first_mut() {
                kind.latency.saturating_record(latency);
            }
        }
    }
}
