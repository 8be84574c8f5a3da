//! Name, version and icons of a server.

use serde_json::{Map, Value};

use crate::call::{Icon, Revision, put_icons};

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

/// Adds the members of the object `more`.
pub(super) fn append(result: &mut Map<String, Value>, more: &Value) {
    if let Value::Object(more) = more {
        result.extend(more.clone());
    }
}
