//! The buffers of one size, and the sockets that wait for them.

use std::rc::Rc;

use super::{
    buffers::BufferPool,
    starved::{Pass, Starved},
};

/// Number of receives that end for lack of buffers before more of these are made available.
const LACKING_MIN: usize = 16;

/// The buffers of one size, and the sockets that wait for them.
pub(super) struct BufferSource {
    pub(super) pool: Rc<BufferPool>,
    /// Sockets whose receive ended for lack of buffers, after one buffer, or because others wait.
    pub(super) starved: Starved,
    /// Number of receives that have ended for lack of buffers since the last pass.
    lacking: usize,
}

impl BufferSource {
    pub(super) fn new(pool: Rc<BufferPool>) -> Self {
        Self { pool, starved: Starved::default(), lacking: 0 }
    }

    /// Records that a receive has ended for lack of buffers.
    pub(super) fn report_lack(&mut self) {
        self.lacking += usize::from(self.pool.is_short());
    }

    /// The receives that may be submitted now: as far as there are buffers.
    pub(super) fn next_pass(&mut self) -> Pass {
        if self.starved.is_empty() {
            return Pass::default();
        }
        // Many bytes of few sockets use up any number of buffers.
        let has_grown = std::mem::take(&mut self.lacking) >= LACKING_MIN && self.pool.grow();
        if !has_grown && !self.has_buffers() {
            return Pass::default();
        }
        self.starved.take(usize::from(self.pool.provided() - self.pool.held()))
    }

    /// Whether a socket waits that could receive.
    pub(super) fn can_serve(&self) -> bool {
        !self.starved.is_empty() && self.has_buffers()
    }

    /// Whether few enough buffers are held that receives which have ended for lack of them are submitted again.
    fn has_buffers(&self) -> bool {
        self.pool.held() < (self.pool.provided() / 2).max(1)
    }
}
