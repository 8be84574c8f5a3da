//! A session with the demo server: every tool, with every kind of result.

use std::time::{Duration, Instant};

use rmcp::ServiceError;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Session,
    check::{Checked, call_of, check, text_of, texts},
};

impl Session {
    pub(crate) async fn demo(&self) -> Checked<()> {
        let listed = self.list().await?;
        self.calls().await?;
        self.sleeps().await?;
        self.errors().await?;
        check(self.tools().await? == listed, "the same tools as before the calls", &listed)?;
        self.step("list again");
        Ok(())
    }

    async fn list(&self) -> Checked<Value> {
        let tools = self.tools().await?;
        for name in ["echo", "add", "sleep", "digest"] {
            let tool = tools
                .as_array()
                .and_then(|tools| tools.iter().find(|tool| tool.get("name").is_some_and(|is| is == name)));
            let has_schema =
                tool.and_then(|tool| tool.pointer("/inputSchema/type")).is_some_and(|root| root == "object");
            check(has_schema, &format!("tool {name} with an inputSchema"), &tools)?;
        }
        self.step("list");
        Ok(tools)
    }

    async fn calls(&self) -> Checked<()> {
        for message in MESSAGES {
            let echoed = self.call("echo", json!({"message": message})).await?;
            check(text_of(&echoed)? == message, "echo returns its message", &echoed)?;
        }
        self.step("echo");

        let added = self.call("add", json!({"a": 2, "b": 40.5})).await?;
        text_of(&added)?;
        check(added.structured_content == Some(json!({"sum": 42.5})), "add sums", &added)?;
        self.step("add");

        for arguments in [json!({"text": "abc"}), json!({"text": "abc", "rounds": 1})] {
            let digest = self.call("digest", arguments).await?;
            check(text_of(&digest)? == SHA256_OF_ABC, "the SHA-256 of abc", &digest)?;
        }
        self.step("digest");
        Ok(())
    }

    async fn sleeps(&self) -> Checked<()> {
        let start = Instant::now();
        let mut sleeps = JoinSet::new();
        for _ in 0..20 {
            let peer = self.client.peer().clone();
            sleeps.spawn(async move { peer.call_tool(call_of("sleep", json!({"ms": 300}))).await });
        }
        while let Some(slept) = sleeps.join_next().await {
            check(text_of(&slept??)? == "slept 300 ms", "each sleep slept", ())?;
        }
        // In sequence these take 6 s: half of that tolerates a loaded machine and still proves overlap.
        let elapsed = start.elapsed();
        check(elapsed < Duration::from_secs(3), "twenty sleeps overlap (under 3 s)", elapsed)?;
        self.step("twenty sleeps");
        Ok(())
    }

    async fn errors(&self) -> Checked<()> {
        // An invalid argument is a result, which the model can correct; an unknown tool is a protocol error.
        for (tool, arguments, named) in [
            ("echo", json!({"message": 5}), "message"),
            ("echo", json!({}), "message"),
            ("add", json!({"a": 1, "b": 2, "c": 3}), "c"),
            ("sleep", json!({"ms": 60_001}), "ms"),
        ] {
            let refused = self.call(tool, arguments).await?;
            let names = texts(&refused).iter().any(|text| text.contains(named));
            check(refused.is_error == Some(true) && names, "isError that names the argument", &refused)?;
        }
        self.step("invalid arguments");

        let overflow = self.call("add", json!({"a": 1e308, "b": 1e308})).await?;
        check(overflow.is_error == Some(true), "isError of a tool that fails", &overflow)?;
        self.step("failing tool");

        match self.call("no-such-tool", json!({})).await {
            Err(error) => match error.downcast_ref::<ServiceError>() {
                Some(ServiceError::McpError(error)) if error.code.0 == -32602 => {}
                _ => return Err(format!("-32602 for an unknown tool, got {error:?}").into()),
            },
            Ok(result) => return Err(format!("-32602 for an unknown tool, got {result:?}").into()),
        }
        self.step("unknown tool");
        Ok(())
    }
}

const MESSAGES: [&str; 4] = [
    "",
    "héllo \"lane\"\n",
    "\\ / \u{8}\u{c}\t\r \u{0}\u{1f}\u{7f} </script>",
    "日本語 👩‍👩‍👧 \u{2028}\u{10ffff}",
];
const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
