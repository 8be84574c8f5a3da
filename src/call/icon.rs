//! Pictures of servers, tools, prompts, resources and links to resources.

use serde::Serialize;
use serde_json::{Map, Value};

/// An icon that clients may show (<https://modelcontextprotocol.io/specification/2026-07-28/schema#icon>).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Icon {
    /// An `https:` or `data:` URI.
    pub src: String,
    /// The media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Sizes such as `48x48`, or `any`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<String>,
    /// The background that it is designed for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theme: Option<Theme>,
}

/// The background of an icon.
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
        // Serializing structs of strings does not fail.
        object.insert("icons".into(), serde_json::to_value(icons).unwrap_or_default());
    }
}
