//! The examples do what their files say.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::json;
use support::{ServerProcess, example};

#[test]
fn hello_greets_by_a_tool_of_each_kind_on_the_librarys_command_line() {
    let command = example("hello", &["serve", "--listen", "127.0.0.1:0", "--shards", "1"]);
    let server = ServerProcess::spawn(command);
    let mut client = server.connect();
    let name = json!({"name": "Ann"});
    assert_eq!(client.call("greet", name.clone())["content"][0]["text"], "Hello, Ann!");
    assert_eq!(client.call("greet_later", name)["content"][0]["text"], "Hello at last, Ann!");
    let missing = client.call("read_greeting", json!({}));
    assert_eq!(missing["isError"], true);
    assert!(missing["content"][0]["text"].as_str().unwrap().contains("No such file"), "{missing}");
    server.stop();
}
