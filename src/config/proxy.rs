//! Proxies in front of the server.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The proxies that may state for which client they connect. By default none may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxy {
    /// Networks of the proxies. The client of a connection from there is taken from a PROXY protocol v2 header at its start, and from
    /// `header` of each request. Elsewhere both are ignored.
    pub trusted: Vec<Network>,
    /// The header in which a trusted proxy states the client. It must be one that the proxy sets or extends: one that it passes on
    /// unchanged is the client's own statement.
    pub header: ForwardedHeader,
}

/// The header that names the client of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses, the nearest last.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): its `for` parameters, the nearest last.
    Forwarded,
    /// None.
    None,
}

impl Proxy {
    /// Whether an address is one of a trusted proxy.
    #[must_use]
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|Network(network)| network.contains(&ip))
    }
}

/// A network, such as `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network =
            network.map_err(|_| format!("{text:?} is not a network; write it as 10.0.0.0/8 or fd00::/8"))?;
        if network.addr() != network.network() {
            return Err(format!("{text:?} has bits beyond its prefix; write it as {}", network.trunc()));
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_trusted_networks_are_trusted() {
        let trusted = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"].map(|network| network.parse().unwrap());
        let proxy = Proxy { trusted: trusted.into(), ..Proxy::default() };
        for (ip, is_trusted) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fdff::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(proxy.trusts(ip.parse().unwrap()), is_trusted, "{ip}");
        }
        assert!(!Proxy::default().trusts("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn text_that_is_no_network_is_rejected() {
        for text in ["", "10.0.0.0/33", "proxy.example", "10.0.0.1/8", "10.0.0.0/8 "] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
    }
}
