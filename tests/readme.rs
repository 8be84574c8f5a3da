//! The commands of README.md against the real binary.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Stdio,
};

use corelane::Config;
use serde_json::{Value, json};
use support::{ServerProcess, corelane};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The code blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The servers in the configuration of a client, under the key that the client reads.
fn servers(configuration: &Value) -> Vec<Value> {
    let servers = configuration.get("mcpServers").or_else(|| configuration.get("servers"));
    servers.and_then(Value::as_object).into_iter().flat_map(|servers| servers.values().cloned()).collect()
}

/// The endpoint of a server started without options.
fn default_url(server: &ServerProcess) -> String {
    let path = server.ready.split_whitespace().find_map(|word| word.strip_prefix("http://")).unwrap();
    let path = &path[path.find('/').unwrap()..];
    format!("http://{}{path}", Config::default().listen[0].to_string().trim_start_matches("http://"))
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    }})
}

#[test]
fn client_configurations_name_the_default_endpoint_and_the_stdio_command() {
    let server = ServerProcess::start(&[]);
    let url = default_url(&server);
    let (mut over_http, mut over_stdio) = (0, 0);
    for block in blocks(&readme(), "json") {
        let parsed: Value = serde_json::from_str(&block).unwrap_or_else(|error| panic!("{error}: {block}"));
        for entry in servers(&parsed) {
            if entry.get("url").is_some() {
                assert_eq!(entry, json!({"type": "http", "url": url}));
                over_http += 1;
                continue;
            }
            assert_eq!(entry["command"], "corelane", "{entry}");
            assert!(entry.get("type").is_none_or(|transport| transport == "stdio"), "{entry}");
            let arguments: Vec<&str> =
                entry["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
            let mut child =
                corelane(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            writeln!(input, "{}", initialize()).unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let reply: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(reply["result"]["serverInfo"]["name"], "corelane", "{line}");
            drop(input);
            assert!(child.wait().unwrap().success());
            over_stdio += 1;
        }
    }
    assert_eq!((over_http, over_stdio), (2, 2), "snippets are missing");
    server.stop();
}

#[test]
fn commands_name_the_default_endpoint_and_admin_address() {
    let server = ServerProcess::start(&[]);
    let url = default_url(&server);
    server.stop();
    let commands = blocks(&readme(), "sh").concat();
    assert!(commands.contains(&format!("claude mcp add --transport http corelane {url}\n")));
    assert!(commands.contains("claude mcp add corelane -- corelane stdio\n"));
    let admin = Config::ADMIN.to_string();
    for word in commands.split_whitespace().filter(|word| word.starts_with("http://")) {
        let (address, path) = word.trim_start_matches("http://").split_once('/').unwrap();
        if address == admin {
            assert!(["metrics", "healthz", "livez", "readyz"].contains(&path), "{word}");
        } else {
            assert_eq!(word, url);
        }
    }
}

#[test]
fn first_request_returns_the_documented_reply() {
    let readme = readme();
    let commands = blocks(&readme, "sh").concat();
    let body = commands.split("-d '").nth(1).unwrap().split('\'').next().unwrap();
    let shown: Value = serde_json::from_str(&blocks(&readme, "json")[0]).unwrap();
    let server = ServerProcess::start(&[]);
    assert_eq!(server.connect().post("", body).json(), shown);
    server.stop();
}

#[test]
fn every_flag_and_variable_of_the_help_is_described() {
    let readme = readme();
    for command in ["serve", "stdio"] {
        let output = corelane(&[command, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let is_part = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        let words: Vec<&str> = help
            .split(|character| !is_part(character))
            .filter(|word| word.starts_with("CORELANE_") || (word.starts_with("--") && word.len() > 2))
            .collect();
        assert!(words.contains(&"--config"), "{help}");
        for word in words {
            assert!(word == "--help" || readme.contains(word), "README.md does not have {word}");
        }
    }
}

#[test]
fn links_lead_to_existing_files() {
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/OPERATIONS.md"] {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        let directory = root().join(name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            let is_there = link.is_empty() || link.starts_with("https://") || directory.join(link).exists();
            assert!(is_there, "{name} links to {link}");
        }
    }
}
