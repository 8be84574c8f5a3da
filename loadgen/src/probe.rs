//! The probe: determines whether an MCP server responds, with which protocol revision, and which capabilities it has.

use std::{
    io::{Read, Write},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::SmallRng};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    error::LoadError,
    http::{Framer, Head, Part},
    request::{Era, Operation, Request, initialized, is_reply},
    result::ServerInfo,
    stdio::{Process, terminate_all},
    target::Target,
};

/// How long the probe waits for the server to close after its reply. Connections of the load do not wait.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(50);

/// Reason of the error if the server responds to all probes with 404.
const WRONG_PATH: &str = "it replies with status 404; is the path right? Most servers use /mcp";

/// The properties of a server in its first replies.
#[derive(Clone, Debug)]
pub struct ProbeResult {
    /// The protocol revision to use.
    pub era: Era,
    /// The server's description of itself.
    pub server: ServerInfo,
    /// The declared capabilities.
    pub capabilities: Value,
    /// Names of the tools on the first page.
    pub tools: Vec<String>,
    /// Whether the server closed the connection after its first reply without announcing it.
    pub closes_unannounced: bool,
}

impl ProbeResult {
    /// The result for a server that is not probed.
    #[must_use]
    pub fn plain(target: &Target) -> Self {
        let server = ServerInfo {
            url: target.url.clone(),
            name: "plain HTTP".to_owned(),
            version: String::new(),
            commit: None,
            limits: std::collections::BTreeMap::new(),
            flags: std::collections::BTreeMap::new(),
            flag_shares: std::collections::BTreeMap::new(),
            flags_changed: Vec::new(),
        };
        Self {
            era: Era::Plain,
            server,
            capabilities: Value::Null,
            tools: Vec::new(),
            closes_unannounced: false,
        }
    }
}

/// Tries the newest revision first, or only the wanted one.
///
/// # Errors
/// When the server does not respond, or is not an MCP server.
pub fn probe(target: &Target, wanted: Option<Era>, timeout: Duration) -> Result<ProbeResult, LoadError> {
    if wanted == Some(Era::Plain) {
        let request = Request::new(target, Era::Plain, Operation::Plain, 1, false)?;
        let mut reply = exchange(target, &request, None, timeout)?;
        return Ok(ProbeResult {
            closes_unannounced: reply.closes_unannounced(),
            ..ProbeResult::plain(target)
        });
    }
    let mut rejection = None;
    for era in [Era::Modern, Era::Legacy] {
        if wanted.is_some_and(|wanted| wanted != era) {
            continue;
        }
        let outcome = match probe_era(target, era, timeout) {
            // A process may exit or stay silent when it receives a request of a revision that it does not support.
            Err(LoadError::NotMcp { reason, .. }) if target.program().is_some() => Err(reason),
            outcome => outcome?,
        };
        match outcome {
            Ok(probe) => return Ok(probe),
            // The reply to the older revision is more specific about a missing path.
            Err(reason) if reason == WRONG_PATH => rejection = Some(reason),
            Err(reason) => rejection = rejection.or(Some(reason)),
        }
    }
    let reason = rejection.unwrap_or_else(|| "it does not reply".to_owned());
    Err(LoadError::NotMcp { url: target.url.clone(), reason })
}

/// Probes one revision. The outer error ends the probe; the inner one is the reason why this revision was rejected.
fn probe_era(target: &Target, era: Era, timeout: Duration) -> Result<Result<ProbeResult, String>, LoadError> {
    let first = match era {
        Era::Modern => Operation::Method("server/discover"),
        _ => Operation::Initialize,
    };
    let request = Request::new(target, era, first, 1, false)?;
    let mut lines = target.is_lines.then(|| LineSession::start(target, timeout)).transpose()?;
    let mut closes_unannounced = false;
    let (head, reply) = match &mut lines {
        Some(lines) => lines.exchange(target, &request, timeout)?,
        None => {
            let mut exchange = exchange(target, &request, None, timeout)?;
            closes_unannounced = exchange.closes_unannounced();
            (exchange.head, exchange.body)
        }
    };
    let message = match parse_reply(&head, &reply) {
        Ok(message) => message,
        Err(reason) => return Ok(Err(reason)),
    };
    let Some(result) = message.get("result") else {
        if head.status == 404 && era == Era::Legacy {
            return Ok(Err(WRONG_PATH.to_owned()));
        }
        let error = message.pointer("/error/message").and_then(Value::as_str).unwrap_or("no result");
        return Ok(Err(format!("it rejects {}: {error}", era.name())));
    };
    let is_supported = match era {
        Era::Modern => result
            .get("supportedVersions")
            .and_then(Value::as_array)
            .is_some_and(|versions| versions.iter().any(|version| version == era.name())),
        _ => result.get("protocolVersion").is_some(),
    };
    if !is_supported {
        return Ok(Err(format!("it does not support {}", era.name())));
    }
    let info = result
        .pointer("/_meta/io.modelcontextprotocol~1serverInfo")
        .or_else(|| result.get("serverInfo"))
        .cloned()
        .unwrap_or_default();
    let text = |key: &str| info.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let session = head.session.as_deref();
    let list = Request::new(target, era, Operation::Method("tools/list"), 1, false)?;
    let (head, reply) = match &mut lines {
        Some(lines) => {
            if era == Era::Legacy {
                lines.write(target, &initialized(target), timeout)?;
            }
            lines.exchange(target, &list, timeout)?
        }
        None => {
            let exchange = exchange(target, &list, session, timeout)?;
            (exchange.head, exchange.body)
        }
    };
    let tools = tool_names(&parse_reply(&head, &reply).unwrap_or_default());
    Ok(Ok(ProbeResult {
        era,
        server: ServerInfo {
            name: text("name"),
            version: text("version"),
            ..ProbeResult::plain(target).server
        },
        capabilities: result.get("capabilities").cloned().unwrap_or_default(),
        tools,
        closes_unannounced,
    }))
}

/// The names of the listed tools; empty if the reply does not contain a list.
fn tool_names(message: &Value) -> Vec<String> {
    let tools = message.pointer("/result/tools").and_then(Value::as_array);
    let names = tools.into_iter().flatten().filter_map(|tool| tool.get("name")?.as_str());
    names.map(str::to_owned).collect()
}

/// Parses a reply as JSON-RPC, or returns the reason why it is not.
fn parse_reply(head: &Head, reply: &[u8]) -> Result<Value, String> {
    let json = serde_json::from_slice::<Value>(reply).ok().filter(|value| value.get("jsonrpc").is_some());
    match (json, head.status) {
        (Some(message), _) => Ok(message),
        (None, 404) => Err(WRONG_PATH.to_owned()),
        (None, 401 | 403) => Err(format!("it rejects the request with status {}", head.status)),
        (None, 301..=308) => {
            Err(format!("it redirects with status {}; give the target of the redirection", head.status))
        }
        (None, status) => Err(format!("it replies with status {status} and without JSON-RPC")),
    }
}

/// Sends one request on a connection of its own and reads the reply: the body, or the response in an event stream.
///
/// # Errors
/// When the server does not respond in time, or not with HTTP.
pub fn exchange(
    target: &Target,
    request: &Request,
    session: Option<&str>,
    timeout: Duration,
) -> Result<Exchange, LoadError> {
    let unreachable = |reason: String| LoadError::Unreachable { url: target.url.clone(), reason };
    let mut stream = connect(target, timeout).map_err(|error| unreachable(error.to_string()))?;
    let mut bytes = Vec::new();
    request.write(0, 0, session, &mut SmallRng::seed_from_u64(0), &mut bytes);
    write(target, &mut stream, &bytes, timeout)?;
    let (head, body) = read(target, &mut stream, &mut Framer::default(), timeout)?;
    Ok(Exchange { head, body, stream })
}

fn write(target: &Target, stream: &mut Socket, bytes: &[u8], timeout: Duration) -> Result<(), LoadError> {
    stream
        .set_write_timeout(Some(timeout))
        .and_then(|()| stream.write_all(bytes))
        .map_err(|error| LoadError::Unreachable { url: target.url.clone(), reason: error.to_string() })
}

/// Reads one reply.
fn read(
    target: &Target,
    stream: &mut Socket,
    framer: &mut Framer,
    timeout: Duration,
) -> Result<(Head, Vec<u8>), LoadError> {
    let unreachable = |reason: String| LoadError::Unreachable { url: target.url.clone(), reason };
    let not_mcp = |reason: String| LoadError::NotMcp { url: target.url.clone(), reason };
    let timed_out = || not_mcp(format!("it does not reply within {timeout:?}"));
    let until = Instant::now() + timeout;
    let mut reply = ReplyReader::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(timed_out)?;
        stream.set_read_timeout(Some(left)).map_err(|error| unreachable(error.to_string()))?;
        let length = match stream.read(&mut buffer) {
            Ok(length) => length,
            // A socket with a timeout returns EINTR where the process is stopped and continued (signal(7)).
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) => return Err(unreachable(error.to_string())),
        };
        let received = buffer.get(..length).unwrap_or_default();
        if length == 0 {
            framer.end(&mut |part| reply.take(&part));
        } else if let Err(broken) = framer.receive(received, &mut |part| reply.take(&part)) {
            let tls = if received.starts_with(&[0x15, 3]) { ", but TLS" } else { "" };
            return Err(not_mcp(format!("{broken}{tls}")));
        }
        if let Some(head) = reply.head {
            return Ok((head, reply.body));
        }
        if length == 0 {
            return Err(not_mcp(CLOSED.to_owned()));
        }
    }
}

/// Reason of the error if the server closes without a reply.
const CLOSED: &str = "it closes the connection without a reply";

/// A connection with newline-delimited JSON, to a socket or to a process, which receives several requests. Dropping it lets the
/// process exit.
struct LineSession {
    stream: Option<Socket>,
    framer: Framer,
    process: Option<Process>,
}

impl LineSession {
    fn start(target: &Target, timeout: Duration) -> Result<Self, LoadError> {
        let unreachable = |error: std::io::Error| LoadError::Unreachable {
            url: target.url.clone(),
            reason: error.to_string(),
        };
        let (stream, process) = match target.program() {
            Some(program) => {
                let (stream, process) = program.start(&[]).map_err(unreachable)?;
                (Socket::from(OwnedFd::from(stream)), Some(process))
            }
            None => (connect(target, timeout).map_err(unreachable)?, None),
        };
        Ok(Self { stream: Some(stream), framer: Framer::lines(), process })
    }

    fn exchange(
        &mut self,
        target: &Target,
        request: &Request,
        timeout: Duration,
    ) -> Result<(Head, Vec<u8>), LoadError> {
        let mut bytes = Vec::new();
        request.write(0, 0, None, &mut SmallRng::seed_from_u64(0), &mut bytes);
        self.write(target, &bytes, timeout)?;
        let Some(stream) = &mut self.stream else { return Err(self.exit_error(target)) };
        match read(target, stream, &mut self.framer, timeout) {
            // The process has closed its output, or reset the socket because it has not read all input.
            Err(LoadError::Unreachable { .. }) => Err(self.exit_error(target)),
            Err(LoadError::NotMcp { reason, .. }) if reason == CLOSED => Err(self.exit_error(target)),
            read => read,
        }
    }

    fn write(&mut self, target: &Target, bytes: &[u8], timeout: Duration) -> Result<(), LoadError> {
        let Some(stream) = &mut self.stream else { return Err(self.exit_error(target)) };
        match write(target, stream, bytes, timeout) {
            Err(_) => Err(self.exit_error(target)),
            Ok(()) => Ok(()),
        }
    }

    /// The error for a process that has exited.
    fn exit_error(&mut self, target: &Target) -> LoadError {
        let exit_reason = self.process.as_mut().map(Process::exit_reason);
        LoadError::NotMcp {
            url: target.url.clone(),
            reason: exit_reason.unwrap_or_else(|| CLOSED.to_owned()),
        }
    }
}

impl Drop for LineSession {
    fn drop(&mut self) {
        self.stream = None;
        terminate_all(self.process.take());
    }
}

fn connect(target: &Target, timeout: Duration) -> std::io::Result<Socket> {
    let address = target.sock_addr()?;
    let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
    socket.connect_timeout(&address, timeout)?;
    Ok(socket)
}

/// A reply, and its connection.
#[derive(Debug)]
pub struct Exchange {
    /// The head of the reply.
    pub head: Head,
    /// The body, or the message of an event stream that is the response.
    pub body: Vec<u8>,
    stream: Socket,
}

impl Exchange {
    /// Whether the server closes the connection soon after a reply that did not announce it.
    fn closes_unannounced(&mut self) -> bool {
        let has_timeout = self.stream.set_read_timeout(Some(CLOSE_TIMEOUT)).is_ok();
        let length = self.stream.read(&mut [0]);
        let reset = length.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        !self.head.closes
            && !self.head.is_stream
            && has_timeout
            && (reset || length.is_ok_and(|length| length == 0))
    }
}

/// Collects a reply's body, or the response in an event stream, and sets the head once it is there.
#[derive(Default)]
struct ReplyReader {
    head: Option<Head>,
    body: Vec<u8>,
}

impl ReplyReader {
    fn take(&mut self, part: &Part<'_>) {
        match part {
            Part::Message(head, body) if !head.is_stream || is_reply(body) => {
                self.body = body.to_vec();
                self.head = Some((*head).clone());
            }
            Part::Message(..) => {}
            Part::End(head) => self.head = Some((*head).clone()),
        }
    }
}
