//! Listening sockets: one per shard and address, sharing the port.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel holds for us before it drops new ones.
const BACKLOG: i32 = 4096;

/// Binds and listens with `SO_REUSEPORT`, so that each shard has a listener of its own on one port. Accepted sockets
/// inherit `TCP_NODELAY`.
///
/// # Errors
/// What `bind` and `listen` say: a taken port, an address that is not ours, no permission.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
