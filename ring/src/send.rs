//! Sending, and shutting down the sending side.

use std::io;

use io_uring::{opcode, types};

use super::{
    event::{Event, os_error},
    operation::{Kind, Tag},
    peer_queries::queue_query,
    ring::Ring,
    slots::{InFlight, Refused, SlotState, SocketId},
};

/// Maximum bytes per send operation, so that copying one large buffer does not hold up the other operations of the ring.
const SEND_SLICE_BYTES: usize = 256 * 1024;

impl Ring {
    /// Sends a whole buffer; the next turn submits it. [`Event::Sent`] returns the buffer.
    ///
    /// # Errors
    /// [`Refused`] returns the buffer if the socket is not open or has a send in flight.
    pub fn send(&mut self, id: SocketId, buffer: Vec<u8>) -> Result<(), Refused> {
        let Some(slot) = self.slots.open(id).filter(|slot| slot.send.is_none()) else {
            return Err(Refused(buffer));
        };
        slot.send = Some(InFlight { buffer, sent: 0 });
        self.submit_send(id);
        Ok(())
    }

    /// Sends FIN after the sent bytes; receiving continues.
    pub fn shutdown_write(&mut self, id: SocketId) {
        if self.slots.open(id).is_some_and(|slot| slot.shutdowns == 0) {
            self.submit_shutdown(id, Kind::ShutdownWrite, libc::SHUT_WR);
        }
    }

    /// Queries how much the peer has acknowledged; [`Event::Acknowledged`] answers. A completed send shows only that the socket's
    /// buffer had room, and a slow peer may take minutes to empty it.
    pub fn query_acknowledged(&mut self, id: SocketId) {
        if self.slots.open(id).is_some() {
            let query = queue_query(id.index);
            self.push(query, Tag::new(Kind::Unacknowledged, id.index, id.generation));
        }
    }

    pub(super) fn complete_acknowledged(&mut self, id: SocketId, result: i32, events: &mut Vec<Event>) {
        let Some(slot) = self.slots.open(id) else { return };
        // The completions of earlier parts precede this one, so `sent` belongs to the same moment as the result. On an error, such
        // as EOPNOTSUPP, nothing is known to be unacknowledged.
        let sent = slot.send.as_ref().map_or(0, |send| send.sent as u64);
        let unacknowledged = u64::try_from(result).unwrap_or(0);
        events.push(Event::Acknowledged { socket: id, sent, unacknowledged });
    }

    pub(super) fn submit_send(&mut self, id: SocketId) {
        let Some(send) = self.slots.get(id).and_then(|slot| slot.send.as_ref()) else {
            return;
        };
        let rest = send.buffer.get(send.sent..).unwrap_or_default();
        let length = u32::try_from(rest.len().min(SEND_SLICE_BYTES)).unwrap_or(u32::MAX);
        // MSG_NOSIGNAL prevents SIGPIPE. Without MSG_WAITALL a send completes with what the socket's buffer takes, so `InFlight::sent` is
        // exact whenever no completion is due.
        let entry = opcode::Send::new(types::Fixed(id.index), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        self.push(entry, Tag::new(Kind::Send, id.index, id.generation));
    }

    pub(super) fn submit_shutdown(&mut self, id: SocketId, kind: Kind, how: i32) {
        let Some(slot) = self.slots.get(id) else { return };
        slot.shutdowns += 1;
        let entry = opcode::Shutdown::new(types::Fixed(id.index), how).build();
        self.push(entry, Tag::new(kind, id.index, id.generation));
    }

    pub(super) fn complete_send(&mut self, id: SocketId, result: i32, events: &mut Vec<Event>) {
        let Some(slot) = self.slots.get(id) else { return };
        let Some(send) = slot.send.as_mut() else { return };
        let closing = slot.state != SlotState::Open;
        let part = usize::try_from(result).unwrap_or(0);
        send.sent += part;
        let rest = send.buffer.len().saturating_sub(send.sent);
        let retry = result > 0 || matches!(-result, libc::EINTR | libc::EAGAIN);
        if rest > 0 && retry && !closing {
            self.submit_send(id);
            return;
        }
        let outcome = match result {
            _ if rest == 0 => Ok(()),
            ..0 => Err(os_error(result)),
            _ => Err(io::Error::from(io::ErrorKind::WriteZero)),
        };
        if let Some(send) = slot.send.take() {
            events.push(Event::Sent { socket: id, buffer: send.buffer, outcome });
        }
        self.close_if_quiet(id);
        if !self.hand_overs.is_empty() {
            self.advance_hand_over(id, events);
        }
    }

    pub(super) fn complete_shutdown(&mut self, id: SocketId, kind: Kind) {
        let Some(slot) = self.slots.get(id) else { return };
        slot.shutdowns = slot.shutdowns.saturating_sub(1);
        if slot.state == SlotState::Closing && !slot.is_quiet() && kind == Kind::ShutdownWrite {
            // A cancellation that failed meanwhile requires the shutdown of both directions.
            self.submit_shutdown(id, Kind::ShutdownBoth, libc::SHUT_RDWR);
        } else {
            self.close_if_quiet(id);
        }
    }
}
