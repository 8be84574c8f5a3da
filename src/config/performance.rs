//! The table `[performance]`: the switches of the optimisations.

use serde::{Deserialize, Serialize};

/// Optimisations, each with a fallback. All but `server_pooling` can be changed while the server runs
/// ([`Running::set_flag`](crate::Running::set_flag)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Performance {
    /// Validators are compiled when a tool is registered. Off: on every call. Change: live.
    pub schema_cache: bool,
    /// Parser of messages. Change: live.
    pub json_backend: JsonBackend,
    /// Calls of tools of one connection run at the same time. Off: one at a time per connection, the others wait. Change: live.
    pub async_tools: bool,
    /// A notification is encoded once for all subscribers, and what is written to a connection in one turn is sent at once. Off: it
    /// is encoded and sent for each subscriber. Change: live.
    pub batch_notifications: bool,
    /// Messages are parsed in the receive buffer. Off: in a copy. Change: live.
    pub zero_copy: bool,
    /// As many shards as `server.shards`. Off: one shard. Change: restart.
    pub server_pooling: bool,
}

impl Default for Performance {
    fn default() -> Self {
        Self {
            schema_cache: true,
            json_backend: JsonBackend::Simd,
            async_tools: true,
            batch_notifications: true,
            zero_copy: true,
            server_pooling: true,
        }
    }
}

/// Parser of messages. Both accept the same documents and fill the same tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonBackend {
    /// simd-json, in place.
    #[default]
    Simd,
    /// serde_json.
    Serde,
}
