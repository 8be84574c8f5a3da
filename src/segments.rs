//! Bytes in segments of the same size.

/// Size of a segment in bytes.
const SEGMENT_BYTES: usize = 64 * 1024;

/// Bytes in segments. Appending copies nothing that is there, as a buffer that grows does: where hundreds of bodies arrive at the
/// same rate, all their buffers would grow in the same turn.
#[derive(Default)]
pub(crate) struct Segments {
    segments: Vec<Vec<u8>>,
    length: usize,
}

impl Segments {
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Memory of the segments, in bytes.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.segments.iter().map(Vec::capacity).sum()
    }

    pub(crate) fn append(&mut self, mut input: &[u8]) {
        self.length += input.len();
        while !input.is_empty() {
            if self.segments.last().is_none_or(|last| last.len() == SEGMENT_BYTES) {
                self.segments.push(Vec::with_capacity(SEGMENT_BYTES));
            }
            let Some(segment) = self.segments.last_mut() else { return };
            let (now, rest) = input.split_at(input.len().min(SEGMENT_BYTES - segment.len()));
            segment.extend_from_slice(now);
            input = rest;
        }
    }

    /// Moves the bytes to the end of `to`, with room for `more` behind them.
    pub(crate) fn move_to(&mut self, to: &mut Vec<u8>, more: usize) {
        to.reserve_exact(self.length + more);
        for segment in std::mem::take(self).segments {
            to.extend_from_slice(&segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_moved_in_the_order_in_which_they_were_appended() {
        let input: Vec<u8> = (0..3 * SEGMENT_BYTES + 5).map(|number| (number % 251) as u8).collect();
        let mut segments = Segments::default();
        input.chunks(SEGMENT_BYTES / 3).for_each(|part| segments.append(part));
        assert_eq!((segments.len(), segments.kept_bytes()), (input.len(), 4 * SEGMENT_BYTES));
        let mut to = b"before".to_vec();
        segments.move_to(&mut to, 64);
        assert!(to.strip_prefix(b"before") == Some(&input) && to.capacity() >= to.len() + 64);
        assert!(segments.is_empty() && segments.kept_bytes() == 0);
    }
}
