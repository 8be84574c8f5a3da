//! Addresses to listen on, in their textual form: `127.0.0.1:8080`, `unix:/run/tools.sock`.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Protocol of a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP.
    Http,
    /// Newline-delimited JSON: one message per line, as over stdio.
    JsonLines,
}

/// Address of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address with a port; port 0 selects a free one.
    Tcp(SocketAddr),
    /// A socket file, whose path has at most [`Endpoint::PATH_BYTES_MAX`] bytes.
    Unix(PathBuf),
}

impl Endpoint {
    /// Maximum length of a Unix socket's path, in bytes: the kernel's `sun_path` without the terminating zero.
    pub const PATH_BYTES_MAX: usize = 107;
}

/// An address to listen on, with its protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The protocol.
    pub transport: Transport,
    /// The address.
    pub endpoint: Endpoint,
}

impl Listen {
    /// Whether only this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.endpoint {
            Endpoint::Tcp(address) => address.ip().is_loopback(),
            Endpoint::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Listen {
    /// Listens for HTTP on this address.
    fn from(address: SocketAddr) -> Self {
        Self { transport: Transport::Http, endpoint: Endpoint::Tcp(address) }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.transport, &self.endpoint) {
            (Transport::Http, Endpoint::Tcp(address)) => write!(formatter, "{address}"),
            (Transport::Http, Endpoint::Unix(path)) => write!(formatter, "{HTTP_UNIX}{}", path.display()),
            (Transport::JsonLines, Endpoint::Tcp(address)) => write!(formatter, "{TCP}{address}"),
            (Transport::JsonLines, Endpoint::Unix(path)) => write!(formatter, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (transport, endpoint) = if let Some(path) = text.strip_prefix(HTTP_UNIX) {
            (Transport::Http, unix(path)?)
        } else if let Some(path) = text.strip_prefix(UNIX) {
            (Transport::JsonLines, unix(path)?)
        } else if let Some(address) = text.strip_prefix(TCP) {
            (Transport::JsonLines, tcp(text, address)?)
        } else {
            let address = match text.strip_prefix(HTTP) {
                // The form that the line `listening on …` prints.
                Some(rest) => rest.strip_suffix(ENDPOINT).or(rest.strip_suffix('/')).unwrap_or(rest),
                None => text,
            };
            (Transport::Http, tcp(text, address)?)
        };
        Ok(Self { transport, endpoint })
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// Parses the text during deserialization, so that the error has the line of the entry and not that of the list.
struct Text;

impl de::Visitor<'_> for Text {
    type Value = Listen;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(FORMS)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
        text.parse().map_err(E::custom)
    }
}

const HTTP: &str = "http://";
const ENDPOINT: &str = "/mcp";
const HTTP_UNIX: &str = "http+unix:";
const TCP: &str = "tcp://";
const UNIX: &str = "unix:";

/// The valid forms, for error messages.
const FORMS: &str = "ADDR:PORT or http://ADDR:PORT, http+unix:PATH, tcp://ADDR:PORT, unix:PATH";

fn tcp(text: &str, address: &str) -> Result<Endpoint, String> {
    let address = address_of(address)
        .ok_or_else(|| format!("{text:?} is not an address to listen on; write {FORMS}"))?;
    Ok(Endpoint::Tcp(address))
}

/// Parses `ADDR:PORT`, where `localhost` is 127.0.0.1.
pub(super) fn address_of(text: &str) -> Option<SocketAddr> {
    match text.rsplit_once(':') {
        Some((name, port)) if name.eq_ignore_ascii_case("localhost") => {
            Some(SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port.parse().ok()?)))
        }
        _ => text.parse().ok(),
    }
}

fn unix(path: &str) -> Result<Endpoint, String> {
    if path.is_empty() || path.contains('\0') {
        return Err(format!("{path:?} is not the path of a socket; write {FORMS}"));
    }
    if path.len() > Endpoint::PATH_BYTES_MAX {
        return Err(format!(
            "the path is {} bytes long and a socket's may have {}; choose a shorter one in {FORMS}",
            path.len(),
            Endpoint::PATH_BYTES_MAX
        ));
    }
    Ok(Endpoint::Unix(Path::new(path).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_parsed_and_formatted() {
        let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let path = || Endpoint::Unix(PathBuf::from("run/a b.sock"));
        for (text, transport, endpoint, written) in [
            ("127.0.0.1:8080", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("http://127.0.0.1:8080", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/mcp", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("localhost:8080", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("http://localhost:8080/mcp", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("tcp://localhost:8080", Transport::JsonLines, Endpoint::Tcp(address), "tcp://127.0.0.1:8080"),
            ("tcp://127.0.0.1:8080", Transport::JsonLines, Endpoint::Tcp(address), "tcp://127.0.0.1:8080"),
            ("http+unix:run/a b.sock", Transport::Http, path(), "http+unix:run/a b.sock"),
            ("unix:run/a b.sock", Transport::JsonLines, path(), "unix:run/a b.sock"),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen, Listen { transport, endpoint }, "{text}");
            assert_eq!(listen.to_string(), written);
            assert_eq!(written.parse(), Ok(listen), "what is written reads back");
        }
        assert_eq!(Listen::from(address).to_string(), "127.0.0.1:8080");
        assert!("[::1]:0".parse::<Listen>().unwrap().is_local());
        assert!("unix:/a".parse::<Listen>().unwrap().is_local());
        assert!(!"tcp://0.0.0.0:0".parse::<Listen>().unwrap().is_local());
    }

    #[test]
    fn invalid_address_is_rejected_with_the_valid_forms() {
        let long = format!("unix:/{}", "x".repeat(Endpoint::PATH_BYTES_MAX));
        for (text, reason) in [
            ("", "\"\""),
            ("nonsense", "nonsense"),
            ("127.0.0.1", "127.0.0.1"),
            ("localhost", "localhost"),
            ("localhost:x", "localhost"),
            ("example.com:8080", "example.com"),
            ("https://127.0.0.1:443", "https"),
            ("http://127.0.0.1:8080/other", "/other"),
            ("127.0.0.1:8080/mcp", "/mcp"),
            ("tcp:127.0.0.1:1", "tcp:"),
            ("/run/a.sock", "/run/a.sock"),
            ("unix:", "not the path"),
            ("http+unix:", "not the path"),
            ("unix:/a\0b", "not the path"),
            (&long, "108 bytes long"),
        ] {
            let message = text.parse::<Listen>().unwrap_err();
            assert!(message.contains(reason) && message.ends_with(FORMS), "{text}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
        assert!(long[..long.len() - 1].parse::<Listen>().is_ok(), "at the bound");
    }
}
