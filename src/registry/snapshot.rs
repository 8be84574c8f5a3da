//! What one shard serves from: nothing in it changes, so nothing in it is locked.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    Registry, RegistryError,
    revision::Revision,
    tool::{Handler, Tool},
};
use crate::{config::Limits, schema::Validator};

/// How long clients may keep a list, in milliseconds (checklist M-30).
const LIST_TTL_MS: u64 = 60_000;

/// A tool with its compiled schema.
pub struct RegisteredTool {
    name: Box<str>,
    handler: Handler,
    input: Validator,
}

impl RegisteredTool {
    /// What clients call it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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
}

/// Everything a shard looks up or lists, compiled and encoded.
pub struct Snapshot {
    tools: Vec<Arc<RegisteredTool>>,
    by_name: HashMap<Box<str>, usize>,
    /// Results of `tools/list` by revision and page: members without braces.
    tool_pages: [Vec<Vec<u8>>; Revision::ALL.len()],
    /// Result of `server/discover`: members without braces.
    discover: Vec<u8>,
    /// Result of `initialize` behind its `protocolVersion`: members without braces.
    initialize: Vec<u8>,
    /// `"_meta":{…}` with the server's name, as every result of the 2026 era carries it (checklist M-08).
    meta: Vec<u8>,
}

impl Snapshot {
    /// Compiles a registry.
    ///
    /// # Errors
    /// The first thing that cannot be served.
    pub fn build(registry: &Registry, limits: &Limits) -> Result<Self, RegistryError> {
        let mut tools = Vec::with_capacity(registry.tools.len());
        let mut by_name = HashMap::with_capacity(registry.tools.len());
        for tool in &registry.tools {
            if by_name.insert(Box::from(&*tool.name), tools.len()).is_some() {
                return Err(RegistryError::Duplicate(tool.name.to_string()));
            }
            tools.push(Arc::new(compile(tool, limits)?));
        }
        let info = json!({"name": registry.info.name, "version": registry.info.version});
        let meta = json!({"_meta": {"io.modelcontextprotocol/serverInfo": info}});
        let capabilities = json!({"tools": {}});
        let pages = |revision| pages(registry, limits, revision, &meta);
        Ok(Self {
            tools,
            by_name,
            tool_pages: Revision::ALL.map(pages),
            discover: members(&discover(registry, &capabilities, &meta)),
            initialize: members(&initialize(registry, &capabilities, &info)),
            meta: members(&meta),
        })
    }

    /// Finds a tool.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&Arc<RegisteredTool>> {
        self.by_name.get(name).and_then(|&index| self.tools.get(index))
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
    pub fn initialize(&self) -> &[u8] {
        &self.initialize
    }

    /// The `_meta` member of every result of the 2026 era.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }
}

fn compile(tool: &Tool, limits: &Limits) -> Result<RegisteredTool, RegistryError> {
    let name = tool.name.to_string();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_name) {
        return Err(RegistryError::Name(name));
    }
    let texts = tool.title.iter().chain(&tool.description);
    if texts.flat_map(|text| text.chars()).any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(RegistryError::Description(name));
    }
    if tool.input_schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(RegistryError::NotObject(name));
    }
    let compiled = |which, schema: &Value| {
        Validator::compile(schema, limits).map_err(|source| RegistryError::Schema {
            tool: name.clone(),
            which,
            source,
        })
    };
    if let Some(schema) = &tool.output_schema {
        compiled("outputSchema", schema)?;
    }
    let input = compiled("inputSchema", &tool.input_schema)?;
    Ok(RegisteredTool { name: name.into(), handler: tool.handler.clone(), input })
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

fn initialize(registry: &Registry, capabilities: &Value, info: &Value) -> Value {
    let mut result = Map::new();
    result.insert("capabilities".into(), capabilities.clone());
    result.insert("serverInfo".into(), info.clone());
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
    let mut described = Map::new();
    described.insert("name".into(), tool.name.as_ref().into());
    if let Some(title) = tool.title.as_ref().filter(|_| revision.has_titles()) {
        described.insert("title".into(), title.as_ref().into());
    }
    if let Some(description) = &tool.description {
        described.insert("description".into(), description.as_ref().into());
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
        described.insert("annotations".into(), annotations.clone());
    }
    Value::Object(described)
}
