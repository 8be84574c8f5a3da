//! What one shard serves from: nothing in it changes, so nothing in it is locked.

use std::{collections::HashMap, sync::Arc, time::Duration};

use foldhash::fast::FixedState;
use serde_json::{Map, Value, json};

use super::{
    Registry, RegistryError,
    capability::Capabilities,
    header_params::{self, HeaderParam},
    info::{Icon, SERVER_INFO, put_icons},
    revision::Revision,
    tool::{Handler, Tool},
};
use crate::{config::Limits, schema::Validator};

/// How long clients may keep a list, in milliseconds (checklist M-30).
const LIST_TTL_MS: u64 = 60_000;

/// A tool with its compiled schemas.
pub struct RegisteredTool {
    name: Box<str>,
    position: usize,
    handler: Handler,
    input: Validator,
    output: Option<Validator>,
    header_params: Vec<HeaderParam>,
    requires: Capabilities,
    deadline: Duration,
}

impl RegisteredTool {
    /// What clients call it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in the list.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// How it runs.
    #[must_use]
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    /// The compiled schema of its arguments.
    #[must_use]
    pub fn input(&self) -> &Validator {
        &self.input
    }

    /// The compiled schema of its structured content, if it promises any.
    #[must_use]
    pub fn output(&self) -> Option<&Validator> {
        self.output.as_ref()
    }

    /// Arguments that clients repeat in headers.
    #[must_use]
    pub fn header_params(&self) -> &[HeaderParam] {
        &self.header_params
    }

    /// What the client must be able to do.
    #[must_use]
    pub fn requires(&self) -> Capabilities {
        self.requires
    }

    /// How long a call may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }
}

/// Everything a shard looks up or lists, compiled and encoded.
pub struct Snapshot {
    tools: Vec<Arc<RegisteredTool>>,
    /// A fast hash will do: what is in here was chosen by the server, not by its clients.
    by_name: HashMap<Box<str>, usize, FixedState>,
    /// Results of `tools/list` by revision and page: members without braces.
    tool_pages: [Vec<Vec<u8>>; Revision::ALL.len()],
    /// Result of `server/discover`: members without braces.
    discover: Vec<u8>,
    /// Results of `initialize` behind their `protocolVersion`, by revision: members without braces.
    initialize: [Vec<u8>; Revision::ALL.len()],
    /// `"io.modelcontextprotocol/serverInfo":{…}`, as the `_meta` of every result of the 2026 era carries it
    /// (checklist M-08).
    server_info: Vec<u8>,
}

impl Snapshot {
    /// Compiles a registry.
    ///
    /// # Errors
    /// The first thing that cannot be served.
    pub fn build(registry: &Registry, limits: &Limits) -> Result<Self, RegistryError> {
        let mut tools = Vec::with_capacity(registry.tools.len());
        let mut by_name = HashMap::with_capacity_and_hasher(registry.tools.len(), FixedState::default());
        check_icons(&registry.info.name, &registry.info.icons)?;
        for (position, tool) in registry.tools.iter().enumerate() {
            if by_name.insert(Box::from(tool.name()), position).is_some() {
                return Err(RegistryError::Duplicate(tool.name().to_owned()));
            }
            tools.push(Arc::new(compile(tool, position, limits)?));
        }
        let info = json!({SERVER_INFO: registry.info.describe(Revision::V2026_07_28)});
        let meta = json!({"_meta": info});
        let capabilities = json!({"tools": {}});
        let pages = |revision| pages(registry, limits, revision, &meta);
        Ok(Self {
            tools,
            by_name,
            tool_pages: Revision::ALL.map(pages),
            discover: members(&discover(registry, &capabilities, &meta)),
            initialize: Revision::ALL.map(|revision| members(&initialize(registry, &capabilities, revision))),
            server_info: members(&info),
        })
    }

    /// Finds a tool.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&Arc<RegisteredTool>> {
        self.by_name.get(name).and_then(|&index| self.tools.get(index))
    }

    /// All tools, in the order they are listed.
    #[must_use]
    pub fn tools(&self) -> &[Arc<RegisteredTool>] {
        &self.tools
    }

    /// One page of `tools/list`: members of the result, without braces.
    #[must_use]
    pub fn tool_page(&self, revision: Revision, page: usize) -> Option<&[u8]> {
        self.tool_pages.get(revision.index())?.get(page).map(Vec::as_slice)
    }

    /// The result of `server/discover`: members without braces.
    #[must_use]
    pub fn discover(&self) -> &[u8] {
        &self.discover
    }

    /// The result of `initialize` but for its `protocolVersion`: members without braces.
    #[must_use]
    pub fn initialize(&self, revision: Revision) -> &[u8] {
        self.initialize.get(revision.index()).map_or(&[], Vec::as_slice)
    }

    /// The member of `_meta` that every result of the 2026 era carries.
    #[must_use]
    pub fn server_info(&self) -> &[u8] {
        &self.server_info
    }
}

fn compile(tool: &Tool, position: usize, limits: &Limits) -> Result<RegisteredTool, RegistryError> {
    let name = tool.name().to_owned();
    let description = &tool.description;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_name) {
        return Err(RegistryError::Name(name));
    }
    let texts = description.title.iter().chain(&description.text);
    if texts.flat_map(|text| text.chars()).any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(RegistryError::Text(name));
    }
    check_icons(&name, &description.icons)?;
    if description.input_schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(RegistryError::NotObject(name));
    }
    let compiled = |which, schema: &Value| {
        Validator::compile(schema, limits).map_err(|source| RegistryError::Schema {
            tool: name.clone(),
            which,
            source,
        })
    };
    let input = compiled("inputSchema", &description.input_schema)?;
    let output =
        description.output_schema.as_ref().map(|schema| compiled("outputSchema", schema)).transpose()?;
    Ok(RegisteredTool {
        position,
        handler: tool.handler.clone(),
        input,
        output,
        header_params: header_params::find(&name, &description.input_schema)?,
        requires: description.requires,
        deadline: description.deadline.unwrap_or(limits.call_deadline),
        name: name.into(),
    })
}

fn check_icons(name: &str, icons: &[Icon]) -> Result<(), RegistryError> {
    let is_known = |icon: &Icon| icon.src.starts_with("https:") || icon.src.starts_with("data:");
    if icons.iter().all(is_known) { Ok(()) } else { Err(RegistryError::Icon(name.to_owned())) }
}

/// The bytes of an object without its braces.
fn members(object: &Value) -> Vec<u8> {
    let text = object.to_string().into_bytes();
    text.get(1..text.len().saturating_sub(1)).unwrap_or_default().to_vec()
}

fn discover(registry: &Registry, capabilities: &Value, meta: &Value) -> Value {
    let versions: Vec<_> = Revision::ALL.iter().rev().map(|revision| revision.as_str()).collect();
    let mut result = Map::new();
    result.insert("resultType".into(), "complete".into());
    result.insert("supportedVersions".into(), versions.into());
    result.insert("capabilities".into(), capabilities.clone());
    if let Some(instructions) = &registry.info.instructions {
        result.insert("instructions".into(), instructions.as_str().into());
    }
    result.insert("ttlMs".into(), LIST_TTL_MS.into());
    result.insert("cacheScope".into(), "public".into());
    append(&mut result, meta);
    Value::Object(result)
}

fn initialize(registry: &Registry, capabilities: &Value, revision: Revision) -> Value {
    let mut result = Map::new();
    result.insert("capabilities".into(), capabilities.clone());
    result.insert("serverInfo".into(), registry.info.describe(revision));
    if let Some(instructions) = &registry.info.instructions {
        result.insert("instructions".into(), instructions.as_str().into());
    }
    Value::Object(result)
}

fn pages(registry: &Registry, limits: &Limits, revision: Revision, meta: &Value) -> Vec<Vec<u8>> {
    let chunks: Vec<&[Tool]> = match registry.tools.as_slice() {
        [] => vec![&[]],
        tools => tools.chunks(limits.list_page_items_max.max(1)).collect(),
    };
    let last = chunks.len() - 1;
    let page = |(number, tools): (usize, &&[Tool])| {
        let mut result = Map::new();
        if revision.is_modern() {
            result.insert("resultType".into(), "complete".into());
        }
        result.insert("tools".into(), tools.iter().map(|tool| describe(tool, revision)).collect());
        if number < last {
            result.insert("nextCursor".into(), (number + 1).to_string().into());
        }
        if revision.is_modern() {
            result.insert("ttlMs".into(), LIST_TTL_MS.into());
            result.insert("cacheScope".into(), "public".into());
            append(&mut result, meta);
        }
        members(&Value::Object(result))
    };
    chunks.iter().enumerate().map(page).collect()
}

fn append(result: &mut Map<String, Value>, more: &Value) {
    if let Value::Object(more) = more {
        result.extend(more.clone());
    }
}

/// A tool as `tools/list` shows it, as far as the revision knows it. Schemas go out as they came in (checklist J-03).
fn describe(tool: &Tool, revision: Revision) -> Value {
    let tool = &tool.description;
    let mut described = Map::new();
    described.insert("name".into(), tool.name.as_ref().into());
    if let Some(title) = tool.title.as_ref().filter(|_| revision.has_titles()) {
        described.insert("title".into(), title.as_ref().into());
    }
    if let Some(text) = &tool.text {
        described.insert("description".into(), text.as_ref().into());
    }
    if revision.has_icons() {
        put_icons(&mut described, &tool.icons);
    }
    described.insert("inputSchema".into(), tool.input_schema.clone());
    // Before 2026-07-28 only objects may be promised (checklist T-04).
    let is_object = |schema: &&Value| schema.get("type").and_then(Value::as_str) == Some("object");
    let listable =
        |schema: &&Value| revision.is_modern() || (revision.has_structured_content() && is_object(schema));
    if let Some(schema) = tool.output_schema.as_ref().filter(listable) {
        described.insert("outputSchema".into(), schema.clone());
    }
    if let Some(annotations) = tool.annotations.as_ref().filter(|_| revision.has_annotations()) {
        // A struct of booleans and a string is always written.
        described.insert("annotations".into(), serde_json::to_value(annotations).unwrap_or_default());
    }
    if !tool.meta.is_empty() && revision.has_structured_content() {
        described.insert("_meta".into(), Value::Object(tool.meta.clone()));
    }
    Value::Object(described)
}
