//! The server's endpoint: a URL, parsed and resolved once.

use std::{
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _},
    path::PathBuf,
    time::Duration,
};

use socket2::SockAddr;
use url::Url;

use crate::{
    error::LoadError,
    stdio::{PROCESSES_MAX, Program},
};

/// Prefix of a target that is HTTP over a Unix socket.
const HTTP_UNIX: &str = "http+unix:";
/// Prefix of a target with newline-delimited JSON over TCP.
const LINES: &str = "tcp://";
/// Time limit for one of several addresses to accept, before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The peer of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A process per connection, with newline-delimited JSON on its standard input and output.
    Stdio(Program),
}

/// A server's endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The given URL with its path, without its fragment.
    pub url: String,
    /// The first address of the host that accepts a connection.
    pub address: Address,
    /// Value of the `Host` header.
    pub host: String,
    /// Path and query of the request line.
    pub path: String,
    /// Additional header lines of every request, each with its line end.
    pub headers: String,
    /// Whether messages are newline-delimited JSON, not HTTP. Always so with [`Address::Stdio`].
    pub is_lines: bool,
}

impl Target {
    /// Parses `http://HOST[:PORT][/PATH]`, `http+unix:PATH` or `tcp://HOST:PORT`; the default path is `/mcp`. A fragment is dropped;
    /// characters that a request line must not contain are percent-encoded (WHATWG URL standard).
    ///
    /// # Errors
    /// When the URL is invalid, needs TLS, or its host is unknown.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let unusable = |reason: &str| LoadError::Usage(format!("{text:?} is not a usable address: {reason}"));
        if text.contains(char::is_control) {
            return Err(unusable("it contains control characters; the form is http://HOST:PORT/mcp"));
        }
        if let Some(path) = text.strip_prefix(HTTP_UNIX) {
            return Self::unix(path).map_err(|reason| unusable(&reason));
        }
        if let Some(address) = text.strip_prefix(LINES) {
            return Self::lines(address).map_err(|reason| unusable(&reason));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => {
                return Err(unusable(
                    "TLS is not supported; measure the server behind the TLS proxy, at its http:// address",
                ));
            }
            _ => return Err(unusable("the scheme must be http://, http+unix: or tcp://")),
        }
        let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(split);
        // The URL standard accepts these, but a user who writes them means something else.
        if authority.is_empty() || authority.contains(['@', ' ', '\\']) {
            return Err(unusable("the form is http://HOST:PORT/mcp"));
        }
        let url = Url::parse(&format!("http://{rest}")).map_err(|error| unusable(&error.to_string()))?;
        let mut path = if behind.starts_with('/') { url.path() } else { "/mcp" }.to_owned();
        if let Some(query) = url.query() {
            path = format!("{path}?{query}");
        }
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let addresses = url.socket_addrs(|| Some(80)).map_err(|error| unusable(&error.to_string()))?;
        let address = first_accepting(&addresses).ok_or_else(|| unusable("the host has no address"))?;
        Ok(Self {
            url: format!("http://{host}{path}"),
            address: Address::Tcp(address),
            host,
            path,
            headers: String::new(),
            is_lines: false,
        })
    }

    fn lines(address: &str) -> Result<Self, String> {
        let addresses: Vec<SocketAddr> = address
            .to_socket_addrs()
            .map_err(|error| format!("{error}; the form is tcp://HOST:PORT"))?
            .collect();
        let tcp = first_accepting(&addresses).ok_or("the host has no address")?;
        Ok(Self {
            url: format!("{LINES}{address}"),
            address: Address::Tcp(tcp),
            host: String::new(),
            path: String::new(),
            headers: String::new(),
            is_lines: true,
        })
    }

    fn unix(path: &str) -> Result<Self, String> {
        let path = PathBuf::from(path);
        if path.as_os_str().is_empty() {
            return Err("the path of the socket is missing".to_owned());
        }
        SockAddr::unix(&path).map_err(|error| error.to_string())?;
        Ok(Self {
            url: format!("{HTTP_UNIX}{}", path.display()),
            address: Address::Unix(path),
            host: "localhost".to_owned(),
            path: "/mcp".to_owned(),
            headers: String::new(),
            is_lines: false,
        })
    }

    /// Creates a target that starts a server process for each connection.
    ///
    /// # Errors
    /// When the command line cannot be split into words.
    pub fn stdio(command: &str) -> Result<Self, LoadError> {
        let program = Program::parse(command)
            .map_err(|reason| LoadError::Usage(format!("--stdio {command:?}: {reason}")))?;
        Ok(Self {
            url: format!("stdio:{command}"),
            address: Address::Stdio(program),
            host: String::new(),
            path: String::new(),
            headers: String::new(),
            is_lines: true,
        })
    }

    /// The command, if each connection is a process.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        match &self.address {
            Address::Stdio(program) => Some(program),
            _ => None,
        }
    }

    /// The reason why this target cannot have so many connections, if it cannot.
    #[must_use]
    pub fn connection_limit_error(&self, connections: u32) -> Option<String> {
        let is_too_many = self.program().is_some() && connections > PROCESSES_MAX;
        is_too_many.then(|| {
            format!(
                "--stdio starts a process for each of {connections} connections; the maximum is {PROCESSES_MAX} (-c)"
            )
        })
    }

    /// Adds header lines to every request.
    ///
    /// # Errors
    /// When one is not `NAME:VALUE` (RFC 9110, sections 5.1 and 5.5), or is a header that this program writes itself.
    pub fn with_headers(mut self, headers: &[String]) -> Result<Self, LoadError> {
        for header in headers {
            let unusable = |reason: &str| LoadError::Usage(format!("--header {header:?}: {reason}"));
            let (name, value) = header.split_once(':').ok_or_else(|| unusable("write it as NAME:VALUE"))?;
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(unusable("the name is not a header name"));
            }
            if value.contains(|character: char| character.is_control() && character != '\t') {
                return Err(unusable("the value contains control characters"));
            }
            let framing = ["content-length", "transfer-encoding", "connection"];
            if framing.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
                return Err(unusable("the framing of requests cannot be changed"));
            }
            if name.eq_ignore_ascii_case("host") {
                value.trim().clone_into(&mut self.host);
            } else {
                self.headers.push_str(&format!("{name}: {}\r\n", value.trim()));
            }
        }
        Ok(self)
    }

    /// The socket address.
    ///
    /// # Errors
    /// When the path is too long for a socket, or the target is a process.
    pub fn sock_addr(&self) -> std::io::Result<SockAddr> {
        match &self.address {
            Address::Tcp(address) => Ok((*address).into()),
            Address::Unix(path) => SockAddr::unix(path),
            Address::Stdio(_) => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    /// The TCP address and port, if it has one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) | Address::Stdio(_) => None,
        }
    }

    /// Whether connections can use all source addresses of 127.0.0.0/8, which multiplies the number of free ports.
    #[must_use]
    pub fn is_loopback_v4(&self) -> bool {
        self.tcp().is_some_and(|address| matches!(address.ip(), IpAddr::V4(address) if address.is_loopback()))
    }
}

/// Returns the first address that accepts a connection, or the first one if none does, so that its error is reported.
fn first_accepting(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    if addresses.len() > 1 {
        let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, CONNECT_TIMEOUT).is_ok();
        if let Some(address) = addresses.iter().find(accepts) {
            return Some(*address);
        }
    }
    addresses.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed() {
        let target = Target::parse("http://127.0.0.1:8080/some/mcp?x=1").unwrap();
        assert_eq!(target.path, "/some/mcp?x=1");
        assert_eq!(target.host, "127.0.0.1:8080");
        assert_eq!(target.tcp().unwrap().port(), 8080);
        let short = Target::parse("127.0.0.1:9").unwrap();
        assert_eq!((short.url.as_str(), short.path.as_str()), ("http://127.0.0.1:9/mcp", "/mcp"));
        assert_eq!(Target::parse("http://[::1]/").unwrap().tcp().unwrap().to_string(), "[::1]:80");
        for (text, path) in [
            ("HTTP://127.0.0.1:9/mcp", "/mcp"),
            ("http://127.0.0.1:9/mcp#part", "/mcp"),
            ("http://127.0.0.1:9#part", "/mcp"),
            ("http://127.0.0.1:9?a=1", "/mcp?a=1"),
            ("http://127.0.0.1:9/a b/\u{fc}?q=x y", "/a%20b/%C3%BC?q=x%20y"),
        ] {
            assert_eq!(Target::parse(text).unwrap().path, path, "{text}");
        }
        let unix = Target::parse("http+unix:/tmp/a b.sock").unwrap();
        assert_eq!(unix.address, Address::Unix("/tmp/a b.sock".into()));
    }

    #[test]
    fn address_of_newline_delimited_json_has_no_path() {
        let target = Target::parse("tcp://127.0.0.1:7000").unwrap();
        assert!(target.is_lines && target.path.is_empty());
        assert_eq!((target.url.as_str(), target.tcp().unwrap().port()), ("tcp://127.0.0.1:7000", 7000));
    }

    #[test]
    fn first_accepting_address_is_used() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(first_accepting(&[closed, open]), Some(open));
        assert_eq!(first_accepting(&[closed, closed]), Some(closed));
    }

    #[test]
    fn header_lines_are_parsed_and_invalid_ones_rejected() {
        let with = |header: &str| {
            Target::parse("http://127.0.0.1:9/mcp").unwrap().with_headers(&[header.to_owned()])
        };
        assert_eq!(with("Authorization: Bearer x:y").unwrap().headers, "Authorization: Bearer x:y\r\n");
        assert_eq!(with("host:example").unwrap().host, "example");
        for wrong in ["x", ":x", "a b:c", "a:b\r\nc:d", "Content-Length: 1", "connection:close"] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn invalid_url_is_rejected_in_one_line() {
        for (text, word) in [
            ("https://127.0.0.1/mcp", "TLS"),
            ("ftp://127.0.0.1/", "http://"),
            ("http:///mcp", "the form is"),
            ("http://127.0.0.1:99999/", "invalid port"),
            ("http+unix:", "missing"),
            ("http://user@127.0.0.1/", "the form is"),
            ("tcp://127.0.0.1", "tcp://HOST:PORT"),
            ("tcp://127.0.0.1:1/mcp", "tcp://HOST:PORT"),
        ] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
