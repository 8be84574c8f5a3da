//! Servers under attack.

use std::{net::SocketAddr, process::Command};

use super::{
    footprint::Footprint, launch::Launch, memory_group::MemoryGroup, settings::Settings,
    tools::ATTACKS_VARIABLE,
};
use crate::{
    error::LoadError,
    fixture::fixture_program,
    spawn::{SpawnedServer, unused_address},
    target::Target,
};

/// A fixture server with the tools of the attacks, on one core. It is killed on drop, because calls of an attack would
/// hold its drain.
pub(crate) struct Server {
    process: SpawnedServer,
    /// The endpoint of HTTP.
    pub(crate) target: Target,
    /// The address of newline-delimited JSON.
    pub(crate) lines: SocketAddr,
    /// The admin address.
    pub(crate) admin: SocketAddr,
}

/// Number of attempts to start a server.
const STARTS: u32 = 5;

impl Server {
    /// Starts a server with one shard, in a memory group if one is given.
    pub(super) fn start(settings: &Settings, group: Option<&MemoryGroup>) -> Result<Self, LoadError> {
        Self::launch(settings, &Launch::default(), group)
    }

    /// Starts a server on unused ports. A connection of an attack may take one of them before the server listens on it; then others
    /// are tried.
    pub(crate) fn launch(
        settings: &Settings,
        launch: &Launch<'_>,
        group: Option<&MemoryGroup>,
    ) -> Result<Self, LoadError> {
        let started = (1..STARTS).find_map(|_| Self::start_on_unused_ports(settings, launch, group).ok());
        started.map_or_else(|| Self::start_on_unused_ports(settings, launch, group), Ok)
    }

    fn start_on_unused_ports(
        settings: &Settings,
        launch: &Launch<'_>,
        group: Option<&MemoryGroup>,
    ) -> Result<Self, LoadError> {
        let (address, lines, admin) = (unused_address()?, unused_address()?, unused_address()?);
        let mut command = Command::new(fixture_program()?);
        for name in ["CONFIG", "LISTEN", "SHARDS", "CPUS", "ADMIN", "LOG"] {
            command.env_remove(format!("CORELANE_{name}"));
        }
        // A backtrace takes a hundred milliseconds, and is the choice of who runs a server.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command
            .env(ATTACKS_VARIABLE, "1")
            .arg("serve")
            .args(["--listen", &address.to_string(), "--listen", &format!("tcp://{lines}")])
            .args(["--admin", &admin.to_string(), "--shards", &launch.shards.max(1).to_string()])
            .args(["--cpus", &settings.server_core.to_string()])
            // Another server shares the core.
            .args(["--spin-us", "0"]);
        if let Some(config) = &settings.config {
            command.arg("--config").arg(config);
        }
        let mut command = launch.apply(command);
        if let Some(group) = group {
            command = group.wrap(&command);
        }
        let process = SpawnedServer::start(command, address, &[settings.server_core])?;
        Ok(Self { process, target: Target::parse(&format!("http://{address}/mcp"))?, lines, admin })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address()
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.process.pid()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Number of bytes of its log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.process.output_bytes()
    }

    pub(crate) fn footprint(&self) -> Option<Footprint> {
        Footprint::of(self.pid()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
    }
}
