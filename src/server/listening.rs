//! The listening sockets of a server: bound before any shard runs, so that what is wrong with one is told in a line.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use corelane_ring::{Listener, SocketFile, UnixSocket};

use super::error::StartError;
use crate::{
    config::{Config, Endpoint, Listen, Transport},
    shard::Sources,
};

/// What a server's connections come from.
pub(super) struct Listening {
    /// Real ports where port 0 was asked for.
    pub(super) listeners: Vec<Listen>,
    /// For each shard.
    pub(super) sources: Vec<Sources>,
    /// Each shard keeps all of them until it ends: they go with the last one.
    pub(super) files: Vec<Arc<SocketFile>>,
}

impl Listening {
    /// Listens for each shard on everything the configuration names.
    pub(super) fn open(config: &Config, shards: usize) -> Result<Self, StartError> {
        if config.listen.is_empty() {
            return Err(StartError::Nothing("no address"));
        }
        let mut listening = Self {
            listeners: Vec::new(),
            sources: (0..shards).map(|_| Sources::default()).collect(),
            files: Vec::new(),
        };
        for wanted in &config.listen {
            check_reach(wanted, config)?;
            let endpoint = listening.add(wanted).map_err(|reason| StartError::Listen {
                remedy: remedy(&wanted.endpoint, &reason),
                listen: wanted.clone(),
                reason,
            })?;
            listening.listeners.push(Listen { transport: wanted.transport, endpoint });
        }
        Ok(listening)
    }

    /// One shard, which serves a connection that is there already.
    pub(super) fn adopt(socket: OwnedFd) -> Self {
        let sources = Sources { listeners: Vec::new(), adopted: Some(socket) };
        Self { listeners: Vec::new(), sources: vec![sources], files: Vec::new() }
    }

    fn add(&mut self, wanted: &Listen) -> io::Result<Endpoint> {
        match &wanted.endpoint {
            Endpoint::Tcp(address) => self.add_tcp(*address, wanted.transport).map(Endpoint::Tcp),
            Endpoint::Unix(path) => {
                self.add_unix(path, wanted.transport).map(|()| Endpoint::Unix(path.clone()))
            }
        }
    }

    fn add_tcp(&mut self, mut address: SocketAddr, transport: Transport) -> io::Result<SocketAddr> {
        if address.port() != 0 {
            // Shards share the port; another server must not be let in, or let us in, by the same means.
            drop(TcpListener::bind(address)?);
        }
        for sources in &mut self.sources {
            let listener = corelane_ring::bind(address)?;
            address = listener.local_addr()?;
            sources.listeners.push((Listener::from(listener), transport));
        }
        Ok(address)
    }

    fn add_unix(&mut self, path: &Path, transport: Transport) -> io::Result<()> {
        let socket = UnixSocket::bind(path)?;
        for sources in &mut self.sources {
            sources.listeners.push((socket.listener()?, transport));
        }
        self.files.push(Arc::new(socket.into_file()));
        Ok(())
    }
}

/// Whether an address that other machines can reach may be listened on.
pub(super) fn check_reach(wanted: &Listen, config: &Config) -> Result<(), StartError> {
    match (&wanted.endpoint, wanted.transport) {
        (Endpoint::Tcp(_), _) if wanted.is_local() => Ok(()),
        (Endpoint::Tcp(address), Transport::Lines) => Err(StartError::LinesNotLoopback(*address)),
        (Endpoint::Tcp(address), Transport::Http) if config.allowed_hosts.is_empty() => {
            Err(StartError::NotLoopback(*address))
        }
        _ => Ok(()),
    }
}

/// Endpoints that are named more than once; port 0 is another port each time.
#[cfg(feature = "cli")]
pub(super) fn repeated(listen: &[Listen]) -> Option<StartError> {
    let again = listen.iter().enumerate().find(|(index, wanted)| {
        let is_free = matches!(wanted.endpoint, Endpoint::Tcp(address) if address.port() == 0);
        !is_free && listen.iter().take(*index).any(|before| before.endpoint == wanted.endpoint)
    });
    again.map(|(_, wanted)| {
        let reason = io::Error::from(io::ErrorKind::AddrInUse);
        StartError::Listen { listen: wanted.clone(), reason, remedy: "name each address once" }
    })
}

/// Listens for the admin interface.
pub(super) fn listen_admin(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|reason| StartError::ListenAdmin {
        address,
        remedy: match reason.kind() {
            io::ErrorKind::AddrInUse => "choose another port with --admin, or --admin none",
            _ => "choose another address with --admin, or --admin none",
        },
        reason,
    })
}

pub(super) fn remedy(endpoint: &Endpoint, reason: &io::Error) -> &'static str {
    match (endpoint, reason.kind()) {
        (Endpoint::Tcp(_), io::ErrorKind::AddrInUse) => {
            "stop the program that has it, or choose another port with --listen"
        }
        (Endpoint::Tcp(_), io::ErrorKind::PermissionDenied) => {
            "choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
        }
        (Endpoint::Tcp(_), io::ErrorKind::AddrNotAvailable) => {
            "choose an address of this machine with --listen"
        }
        (Endpoint::Tcp(_), _) => "choose another address with --listen",
        (Endpoint::Unix(_), io::ErrorKind::AddrInUse) => {
            "stop the server that has it, or choose another path with --listen"
        }
        (Endpoint::Unix(_), io::ErrorKind::AlreadyExists) => {
            "remove it if nobody needs it, or choose another path with --listen"
        }
        (Endpoint::Unix(_), io::ErrorKind::NotFound) => {
            "make the directory, or choose another path with --listen"
        }
        (Endpoint::Unix(_), io::ErrorKind::PermissionDenied) => {
            "choose a path this user may write to with --listen"
        }
        (Endpoint::Unix(_), _) => "choose another path with --listen",
    }
}
