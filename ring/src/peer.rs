//! The address of a connection's peer, and how the kernel encodes it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
};

/// `struct sockaddr_in` and `struct sockaddr_in6` in bytes. The kernel refuses a query for more than the address has.
pub(super) const V4_BYTES: usize = size_of::<libc::sockaddr_in>();
pub(super) const V6_BYTES: usize = size_of::<libc::sockaddr_in6>();

const _: () = assert!(V4_BYTES == 16 && V6_BYTES == 28);

/// The IP address and the port of a connection's peer, in 18 bytes. The scope of a link-local IPv6 address is not included.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// An IPv4 address in its IPv4-mapped form.
    ip: [u8; 16],
    port: NonZeroU16,
}

const _: () = assert!(size_of::<Option<PeerAddress>>() == 18);

impl PeerAddress {
    /// `None` for port 0, which no connected peer has.
    #[must_use]
    pub fn new(ip: IpAddr, port: u16) -> Option<Self> {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Some(Self { ip: ip.octets(), port: NonZeroU16::new(port)? })
    }

    /// The IP address. An IPv4-mapped one, as a dual-stack listener accepts them, is returned as IPv4.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.ip).to_canonical()
    }

    /// The port.
    #[must_use]
    pub fn port(self) -> u16 {
        self.port.get()
    }

    /// Decodes a `struct sockaddr_in` or `struct sockaddr_in6`.
    pub(super) fn from_socket_name(name: &[u8]) -> Option<Self> {
        let (family, rest) = name.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let ip = match (i32::from(u16::from_ne_bytes(*family)), name.len()) {
            (libc::AF_INET, V4_BYTES) => Ipv4Addr::from(*rest.first_chunk::<4>()?).into(),
            // Behind the flow information.
            (libc::AF_INET6, V6_BYTES) => Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?).into(),
            _ => return None,
        };
        Self::new(ip, u16::from_be_bytes(*port))
    }
}

impl From<PeerAddress> for SocketAddr {
    fn from(peer: PeerAddress) -> Self {
        Self::new(peer.ip(), peer.port())
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(formatter)
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket_name(address: &str) -> Vec<u8> {
        let address = socket2::SockAddr::from(address.parse::<SocketAddr>().unwrap());
        // SAFETY: `len` bytes of the storage are initialised.
        unsafe { std::slice::from_raw_parts(address.as_ptr().cast(), address.len() as usize) }.to_vec()
    }

    #[test]
    fn socket_names_decode_to_the_address_they_encode() {
        for (name, address) in [
            ("192.0.2.7:4711", "192.0.2.7:4711"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1"),
            ("[::ffff:192.0.2.7]:65535", "192.0.2.7:65535"),
        ] {
            let peer = PeerAddress::from_socket_name(&socket_name(name)).unwrap();
            assert_eq!(SocketAddr::from(peer), address.parse().unwrap());
            assert_eq!(peer.to_string(), address);
            assert_eq!(PeerAddress::new(peer.ip(), peer.port()), Some(peer));
        }
    }

    #[test]
    fn truncated_or_foreign_socket_names_have_no_address() {
        for name in ["192.0.2.7:4711", "[2001:db8::1]:1"] {
            let name = socket_name(name);
            for length in 0..name.len() {
                assert_eq!(PeerAddress::from_socket_name(&name[..length]), None, "{length}");
            }
        }
        assert_eq!(PeerAddress::from_socket_name(&socket_name("192.0.2.7:0")), None);
        assert_eq!(PeerAddress::from_socket_name(&[0; V4_BYTES]), None);
    }
}
