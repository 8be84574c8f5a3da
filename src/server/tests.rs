//! Compares the start errors with the table of docs/OPERATIONS.md.

use std::{io, net::SocketAddr};

use corelane_ring::ProbeError;
use regex::Regex;

use super::{
    builder::Server,
    error::{StartError, resource},
    listening::{self, Listening, listen_admin, listen_control},
    machine::too_few_descriptors,
    secret_file::read_secret,
};
use crate::{
    config::{Config, ConfigError, ControlSocket, Listen},
    registry::Tool,
};

/// The error texts of the guide's table, as patterns: `…` matches anything, N and M match numbers.
fn rows() -> Vec<(String, Regex)> {
    let guide = include_str!("../../docs/OPERATIONS.md");
    let rows = guide.lines().skip_while(|line| *line != "| the line says | cause | remedy |").skip(2);
    let cells = rows.map_while(|row| row.strip_prefix("| ")?.split(" | ").next());
    // The texts in backticks.
    let texts = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    texts
        .map(|text| {
            let word = |word: &str| match word {
                "N" | "M" => r"\d+".to_owned(),
                "FILE:" => ".+:".to_owned(),
                word => regex::escape(word).replace('…', ".*").replace("N\\)", "\\d+\\)"),
            };
            let pattern = text.split(' ').map(word).collect::<Vec<_>>().join(" ");
            (text.to_owned(), Regex::new(&pattern).unwrap())
        })
        .collect()
}

// Long: one value for each variant.
/// Errors of every variant. A new variant does not compile until it is matched here.
fn errors() -> Vec<StartError> {
    let probe = |errno| StartError::from(corelane_ring::explain(io::Error::from_raw_os_error(errno)));
    let address: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let listen = |errno| {
        let reason = io::Error::from_raw_os_error(errno);
        let listen = Listen::from(address);
        StartError::Listen { remedy: listening::remedy(&listen.endpoint, &reason), listen, reason }
    };
    let registry = |tool: Tool| {
        let server = Server::builder("t", "0").tool(tool).build();
        server.start(&Config::default()).err().unwrap()
    };
    let (one, two) = (|| Tool::new("t").run_raw(|_, _, _| ()), 2);
    let twice = Server::builder("t", "0").tool(one()).tool(one()).build();
    let of_kind = |error: &StartError| match error {
        StartError::Probe(
            ProbeError::DisabledBySysctl(_)
            | ProbeError::Forbidden(_)
            | ProbeError::KernelTooOld(_)
            | ProbeError::Unsupported(_)
            | ProbeError::MemlockUsedUp(_)
            | ProbeError::Descriptors(_)
            | ProbeError::MemlockTooSmall(_)
            | ProbeError::Other(_),
        )
        | StartError::Registry(_)
        | StartError::CoreAbsent { .. }
        | StartError::Nothing(_)
        | StartError::Listen { .. }
        | StartError::ListenAdmin { .. }
        | StartError::ListenControl { .. }
        | StartError::NotLoopback(_)
        | StartError::Secret { .. }
        | StartError::LinesNotLoopback(_)
        | StartError::Memlock { .. }
        | StartError::Descriptors { .. }
        | StartError::ShardFailed { .. }
        | StartError::CallsAbandoned { .. }
        | StartError::Resource { .. } => (),
    };
    let errors = vec![
        ProbeError::DisabledBySysctl(2).into(),
        ProbeError::Forbidden(io::Error::from_raw_os_error(libc::EPERM)).into(),
        ProbeError::KernelTooOld("5.15.0".to_owned()).into(),
        probe(libc::EINVAL),
        probe(libc::ENOMEM),
        probe(libc::EMFILE),
        ProbeError::MemlockTooSmall(65_536).into(),
        probe(libc::EIO),
        registry(Tool::new("t").input_schema::<()>(serde_json::json!(false)).run_raw(|_, _, _| ())),
        registry(
            Tool::new("t")
                .input_schema::<()>(
                    serde_json::json!({"type": "object", "properties": {"a": {"pattern": "(?=a)b"}}}),
                )
                .run_raw(|_, _, _| ()),
        ),
        twice.start(&Config::default()).err().unwrap(),
        StartError::CoreAbsent { core: 4000, available: "0,1".to_owned() },
        Listening::open(&Config { listen: Vec::new(), ..Config::default() }, two).err().unwrap(),
        StartError::Nothing("no shards"),
        listen(libc::EADDRINUSE),
        listen(libc::EACCES),
        listen(libc::EADDRNOTAVAIL),
        listen(libc::EEXIST),
        listen_admin(address).err().unwrap(),
        listen_control(&ControlSocket::Path("/nonexistent/c.sock".into())).err().unwrap(),
        StartError::NotLoopback(address),
        StartError::LinesNotLoopback(address),
        read_secret("/nonexistent".as_ref()).err().unwrap(),
        StartError::Memlock { shards: 200, need_kib: 60_000, limit_kib: 8192 },
        too_few_descriptors(8),
        resource("the blocking pool", &"out of threads"),
        StartError::CallsAbandoned { calls: 2 },
        StartError::ShardFailed { shard: 3, reason: "Bad file descriptor (os error 9)".to_owned() },
    ];
    errors.iter().for_each(of_kind);
    errors
}

#[test]
fn operations_guide_quotes_every_start_error_as_it_is_written() {
    let mistakes = Config::from_toml("[server]\nshards = \"x\"\n").err().unwrap();
    let in_file = |error: &ConfigError| format!("corelane.toml: {error}");
    let written: Vec<String> =
        errors().iter().map(ToString::to_string).chain(mistakes.iter().map(in_file)).collect();
    let rows = rows();
    assert!(rows.len() > 20, "the table in docs/OPERATIONS.md is not where it was");
    for (text, pattern) in &rows {
        assert!(written.iter().any(|error| pattern.is_match(error)), "no start error matches `{text}`");
    }
    for error in written {
        assert!(rows.iter().any(|(_, pattern)| pattern.is_match(&error)), "no row for: {error}");
    }
}
