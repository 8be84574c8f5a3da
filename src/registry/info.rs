//! Who a server is, and the decoration servers and tools share.

use serde::Serialize;
use serde_json::{Map, Value};

use super::revision::Revision;

/// `_meta` key of results that tells who answered.
pub(super) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// The server as clients see it. Texts left empty are not sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerInfo {
    /// What programs call it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What people call it.
    pub title: Option<String>,
    /// What it is for, for people.
    pub description: Option<String>,
    /// Where to read more.
    pub website_url: Option<String>,
    /// Pictures of it.
    pub icons: Vec<Icon>,
    /// How to use it, for the model.
    pub instructions: Option<String>,
}

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

impl ServerInfo {
    /// As an `Implementation` object, as far as `revision` knows it.
    pub(super) fn describe(&self, revision: Revision) -> Value {
        let mut info = Map::new();
        info.insert("name".into(), self.name.as_str().into());
        info.insert("version".into(), self.version.as_str().into());
        let mut put = |key: &str, text: &Option<String>| {
            if let Some(text) = text {
                info.insert(key.into(), text.as_str().into());
            }
        };
        if revision.has_titles() {
            put("title", &self.title);
        }
        if revision.has_icons() {
            put("description", &self.description);
            put("websiteUrl", &self.website_url);
            put_icons(&mut info, &self.icons);
        }
        Value::Object(info)
    }
}

pub(super) fn put_icons(object: &mut Map<String, Value>, icons: &[Icon]) {
    if !icons.is_empty() {
        // Structs of strings are always written.
        object.insert("icons".into(), serde_json::to_value(icons).unwrap_or_default());
    }
}

/// Adds the members of `more`, an object.
pub(super) fn append(result: &mut Map<String, Value>, more: &Value) {
    if let Value::Object(more) = more {
        result.extend(more.clone());
    }
}
