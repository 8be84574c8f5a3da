//! Whom to load: a URL, taken apart and resolved once.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::error::LoadError;

/// A server's endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// As given, with its path.
    pub url: String,
    /// The first address its host has.
    pub address: SocketAddr,
    /// What the `Host` header says.
    pub host: String,
    /// Path and query.
    pub path: String,
}

impl Target {
    /// Reads `http://HOST[:PORT][/PATH]`; without a path `/mcp` is meant.
    ///
    /// # Errors
    /// When it is no such URL, asks for TLS, or its host is unknown.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        let unusable = |reason: &str| LoadError::Usage(format!("{text:?} is not a usable address: {reason}"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        match scheme {
            "http" => {}
            "https" => {
                return Err(unusable(
                    "TLS is not spoken here; measure the server behind the TLS proxy, at its http:// address",
                ));
            }
            _ => return Err(unusable("it should begin with http://")),
        }
        let split = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(split);
        if host.is_empty() || host.contains(['@', ' ']) || text.contains(char::is_control) {
            return Err(unusable("it should look like http://HOST:PORT/mcp"));
        }
        let path = if path.is_empty() { "/mcp" } else { path };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let mut addresses = with_port.to_socket_addrs().map_err(|error| unusable(&error.to_string()))?;
        let address = addresses.next().ok_or_else(|| unusable("its host has no address"))?;
        Ok(Self {
            url: format!("http://{host}{path}"),
            address,
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Whether connections may come from any of 127.0.0.0/8, which multiplies the ports there are.
    #[must_use]
    pub fn is_loopback_v4(&self) -> bool {
        matches!(self.address.ip(), IpAddr::V4(address) if address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("http://127.0.0.1:8080/some/mcp?x=1").unwrap();
        assert_eq!(target.path, "/some/mcp?x=1");
        assert_eq!(target.host, "127.0.0.1:8080");
        assert_eq!(target.address.port(), 8080);
        let short = Target::parse("127.0.0.1:9").unwrap();
        assert_eq!((short.url.as_str(), short.path.as_str()), ("http://127.0.0.1:9/mcp", "/mcp"));
        assert_eq!(Target::parse("http://[::1]/").unwrap().address.to_string(), "[::1]:80");
    }

    #[test]
    fn what_is_no_address_is_refused_in_one_line() {
        for (text, word) in [
            ("https://127.0.0.1/mcp", "TLS"),
            ("ftp://127.0.0.1/", "http://"),
            ("http:///mcp", "look like"),
            ("http://127.0.0.1:99999/", "invalid port"),
            ("http://user@127.0.0.1/", "look like"),
        ] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
