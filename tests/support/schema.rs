//! The official JSON Schemas: `REVISION/schema.json` below `$CORELANE_SCHEMAS` or `../shared/mcp/schema`. No package
//! registry has them. Without them nothing is validated, which fails where `CI` is set.

#![allow(unreachable_pub)]
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::HashMap,
    env, fs,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex},
};

use serde_json::{Value, json};

pub const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
pub const NEWEST_LEGACY: &str = "2025-11-25";
pub const MODERN: &str = "2026-07-28";

/// The schema of one revision.
pub struct Schema {
    pub revision: &'static str,
    document: Value,
}

impl Schema {
    /// The schemas of all revisions, or none.
    pub fn all() -> Option<Vec<Self>> {
        let directory = env::var_os("CORELANE_SCHEMAS").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/mcp/schema"),
            PathBuf::from,
        );
        if !directory.is_dir() {
            super::missing::report(
                &format!("the directory of the official schemas, {},", directory.display()),
                "CORELANE_SCHEMAS names another directory with REVISION/schema.json files",
            );
            return None;
        }
        let read = |revision: &'static str| {
            let path = directory.join(revision).join("schema.json");
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            Self { revision, document: serde_json::from_str(&text).unwrap() }
        };
        Some(LEGACY.into_iter().chain([MODERN]).map(read).collect())
    }

    pub fn is_modern(&self) -> bool {
        self.revision == MODERN
    }

    pub fn definitions(&self) -> &'static str {
        if self.document.get("$defs").is_some() { "$defs" } else { "definitions" }
    }

    /// The first of these names that the revision defines, because names change between revisions.
    pub fn definition(&self, names: &[&'static str]) -> &'static str {
        let defined = &self.document[self.definitions()];
        names
            .iter()
            .find(|name| defined.get(**name).is_some())
            .unwrap_or_else(|| panic!("{}: no definition of {names:?}", self.revision))
    }

    /// A validator of this type.
    fn compile(&self, name: &str) -> jsonschema::Validator {
        let definitions = self.definitions();
        let schema = json!({
            "$schema": self.document["$schema"],
            definitions: self.document[definitions],
            // Draft 7 ignores keywords beside a reference.
            "allOf": [{"$ref": format!("#/{definitions}/{name}")}],
        });
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }

    /// The violations of this type in the value.
    pub fn faults(&self, name: &str, value: &Value) -> Vec<String> {
        let validator = self.compile(name);
        let errors = validator.iter_errors(value);
        errors.map(|error| format!("{}: {error}", error.instance_path().as_str())).collect()
    }

    /// Members of an object that its type does not name. The schemas are open, but strict clients and clients of older
    /// revisions may reject such members.
    pub fn unnamed<'a>(&self, name: &str, value: &'a Value) -> Vec<&'a str> {
        let mut definition = &self.document[self.definitions()][name];
        while let Some(reference) = definition["$ref"].as_str() {
            definition = self.document.pointer(reference.trim_start_matches('#')).unwrap();
        }
        let members = value.as_object().unwrap().keys();
        members.filter(|member| definition["properties"].get(*member).is_none()).map(String::as_str).collect()
    }

    #[track_caller]
    pub fn check(&self, what: &str, names: &[&'static str], value: &Value) {
        let name = self.definition(names);
        let faults = self.faults(name, value);
        assert!(faults.is_empty(), "{} {what}: not a {name}: {faults:#?}\n{value:#}", self.revision);
        let unnamed = self.unnamed(name, value);
        assert!(unnamed.is_empty(), "{} {what}: {name} has no {unnamed:?}\n{value:#}", self.revision);
    }
}

/// The schemas, and the validators compiled from them.
static SCHEMAS: LazyLock<Option<Vec<Schema>>> = LazyLock::new(Schema::all);
type Compiled = HashMap<(&'static str, &'static str), Arc<jsonschema::Validator>>;
static COMPILED: LazyLock<Mutex<Compiled>> = LazyLock::new(Mutex::default);

/// Validates a value against a type of 2026-07-28, if the schemas are present.
#[track_caller]
pub fn check_modern(name: &'static str, value: &Value) {
    check_as(MODERN, &[name], value);
}

/// Validates a value against the first of these types that the revision defines.
#[track_caller]
pub fn check_as(revision: &str, names: &[&'static str], value: &Value) {
    let Some(schemas) = &*SCHEMAS else { return };
    let schema = schemas.iter().find(|schema| schema.revision == revision).unwrap();
    let name = schema.definition(names);
    let compile = || Arc::new(schema.compile(name));
    let validator =
        Arc::clone(COMPILED.lock().unwrap().entry((schema.revision, name)).or_insert_with(compile));
    let faults: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path().as_str()))
        .collect();
    assert!(faults.is_empty(), "{revision}: not a {name}: {faults:#?}\n{value:#}");
}

/// Validates a message of a server, or each message of a batch, against its type. `legacy` is the revision of messages
/// without modern members. The members of a result identify its type: no two types of results share them.
#[track_caller]
pub fn check_message(legacy: &str, message: &Value) {
    if let Some(batch) = message.as_array() {
        return batch.iter().for_each(|message| check_message(legacy, message));
    }
    let part = |key: &str| message.get(key);
    match (part("method"), part("id"), part("error")) {
        (Some(method), None, _) if is_modern_notification(method, message) => {
            // The extension has a separate schema.
            if method != "notifications/tasks" {
                check_as(MODERN, &["ServerNotification"], message);
            }
        }
        (Some(_), None, _) => check_as(legacy, &["ServerNotification"], message),
        // The 2026 era has no server requests.
        (Some(_), Some(_), _) => check_as(legacy, &["ServerRequest"], message),
        // Before 2025-11-25 the schema requires an id, which such a reply cannot have.
        (None, None, Some(_)) if legacy < "2025-11-25" => {
            check_as(MODERN, &["JSONRPCErrorResponse"], message)
        }
        (None, _, Some(_)) => check_as(legacy, &["JSONRPCErrorResponse", "JSONRPCError"], message),
        (None, _, None) => {
            let result = &message["result"];
            let revision = if result.get("resultType").is_some() { MODERN } else { legacy };
            check_as(revision, &["JSONRPCResultResponse", "JSONRPCResponse"], message);
            check_as(revision, &[result_type(result)], result);
        }
    }
}

fn is_modern_notification(method: &Value, message: &Value) -> bool {
    let modern = ["notifications/tasks", "notifications/subscriptions/acknowledged"];
    modern.iter().any(|name| method == name)
        || message.pointer("/params/_meta/io.modelcontextprotocol~1subscriptionId").is_some()
}

fn result_type(result: &Value) -> &'static str {
    let types = [
        ("content", "CallToolResult"),
        ("tools", "ListToolsResult"),
        ("contents", "ReadResourceResult"),
        ("resources", "ListResourcesResult"),
        ("resourceTemplates", "ListResourceTemplatesResult"),
        ("messages", "GetPromptResult"),
        ("prompts", "ListPromptsResult"),
        ("completion", "CompleteResult"),
        ("protocolVersion", "InitializeResult"),
        ("supportedVersions", "DiscoverResult"),
    ];
    let found = types.iter().find(|(member, _)| result.get(*member).is_some());
    match (found, result["resultType"].as_str()) {
        (_, Some("input_required")) => "InputRequiredResult",
        (Some((_, name)), _) => name,
        // A task, or a result without further members.
        (None, Some("task")) => "Result",
        (None, _) if result.get("taskId").is_some() => "Result",
        (None, Some(_)) if result.pointer("/_meta/io.modelcontextprotocol~1subscriptionId").is_some() => {
            "SubscriptionsListenResult"
        }
        (None, _) => {
            let rest =
                result.as_object().unwrap().keys().filter(|key| !matches!(&***key, "_meta" | "resultType"));
            assert_eq!(rest.count(), 0, "unknown type of result: {result:#}");
            "EmptyResult"
        }
    }
}
