//! Requests that a server may send to a client: elicitation, sampling, roots, ping
//! (<https://modelcontextprotocol.io/specification/2026-07-28/client/elicitation>, <https://modelcontextprotocol.io/specification/2026-07-28/client/sampling>,
//! <https://modelcontextprotocol.io/specification/2026-07-28/client/roots>). The same in both eras; the transport differs.

use std::marker::PhantomData;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    capability::Capability,
    content::{Content, Role},
    derived_schema::listable,
    revision::Revision,
};
use crate::{
    config::SchemaLimits,
    schema::{Validation, Validator},
};

/// The `method` and `params` of a request to the client.
#[derive(Clone, Debug, PartialEq)]
pub struct InputRequest {
    /// `elicitation/create`, `sampling/createMessage`, `roots/list` or `ping`.
    pub method: &'static str,
    /// The parameters: an object.
    pub params: Value,
}

/// A request to the client, and the parser of its result.
pub trait Question {
    /// The parsed result.
    type Answer;

    /// Key of the question within the call: a retried request carries the answer under this key. Without one it is numbered.
    fn key(&self) -> Option<&str> {
        None
    }

    /// Capability that the client must have; none for a ping.
    fn needs(&self) -> Option<Capability>;

    /// The request in the form of `revision`. `id`: an identifier that is unique for the client.
    fn request(&self, revision: Revision, id: &str) -> InputRequest;

    /// Parses a result; `None` where it is malformed or does not match the question. `limits` bound its validation.
    fn read(&self, answer: &Value, limits: &SchemaLimits) -> Option<Self::Answer>;

    /// Whether [`Self::read`] returned `None` because the validation of the result takes more work than `limits` allow.
    fn exceeds_limits(&self, _answer: &Value, _limits: &SchemaLimits) -> bool {
        false
    }
}

/// The user's response to a form or a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elicited<T> {
    /// Submitted, or agreed to.
    Accepted(T),
    /// Declined explicitly.
    Declined,
    /// Dismissed without a choice.
    Cancelled,
}

impl<T> Elicited<T> {
    /// The submitted value, if the user accepted.
    #[must_use]
    pub fn accepted(self) -> Option<T> {
        match self {
            Self::Accepted(value) => Some(value),
            Self::Declined | Self::Cancelled => None,
        }
    }

    /// The value of `action` in the protocol.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accept",
            Self::Declined => "decline",
            Self::Cancelled => "cancel",
        }
    }
}

/// A form for the user: a flat object of strings, numbers, booleans and enums. Must not ask for secrets
/// (<https://modelcontextprotocol.io/specification/2026-07-28/client/elicitation>).
///
/// ```
/// use corelane::Form;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Name {
///     name: String,
/// }
///
/// let form = Form::<Name>::new("What is your name?").key("user_name");
/// ```
#[derive(Clone, Debug)]
pub struct Form<T> {
    key: Option<String>,
    message: String,
    schema: Value,
    answer: PhantomData<fn() -> T>,
}

impl<T: JsonSchema> Form<T> {
    /// Creates a form with the fields of `T`.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut schema = listable(settings.into_generator().into_root_schema_for::<T>().to_value());
        if let Value::Object(members) = &mut schema {
            // The protocol allows no other members.
            members.retain(|key, _| matches!(key.as_str(), "type" | "properties" | "required"));
        }
        Self { key: None, message: message.into(), schema, answer: PhantomData }
    }
}

impl<T> Form<T> {
    /// Creates a form with a hand-written schema: an object whose properties are primitive.
    #[must_use]
    pub fn with_schema(message: impl Into<String>, schema: Value) -> Self {
        Self { key: None, message: message.into(), schema, answer: PhantomData }
    }

    /// Sets the key of the question, unique within the call.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Validates content. A schema that is invalid, exceeds the limits, or has a backtracking pattern where the operator does not
    /// allow it, accepts nothing.
    fn validate(&self, content: &Value, limits: &SchemaLimits) -> Validation {
        match Validator::with_formats(&self.schema, limits) {
            Ok(validator) => validator.validate_value(content),
            Err(_) => Validation::Invalid,
        }
    }
}

impl<T: DeserializeOwned> Question for Form<T> {
    type Answer = Elicited<T>;

    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn needs(&self) -> Option<Capability> {
        Some(Capability::ElicitationForm)
    }

    fn request(&self, revision: Revision, _id: &str) -> InputRequest {
        let mut params = json!({"message": self.message, "requestedSchema": self.schema});
        // Revisions before 2025-11-25 have no `mode`.
        if revision >= Revision::V2025_11_25
            && let Value::Object(members) = &mut params
        {
            members.insert("mode".into(), "form".into());
        }
        InputRequest { method: "elicitation/create", params }
    }

    fn read(&self, answer: &Value, limits: &SchemaLimits) -> Option<Elicited<T>> {
        Some(match answer.get("action")?.as_str()? {
            "accept" => {
                let content = answer.get("content").filter(|content| !content.is_null());
                let content = content.cloned().unwrap_or_else(|| Value::Object(Map::new()));
                // Clients should validate the content, but need not.
                (self.validate(&content, limits) == Validation::Valid).then_some(())?;
                Elicited::Accepted(T::deserialize(content).ok()?)
            }
            "decline" => Elicited::Declined,
            "cancel" => Elicited::Cancelled,
            _ => return None,
        })
    }

    fn exceeds_limits(&self, answer: &Value, limits: &SchemaLimits) -> bool {
        let content = answer.get("content").filter(|_| answer.get("action").is_some_and(|it| it == "accept"));
        content.is_some_and(|content| self.validate(content, limits) == Validation::BudgetExceeded)
    }
}

/// A web page for the user to open, for data that the model and the client must not see.
#[derive(Clone, Debug)]
pub struct Page {
    key: Option<String>,
    message: String,
    url: String,
}

impl Page {
    /// Asks the user to open `url`.
    #[must_use]
    pub fn new(message: impl Into<String>, url: impl Into<String>) -> Self {
        Self { key: None, message: message.into(), url: url.into() }
    }

    /// Sets the key of the question, unique within the call.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl Question for Page {
    /// Accepted: the user agreed to open the page. The protocol does not report what happens there.
    type Answer = Elicited<()>;

    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn needs(&self) -> Option<Capability> {
        Some(Capability::ElicitationUrl)
    }

    fn request(&self, revision: Revision, id: &str) -> InputRequest {
        let mut params = json!({"mode": "url", "message": self.message, "url": self.url});
        // Only revision 2025-11-25 has `elicitationId`
        // (<https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation#url-mode-elicitation-requests>).
        if revision == Revision::V2025_11_25
            && let Value::Object(members) = &mut params
        {
            members.insert("elicitationId".into(), id.into());
        }
        InputRequest { method: "elicitation/create", params }
    }

    fn read(&self, answer: &Value, _limits: &SchemaLimits) -> Option<Elicited<()>> {
        Some(match answer.get("action")?.as_str()? {
            "accept" => Elicited::Accepted(()),
            "decline" => Elicited::Declined,
            "cancel" => Elicited::Cancelled,
            _ => return None,
        })
    }
}

/// A request to the client's model. The client chooses the members that are left out.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sampling {
    #[serde(skip)]
    key: Option<String>,
    messages: Vec<Value>,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_preferences: Option<Value>,
}

impl Sampling {
    /// Creates a request for at most `max_tokens` tokens.
    #[must_use]
    pub fn new(max_tokens: u32) -> Self {
        Self { max_tokens, ..Self::default() }
    }

    /// Creates a request with one user message.
    #[must_use]
    pub fn question(text: impl Into<String>, max_tokens: u32) -> Self {
        Self::new(max_tokens).message(Role::User, Content::text(text))
    }

    /// Sets the key of the question, unique within the call.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a message behind the others: text, image or audio.
    #[must_use]
    pub fn message(mut self, role: Role, content: Content) -> Self {
        self.messages.push(json!({"role": role, "content": content.block}));
        self
    }

    /// Sets the system prompt.
    #[must_use]
    pub fn system_prompt(mut self, text: impl Into<String>) -> Self {
        self.system_prompt = Some(text.into());
        self
    }

    /// Sets the sampling temperature.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Adds a stop sequence.
    #[must_use]
    pub fn stop_sequence(mut self, text: impl Into<String>) -> Self {
        self.stop_sequences.push(text.into());
        self
    }

    /// Sets `modelPreferences`, in the form of the specification's schema.
    #[must_use]
    pub fn model_preferences(mut self, preferences: Value) -> Self {
        self.model_preferences = Some(preferences);
        self
    }
}

/// The response of the client's model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sampled {
    /// A content block, or a list of them.
    pub content: Value,
    /// Name of the model.
    #[serde(default)]
    pub model: String,
    /// Why it stopped: `endTurn`, `stopSequence`, `maxTokens`, or a value of the client's own.
    #[serde(default)]
    pub stop_reason: Option<String>,
}

impl Sampled {
    /// The text of its first text block; empty if there is none.
    #[must_use]
    pub fn text(&self) -> &str {
        let blocks = self.content.as_array().map_or(std::slice::from_ref(&self.content), Vec::as_slice);
        blocks.iter().find_map(|block| block.get("text")?.as_str()).unwrap_or_default()
    }
}

impl Question for Sampling {
    type Answer = Sampled;

    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn needs(&self) -> Option<Capability> {
        Some(Capability::Sampling)
    }

    fn request(&self, _revision: Revision, _id: &str) -> InputRequest {
        // Serializing a struct of plain members does not fail.
        InputRequest {
            method: "sampling/createMessage",
            params: serde_json::to_value(self).unwrap_or_default(),
        }
    }

    fn read(&self, answer: &Value, _limits: &SchemaLimits) -> Option<Sampled> {
        answer.get("content").filter(|content| content.is_object() || content.is_array())?;
        Sampled::deserialize(answer).ok()
    }
}

/// Requests the client's roots.
#[derive(Clone, Debug, Default)]
pub struct ListRoots {
    key: Option<String>,
}

impl ListRoots {
    /// Sets the key of the question, unique within the call.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// A root: a directory or file that the server may work with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Root {
    /// A `file:` URI.
    pub uri: String,
    /// The display name.
    #[serde(default)]
    pub name: Option<String>,
}

impl Question for ListRoots {
    type Answer = Vec<Root>;

    fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn needs(&self) -> Option<Capability> {
        Some(Capability::Roots)
    }

    fn request(&self, _revision: Revision, _id: &str) -> InputRequest {
        InputRequest { method: "roots/list", params: json!({}) }
    }

    fn read(&self, answer: &Value, _limits: &SchemaLimits) -> Option<Vec<Root>> {
        Deserialize::deserialize(answer.get("roots")?).ok()
    }
}

/// A liveness check of the client. Revision 2026-07-28 has no ping.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ping;

impl Question for Ping {
    type Answer = ();

    fn needs(&self) -> Option<Capability> {
        None
    }

    fn request(&self, _revision: Revision, _id: &str) -> InputRequest {
        InputRequest { method: "ping", params: json!({}) }
    }

    fn read(&self, answer: &Value, _limits: &SchemaLimits) -> Option<()> {
        answer.is_object().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn accepted_content_is_validated_against_the_form_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "age": {"type": "integer", "minimum": 18, "maximum": 120},
                "mail": {"type": "string", "format": "email"},
                "colour": {"type": "string", "enum": ["red", "green"]},
            },
            "required": ["age"],
        });
        let form = Form::<Value>::with_schema("Who are you?", schema);
        let limits = Limits::default().schema();
        let accepted =
            |content: Value| form.read(&json!({"action": "accept", "content": content}), &limits).is_some();
        assert!(accepted(json!({"age": 18, "mail": "a@example.com", "colour": "red"})));
        for content in [
            json!({}),
            json!({"age": 17}),
            json!({"age": "18"}),
            json!({"age": 18, "mail": "nobody"}),
            json!({"age": 18, "colour": "blue"}),
            json!([18]),
        ] {
            assert!(!accepted(content.clone()), "{content}");
        }
        // Content is not validated where the form was declined.
        assert_eq!(
            form.read(&json!({"action": "decline", "content": {"age": 1}}), &limits),
            Some(Elicited::Declined)
        );
    }

    #[test]
    fn form_schema_is_compiled_within_the_limits() {
        let default = Limits::default().schema();
        let backtracking = SchemaLimits { backtracking: true, ..default };
        let few_bytes = SchemaLimits { pattern_bytes_max: 1024, ..default };
        let few_steps = SchemaLimits { backtrack_steps_max: 100, ..backtracking };
        let little_work = SchemaLimits { work_max: 1, ..default };
        let shallow = SchemaLimits { depth_max: 2, ..default };
        let read = |pattern: &str, text: &str, limits: &SchemaLimits| {
            let form = Form::<Value>::with_schema("?", json!({"properties": {"a": {"pattern": pattern}}}));
            form.read(&json!({"action": "accept", "content": {"a": text}}), limits).is_some()
        };
        let long = "a".repeat(200);
        // The automaton of the pattern cannot be made deterministic, so that each byte may visit each of its states.
        let (of_form, costly, text) =
            (Limits::default().form_schema(), "^[ab]*a[ab]{501}[^ab]", format!("{}!", "ab".repeat(3200)));
        for (pattern, text, limits, is_allowed) in [
            ("^a+b?$", "aa", &default, true),
            ("^(a)\\1$", "aa", &default, false),
            ("^(a)\\1$", "aa", &backtracking, true),
            ("^(a)\\1$", "ab", &backtracking, false),
            ("^(?:(?=a)a+)+b$", &long, &backtracking, false),
            ("^(?=a)[ab]+c?$", "ab", &few_steps, true),
            ("^(a|b){500}$", "aa", &few_bytes, false),
            ("^a+b?$", "aa", &little_work, false),
            ("^a+b?$", "aa", &shallow, false),
            (costly, &text, &default, true),
            (costly, &text, &of_form, false),
            ("^a+b?$", "aa", &of_form, true),
        ] {
            assert_eq!(read(pattern, text, limits), is_allowed, "{pattern} {limits:?}");
        }
    }
}
