//! JSONTestSuite over HTTP: invalid JSON is a parse error, valid JSON is any other error.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/corpora.rs"]
mod corpora;
mod support;

use support::missing;

use std::{collections::BTreeMap, fs};

use serde_json::json;
use support::ServerProcess;

#[test]
fn json_parser_matches_jsontestsuite() {
    let Some(directory) = corpora::directory("json-parsing/test_parsing") else { return };
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    let mut implementation_defined = Vec::new();
    let mut wrong = Vec::new();
    for (name, path) in corpora::files(&directory, "json") {
        // A revision without batches, because many documents are arrays.
        let reply = client.post("MCP-Protocol-Version: 2025-11-25\r\n", fs::read(path).unwrap());
        assert_eq!(reply.status, 400, "{name}: no document is a JSON-RPC message");
        let code = reply.error_code();
        let kind = name.chars().next().unwrap();
        *counts.entry(kind).or_default() += 1;
        match kind {
            'y' if code == -32600 => {}
            'n' if code == -32700 => {}
            'i' => implementation_defined.push(format!("{name} | {code}")),
            _ => wrong.push(format!("{name}: {code}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{counts:?}");
    // The copy in the registry lacks the 25 documents that are not UTF-8.
    let is_whole = counts == [('i', 35), ('n', 188), ('y', 95)].into();
    assert!(is_whole || counts == [('i', 22), ('n', 176), ('y', 95)].into(), "{counts:?}");
    corpora::compare("JSON: implementation-defined", &implementation_defined, is_whole);
    assert_eq!(client.call("echo", json!({"message": "still here"}))["content"][0]["text"], "still here");
    server.stop();
}
