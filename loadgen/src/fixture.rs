//! The fixture server as a child process: the demo server with the tools of the named workloads.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    error::LoadError,
    fault_injection,
    spawn::{SpawnedServer, unused_address},
    target::Target,
};

/// Settings of a fixture server.
#[derive(Clone, Debug)]
pub struct FixtureSettings {
    /// Number of shards.
    pub shards: usize,
    /// Cores of the shards.
    pub cores: Vec<usize>,
    /// Injected delay.
    pub delay: Duration,
    /// Whether it also listens for newline-delimited JSON.
    pub listens_on_lines: bool,
    /// Text of its configuration file, if it has one.
    pub configuration: Option<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
}

impl Default for FixtureSettings {
    /// One shard on the first core.
    fn default() -> Self {
        Self {
            shards: 1,
            cores: vec![0],
            delay: Duration::ZERO,
            listens_on_lines: false,
            configuration: None,
            arguments: Vec::new(),
            variables: Vec::new(),
        }
    }
}

/// A running fixture server.
#[derive(Debug)]
pub struct Fixture {
    /// The MCP endpoint.
    pub target: Target,
    /// The endpoint of newline-delimited JSON, if it has one.
    pub lines: Option<Target>,
    /// The admin address.
    pub admin: SocketAddr,
    _process: Arc<SpawnedServer>,
}

impl Fixture {
    /// Starts a server.
    ///
    /// # Errors
    /// When its program does not exist or does not start.
    pub fn start(settings: &FixtureSettings) -> Result<Self, LoadError> {
        let program = fixture_program()?;
        let (address, admin) = (unused_address()?, unused_address()?);
        let mut command = Command::new(program);
        for name in ["CONFIG", "LISTEN", "SHARDS", "CPUS", "ADMIN", "LOG"] {
            command.env_remove(format!("CORELANE_{name}"));
        }
        let cores: Vec<String> = settings.cores.iter().map(usize::to_string).collect();
        command
            .env(fault_injection::DELAY_VARIABLE, settings.delay.as_micros().to_string())
            .envs(settings.variables.iter().map(|(name, value)| (name, value)))
            .arg("serve")
            .args(["--listen", &address.to_string(), "--admin", &admin.to_string()])
            .args(["--shards", &settings.shards.to_string(), "--cpus", &cores.join(",")]);
        command.args(&settings.arguments);
        let mut lines = None;
        if settings.listens_on_lines {
            let url = format!("tcp://{}", unused_address()?);
            command.args(["--listen", &url]);
            lines = Some(url);
        }
        let file = settings.configuration.as_deref().map(ConfigurationFile::write).transpose()?;
        if let Some(file) = &file {
            command.arg("--config").arg(&file.0);
        }
        let process = SpawnedServer::start(command, address, &settings.cores)?;
        Ok(Self {
            target: Target::parse(&format!("http://{}/mcp", process.address()))?,
            lines: lines.as_deref().map(Target::parse).transpose()?,
            admin,
            _process: Arc::new(process),
        })
    }
}

/// A file that a server reads at its start. Dropping it removes it.
struct ConfigurationFile(PathBuf);

impl ConfigurationFile {
    fn write(text: &str) -> Result<Self, LoadError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("corelane-loadgen-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text)
            .map_err(|error| LoadError::Unwritable { path: path.clone(), reason: error.to_string() })?;
        Ok(Self(path))
    }
}

impl Drop for ConfigurationFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The fixture is built and installed beside this program.
pub(crate) fn fixture_program() -> Result<PathBuf, LoadError> {
    let own_path = std::env::current_exe().map_err(|error| LoadError::Resource(error.to_string()))?;
    let program = own_path.with_file_name("corelane-fixture");
    if program.exists() {
        return Ok(program);
    }
    Err(LoadError::Resource(
        "corelane-fixture is not beside this program; build both: cargo build --release -p corelane-loadgen"
            .to_owned(),
    ))
}
