//! What reaches connections besides the answers to their own requests: notes of running calls, events, messages of other
//! shards; and connections of lines.

use std::sync::Arc;

use corelane_ring::SocketId;

use super::{
    Shard,
    connection::{Collected, Connection, Lines, Phase},
    connection_of,
    pipeline::{Handled, Pipeline},
};
use crate::{
    dispatch::{
        Line, Performed,
        call_events::{Way, frame_events},
        in_flight::{Elsewhere, PendingCall, Recipient},
    },
    http1::{KEEP_ALIVE, LAST_CHUNK, Status, begin_event, chunk, finish_event, write_event},
    jsonl::{Flow, Handler, LineFramer, LineTooLong, Progress, is_http},
    jsonrpc::{ErrorCode, write_error},
    mcp::{CallMethod, Event, Refused, write_listen_ended},
    mesh::{Answer, Message, Request, StreamId},
    registry::{Conversation, Note, Reply},
    runtime::{Tick, Ticket},
    session::{Carrier, Effect, Listener, ListenerKey, Replay, Sent, Subscriptions, Then},
};

/// Messages of other shards that are taken in one turn; the rest wait for the next.
const MESSAGES_PER_TURN: usize = 1024;

/// Whether a connection is idle enough to be told of an event at once; else it hears later, of the newest only.
fn has_room(connection: &Connection) -> bool {
    !connection.sending && connection.out.len() < EVENTS_BYTES_MAX
}

/// Events that are put together before they are sent, in bytes.
const EVENTS_BYTES_MAX: usize = 16 * 1024;

/// Appends a message that does not come from a request of the connection's own: as a line, or as an event.
fn tell_connection(connection: &mut Connection, write: impl FnOnce(&mut Vec<u8>)) {
    if connection.lines.is_some() {
        write(&mut connection.out);
        connection.out.push(b'\n');
    } else {
        chunk(&mut connection.out, true, |out| {
            begin_event(out, None);
            write(out);
            finish_event(out);
        });
    }
}

impl Shard {
    /// A running call says something.
    pub(super) fn on_said(&mut self, ticket: Ticket, note: Note) {
        // Nothing but a task is told without a stream.
        if !matches!(note, Note::Task(_)) && matches!(self.pipeline.engine.way(ticket), Way::Begin) {
            self.begin_stream(ticket);
        }
        self.pipeline.engine.on_note(ticket, note);
        self.apply_effects();
    }

    /// The reply that a connection waits for becomes a stream.
    fn begin_stream(&mut self, ticket: Ticket) {
        let Self { pipeline, connections, .. } = self;
        let Some(Recipient::Http { socket, exchange, .. }) =
            pipeline.engine.calls.get(ticket).map(|call| &call.recipient)
        else {
            return;
        };
        let exchange = exchange.borrowed().to_owned();
        let Some(connection) = connection_of(connections, *socket)
            .filter(|connection| connection.phase == Phase::Calling(ticket))
        else {
            return;
        };
        pipeline.begin_events(&mut connection.out, exchange.borrowed());
        connection.last = !exchange.keep_alive;
        let Some((socket, primed)) = pipeline.engine.begin_stream(ticket) else { return };
        if !primed.is_empty() {
            connection.out.extend_from_slice(&frame_events(&primed, false));
        }
        self.mark(socket);
        self.keep_alive(socket);
    }

    /// Does what has been decided for connections other than the one at hand.
    pub(super) fn apply_effects(&mut self) {
        // A reply resumes its connection, whose next request may come back here: thousands of replies are one loop, not one
        // stack frame each.
        if self.applying {
            return;
        }
        self.applying = true;
        loop {
            while let Some(effect) = self.pipeline.engine.plane.effects.pop_front() {
                self.apply(effect);
            }
            let Some((ticket, recipient, status, answer, method)) = self.pipeline.engine.told.pop_front()
            else {
                break;
            };
            self.tell(ticket, &recipient, status, &answer, method);
        }
        self.applying = false;
    }

    fn apply(&mut self, effect: Effect) {
        let Effect { socket, bytes, then } = effect;
        let limit = self.limits.outbox_bytes_max;
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if connection.lines.is_some() {
            connection.out.extend_from_slice(&bytes);
        } else if connection.collected.is_none() {
            let ended = then != Then::Stays && !matches!(connection.phase, Phase::Batch(2..));
            connection.out.extend_from_slice(&frame_events(&bytes, ended));
        }
        if then == Then::Stays && connection.out.len() > limit {
            // Whoever reads too slowly is not waited for: it may come back for what it missed.
            self.pipeline.refused("slow_reader");
            self.close(socket);
            return;
        }
        let handled = if connection.last { Handled::RepliedLast } else { Handled::Replied };
        self.mark(socket);
        match then {
            Then::Stays => {}
            Then::Resumes => self.answered_one(socket, handled),
            Then::Closes => self.end_reply(socket, handled),
        }
    }

    /// One of the answers a connection waits for has been written.
    fn answered_one(&mut self, socket: SocketId, handled: Handled) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        match &mut connection.phase {
            Phase::Batch(left @ 2..) => *left -= 1,
            _ => match connection.collected.take() {
                Some(collected) => self.end_batch(socket, &collected),
                None => self.end_reply(socket, handled),
            },
        }
    }

    /// All answers to a batch are there, and are sent as one array.
    fn end_batch(&mut self, socket: SocketId, collected: &Collected) {
        let Self { pipeline, connections, .. } = self;
        let Some(connection) = connection_of(connections, socket) else { return };
        let response = pipeline.heads.begin(&mut connection.out);
        let exchange = collected.exchange.borrowed();
        let handled = pipeline.finish_batch(&mut connection.out, response, &collected.answers, exchange);
        self.mark(socket);
        self.end_reply(socket, handled);
    }

    /// A reply that came later is complete.
    pub(super) fn end_reply(&mut self, socket: SocketId, handled: Handled) {
        let draining = self.drain_until.is_some();
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.handled += 1;
        // There are no more signs of life.
        connection.deadline = Tick::NEVER;
        let has_had_its_turn = connection.handled >= self.limits.requests_per_turn_max
            || connection.out.len() > self.limits.outbox_bytes_max;
        if handled != Handled::Replied || draining {
            connection.phase = Phase::Closing { linger: connection.paused || draining };
            self.mark(socket);
        } else if has_had_its_turn {
            connection.phase = Phase::Congested;
            self.mark(socket);
        } else {
            self.resume(socket);
        }
    }

    /// Answers a call that has ended.
    pub(super) fn deliver(
        &mut self,
        ticket: Ticket,
        call: &PendingCall,
        talk: Option<&Arc<Conversation>>,
        outcome: Result<Reply, Refused>,
    ) {
        let mut answer = Vec::new();
        if let Recipient::Http { socket, exchange, streams: false, in_batch: false, .. } = &call.recipient {
            // The usual case: straight into the connection's outbox.
            let Self { pipeline, connections, spare, .. } = self;
            let Some(connection) = connection_of(connections, *socket)
                .filter(|connection| connection.phase == Phase::Calling(ticket))
            else {
                return;
            };
            if connection.out.capacity() == 0 {
                connection.out = spare.pop().unwrap_or_default();
            }
            let out = &mut connection.out;
            let response = pipeline.heads.begin(out);
            let status = pipeline.engine.write_answer(call, talk, outcome, out);
            let handled = pipeline.finish(out, response, status, exchange.borrowed(), "");
            self.mark(*socket);
            self.end_reply(*socket, handled);
            return;
        }
        let status = self.pipeline.engine.write_answer(call, talk, outcome, &mut answer);
        self.tell(ticket, &call.recipient, status, &answer, CallMethod::from(call.callable.kind()));
        self.apply_effects();
    }

    /// Gives a recipient an answer that came later: JSON; nothing at all where the client does not want it any more.
    fn tell(
        &mut self,
        ticket: Ticket,
        recipient: &Recipient,
        status: Status,
        answer: &[u8],
        method: CallMethod,
    ) {
        let Self { pipeline, connections, .. } = self;
        match recipient {
            Recipient::Task(key) => pipeline.engine.end_task(*key, answer),
            Recipient::Stream(stream) | Recipient::Http { stream: Some(stream), .. } => {
                pipeline.engine.plane.push(*stream, answer, true);
            }
            Recipient::Line(socket) => {
                let Some(connection) = connection_of(connections, *socket) else { return };
                connection.out.extend_from_slice(answer);
                if !answer.is_empty() {
                    connection.out.push(b'\n');
                }
                if let Some(lines) = &mut connection.lines {
                    lines.pending = lines.pending.saturating_sub(1);
                }
                let socket = *socket;
                self.mark(socket);
                self.resume_lines(socket);
            }
            Recipient::Http { socket, exchange, streams, .. } => {
                let Some(connection) = connection_of(connections, *socket) else { return };
                match connection.phase {
                    Phase::Calling(other) if other == ticket || ticket == Ticket::default() => {}
                    Phase::Batch(_) => {}
                    _ => return,
                }
                let (socket, streams) = (*socket, *streams);
                if let Some(collected) = &mut connection.collected {
                    if !answer.is_empty() {
                        collected.answers.push(answer.to_vec());
                    }
                    self.answered_one(socket, Handled::Replied);
                    return;
                }
                if streams {
                    if !answer.is_empty() {
                        chunk(&mut connection.out, true, |out| write_event(out, None, answer));
                    }
                    if !matches!(connection.phase, Phase::Batch(2..)) {
                        connection.out.extend_from_slice(LAST_CHUNK);
                    }
                    let handled = pipeline.after_events(exchange.borrowed());
                    self.mark(socket);
                    self.answered_one(socket, handled);
                    return;
                }
                let exchange = exchange.borrowed();
                let response = pipeline.heads.begin(&mut connection.out);
                connection.out.extend_from_slice(answer);
                pipeline.metrics().note(method as usize);
                let handled = pipeline.finish(&mut connection.out, response, status, exchange, "");
                self.mark(socket);
                self.end_reply(socket, handled);
            }
        }
    }

    /// Takes what other shards have to say.
    pub(super) fn take_messages(&mut self) {
        let mailbox = Arc::clone(&self.handle.mailbox);
        if mailbox.take_missed() {
            self.pipeline.metrics().event("events_missed");
            self.hand_out(|subscriptions, delivery| {
                subscriptions.publish_all(|event, key, id| delivery.deliver(event, key, id));
            });
        }
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = mailbox.take() else { break };
            self.on_message(message);
        }
        // What did not fit into this turn is there in the next.
        self.has_more = !mailbox.is_empty();
        self.apply_effects();
    }

    fn on_message(&mut self, message: Message) {
        let engine = &mut self.pipeline.engine;
        match message {
            Message::Event(event) => self.publish(&event),
            Message::Ask { from, ticket, request } => {
                let answer = engine.serve(&request, from);
                let attached = match (&request, &answer) {
                    (Request::Attach { socket, .. }, Answer::Attached(stream, ..)) => {
                        Some((*stream, *socket))
                    }
                    _ => None,
                };
                if !engine.plane.broadcast.post(from, Message::Answer { ticket, answer }) {
                    // It waits no longer than for anything else, and carries nothing.
                    if let Some((stream, socket)) = attached {
                        engine.plane.replay.detach(stream, Carrier { shard: from, socket });
                    }
                    engine.observer.metrics().event("answer_lost");
                }
            }
            Message::Answer { ticket, answer } => {
                if let Some((elsewhere, performed, out)) = engine.on_answer(ticket, answer) {
                    self.conclude(ticket, &elsewhere, performed, &out);
                }
            }
            Message::ClientAnswer(answer) => engine.client_answer(answer),
            Message::Cancel(session, id) => engine.cancel_in_session(session, &id),
            Message::Stream { socket, events, ended } => {
                let then = if ended { Then::Closes } else { Then::Stays };
                let is_carrying = connection_of(&mut self.connections, socket)
                    .is_some_and(|connection| matches!(connection.phase, Phase::Carrying(_)));
                if is_carrying {
                    self.apply(Effect { socket, bytes: events, then });
                }
            }
            Message::Detached { stream, from, socket } => {
                engine.plane.replay.detach(stream, Carrier { shard: from, socket });
            }
        }
    }

    /// What another shard was asked for has come.
    fn conclude(&mut self, ticket: Ticket, elsewhere: &Elsewhere, performed: Performed, answer: &[u8]) {
        match performed {
            Performed::Attached(stream, events, ended) => {
                let Recipient::Http { socket, exchange, .. } = &elsewhere.recipient else { return };
                let Self { pipeline, connections, .. } = self;
                let waits = connection_of(connections, *socket)
                    .filter(|connection| connection.phase == Phase::Calling(ticket));
                let Some(connection) = waits else {
                    // It left before its stream came.
                    pipeline.engine.plane.detach(stream, *socket);
                    return;
                };
                pipeline.begin_events(&mut connection.out, exchange.borrowed());
                connection.out.extend_from_slice(&frame_events(&events, ended));
                connection.phase = Phase::Carrying(stream);
                connection.last = !exchange.keep_alive;
                let socket = *socket;
                self.keep_alive(socket);
                if ended {
                    let handled = self.pipeline.after_events(exchange.borrowed());
                    self.end_reply(socket, handled);
                }
                self.mark(socket);
            }
            Performed::Answered(status, method, _) => {
                self.tell(ticket, &elsewhere.recipient, status, answer, method);
            }
            _ => {}
        }
    }

    /// Tells everybody here of an event.
    fn publish(&mut self, event: &Arc<Event>) {
        self.hand_out(|subscriptions, delivery| {
            subscriptions.publish(event, |key, id| delivery.deliver(event, key, id));
        });
    }

    /// Has events handed out, and sends on what came of it.
    fn hand_out(&mut self, publish: impl FnOnce(&mut Subscriptions<Listener>, &mut Delivery<'_>)) {
        let Self { pipeline, connections, .. } = self;
        let plane = &mut pipeline.engine.plane;
        let mut delivery =
            Delivery { connections, replay: &mut plane.replay, told: Vec::new(), kept: Vec::new() };
        publish(&mut plane.subscriptions, &mut delivery);
        let Delivery { told, kept, .. } = delivery;
        kept.into_iter().for_each(|(stream, sent)| plane.forward(stream, sent));
        told.into_iter().for_each(|socket| self.mark(socket));
    }

    /// A listener's connection has sent what it had: what it missed meanwhile, it hears now.
    pub(super) fn catch_up(&mut self, socket: SocketId) {
        let Self { pipeline, connections, .. } = self;
        let Some(connection) = connection_of(connections, socket) else { return };
        let subscriptions = &mut pipeline.engine.plane.subscriptions;
        let mut flush = |connection: &mut Connection, listener| {
            subscriptions.flush(listener, |event, id| {
                let room = has_room(connection);
                if room {
                    tell_connection(connection, |out| event.write(out, id));
                }
                room
            });
        };
        match (connection.phase, &connection.lines) {
            (Phase::Listening(listener), _) => flush(connection, listener),
            (_, Some(lines)) => {
                let of_line: Vec<ListenerKey> = lines.line.listeners().collect();
                of_line.into_iter().for_each(|listener| flush(connection, listener));
            }
            _ => return,
        }
        if !connection.out.is_empty() {
            self.mark(socket);
        }
    }

    /// A stream has begun, or has given a sign of life: the next is due.
    pub(super) fn keep_alive(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.deadline = self.timers.tick_after(self.now, self.limits.stream_keep_alive);
        self.timers.schedule(socket.index(), connection.deadline.min(connection.write_deadline));
    }

    /// Gives a sign of life on a stream that has nothing to tell.
    pub(super) fn on_keep_alive(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if !connection.sending && connection.out.is_empty() {
            chunk(&mut connection.out, true, |out| out.extend_from_slice(KEEP_ALIVE));
            self.mark(socket);
        }
        self.keep_alive(socket);
    }

    /// A connection of lines is closed although calls of it are in flight: its peer has waited for as long as a drain may take.
    pub(super) fn log_abandoned(&mut self, socket: SocketId) {
        let engine = &mut self.pipeline.engine;
        let tickets = engine.calls.of_line(socket);
        let names = tickets.iter().filter_map(|ticket| Some(engine.calls.get(*ticket)?.callable.name()));
        let names: Vec<String> = names.map(ToOwned::to_owned).collect();
        engine.observer.abandoned(&names);
    }

    /// What a connection has open ends with it.
    pub(super) fn let_go(&mut self, connection: &Connection) {
        let engine = &mut self.pipeline.engine;
        match connection.phase {
            Phase::Calling(ticket) => engine.abandon(ticket),
            Phase::Listening(listener) => engine.plane.subscriptions.remove(listener),
            Phase::Carrying(stream) => engine.plane.detach(stream, connection.socket),
            _ => {}
        }
        if let Some(lines) = &connection.lines {
            let listeners = lines.line.listeners();
            listeners.for_each(|listener| engine.plane.subscriptions.remove(listener));
            for ticket in engine.calls.of_line(connection.socket) {
                if engine.calls.abandon(ticket).is_some() {
                    engine.observer.metrics().event("cancelled");
                }
            }
        }
    }

    /// The server ends: streams end in order (checklist M-66).
    pub(super) fn end_streams(&mut self) {
        let mut ended = Vec::new();
        for connection in self.connections.iter_mut().flatten() {
            let plane = &mut self.pipeline.engine.plane;
            let listens = match (connection.phase, &mut connection.lines) {
                (Phase::Listening(listener), _) => vec![listener],
                // What comes from now on is not for it.
                (Phase::Carrying(stream), _) => {
                    plane.detach(stream, connection.socket);
                    Vec::new()
                }
                (_, Some(lines)) => std::mem::take(&mut lines.line.listens),
                _ => continue,
            };
            for listener in listens {
                if let Some(id) = plane.subscriptions.id(listener) {
                    tell_connection(connection, |out| write_listen_ended(out, id));
                }
                plane.subscriptions.remove(listener);
            }
            if connection.lines.is_none() {
                connection.out.extend_from_slice(LAST_CHUNK);
                connection.phase = Phase::Closing { linger: true };
            }
            ended.push(connection.socket);
        }
        for socket in ended {
            // A connection of lines is read no more, and closed when it owes nothing.
            self.resume_lines(socket);
            self.mark(socket);
        }
    }

    /// A connection speaks lines.
    pub(super) fn begin_lines(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let line = Line { socket, handshake: None, listener: None, listens: Vec::new() };
        connection.lines =
            Some(Box::new(Lines { framer: LineFramer::default(), line, pending: 0, is_new: true }));
        connection.deadline = Tick::NEVER;
        self.timers.cancel(socket.index());
    }

    /// Handles what has been received on a connection of lines, new bytes last.
    pub(super) fn advance_lines(&mut self, socket: SocketId, received: Option<(&mut [u8], usize)>) {
        self.handling = Some(socket);
        let Self { pipeline, connections, limits, spare, .. } = self;
        let Some(connection) = connection_of(connections, socket) else { return };
        if connection.out.capacity() == 0 {
            connection.out = spare.pop().unwrap_or_default();
        }
        let peer_closed = connection.peer_closed;
        let Connection { lines, out, handled, .. } = connection;
        let Some(lines) = lines else { return };
        let Lines { framer, line, pending, is_new } = &mut **lines;
        let handshake = line.handshake;
        let mut speaking = Speaking { pipeline, limits, line, pending, is_new, out, handled: *handled };
        let progress = match received {
            Some((padded, length)) => framer.receive(padded, length, limits, &mut speaking),
            None if peer_closed => framer.finish(limits, &mut speaking),
            None => framer.resume(limits, &mut speaking),
        };
        *handled = speaking.handled;
        if line.handshake != handshake && line.listener.is_none() {
            // From now on it hears of changed lists, as every legacy client does (checklist L-62).
            let listener = pipeline.engine.line_listener(line);
            for list in crate::registry::List::ALL {
                pipeline.engine.plane.subscriptions.subscribe(listener, crate::mcp::Topic::list(list));
            }
        }
        connection.phase = match progress {
            Progress::Paused => Phase::Congested,
            Progress::Stopped => Phase::Closing { linger: false },
            Progress::Idle | Progress::Line => Phase::Idle,
        };
        let owes = connection.lines.as_ref().is_some_and(|lines| lines.pending > 0);
        if peer_closed && progress != Progress::Paused && !owes {
            connection.phase = Phase::Closing { linger: false };
        }
        if connection.paused && connection.phase == Phase::Idle {
            connection.paused = false;
            self.ring.resume_receive(socket);
        }
        self.mark(socket);
        self.apply_effects();
    }

    /// The peer of a connection of lines has ended its input: its requests are answered, for as long as a drain may
    /// take (checklist S-04).
    pub(super) fn on_lines_ended(&mut self, socket: SocketId) {
        let soon = self.timers.tick_after(self.now, self.limits.drain_timeout);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.deadline = soon;
        self.timers.schedule(socket.index(), soon);
        if connection.phase == Phase::Idle {
            self.advance_lines(socket, None);
        }
    }

    /// A connection of lines owes less than before.
    pub(super) fn resume_lines(&mut self, socket: SocketId) {
        let draining = self.drain_until.is_some();
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let Some(lines) = &connection.lines else { return };
        let owes = lines.pending > 0;
        if !owes && (draining || connection.peer_closed) && connection.phase != Phase::Congested {
            connection.phase = Phase::Closing { linger: false };
            self.mark(socket);
        } else if connection.phase == Phase::Congested {
            self.advance_lines(socket, None);
        }
    }
}

/// Events on their way to the listeners of one shard.
struct Delivery<'a> {
    connections: &'a mut [Option<Connection>],
    replay: &'a mut Replay,
    /// Connections that have something to send now.
    told: Vec<SocketId>,
    /// Streams of sessions that have kept it, and where it goes from there.
    kept: Vec<(StreamId, Option<Sent>)>,
}

impl Delivery<'_> {
    /// Hands an event to one listener; `false`: it has no room now.
    fn deliver(&mut self, event: &Event, listener: Listener, id: Option<&[u8]>) -> bool {
        let socket = match listener {
            Listener::Stream(socket) | Listener::Line(socket) => socket,
            Listener::Session(stream) => {
                let mut message = Vec::new();
                event.write(&mut message, None);
                self.kept.push((stream, self.replay.push(stream, &message, false)));
                return true;
            }
        };
        // One that has gone is taken out when its end is heard of.
        let Some(connection) = connection_of(self.connections, socket) else { return true };
        if !has_room(connection) {
            return false;
        }
        let start = connection.out.len();
        tell_connection(connection, |out| event.write(out, id));
        let (before, written) = connection.out.split_at(start);
        if before.ends_with(written) {
            // Not sent yet, and it says all there is to say.
            connection.out.truncate(start);
        }
        if !connection.dirty {
            self.told.push(socket);
        }
        true
    }
}

/// Takes the byte order mark off a line that begins with one (RFC 8259, section 8.1, allows to ignore it).
fn skip_byte_order_mark(line: &mut crate::jsonl::Line<'_>) {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if line.length >= MARK.len() && line.padded.starts_with(MARK) {
        let padded = std::mem::take(&mut line.padded);
        line.padded = padded.get_mut(MARK.len()..).unwrap_or_default();
        line.length -= MARK.len();
    }
}

/// One connection's lines on their way from its framer through a pipeline.
struct Speaking<'a> {
    pipeline: &'a mut Pipeline,
    limits: &'a crate::config::Limits,
    line: &'a mut Line,
    pending: &'a mut usize,
    is_new: &'a mut bool,
    out: &'a mut Vec<u8>,
    handled: usize,
}

impl Handler for Speaking<'_> {
    fn line(&mut self, mut line: Result<crate::jsonl::Line<'_>, LineTooLong>) -> Flow {
        if std::mem::replace(self.is_new, false)
            && let Ok(first) = &mut line
        {
            skip_byte_order_mark(first);
            let rest = first.padded.get(..first.length).unwrap_or_default();
            if rest.trim_ascii().is_empty() {
                return Flow::Continue;
            }
        }
        match line {
            // A web page can send lines inside a request; it must not reach a tool by them.
            Ok(crate::jsonl::Line { padded, length })
                if self.line.handshake.is_none() && is_http(padded.get(..length).unwrap_or_default()) =>
            {
                self.pipeline.refused("lines_not_http");
                return Flow::Stop;
            }
            Ok(crate::jsonl::Line { padded, length }) => {
                let full = *self.pending >= self.limits.calls_per_line_max;
                let pending = self.pipeline.line(padded, length, self.line, full, self.out);
                *self.pending += pending as usize;
            }
            Err(LineTooLong) => {
                self.pipeline.refused("line_too_long");
                write_error(self.out, None, ErrorCode::InvalidRequest, "Line too long", None);
                self.out.push(b'\n');
            }
        }
        self.handled += 1;
        let has_had_its_turn = self.handled >= self.limits.requests_per_turn_max
            || self.out.len() > self.limits.outbox_bytes_max
            || self.pipeline.waits_for_calls(self.line.socket, *self.pending, self.limits);
        if has_had_its_turn { Flow::Pause } else { Flow::Continue }
    }
}
