//! Pictures of servers, tools, prompts, resources and links to resources.

use serde::Serialize;
use serde_json::{Map, Value};

/// A picture that clients may show (MCP specification, schema, `Icon`).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Icon {
    /// An `https:` or `data:` URI.
    pub src: String,
    /// Its media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// As `48x48`, or `any`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<String>,
    /// The background it is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theme: Option<Theme>,
}

/// A background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// Light.
    Light,
    /// Dark.
    Dark,
}

pub(crate) fn put_icons(object: &mut Map<String, Value>, icons: &[Icon]) {
    if !icons.is_empty() {
        // Structs of strings are always written.
        object.insert("icons".into(), serde_json::to_value(icons).unwrap_or_default());
    }
}
