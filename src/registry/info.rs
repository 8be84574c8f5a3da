//! Name, version and icons of a server.

use serde::Serialize;
use serde_json::{Map, Value};

use super::revision::Revision;

/// `_meta` key of results that carries the server's name and version.
pub(super) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// The server's identity, as sent to clients. Empty members are not sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerInfo {
    /// The programmatic name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The display name.
    pub title: Option<String>,
    /// The description for people.
    pub description: Option<String>,
    /// URL of the website.
    pub website_url: Option<String>,
    /// The icons.
    pub icons: Vec<Icon>,
    /// Instructions to the model on how to use the server.
    pub instructions: Option<String>,
}

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

impl ServerInfo {
    /// The `Implementation` object, with the members that `revision` has.
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
        // Serializing structs of strings does not fail.
        object.insert("icons".into(), serde_json::to_value(icons).unwrap_or_default());
    }
}

/// Adds the members of the object `more`.
pub(super) fn append(result: &mut Map<String, Value>, more: &Value) {
    if let Value::Object(more) = more {
        result.extend(more.clone());
    }
}
