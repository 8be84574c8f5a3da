//! The expected results of the sessions.

use std::fmt::Debug;

use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock};
use serde_json::Value;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Checked<T> = Result<T, Failure>;

pub(crate) fn check(holds: bool, what: &str, seen: impl Debug) -> Checked<()> {
    if holds { Ok(()) } else { Err(format!("{what}, got {seen:?}").into()) }
}

pub(crate) fn call_of(tool: impl Into<String>, arguments: Value) -> CallToolRequestParams {
    let params = CallToolRequestParams::new(tool.into());
    match arguments {
        Value::Object(arguments) => params.with_arguments(arguments),
        _ => params,
    }
}

pub(crate) fn texts(result: &CallToolResult) -> Vec<&str> {
    let texts = result.content.iter().map(|block| match block {
        ContentBlock::Text(text) => text.text.as_str(),
        _ => "",
    });
    texts.collect()
}

/// The text of a result that is one text block and no error.
pub(crate) fn text_of(result: &CallToolResult) -> Checked<&str> {
    match (texts(result).as_slice(), result.is_error) {
        (&[text], None | Some(false)) => Ok(text),
        _ => Err(format!("one text block, got {result:?}").into()),
    }
}
