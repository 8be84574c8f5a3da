//! Blocking connections of attackers: they send any bytes, and read replies.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
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
pub(super) struct Connection {
    stream: TcpStream,
    framer: Framer,
    replies: VecDeque<(Head, Vec<u8>)>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects from an address. `receive_buffer`: size of the socket's receive buffer, in bytes.
    pub(super) fn open(
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

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives bytes, without parsing them.
    pub(super) fn receive(&mut self) -> io::Result<&[u8]> {
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
    pub(super) fn reply(&mut self) -> io::Result<(Head, Vec<u8>)> {
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

    /// Closes the sending side.
    pub(super) fn half_close(&self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// Closes the connection with a reset, which also leaves no port in the state TIME_WAIT.
    pub(super) fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// A request of 2025-11-25, in a session if one is given.
pub(super) fn legacy(target: &Target, session: Option<&str>, message: &Value) -> Vec<u8> {
    let session = session.map_or(String::new(), |session| format!("Mcp-Session-Id: {session}\r\n"));
    Request::post_with(
        target,
        &format!("MCP-Protocol-Version: 2025-11-25\r\n{session}"),
        &message.to_string(),
    )
}

/// A call of a tool in 2025-11-25.
pub(super) fn legacy_call(target: &Target, session: Option<&str>, tool: &str, arguments: &Value) -> Vec<u8> {
    legacy(target, session, &call(tool, arguments))
}

/// The message that calls a tool.
pub(super) fn call(tool: &str, arguments: &Value) -> Value {
    let params = serde_json::json!({"name": tool, "arguments": arguments});
    serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
}

/// A `subscriptions/listen` request for updates of resources.
pub(super) fn listen(target: &Target, uris: &[String]) -> Vec<u8> {
    let meta = crate::request::modern_meta();
    let params = serde_json::json!({"notifications": {"resourceSubscriptions": uris}, "_meta": meta});
    let message =
        serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params});
    Request::post(target, "subscriptions/listen", &message.to_string())
}

/// Opens a session of 2025-11-25 on a connection, which it can use further. Returns its id.
pub(super) fn open_session(
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
pub(super) fn get_stream(target: &Target, session: &str) -> Vec<u8> {
    let Target { path, host, .. } = target;
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\
         MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n\r\n"
    )
    .into_bytes()
}
