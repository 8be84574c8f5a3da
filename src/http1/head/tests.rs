//! Tests of request heads.

use super::*;

fn parse(text: &str) -> Result<Option<RequestHead>, RejectReason> {
    RequestHead::parse(text.as_bytes(), &Limits::default())
}

#[test]
fn header_names_match_in_any_case_and_values_are_trimmed() {
    let text = "POST /mcp HTTP/1.1\r\nhOST: a\r\nMCP-Name: \t echo \t\r\ncontent-length: 12\r\n\r\n";
    let head = parse(text).unwrap().unwrap();
    assert_eq!(head.length, text.len());
    assert_eq!(head.mcp_name(text.as_bytes()), Field::Value(b"echo"));
    assert_eq!(head.host(text.as_bytes()), Field::Value(b"a"));
    assert_eq!(head.mcp_method(text.as_bytes()), Field::Absent);
    assert_eq!(head.target(text.as_bytes()), b"/mcp");
    assert_eq!((head.method, head.framing), (Method::Post, BodyFraming::Length(12)));
    assert!(head.keep_alive && !head.expect_continue);
}

#[test]
fn connection_options_determine_persistence() {
    let keeps = |version: &str, option: &str| {
        parse(&format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {option}\r\n\r\n"))
            .unwrap()
            .unwrap()
            .keep_alive
    };
    assert!(!keeps("1.1", "upgrade, Close"));
    assert!(keeps("1.1", "upgrade"));
    assert!(keeps("1.0", "keep-alive"));
    assert!(!keeps("1.0", "upgrade"));
}

#[test]
fn close_takes_precedence_over_keep_alive() {
    for lines in [
        "Connection: close, keep-alive",
        "Connection: keep-alive, close",
        "Connection: Keep-Alive , CLOSE",
        "Connection: close\r\nConnection: keep-alive",
        "Connection: keep-alive\r\nConnection: close",
        "Connection: close\r\nX: y\r\nConnection: TE, keep-alive",
    ] {
        for version in ["1.0", "1.1"] {
            let head =
                parse(&format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n")).unwrap().unwrap();
            assert!(!head.keep_alive, "{version} {lines}");
        }
    }
}

#[test]
fn accept_weight_of_zero_excludes_event_streams() {
    let accepts = |lines: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
        parse(&text).unwrap().unwrap().accepts_events(text.as_bytes())
    };
    for lines in [
        "X: y",
        "Accept: text/event-stream",
        "Accept: application/json, text/event-stream;q=0.1",
        "Accept: Text/Event-Stream; charset=utf-8; Q=0.001",
        "Accept: text/*",
        "Accept: application/json;q=0, */*",
        "Accept: */*;q=0, text/event-stream",
        "Accept: text/*;q=0, text/event-stream;q=1",
        "Accept: */*;q=0, text/*",
        "Accept: application/json\r\nAccept: text/event-stream",
    ] {
        assert!(accepts(lines), "{lines}");
    }
    for lines in [
        "Accept: application/json",
        "Accept: text/event-stream;q=0",
        "Accept: text/event-stream ; q = 0.000 , */*",
        "Accept: */*, text/event-stream;q=0.0",
        "Accept: text/*;q=0, */*",
        "Accept: */*;q=0",
        "Accept: application/json, text/event-stream;charset=utf-8;q=0",
        "Accept: application/json\r\nAccept: text/plain",
        "Accept: */*\r\nAccept: text/event-stream;q=0",
    ] {
        assert!(!accepts(lines), "{lines}");
    }
}

#[test]
fn ambiguous_head_is_rejected() {
    use RejectReason as R;
    let cases = [
        ("Content-Length: 1\r\nContent-Length: 2", R::LengthAmbiguous),
        ("Content-Length: 1\r\nContent-Length: 1", R::LengthAmbiguous),
        ("Content-Length: +1", R::LengthAmbiguous),
        ("Content-Length: 0x1", R::LengthAmbiguous),
        ("Content-Length: 1, 1", R::LengthAmbiguous),
        ("Content-Length:", R::LengthAmbiguous),
        ("Content-Length: 99999999999999999999999", R::BodyTooLarge),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked", R::LengthAmbiguous),
        ("Transfer-Encoding: gzip, chunked", R::TransferEncodingUnknown),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", R::TransferEncodingUnknown),
        ("Transfer-Encoding: identity", R::TransferEncodingUnknown),
        ("Host: b", R::HostMissing),
        ("Expect: something", R::ExpectationUnknown),
        ("A : b", R::MalformedHead),
        (": b", R::MalformedHead),
        ("A: b\r\n c", R::MalformedHead),
        ("A: b\nC: d", R::MalformedHead),
        ("A: b\rC: d", R::MalformedHead),
        ("A: b\0", R::MalformedHead),
    ];
    for (lines, reason) in cases {
        let text = format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
        assert_eq!(parse(&text), Err(reason), "{lines:?}");
    }
    assert_eq!(parse("GET / HTTP/1.1\r\n\r\n"), Err(R::HostMissing));
    assert_eq!(parse("GET / HTTP/2.0\r\n\r\n"), Err(R::VersionNotSupported));
    for line in ["GET / ICE/1.0", "GET / http/1.1", "GET /  HTTP/1.1", "GET / / HTTP/1.1"] {
        assert_eq!(parse(&format!("{line}\r\n\r\n")), Err(R::MalformedHead), "{line}");
    }
    assert_eq!(parse("GET /\r\n\r\n"), Err(R::MalformedHead));
    for line in
        ["PRI * HTTP/1.1", "GET * HTTP/1.1", "GET mcp HTTP/1.1", "GET :// HTTP/1.1", "GET /\u{e9} HTTP/1.1"]
    {
        assert_eq!(parse(&format!("{line}\r\nHost: a\r\n\r\n")), Err(R::MalformedHead), "{line}");
    }
    for line in ["OPTIONS * HTTP/1.1", "CONNECT a:1 HTTP/1.1", "GET http://a/ HTTP/1.1"] {
        assert!(parse(&format!("{line}\r\nHost: a\r\n\r\n")).is_ok(), "{line}");
    }
    assert_eq!(parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(R::LengthAmbiguous));
    // An empty line before the request line is ignored: <https://www.rfc-editor.org/rfc/rfc9112#section-2.2>
    assert!(parse("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
    assert_eq!(parse("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(R::MalformedHead));
}

#[test]
fn heads_beyond_a_limit_are_rejected() {
    let limits = Limits::default();
    let target = |length: usize| {
        parse(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1))).map(|_| ())
    };
    assert_eq!(target(limits.target_bytes_max), Ok(()));
    assert_eq!(target(limits.target_bytes_max + 1), Err(RejectReason::TargetTooLong));
    let header = |length: usize| {
        parse(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - 1))).map(|_| ())
    };
    assert_eq!(header(limits.header_bytes_max), Ok(()));
    assert_eq!(header(limits.header_bytes_max + 1), Err(RejectReason::HeadTooLarge));
    let headers = |count: usize| {
        parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1))).map(|_| ())
    };
    assert_eq!(headers(limits.headers_max), Ok(()));
    assert_eq!(headers(limits.headers_max + 1), Err(RejectReason::HeadTooLarge));
    let head = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\n";
        let mut text = start.to_owned();
        while length - text.len() > 9000 {
            text.push_str(&format!("X: {}\r\n", "x".repeat(7000)));
        }
        let last = length - text.len() - 7;
        text.push_str(&format!("X: {}\r\n\r\n", "x".repeat(last)));
        assert_eq!(text.len(), length);
        parse(&text).map(|_| ())
    };
    assert_eq!(head(limits.head_bytes_max - 2000), Ok(()));
    assert_eq!(head(limits.head_bytes_max), Ok(()));
    assert_eq!(head(limits.head_bytes_max + 1), Err(RejectReason::HeadTooLarge));
}

#[test]
fn endless_head_is_rejected_before_its_end() {
    assert_eq!(parse(&format!("GET /{}", "x".repeat(9000))), Err(RejectReason::TargetTooLong));
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: y\r\n".repeat(7000));
    assert_eq!(parse(&endless), Err(RejectReason::HeadTooLarge));
    assert_eq!(parse("GET / HTTP/1.1\r\nHost"), Ok(None));
}

#[test]
fn incomplete_last_line_is_not_judged() {
    for start in ["GET / FTP", "GET / HTTP/1.1\r\nA b", "GET / HTTP/1.1\r\nA: b\r\n c", "\0", "GET\0"] {
        let early = parse(start);
        let late = parse(&format!("{start}\r\n"));
        assert!(late.is_err(), "{start:?}");
        let is_other_protocol = start.starts_with('\0');
        assert_eq!(early.is_err(), is_other_protocol, "{start:?}");
    }
    assert_eq!(parse("\x16\x03\x01\x02"), Err(RejectReason::MalformedHead), "TLS");
    let long = "x".repeat(9000);
    assert_eq!(parse(&format!("GET /{long} HTTP/3.0\r\n")), Err(RejectReason::TargetTooLong));
    for rest in ["", "Host: a\r\n\r\n"] {
        assert_eq!(parse(&format!("{long} / HTTP/1.1\r\n{rest}")), Err(RejectReason::TargetTooLong));
    }
}
