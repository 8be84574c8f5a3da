//! The path of the control socket.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

/// The control socket of a server: a Unix socket for this user and root, through which `corelane ctl` inspects the server, changes its
/// log level and drains it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ControlSocket {
    /// There is none.
    #[default]
    None,
    /// `PID.sock` in a directory where `corelane ctl` finds it. If none can be used, the server logs a warning and has no control socket.
    Auto,
    /// At this path.
    Path(PathBuf),
}

impl FromStr for ControlSocket {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "none" => Self::None,
            "auto" => Self::Auto,
            path => Self::Path(path.into()),
        })
    }
}

impl From<String> for ControlSocket {
    fn from(text: String) -> Self {
        let Ok(socket) = text.parse();
        socket
    }
}

impl fmt::Display for ControlSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Auto => formatter.write_str("auto"),
            Self::Path(path) => path.display().fmt(formatter),
        }
    }
}

impl From<ControlSocket> for String {
    fn from(socket: ControlSocket) -> Self {
        socket.to_string()
    }
}
