//! Where a server listens, as it is written: `127.0.0.1:8080`, `unix:/run/tools.sock`.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How the connections of a listener speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP.
    Http,
    /// Newline-delimited JSON: one message a line, as over stdio.
    Lines,
}

/// What a listening socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address with a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket's file, of [`Endpoint::PATH_BYTES_MAX`] bytes at most.
    Unix(PathBuf),
}

impl Endpoint {
    /// The longest path of a Unix socket, in bytes: the kernel's field for it less the zero that ends it.
    pub const PATH_BYTES_MAX: usize = 107;
}

/// One place a server listens, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken.
    pub transport: Transport,
    /// Where.
    pub endpoint: Endpoint,
}

impl Listen {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match &self.endpoint {
            Endpoint::Tcp(address) => address.ip().is_loopback(),
            Endpoint::Unix(_) => true,
        }
    }
}

impl From<SocketAddr> for Listen {
    /// HTTP at this address.
    fn from(address: SocketAddr) -> Self {
        Self { transport: Transport::Http, endpoint: Endpoint::Tcp(address) }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.transport, &self.endpoint) {
            (Transport::Http, Endpoint::Tcp(address)) => write!(formatter, "{address}"),
            (Transport::Http, Endpoint::Unix(path)) => write!(formatter, "{HTTP_UNIX}{}", path.display()),
            (Transport::Lines, Endpoint::Tcp(address)) => write!(formatter, "{TCP}{address}"),
            (Transport::Lines, Endpoint::Unix(path)) => write!(formatter, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (transport, endpoint) = if let Some(path) = text.strip_prefix(HTTP_UNIX) {
            (Transport::Http, unix(path)?)
        } else if let Some(path) = text.strip_prefix(UNIX) {
            (Transport::Lines, unix(path)?)
        } else if let Some(address) = text.strip_prefix(TCP) {
            (Transport::Lines, tcp(text, address)?)
        } else {
            let address = match text.strip_prefix(HTTP) {
                // As the line `listening on …` prints it.
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

/// Refuses a text while it is read, so that the error has its line and not that of the list it is in.
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

/// The forms there are, for whoever wrote another.
const FORMS: &str = "ADDR:PORT or http://ADDR:PORT, http+unix:PATH, tcp://ADDR:PORT, unix:PATH";

fn tcp(text: &str, address: &str) -> Result<Endpoint, String> {
    let address =
        address_of(address).ok_or_else(|| format!("{text:?} is nothing to listen on; write {FORMS}"))?;
    Ok(Endpoint::Tcp(address))
}

/// `ADDR:PORT`, where `localhost` stands for 127.0.0.1.
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
    fn every_form_is_read_and_written() {
        let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let path = || Endpoint::Unix(PathBuf::from("run/a b.sock"));
        for (text, transport, endpoint, written) in [
            ("127.0.0.1:8080", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("http://127.0.0.1:8080", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/mcp", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("localhost:8080", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("http://localhost:8080/mcp", Transport::Http, Endpoint::Tcp(address), "127.0.0.1:8080"),
            ("tcp://localhost:8080", Transport::Lines, Endpoint::Tcp(address), "tcp://127.0.0.1:8080"),
            ("tcp://127.0.0.1:8080", Transport::Lines, Endpoint::Tcp(address), "tcp://127.0.0.1:8080"),
            ("http+unix:run/a b.sock", Transport::Http, path(), "http+unix:run/a b.sock"),
            ("unix:run/a b.sock", Transport::Lines, path(), "unix:run/a b.sock"),
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
    fn anything_else_is_refused_in_one_line_with_the_forms_there_are() {
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
            let told = text.parse::<Listen>().unwrap_err();
            assert!(told.contains(reason) && told.ends_with(FORMS), "{text}: {told}");
            assert!(!told.contains('\n'), "{told}");
        }
        assert!(long[..long.len() - 1].parse::<Listen>().is_ok(), "at the bound");
    }
}
