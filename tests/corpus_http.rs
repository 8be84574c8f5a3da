//! Compares the framer with the request cases of llhttp: both reject the same cases, and read the same number of
//! requests with equal body lengths from the others. Checks every rule of HTTP that prevents request smuggling against
//! the real binary.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/corpora.rs"]
mod corpora;
mod support;

use support::missing;

use std::{collections::BTreeMap, fmt, fs};

use corelane::{
    Limits,
    internals::http1::{Flow, Framer, Handler, Progress, RejectReason, Request, RequestHead},
};
use support::ServerProcess;

/// One case of the corpus.
#[derive(Debug, Default)]
struct Case {
    name: String,
    /// `request`, or a lenient mode of llhttp.
    kind: String,
    input: Vec<u8>,
    log: String,
}

/// Decodes the escapes of the cases, as the test runner of llhttp does.
fn unescape(text: &str) -> Vec<u8> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.replace("\\\n", "").replace('\n', "\r\n");
    let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t").replace("\\f", "\x0c");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(position) = rest.find('\\') {
        out.push_str(&rest[..position]);
        let behind = &rest[position + 1..];
        let is_hex = behind.starts_with('x');
        let (radix, digits_max) = if is_hex { (16, usize::MAX) } else { (8, 3) };
        let digits = &behind[usize::from(is_hex)..];
        let count = digits.chars().take_while(|digit| digit.is_digit(radix)).count().min(digits_max);
        if count == 0 {
            out.push('\\');
            rest = behind;
        } else {
            let code = u32::from_str_radix(&digits[..count], radix).unwrap();
            out.push(char::from_u32(code).unwrap());
            rest = &digits[count..];
        }
    }
    out.push_str(rest);
    out.into_bytes()
}

/// Parses the cases of one file: a heading, a comment that names the parser, the request, the log of the parser.
fn cases(name: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let (mut heading, mut case) = (String::new(), Case::default());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let block = |lines: &mut std::str::Lines<'_>| -> String {
            lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect()
        };
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_owned();
        } else if let Some(meta) = line.strip_prefix("<!-- meta=").and_then(|rest| rest.strip_suffix("-->")) {
            let meta: serde_json::Value = serde_json::from_str(meta).unwrap();
            case.kind = meta["type"].as_str().unwrap().to_owned();
        } else if line == "```http" {
            let seen = names.entry(heading.clone()).or_default();
            *seen += 1;
            let number = if *seen > 1 { format!(" ({seen})") } else { String::new() };
            case.name = format!("{name}: {}{number}", heading.replace('|', "/"));
            case.input = unescape(&block(&mut lines));
        } else if line == "```log" {
            case.log = block(&mut lines);
            cases.push(std::mem::take(&mut case));
        }
    }
    cases
}

/// The result of parsing a case.
#[derive(Debug, PartialEq)]
enum Verdict {
    Refused(String),
    /// Body lengths of the complete requests.
    Accepted(Vec<usize>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => formatter.write_str(reason),
            Self::Accepted(bodies) => write!(formatter, "bodies {bodies:?}"),
        }
    }
}

/// The result of llhttp, from its log. A pause that the case requests and an upgrade to another protocol are not
/// rejections.
fn theirs(case: &Case) -> Verdict {
    let mut bodies = Vec::new();
    let mut body = 0;
    for line in case.log.lines() {
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest);
        if let Some(error) = rest.strip_prefix("error code=") {
            let (code, reason) = error.split_once(" reason=").unwrap();
            if !matches!(code, "21" | "22" | "23") {
                return Verdict::Refused(reason.trim_matches('"').to_owned());
            }
        } else if rest == "message begin" {
            body = 0;
        } else if rest == "message complete" {
            bodies.push(body);
        } else if let Some((length, _)) =
            rest.strip_prefix("len=").and_then(|rest| rest.split_once(" span[body]"))
        {
            body += length.parse::<usize>().unwrap();
        }
    }
    Verdict::Accepted(bodies)
}

/// Most cases have no Host, which llhttp does not require. Without an added one every such case would fail for that
/// reason alone.
fn with_hosts(case: &Case) -> Vec<u8> {
    let versions = case.log.lines().filter_map(|line| line.strip_suffix(" version complete"));
    let mut places: Vec<usize> =
        versions.map(|offset| offset.strip_prefix("off=").unwrap().parse().unwrap()).collect();
    if places.is_empty() {
        places.push(0);
    }
    let mut input = case.input.clone();
    for place in places.into_iter().rev() {
        let Some(end) = input[place..].windows(2).position(|pair| pair == b"\r\n") else { continue };
        let line = place + end + 2;
        let head = String::from_utf8_lossy(&input[line..]).to_lowercase();
        let head = head.split("\r\n\r\n").next().unwrap();
        let is_folded = matches!(input.get(line), Some(b' ' | b'\t'));
        if !is_folded && !format!("\n{head}").contains("\nhost:") {
            input.splice(line..line, *b"Host: a\r\n");
        }
    }
    input
}

/// Records the result of the framer for a connection.
#[derive(Default)]
struct Reader {
    bodies: Vec<usize>,
    refused: Option<RejectReason>,
}

impl Handler for Reader {
    fn wants_body(&mut self, _head: &RequestHead, _head_bytes: &[u8]) -> bool {
        true
    }

    /// As in the server, nothing is read after a request that closes the connection.
    fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow {
        match request {
            Ok(request) => {
                self.bodies.push(request.body_length);
                if request.head.keep_alive { Flow::Continue } else { Flow::Stop }
            }
            Err(reason) => {
                self.refused = Some(reason);
                Flow::Stop
            }
        }
    }
}

/// The result of the framer for the input in pieces of `length` bytes.
fn ours(input: &[u8], piece_length: usize) -> Verdict {
    let limits = Limits::default();
    let mut framer = Framer::default();
    let mut reader = Reader::default();
    for piece in input.chunks(piece_length) {
        let mut padded = piece.to_vec();
        padded.resize(piece.len() + 64, 0);
        if framer.receive(&mut padded, piece.len(), &limits, &mut reader) == Progress::Stopped {
            break;
        }
    }
    match reader.refused {
        Some(reason) => Verdict::Refused(reason.name().to_owned()),
        None => Verdict::Accepted(reader.bodies),
    }
}

#[test]
fn framer_matches_llhttp() {
    let Some(directory) = corpora::directory("http1/test/request") else { return };
    let (mut count, mut alike, mut differences) = (0, 0, Vec::new());
    for (name, path) in corpora::files(&directory, "md") {
        for case in cases(name.trim_end_matches(".md"), &fs::read_to_string(path).unwrap()) {
            count += 1;
            let theirs = theirs(&case);
            let input = with_hosts(&case);
            let mut ours = ours_in_any_pieces(&case, &input);
            // A truncated head is judged at the end of input.
            if let (Verdict::Refused(_), Verdict::Accepted(_)) = (&theirs, &ours) {
                ours = ours_in_any_pieces(&case, &[&input, b"\r\n\r\n".as_slice()].concat());
            }
            let is_alike = match (&theirs, &ours) {
                (Verdict::Refused(_), Verdict::Refused(reason)) => reason != RejectReason::HostMissing.name(),
                (theirs, ours) => theirs == ours,
            };
            if is_alike {
                alike += 1;
            } else {
                let lenient = case.kind.strip_prefix("request-lenient").map_or("", |_| " (lenient)");
                differences.push(format!("{} | {theirs}{lenient} | {ours}", case.name));
            }
        }
    }
    assert_eq!((alike, count), (129, 166));
    corpora::compare("HTTP: llhttp differs", &differences, true);
}

fn ours_in_any_pieces(case: &Case, input: &[u8]) -> Verdict {
    let whole = ours(input, input.len());
    for length in [1, 2, 3, 7, 20] {
        assert_eq!(ours(input, length), whole, "{} in pieces of {length}", case.name);
    }
    whole
}

#[test]
fn escapes_of_the_corpus_are_decoded() {
    assert_eq!(unescape("a\\tb\\\nc\nd\\x41\\101\\q\n"), b"a\tbc\r\ndAA\\q");
}

/// Inputs that two readers could frame differently, by the rule they violate.
fn ambiguous() -> Vec<(&'static str, u16, String)> {
    let mut cases = Vec::new();
    let host = "Host: localhost\r\nContent-Type: application/json\r\n";
    let post = |headers: &str| format!("POST /mcp HTTP/1.1\r\n{host}{headers}\r\n");
    let mut add = |rule, status, bytes: String| cases.push((rule, status, bytes));

    add("length and chunks", 400, post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n");
    add("length and chunks", 400, post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n");
    for lengths in ["0\r\nContent-Length: 1", "1\r\nContent-Length: 0", "2\r\ncontent-length: 2"] {
        add("two lengths", 400, post(&format!("Content-Length: {lengths}\r\n")) + "{}");
    }
    for length in [
        "+2", "-2", "0x2", "2_0", "2 2", "", " ", "2,2", "2, 2", "2;", "\"2\"", "2.0", "2e0", "\u{ff12}",
        "\u{b2}",
    ] {
        add("length is digits", 400, post(&format!("Content-Length: {length}\r\n")) + "{}");
    }
    for length in ["18446744073709551618", "99999999999999999999999999"] {
        add("length fits", 413, post(&format!("Content-Length: {length}\r\n")) + "{}");
    }
    for coding in [
        "",
        "gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked, gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked\r\nTransfer-Encoding: chunked",
        "identity\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
    ] {
        add("one coding, chunked", 501, post(&format!("Transfer-Encoding: {coding}\r\n")) + "0\r\n\r\n");
    }
    for line in
        ["Transfer-Encoding: chun\0ked", "Transfer-Encoding: \u{b}chunked", "Transfer\u{b}-Encoding: chunked"]
    {
        add("one coding, chunked", 400, post(&format!("{line}\r\n")) + "0\r\n\r\n");
    }
    let old = format!("POST /mcp HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    add("no chunks in HTTP/1.0", 400, old);
    for chunks in [
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2_\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        " 2\r\n{}\r\n0\r\n\r\n",
        "2 \r\n{}\r\n0\r\n\r\n",
        "2\t;a\r\n{}\r\n0\r\n\r\n",
        "2;\r\n{}\r\n0\r\n\r\n",
        "2;a=\"\r\n{}\r\n0\r\n\r\n",
        "2;a\n{}\r\n0\r\n\r\n",
        "\r\n{}\r\n0\r\n\r\n",
        "2\n{}\r\n0\r\n\r\n",
        "2\r{}\r\n0\r\n\r\n",
        "2\r\n{}\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "2\r\n{}  \r\n0\r\n\r\n",
        "2\r\n{}\r\n0\r\n\n",
        "2\r\n{}\r\n0\n\n",
        "2\r\n{}\r\n0\r\nA: b\n\r\n",
        "2\r\n{}\r\n0\r\nA: \0\r\n\r\n",
        "00000000000000002\r\n{}\r\n0\r\n\r\n",
    ] {
        add("chunks as the grammar has them", 400, post("Transfer-Encoding: chunked\r\n") + chunks);
    }
    add(
        "chunks that fit",
        413,
        post("Transfer-Encoding: chunked\r\n") + "ffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    );
    for line in [
        "A: b\rC: d",
        "A: b\r\rC: d",
        "A: b\nC: d",
        "A: b\n",
        "A: \n",
        "A\r: b",
        "A: b\r\n c",
        "A: b\r\n\tc",
        " A: b",
        "A : b",
        "A\t: b",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        ": b",
        "A",
        "A b: c",
        "A: b\0c",
        "A\0: b",
        "A: \u{7f}",
        "A: \u{1}",
        "(A): b",
        "\u{e9}: b",
    ] {
        add("lines as the grammar has them", 400, post(&format!("{line}\r\n")));
    }
    for line in [
        "POST /mcp HTTP/1.1\n",
        "POST /mcp HTTP/1.1\r",
        "POST  /mcp HTTP/1.1\r\n",
        "POST /mcp  HTTP/1.1\r\n",
        "POST\t/mcp HTTP/1.1\r\n",
        "POST /mcp HTTP/1.1 \r\n",
        "POST /m\0cp HTTP/1.1\r\n",
        "POST /m cp HTTP/1.1\r\n",
        "POST /\u{e9} HTTP/1.1\r\n",
        " POST /mcp HTTP/1.1\r\n",
        "P(ST /mcp HTTP/1.1\r\n",
        "\nPOST /mcp HTTP/1.1\r\n",
        "POST mcp HTTP/1.1\r\n",
        "POST * HTTP/1.1\r\n",
        "POST /mcp http/1.1\r\n",
        "PRI * HTTP/1.1\r\n",
        "GET /mcp\r\n",
        "GET\r\n",
    ] {
        add("request lines as the grammar has them", 400, format!("{line}{host}\r\n"));
    }
    for line in [
        "POST /mcp HTTP/1.2",
        "POST /mcp HTTP/2.0",
        "POST /mcp HTTP/11",
        "POST /mcp HTTP/0.9",
        "PRI * HTTP/2.0",
    ] {
        add("HTTP/1.0 and 1.1 only", 505, format!("{line}\r\n{host}\r\n"));
    }
    let json = "Content-Type: application/json\r\n\r\n";
    for hosts in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nhost: evil.example\r\n"] {
        add("one Host", 400, format!("POST /mcp HTTP/1.1\r\n{hosts}{json}"));
    }
    for target in ["http://127.0.0.1/mcp", "http://evil.example/mcp", "HTTP://localhost:1/mcp", "http:///mcp"]
    {
        add("one authority", 400, format!("POST {target} HTTP/1.1\r\n{host}\r\n"));
    }
    cases
}

#[test]
fn ambiguous_framing_is_answered_once_and_closes_the_connection() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let valid = support::post("", support::echo("smuggled"));
    assert_eq!(server.connect().send(&valid).read().status, 200, "the request after each case is valid");
    let mut wrong = Vec::new();
    let cases = ambiguous();
    for (rule, status, bytes) in &cases {
        let mut all = bytes.clone().into_bytes();
        all.extend_from_slice(&valid);
        // Sent at once, and with the smuggled request delayed.
        for cut in [all.len(), bytes.len(), 1] {
            let mut client = server.connect();
            client.send(&all[..cut]);
            if cut < all.len() {
                // A pause makes the server read most parts separately.
                std::thread::sleep(std::time::Duration::from_millis(1));
                let _ = std::io::Write::write_all(&mut client.stream, &all[cut..]);
            }
            let reply = client.read();
            let closes = reply.header("connection") == Some("close");
            if reply.status != *status || !closes || !client.is_closed() {
                wrong.push(format!("{rule}: {bytes:?}, cut at {cut}: {} close {closes}", reply.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), cases.len());
    assert!(cases.len() > 90, "{}", cases.len());
    server.stop();
}
