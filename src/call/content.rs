//! Content blocks (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#tool-result>).

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{icon::Icon, revision::Revision};

/// One block of a tool's result.
///
/// ```
/// use corelane::{Annotations, Content, Role};
///
/// let block = Content::image(b"\x89PNG", "image/png")
///     .annotations(Annotations { audience: vec![Role::User], priority: Some(0.9), ..Default::default() });
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub(crate) block: Map<String, Value>,
    /// The first revision with this type of block.
    pub(crate) since: Revision,
    /// The text block that clients of older revisions get instead; `None` if `since` is the first revision.
    pub(crate) instead: Option<Map<String, Value>>,
}

/// Audience, priority and age of a block. Empty members are not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotations {
    /// The user, the model, or both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audience: Vec<Role>,
    /// Importance, from 0 (optional) to 1 (required).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<f64>,
    /// Time of the last change in ISO 8601, for example `2026-07-28T12:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Annotations {
    /// The JSON object, with the members that `revision` has.
    pub(crate) fn describe(&self, revision: Revision) -> Value {
        let known = Self {
            last_modified: self.last_modified.clone().filter(|_| revision.has_meta()),
            ..self.clone()
        };
        // Serializing a struct of plain members does not fail.
        serde_json::to_value(known).unwrap_or_default()
    }
}

/// The reader of a block, or the author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Content {
    /// A block that every revision has.
    fn new(kind: &str) -> Self {
        let mut block = Map::new();
        block.insert("type".into(), kind.into());
        Self { block, since: Revision::V2024_11_05, instead: None }
    }

    /// A block that revisions have from `since` on. Clients of older ones get a text block.
    fn since(since: Revision, kind: &str, instead: String) -> Self {
        Self { since, instead: Some(Self::text(instead).block), ..Self::new(kind) }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.block.insert(key.into(), value.into());
        self
    }

    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::new("text").with("text", text.into())
    }

    /// An image, as bytes of `mime_type`.
    #[must_use]
    pub fn image(data: &[u8], mime_type: &str) -> Self {
        Self::new("image").with("data", BASE64_STANDARD.encode(data)).with("mimeType", mime_type)
    }

    /// Audio, as bytes of `mime_type`. Clients of revisions before 2025-03-26 get a text block that names the type.
    #[must_use]
    pub fn audio(data: &[u8], mime_type: &str) -> Self {
        Self::since(Revision::V2025_03_26, "audio", format!("[audio, {mime_type}]"))
            .with("data", BASE64_STANDARD.encode(data))
            .with("mimeType", mime_type)
    }

    /// A link to a resource. Clients of revisions before 2025-06-18 get its name and URI as text.
    #[must_use]
    pub fn resource_link(uri: &str, name: &str) -> Self {
        Self::since(Revision::V2025_06_18, "resource_link", format!("{name}: {uri}"))
            .with("uri", uri)
            .with("name", name)
    }

    /// An embedded resource with its text.
    #[must_use]
    pub fn resource_text(uri: &str, mime_type: &str, text: &str) -> Self {
        let resource = serde_json::json!({"uri": uri, "mimeType": mime_type, "text": text});
        Self::new("resource").with("resource", resource)
    }

    /// An embedded resource with its bytes.
    #[must_use]
    pub fn resource_blob(uri: &str, mime_type: &str, data: &[u8]) -> Self {
        let blob = BASE64_STANDARD.encode(data);
        let resource = serde_json::json!({"uri": uri, "mimeType": mime_type, "blob": blob});
        Self::new("resource").with("resource", resource)
    }

    /// Sets the annotations.
    #[must_use]
    pub fn annotations(self, annotations: Annotations) -> Self {
        // Serializing a struct of plain members does not fail.
        let annotations = serde_json::to_value(annotations).unwrap_or_default();
        self.with("annotations", annotations)
    }

    /// Adds a member to the block's `_meta`.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        let meta = self.block.entry("_meta").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(meta) = meta {
            meta.insert(key.into(), value.into());
        }
        self
    }
}

/// A link to a resource, with all members of `ResourceLink` (<https://modelcontextprotocol.io/specification/2026-07-28/schema#resourcelink>).
///
/// ```
/// use corelane::{NoArguments, ResourceLink, Tool};
///
/// let tool = Tool::new("find").run(|_: NoArguments, _cx| {
///     ResourceLink::new("file:///report.pdf", "report.pdf")
///         .title("Report")
///         .description("The report of this year")
///         .mime_type("application/pdf")
///         .size(48_213)
/// });
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceLink(Content);

impl ResourceLink {
    /// Creates a link to the resource at `uri`, with the programmatic name `name`.
    #[must_use]
    pub fn new(uri: &str, name: &str) -> Self {
        Self(Content::resource_link(uri, name))
    }

    /// Sets the display name.
    #[must_use]
    pub fn title(self, title: impl Into<String>) -> Self {
        Self(self.0.with("title", title.into()))
    }

    /// Describes the resource to people and to the model.
    #[must_use]
    pub fn description(self, description: impl Into<String>) -> Self {
        Self(self.0.with("description", description.into()))
    }

    /// Sets the media type.
    #[must_use]
    pub fn mime_type(self, mime_type: impl Into<String>) -> Self {
        Self(self.0.with("mimeType", mime_type.into()))
    }

    /// Sets the size in bytes, before any encoding.
    #[must_use]
    pub fn size(self, bytes: u64) -> Self {
        Self(self.0.with("size", bytes))
    }

    /// Adds an icon.
    #[must_use]
    pub fn icon(mut self, icon: Icon) -> Self {
        let icons = self.0.block.entry("icons").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(icons) = icons {
            // Serializing a struct of plain members does not fail.
            icons.push(serde_json::to_value(icon).unwrap_or_default());
        }
        self
    }

    /// Sets the annotations.
    #[must_use]
    pub fn annotations(self, annotations: Annotations) -> Self {
        Self(self.0.annotations(annotations))
    }

    /// Adds a member to its `_meta`.
    #[must_use]
    pub fn meta(self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self(self.0.meta(key, value))
    }
}

impl From<ResourceLink> for Content {
    fn from(link: ResourceLink) -> Self {
        link.0
    }
}

impl From<std::borrow::Cow<'_, str>> for Content {
    fn from(text: std::borrow::Cow<'_, str>) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}
