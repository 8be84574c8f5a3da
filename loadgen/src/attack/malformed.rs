//! Requests that are malformed, or aborted at each stage.

use std::io;

use serde_json::json;

use super::{
    attacker::{Attacker, SOURCE},
    bystander::Bystander,
    definition::Attack,
    wire::{Connection, legacy_call, listen},
};
use crate::request::Request;

/// Heads that are not HTTP, or that two readers could understand differently (RFC 9112).
pub(crate) const HEADS: [&[u8]; 20] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not TLS\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET\r\n\r\n",
    b"POST /mcp\r\n\r\n",
    b"POST /mcp HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"POST  /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length : 2\r\n\r\n{}",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\n{}",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, identity\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n",
    b"POST /mcp HTTP/1.1\nHost: localhost\nX\rY: z\n\n",
    b"DELETE /elsewhere?\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
];

/// Bodies that are not JSON, not JSON-RPC, or not a request of the protocol.
const BODIES: [&str; 16] = [
    "",
    "{",
    "[1,1,",
    "nul",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} x",
    "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}",
    "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"Method\":\"ping\"}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"no/such/method\"}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":[]}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"arguments\":{\"message\":7}}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"\\ud800\"}}",
    "{\"jsonrpc\":\"2.0\",\"id\":1e999,\"method\":\"ping\"}",
    "[]",
];

/// Stages at which a request is aborted.
const ABORTS: usize = 12;

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        id: "malformed",
        description: "requests that are malformed, or aborted at each stage",
        bystander: Bystander::Canonical,
        run: malformed,
    }]
}

fn malformed(attacker: &Attacker<'_>) {
    let bodies: Vec<Vec<u8>> =
        BODIES.iter().map(|body| Request::post_with(attacker.target, "", body)).collect();
    let requests = Requests::new(attacker);
    attacker.repeat(2, |number| {
        for (turn, head) in HEADS.iter().enumerate() {
            exchange(attacker, head)?;
            let body = bodies.get((turn + number) % bodies.len()).map_or(&[][..], Vec::as_slice);
            exchange(attacker, body)?;
            requests.abort(attacker, turn % ABORTS)?;
        }
        // Several on one connection, as long as the server keeps it.
        let mut connection = attacker.connect()?;
        for body in &bodies {
            attacker.count(1);
            if connection.send(body).and_then(|()| connection.reply()).is_err() {
                break;
            }
        }
        connection.reset();
        Ok(())
    });
}

/// Sends a request on a connection of its own, and reads what the server answers.
fn exchange(attacker: &Attacker<'_>, bytes: &[u8]) -> io::Result<()> {
    let mut connection = attacker.connect()?;
    attacker.count(1);
    // The server may have closed.
    let _ = connection.send(bytes).and_then(|()| connection.receive().map(|_| ()));
    connection.reset();
    Ok(())
}

/// The requests that are aborted.
struct Requests {
    echo: Vec<u8>,
    large: Vec<u8>,
    sleep: Vec<u8>,
    digest: Vec<u8>,
    listen: Vec<u8>,
}

impl Requests {
    fn new(attacker: &Attacker<'_>) -> Self {
        let call = |tool, arguments| legacy_call(attacker.target, None, tool, &arguments);
        Self {
            echo: call("echo", json!({"message": "hello world"})),
            large: call("echo", json!({"message": "x".repeat(100_000)})),
            sleep: call("sleep", json!({"ms": 1_000})),
            digest: call("digest", json!({"text": "text", "rounds": 100})),
            listen: listen(attacker.target, &["page://1".to_owned()]),
        }
    }

    /// Sends as much of a request as the stage has, and resets the connection.
    fn abort(&self, attacker: &Attacker<'_>, stage: usize) -> io::Result<()> {
        let half = |request: &'_ [u8]| request.get(..request.len() / 2).unwrap_or_default().to_vec();
        let mut connection = match stage {
            11 => Connection::open(attacker.lines, SOURCE, None)?,
            _ => attacker.connect()?,
        };
        attacker.count(1);
        match stage {
            // Nothing is sent.
            0 => {}
            1 => connection.send(&half(&self.echo))?,
            2 => {
                connection.send(&half(&self.echo))?;
                connection.half_close()?;
            }
            3 => connection.send(&half(&self.large))?,
            4 => connection.send(&self.echo)?,
            5 => connection.send(&self.large)?,
            6 => connection.send(&self.sleep)?,
            7 => {
                connection.send(&self.sleep)?;
                connection.half_close()?;
            }
            8 => connection.send(&self.digest)?,
            9 => connection.send(&self.listen)?,
            10 => {
                connection.send(&self.echo.repeat(16))?;
                connection.receive()?;
            }
            _ => connection.send(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"meth")?,
        }
        connection.reset();
        Ok(())
    }
}
