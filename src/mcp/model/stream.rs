//! Streams of server-sent events that a client can resume.

/// Id of a resumable stream: the owning shard, a slot and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId {
    /// The owning shard.
    pub shard: u16,
    /// The slot's index.
    pub index: u32,
    /// The slot's generation, which distinguishes the streams that used the slot.
    pub generation: u32,
}
