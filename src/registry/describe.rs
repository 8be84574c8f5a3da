//! List items of tools, resources, templates and prompts, with the members that a revision has.

use serde_json::{Map, Value};

use super::{prompt::Prompt, resource::ResourceDescription, tool::Tool};
use crate::call::{Icon, Revision, put_icons};

/// Builder of a list item for a revision.
struct Described {
    object: Map<String, Value>,
    revision: Revision,
}

impl Described {
    fn new(revision: Revision, key: &str, name: &str) -> Self {
        let mut object = Map::new();
        object.insert(key.into(), name.into());
        Self { object, revision }
    }

    fn put(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.object.insert(key.into(), value.into());
        }
    }

    fn title(&mut self, title: Option<&str>) {
        self.put("title", title.filter(|_| self.revision.has_titles()));
    }

    fn icons(&mut self, icons: &[Icon]) {
        if self.revision.has_icons() {
            put_icons(&mut self.object, icons);
        }
    }

    fn meta(&mut self, meta: &Map<String, Value>) {
        if !meta.is_empty() && self.revision.has_meta() {
            self.object.insert("_meta".into(), Value::Object(meta.clone()));
        }
    }

    fn finish(self) -> Value {
        Value::Object(self.object)
    }
}

/// The list item of a tool. Schemas are sent verbatim (<https://modelcontextprotocol.io/specification/2026-07-28/basic#json-schema-usage>).
pub(super) fn tool(tool: &Tool, revision: Revision) -> Value {
    let tool = &tool.description;
    let mut described = Described::new(revision, "name", &tool.name);
    described.title(tool.title.as_deref());
    described.put("description", tool.text.as_deref());
    described.icons(&tool.icons);
    described.put("inputSchema", Some(tool.input_schema.clone()));
    // Before 2026-07-28 the root of an output schema must be an object
    // (<https://modelcontextprotocol.io/specification/2025-11-25/server/tools#output-schema>).
    let is_object = |schema: &&Value| schema.get("type").and_then(Value::as_str) == Some("object");
    let listable =
        |schema: &&Value| revision.is_modern() || (revision.has_structured_content() && is_object(schema));
    described.put("outputSchema", tool.output_schema.as_ref().filter(listable).cloned());
    // Serializing a struct of booleans and a string does not fail.
    let annotations = tool.annotations.as_ref().filter(|_| revision.has_annotations());
    described.put(
        "annotations",
        annotations.map(|annotations| serde_json::to_value(annotations).unwrap_or_default()),
    );
    described.meta(&tool.meta);
    described.finish()
}

/// The list item of a prompt.
pub(super) fn prompt(prompt: &Prompt, revision: Revision) -> Value {
    let prompt = &prompt.description;
    let mut described = Described::new(revision, "name", &prompt.name);
    described.title(prompt.title.as_deref());
    described.put("description", prompt.text.as_deref());
    described.icons(&prompt.icons);
    if !prompt.arguments.is_empty() {
        let argument = |argument: &super::prompt::PromptArgument| {
            let mut described = Described::new(revision, "name", &argument.name);
            described.title(argument.title.as_deref());
            described.put("description", argument.description.as_deref());
            described.put("required", argument.required.then_some(true));
            described.finish()
        };
        described.put("arguments", Some(prompt.arguments.iter().map(argument).collect::<Vec<_>>()));
    }
    described.meta(&prompt.meta);
    described.finish()
}

/// The list item of a resource or of a template; `key` is `uri` or `uriTemplate`.
pub(super) fn resource(key: &str, resource: &ResourceDescription, revision: Revision) -> Value {
    let mut described = Described::new(revision, key, &resource.uri);
    described.put("name", Some(resource.name.as_ref()));
    described.title(resource.title.as_deref());
    described.put("description", resource.text.as_deref());
    described.icons(&resource.icons);
    described.put("mimeType", resource.mime_type.as_deref());
    described.put("size", resource.size);
    // Serializing a struct of plain members does not fail.
    let annotations = resource.annotations.as_ref().map(|annotations| annotations.describe(revision));
    described.put("annotations", annotations);
    described.meta(&resource.meta);
    described.finish()
}
