//! Blocking connections of attackers: they send any bytes, and read replies.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    http::{Framer, Head, Part},
    request::Request,
    target::Target,
};

/// Time limit for connecting, and for one read or write: the interval at which the end of the attack is noticed.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A connection.
pub(crate) struct Connection {
    stream: TcpStream,
    framer: Framer,
    replies: VecDeque<(Head, Vec<u8>)>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects from an address. `receive_buffer`: size of the socket's receive buffer, in bytes.
    pub(crate) fn open(
        address: SocketAddr,
        source: IpAddr,
        receive_buffer: Option<usize>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&address.into(), TIMEOUT)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream: socket.into(),
            framer: Framer::default(),
            replies: VecDeque::new(),
            buffer: vec![0; 16 * 1024],
        })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends bytes to a server that may take long to receive them.
    pub(crate) fn send_within(&mut self, bytes: &[u8], limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives bytes, without parsing them.
    pub(crate) fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => return Ok(self.buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next reply, or the next event of an event stream.
    pub(crate) fn reply(&mut self) -> io::Result<(Head, Vec<u8>)> {
        loop {
            if let Some(reply) = self.replies.pop_front() {
                return Ok(reply);
            }
            let Self { stream, framer, replies, buffer } = self;
            let length = stream.read(buffer)?;
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let received = buffer.get(..length).unwrap_or_default();
            let mut sink = |part: Part<'_>| {
                if let Part::Message(head, body) = part {
                    replies.push_back((head.clone(), body.to_vec()));
                }
            };
            framer.receive(received, &mut sink).map_err(|error| io::Error::other(error.to_string()))?;
        }
    }

    /// Whether the peer has sent something, or closed, without waiting for it.
    pub(crate) fn has_input(&self) -> bool {
        let peeked = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut [0; 1]))
            .map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |_| true);
        peeked | self.stream.set_nonblocking(false).is_err()
    }

    /// Closes the sending side.
    pub(crate) fn half_close(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// Closes the connection with a reset, which also leaves no port in the state TIME_WAIT.
    pub(crate) fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// A request of 2025-11-25, in a session if one is given.
pub(crate) fn legacy(target: &Target, session: Option<&str>, message: &Value) -> Vec<u8> {
    let session = session.map_or(String::new(), |session| format!("Mcp-Session-Id: {session}\r\n"));
    Request::post_with(
        target,
        &format!("MCP-Protocol-Version: 2025-11-25\r\n{session}"),
        &message.to_string(),
    )
}

/// A call of a tool in 2025-11-25.
pub(crate) fn legacy_call(target: &Target, session: Option<&str>, tool: &str, arguments: &Value) -> Vec<u8> {
    legacy(target, session, &call(tool, arguments))
}

/// The message that calls a tool.
pub(crate) fn call(tool: &str, arguments: &Value) -> Value {
    let params = serde_json::json!({"name": tool, "arguments": arguments});
    serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
}

/// A `subscriptions/listen` request for updates of resources.
pub(crate) fn listen(target: &Target, uris: &[String]) -> Vec<u8> {
    let meta = crate::request::modern_meta();
    let params = serde_json::json!({"notifications": {"resourceSubscriptions": uris}, "_meta": meta});
    let message =
        serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params});
    Request::post(target, "subscriptions/listen", &message.to_string())
}

/// Opens a session of 2025-11-25 on a connection, which it can use further. Returns its id.
pub(crate) fn open_session(
    connection: &mut Connection,
    target: &Target,
    capabilities: &Value,
) -> io::Result<String> {
    let client = serde_json::json!({"name": "attacker", "version": "0"});
    let params = serde_json::json!({
        "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": client,
    });
    let initialize = serde_json::json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    connection.send(&Request::post_with(target, "", &initialize.to_string()))?;
    let (head, _) = connection.reply()?;
    let session = head.session.ok_or_else(|| io::Error::other("no session"))?;
    let initialized = serde_json::json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    connection.send(&legacy(target, Some(&session), &initialized))?;
    connection.reply()?;
    Ok(session.into())
}

/// A request for the stream of a session.
pub(crate) fn get_stream(target: &Target, session: &str) -> Vec<u8> {
    let Target { path, host, .. } = target;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\
         MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n\r\n"
    )
    .into_bytes()
}
