//! The listening sockets of a server, bound before any shard runs, so that an error is reported in one line.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use corelane_ring::{KeepAlive, Listener, ListenerGroup, SocketFile, UnixSocket};

use tracing::warn;

use super::{error::StartError, listener_groups::ListenerGroups};
use crate::{
    admin::ControlListener,
    config::{Config, ControlSocket, Endpoint, Limits, Listen, Transport},
    shard::{ShardLoads, Sources},
};

/// The listening sockets, or the one adopted socket, of all shards.
pub(super) struct Listening {
    /// The configured addresses, with the real port where port 0 was configured.
    pub(super) listeners: Vec<Listen>,
    /// The sockets of each shard.
    pub(super) sources: Vec<Sources>,
    /// The TCP listeners by address.
    pub(super) groups: ListenerGroups,
    /// When idle TCP connections are probed.
    keep_alive: KeepAlive,
    /// Socket files, which every shard holds until it exits: the last one to exit removes them.
    pub(super) files: Vec<Arc<SocketFile>>,
}

impl Listening {
    /// Opens a listener for each shard on every configured address.
    ///
    /// # Errors
    /// No address is configured, an address may not be exposed, or listening fails.
    pub(super) fn open(config: &Config, shards: usize) -> Result<Self, StartError> {
        if config.listen.is_empty() {
            return Err(StartError::Nothing("no address"));
        }
        let loads = (shards > 1).then(|| ShardLoads::new(shards));
        let sources = || Sources { loads: loads.clone(), ..Sources::default() };
        let mut listening = Self {
            listeners: Vec::new(),
            sources: (0..shards).map(|_| sources()).collect(),
            groups: ListenerGroups::default(),
            keep_alive: keep_alive(&config.limits),
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

    /// Sources of one shard that serves a single connection, which is already open.
    pub(super) fn adopt(socket: OwnedFd) -> Self {
        let sources = Sources { adopted: Some(socket), ..Sources::default() };
        let keep_alive = keep_alive(&Limits::default());
        Self {
            listeners: Vec::new(),
            sources: vec![sources],
            groups: ListenerGroups::default(),
            keep_alive,
            files: Vec::new(),
        }
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
        let shards = self.sources.len();
        let mut listeners = Vec::with_capacity(shards);
        for shard in 0..shards {
            // Shards share the port by SO_REUSEPORT. The first listener has it alone until it listens, and fails where another
            // server has the port.
            let bind = match shard {
                0 if shards == 1 => corelane_ring::bind_alone,
                0 => corelane_ring::bind_first,
                _ => corelane_ring::bind,
            };
            let listener = bind(address)?;
            corelane_ring::keep_alive(&listener, self.keep_alive)?;
            address = listener.local_addr()?;
            listeners.push(Listener::from(listener));
        }
        if listeners.len() > 1 {
            self.groups.add(ListenerGroup::new(&listeners));
        }
        for (sources, listener) in self.sources.iter_mut().zip(listeners) {
            sources.listeners.push((listener, transport));
        }
        Ok(address)
    }

    fn add_unix(&mut self, path: &Path, transport: Transport) -> io::Result<()> {
        let socket = UnixSocket::bind(path)?;
        for sources in &mut self.sources {
            sources.listeners.push((socket.listener()?, transport));
        }
        self.groups.share_socket = true;
        self.files.push(Arc::new(socket.into_file()));
        Ok(())
    }
}

fn keep_alive(limits: &Limits) -> KeepAlive {
    KeepAlive { idle: limits.stream_keep_alive, unanswered: limits.write_timeout }
}

/// Checks that an address that other machines can reach may be listened on.
///
/// # Errors
/// [`StartError::LinesNotLoopback`] or [`StartError::NotLoopback`].
pub(super) fn check_reach(wanted: &Listen, config: &Config) -> Result<(), StartError> {
    match (&wanted.endpoint, wanted.transport) {
        (Endpoint::Tcp(_), _) if wanted.is_local() => Ok(()),
        (Endpoint::Tcp(address), Transport::JsonLines) => Err(StartError::LinesNotLoopback(*address)),
        (Endpoint::Tcp(address), Transport::Http) if config.allowed_hosts.is_empty() => {
            Err(StartError::NotLoopback(*address))
        }
        _ => Ok(()),
    }
}

/// The error for the first endpoint that is configured twice; port 0 never counts as repeated.
#[cfg(feature = "cli")]
pub(super) fn repeated(listen: &[Listen]) -> Option<StartError> {
    let repeated = listen.iter().enumerate().find(|(index, wanted)| {
        let is_free = matches!(wanted.endpoint, Endpoint::Tcp(address) if address.port() == 0);
        !is_free && listen.iter().take(*index).any(|before| before.endpoint == wanted.endpoint)
    });
    repeated.map(|(_, wanted)| {
        let reason = io::Error::from(io::ErrorKind::AddrInUse);
        StartError::Listen { listen: wanted.clone(), reason, remedy: "name each address once" }
    })
}

/// Opens the listening socket of the admin interface.
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

/// Opens the listening socket of the control socket. `None`: none is configured, or no directory can be used.
///
/// # Errors
/// A path is configured and listening on it fails.
pub(super) fn listen_control(socket: &ControlSocket) -> Result<Option<ControlListener>, StartError> {
    match socket {
        ControlSocket::None => Ok(None),
        ControlSocket::Auto => {
            let listener = ControlListener::in_own_directory();
            if listener.is_none() {
                warn!(
                    "there is no control socket: no directory for it can be used; remedy: set XDG_RUNTIME_DIR, or --control PATH, \
                     or --control none"
                );
            }
            Ok(listener)
        }
        ControlSocket::Path(path) => match ControlListener::at(path) {
            Ok(listener) => Ok(Some(listener)),
            Err(reason) => Err(StartError::ListenControl {
                path: path.display().to_string(),
                remedy: match reason.kind() {
                    io::ErrorKind::AddrInUse => {
                        "stop the server that has it, or choose another path with --control"
                    }
                    io::ErrorKind::AlreadyExists => {
                        "remove it if nobody needs it, or choose another path with --control"
                    }
                    _ => {
                        "choose a path in a directory that this user may write to with --control, or --control none"
                    }
                },
                reason,
            }),
        },
    }
}

/// The remedy for a failure to listen.
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
