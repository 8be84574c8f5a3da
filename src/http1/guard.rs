//! Checks of a request's head: Host and Origin against DNS rebinding, path, HTTP method, media type
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http>, "Security & Endpoint").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    head::{Field, Method, RequestHead},
    reject::RejectReason,
};

/// Kind of an accepted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// POST of a message.
    Mcp,
    /// GET of a legacy session's stream
    /// (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#listening-for-messages-from-the-server>).
    Stream,
    /// DELETE of a legacy session
    /// (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#session-management>).
    End,
    /// OPTIONS, as in the preflight request of a browser.
    Options,
}

/// Allowed hosts and origins.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts {
    hosts: Vec<String>,
    origins: Vec<String>,
    loopback_origins: bool,
    ip_literals: bool,
}

impl AllowedHosts {
    /// Allows loopback hosts, and `hosts` as `name` (any port) or `name:port`; and `origins` as `scheme://host[:port]`.
    /// `loopback_origins` allows pages of this machine as well; use it for a server that only this machine can reach.
    #[must_use]
    pub fn new(hosts: &[String], origins: &[String], loopback_origins: bool) -> Self {
        Self { hosts: hosts.to_vec(), origins: origins.to_vec(), loopback_origins, ip_literals: false }
    }

    /// Also allows every IP address as host, with or without a port: DNS rebinding needs a name, and probes and scrapers use
    /// the server's address.
    #[must_use]
    pub fn with_ip_literals(self) -> Self {
        Self { ip_literals: true, ..self }
    }

    /// Checks Host and Origin. Returns the host, which is empty for HTTP/1.0 without Host.
    ///
    /// # Errors
    /// [`RejectReason::HostForbidden`] or [`RejectReason::OriginForbidden`].
    pub fn check<'a>(&self, head: &RequestHead, bytes: &'a [u8]) -> Result<&'a [u8], RejectReason> {
        let host = match head.host(bytes) {
            Field::Value(host) if is_loopback(host) || self.has_host(host) => host,
            Field::Value(host) if self.ip_literals && is_address(host, |_| true) => host,
            // HTTP/1.0 without Host; browsers always send one.
            Field::Absent => b"",
            Field::Value(_) | Field::Repeated => return Err(RejectReason::HostForbidden),
        };
        match head.origin(bytes) {
            Field::Absent => Ok(host),
            Field::Value(origin) if self.has_origin(origin) => Ok(host),
            Field::Value(_) | Field::Repeated => Err(RejectReason::OriginForbidden),
        }
    }

    fn has_host(&self, host: &[u8]) -> bool {
        self.hosts.iter().map(String::as_bytes).any(|allowed| {
            host.split_at_checked(allowed.len()).is_some_and(|(name, rest)| {
                let port = rest.strip_prefix(b":");
                let has_port = !allowed.starts_with(b"[") && allowed.contains(&b':')
                    || allowed.starts_with(b"[") && !allowed.ends_with(b"]");
                name.eq_ignore_ascii_case(allowed)
                    && (rest.is_empty() || !has_port && port.is_some_and(is_port))
            })
        })
    }

    fn has_origin(&self, origin: &[u8]) -> bool {
        self.loopback_origins && is_loopback_origin(origin)
            || self.origins.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed.as_bytes()))
    }
}

/// Checks of the MCP endpoint.
#[derive(Clone, Debug)]
pub struct RequestGuard {
    endpoint: Vec<u8>,
    allowed_hosts: AllowedHosts,
    /// The last host that was allowed, which most requests name again; at most [`LAST_HOST_BYTES_MAX`].
    last_host: Vec<u8>,
}

/// The longest host that is kept for comparison, in bytes.
const LAST_HOST_BYTES_MAX: usize = 64;

impl RequestGuard {
    /// Accepts requests for the path `endpoint` and the hosts and origins of `allowed_hosts`.
    #[must_use]
    pub fn new(endpoint: &str, allowed_hosts: AllowedHosts) -> Self {
        let last_host = Vec::with_capacity(LAST_HOST_BYTES_MAX);
        Self { endpoint: endpoint.as_bytes().to_vec(), allowed_hosts, last_host }
    }

    /// Checks a head: host, origin, path, HTTP method, media type, in this order.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(&mut self, head: &RequestHead, bytes: &[u8]) -> Result<Route, RejectReason> {
        let host = self.check_host(head, bytes)?;
        let target = head.target(bytes);
        // Fast path: nearly all clients send exactly the endpoint's path.
        if target != self.endpoint && !self.is_endpoint(path(target, host)?) {
            return Err(RejectReason::PathUnknown);
        }
        match head.method {
            Method::Post => {}
            Method::Options => return Ok(Route::Options),
            Method::Get if head.accepts_events(bytes) => return Ok(Route::Stream),
            Method::Get => return Err(RejectReason::NotAcceptable),
            Method::Delete => return Ok(Route::End),
            _ => return Err(RejectReason::VerbNotAllowed),
        }
        match head.content_type(bytes) {
            Field::Value(value) if is_json(value) => Ok(Route::Mcp),
            _ if head.is_encoded => Err(RejectReason::ContentEncodingUnsupported),
            _ => Err(RejectReason::MediaTypeUnsupported),
        }
    }
}

impl RequestGuard {
    /// Checks host and origin, by a comparison where the last request without an origin had the same host.
    #[inline]
    fn check_host<'a>(&mut self, head: &RequestHead, bytes: &'a [u8]) -> Result<&'a [u8], RejectReason> {
        if let (Field::Value(host), Field::Absent) = (head.host(bytes), head.origin(bytes))
            && !host.is_empty()
            && self.last_host == host
        {
            return Ok(host);
        }
        let host = self.allowed_hosts.check(head, bytes)?;
        if host.len() <= LAST_HOST_BYTES_MAX {
            self.last_host.clear();
            self.last_host.extend_from_slice(host);
        }
        Ok(host)
    }

    /// Whether a path is the endpoint, with or without a trailing slash.
    fn is_endpoint(&self, path: &[u8]) -> bool {
        path == self.endpoint || path.strip_suffix(b"/").unwrap_or(path) == self.endpoint
    }
}

/// Whether `host`, `host:port` or `[v6]:port` is `localhost` or a loopback address.
fn is_loopback(authority: &[u8]) -> bool {
    // Fast path: what most local clients send.
    for name in [b"127.0.0.1".as_slice(), b"localhost"] {
        match authority.strip_prefix(name) {
            Some([]) => return true,
            Some([b':', port @ ..]) if is_port(port) => return true,
            _ => {}
        }
    }
    let is_localhost = |name: &[u8]| name.eq_ignore_ascii_case(b"localhost");
    let name = authority.split(|&byte| byte == b':').next().unwrap_or_default();
    let port = authority.get(name.len()..).unwrap_or_default();
    is_localhost(name) && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
        || is_address(authority, |address| address.is_loopback())
}

/// Whether `v4` or `[v6]`, with or without a port, is an address for which `is_allowed` holds.
fn is_address(authority: &[u8], is_allowed: impl Fn(IpAddr) -> bool) -> bool {
    let Ok(authority) = std::str::from_utf8(authority) else { return false };
    let end = if authority.starts_with('[') { authority.find(']').map_or(0, |end| end + 1) } else { 0 };
    let (host, port) = match authority.get(end..).and_then(|rest| rest.find(':')) {
        Some(colon) => authority.split_at(end + colon),
        None => (authority, ":"),
    };
    if !port.strip_prefix(':').is_some_and(|port| is_port(port.as_bytes())) {
        return false;
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok_and(|address| is_allowed(address.into()));
    }
    host.parse::<Ipv4Addr>().is_ok_and(|address| is_allowed(address.into()))
}

/// Up to five digits; an empty port is valid (<https://www.rfc-editor.org/rfc/rfc3986#section-3.2.3>).
fn is_port(port: &[u8]) -> bool {
    port.len() <= "65535".len() && port.iter().all(u8::is_ascii_digit)
}

fn is_loopback_origin(origin: &[u8]) -> bool {
    [b"http://".as_slice(), b"https://"].iter().any(|scheme| {
        origin
            .split_at_checked(scheme.len())
            .is_some_and(|(start, authority)| start.eq_ignore_ascii_case(scheme) && is_loopback(authority))
    })
}

/// The target's path, without its query. An absolute target must name the same host as Host does
/// (<https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2>).
///
/// # Errors
/// [`RejectReason::MalformedHead`] when the hosts differ.
pub fn path<'a>(target: &'a [u8], host: &[u8]) -> Result<&'a [u8], RejectReason> {
    const SCHEME: &[u8] = b"http://";
    let path = match target.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => {
            let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            if !authority.eq_ignore_ascii_case(host) {
                return Err(RejectReason::MalformedHead);
            }
            path
        }
        _ => target,
    };
    Ok(path.split(|&byte| byte == b'?').next().unwrap_or_default())
}

fn is_json(content_type: &[u8]) -> bool {
    const JSON: &[u8] = b"application/json";
    let is_other_spelling = || {
        let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
        essence.trim_ascii_end().eq_ignore_ascii_case(JSON)
    };
    content_type == JSON || is_other_spelling()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn check_by(allowed_hosts: AllowedHosts, request: &str, headers: &str) -> Result<Route, RejectReason> {
        let text = format!("{request} HTTP/1.1\r\n{headers}\r\n\r\n");
        let head = RequestHead::parse(text.as_bytes(), &Limits::default()).unwrap().unwrap();
        RequestGuard::new("/mcp", allowed_hosts).check(&head, text.as_bytes())
    }

    fn check(request: &str, headers: &str) -> Result<Route, RejectReason> {
        check_by(AllowedHosts::new(&[], &[], true), request, headers)
    }

    const JSON: &str = "Content-Type: application/json";

    #[test]
    fn host_that_was_allowed_allows_no_other_host_and_no_foreign_origin() {
        let mut guard = RequestGuard::new("/mcp", AllowedHosts::new(&[], &[], true));
        let mut check = |headers: &str| {
            let text = format!("POST /mcp HTTP/1.1\r\n{headers}\r\n{JSON}\r\n\r\n");
            let head = RequestHead::parse(text.as_bytes(), &Limits::default()).unwrap().unwrap();
            guard.check(&head, text.as_bytes())
        };
        let long = format!("Host: 127.0.0.1:{}", "0".repeat(LAST_HOST_BYTES_MAX));
        for _ in 0..2 {
            assert_eq!(check("Host: localhost:80"), Ok(Route::Mcp));
            assert_eq!(check("Host: localhost:80"), Ok(Route::Mcp), "again");
            for other in ["Host: localhost:80x", "Host: localhost.evil", "Host: evil.example", &long] {
                assert_eq!(check(other), Err(RejectReason::HostForbidden), "{other}");
            }
            let foreign = "Host: localhost:80\r\nOrigin: http://evil.example";
            assert_eq!(check(foreign), Err(RejectReason::OriginForbidden));
        }
    }

    #[test]
    fn only_loopback_hosts_and_origins_are_allowed_by_default() {
        for name in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.2:80",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "127.0.0.1:",
        ] {
            let headers = format!("Host: {name}\r\nOrigin: http://{name}\r\n{JSON}");
            assert_eq!(check("POST /mcp", &headers), Ok(Route::Mcp), "{name}");
        }
        for name in [
            "evil.example",
            "localhost.evil",
            "localhost.",
            "127.0.0.1.evil",
            "127.0.0.1:80x",
            "localhost:123456",
            "user@localhost",
            "0.0.0.0",
            "",
            "[::1]x",
            "[::]",
        ] {
            assert_eq!(
                check("POST /mcp", &format!("Host: {name}\r\n{JSON}")),
                Err(RejectReason::HostForbidden),
                "{name}"
            );
            let headers = format!("Host: localhost\r\nOrigin: http://{name}\r\n{JSON}");
            assert_eq!(check("POST /mcp", &headers), Err(RejectReason::OriginForbidden), "{name}");
        }
        for origin in ["null", "ftp://localhost", "localhost"] {
            let headers = format!("Host: localhost\r\nOrigin: {origin}\r\n{JSON}");
            assert_eq!(check("POST /mcp", &headers), Err(RejectReason::OriginForbidden), "{origin}");
        }
    }

    #[test]
    fn configured_hosts_and_origins_are_allowed_and_lookalikes_are_not() {
        let allowed_hosts = || {
            let hosts = ["mcp.example", "api.example:8443", "[2001:db8::1]"].map(str::to_owned);
            AllowedHosts::new(&hosts, &["https://app.example".to_owned()], false)
        };
        let host = |name: &str| check_by(allowed_hosts(), "POST /mcp", &format!("Host: {name}\r\n{JSON}"));
        for name in ["mcp.example", "MCP.example:99", "api.example:8443", "[2001:db8::1]:80", "localhost:1"] {
            assert_eq!(host(name), Ok(Route::Mcp), "{name}");
        }
        for name in [
            "mcp.example.evil",
            "evil.mcp.example",
            "mcp.example:x",
            "mcp.example:99:1",
            "api.example",
            "api.example:84430",
            "api.example:8443:1",
            "[2001:db8::1]x",
        ] {
            assert_eq!(host(name), Err(RejectReason::HostForbidden), "{name}");
        }
        let origin = |origin: &str| {
            check_by(
                allowed_hosts(),
                "POST /mcp",
                &format!("Host: mcp.example\r\nOrigin: {origin}\r\n{JSON}"),
            )
        };
        assert_eq!(origin("https://APP.example"), Ok(Route::Mcp));
        for name in
            ["http://app.example", "https://app.example:1", "https://app.example.evil", "http://localhost"]
        {
            assert_eq!(origin(name), Err(RejectReason::OriginForbidden), "{name}");
        }
    }

    #[test]
    fn ip_literals_are_allowed_where_configured_and_names_are_not() {
        let allowed_hosts = || AllowedHosts::new(&[], &[], true).with_ip_literals();
        let host = |name: &str| {
            check_by(allowed_hosts(), "POST /mcp", &format!("Host: {name}\r\n{JSON}")).map(|_| ())
        };
        for name in [
            "10.1.2.3",
            "10.1.2.3:9464",
            "0.0.0.0:1",
            "[2001:db8::1]",
            "[2001:db8::1]:9464",
            "[::ffff:10.0.0.1]:1",
            "127.0.0.1",
            "localhost:9464",
        ] {
            assert_eq!(host(name), Ok(()), "{name}");
        }
        for name in [
            "evil.example",
            "10.1.2.3.evil.example",
            "10.1.2.3:x",
            "10.1.2",
            "2001:db8::1",
            "[2001:db8::1]x",
            "[10.1.2.3]",
            "user@10.1.2.3",
            "10.1.2.3:123456",
            "",
        ] {
            assert_eq!(host(name), Err(RejectReason::HostForbidden), "{name}");
        }
    }

    #[test]
    fn path_method_and_media_type_are_checked_in_order() {
        let host = "Host: localhost:8080";
        assert_eq!(check("GET /other", host), Err(RejectReason::PathUnknown));
        assert_eq!(check("PUT /mcp", host), Err(RejectReason::VerbNotAllowed));
        assert_eq!(check("GET /mcp", host), Ok(Route::Stream));
        assert_eq!(check("DELETE /mcp", host), Ok(Route::End));
        for (accept, read) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.5", true),
            ("*/*", true),
            ("application/json", false),
            ("", false),
        ] {
            let expected = if read { Ok(Route::Stream) } else { Err(RejectReason::NotAcceptable) };
            assert_eq!(check("GET /mcp", &format!("{host}\r\nAccept: {accept}")), expected, "{accept}");
        }
        assert_eq!(check("OPTIONS /mcp", host), Ok(Route::Options));
        assert_eq!(check("POST /mcp", host), Err(RejectReason::MediaTypeUnsupported));
        let plain = format!("{host}\r\nContent-Type: text/plain");
        assert_eq!(check("POST /mcp", &plain), Err(RejectReason::MediaTypeUnsupported));
        let charset = format!("{host}\r\nContent-Type: Application/JSON ; charset=utf-8");
        assert_eq!(check("POST /mcp?x=y", &charset), Ok(Route::Mcp));
        for target in ["/mcp/", "/mcp/?x=y", "http://localhost:8080/mcp/"] {
            assert_eq!(check(&format!("POST {target}"), &charset), Ok(Route::Mcp), "{target}");
        }
        for target in ["/mcp//", "/mcp/x", "//mcp", "/", "/mcp%2F"] {
            assert_eq!(
                check(&format!("POST {target}"), &charset),
                Err(RejectReason::PathUnknown),
                "{target}"
            );
        }
        for encoding in ["identity", "Identity", "", "identity, identity"] {
            for lines in [
                format!("Content-Encoding: {encoding}\r\n{charset}"),
                format!("{charset}\r\nContent-Encoding: {encoding}"),
            ] {
                assert_eq!(check("POST /mcp", &lines), Ok(Route::Mcp), "{lines}");
            }
        }
        for encoding in ["gzip", "br", "identity, gzip", "gzip\r\nContent-Encoding: identity", "x"] {
            for lines in [
                format!("Content-Encoding: {encoding}\r\n{charset}"),
                format!("{charset}\r\nContent-Encoding: {encoding}"),
            ] {
                assert_eq!(
                    check("POST /mcp", &lines),
                    Err(RejectReason::ContentEncodingUnsupported),
                    "{lines}"
                );
            }
        }
        assert_eq!(check("POST http://localhost:8080/mcp", &charset), Ok(Route::Mcp));
        assert_eq!(check("POST http://127.0.0.1:8080/mcp", &charset), Err(RejectReason::MalformedHead));
    }
}
