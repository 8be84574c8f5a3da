//! The result of a handler, encoded while the handler writes it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    content::{Content, ResourceLink, Role},
    error::{CallError, HandlerError, ProtocolError},
    revision::Revision,
};
use crate::json::{write_string, write_unsigned};

/// `_meta` key of results that carries the server's name and version.
pub(crate) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// The result of a handler: content blocks, structured content and `isError` of a tool, messages of a prompt, or contents of a
/// resource. Reused between calls, so that a warm call allocates nothing.
#[derive(Debug, Default)]
pub struct Reply {
    /// Content blocks as JSON, each followed by its fallback for older revisions, if it has one.
    content: Vec<u8>,
    blocks: Vec<Block>,
    /// Structured content as JSON, or the members of a completion; empty if there is none.
    structured: Vec<u8>,
    structured_is_object: bool,
    /// Description of a prompt.
    description: Option<String>,
    meta: Map<String, Value>,
    is_error: bool,
    failure: Option<ProtocolError>,
    /// Whether the structured content matches the output schema; `None` if it was not validated.
    output: Option<OutputValidation>,
    /// Whether that took a validator compiled before.
    is_output_cached: bool,
}

/// The result of validating the structured content of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputValidation {
    /// It matches the schema.
    Valid,
    /// It does not match, for this reason.
    Invalid(String),
    /// Its validation takes more work than `validation_work_max`.
    BudgetExceeded,
}

/// The method that a reply belongs to; decides the shape of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `tools/call`
    Tool,
    /// `prompts/get`
    Prompt,
    /// `resources/read`
    Resource,
    /// `completion/complete`
    Completion,
}

/// End of a block in `content`.
#[derive(Clone, Copy, Debug)]
struct Block {
    since: Revision,
    end: usize,
    /// End of its fallback for revisions before `since`; equal to `end` if it has none.
    instead_end: usize,
}

/// Maximum values of one completion (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/completion>).
pub const COMPLETIONS_MAX: usize = 100;

/// Maximum memory of each buffer kept between calls, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

impl Reply {
    /// Adds a text block.
    pub fn text(&mut self, text: &str) {
        self.content.extend_from_slice(b"{\"type\":\"text\",\"text\":");
        write_string(&mut self.content, text);
        self.content.push(b'}');
        self.end_block();
    }

    /// Adds a content block.
    pub fn push(&mut self, content: Content) {
        self.push_within(b"", &content, b"");
    }

    /// Adds a content block between two texts, and its fallback between the same.
    fn push_within(&mut self, before: &[u8], content: &Content, after: &[u8]) {
        let mut write = |block: &Map<String, Value>| {
            self.content.extend_from_slice(before);
            // Serializing a map of values to a vector does not fail.
            let _ = serde_json::to_writer(&mut self.content, block);
            self.content.extend_from_slice(after);
            self.content.len()
        };
        let end = write(&content.block);
        let instead_end = content.instead.as_ref().map_or(end, write);
        self.blocks.push(Block { since: content.since, end, instead_end });
    }

    /// Sets the structured content, and adds a text block with the same JSON for clients without structured content
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#structured-content>). A value that does not serialize makes the
    /// reply an error; a number that is not finite becomes null.
    pub fn structured<T: Serialize + ?Sized>(&mut self, value: &T) {
        if self.structured_only(value) {
            let text = String::from_utf8(std::mem::take(&mut self.structured)).unwrap_or_default();
            self.text(&text);
            self.structured = text.into_bytes();
        }
    }

    /// [`structured`](Self::structured) without the text block. Returns whether the value could be serialized.
    fn structured_only<T: Serialize + ?Sized>(&mut self, value: &T) -> bool {
        self.structured.clear();
        match serde_json::to_writer(&mut self.structured, value) {
            Ok(()) => {
                // `RawValue` may contain them between tokens; they would end a line of newline-delimited JSON.
                let is_line_end = |byte: &&mut u8| matches!(byte, b'\n' | b'\r');
                self.structured.iter_mut().filter(is_line_end).for_each(|byte| *byte = b' ');
                self.structured_is_object = self.structured.first() == Some(&b'{');
                true
            }
            Err(error) => {
                self.error(&format!("The result cannot be encoded: {error}"));
                false
            }
        }
    }

    /// Adds a message of a prompt.
    pub fn message(&mut self, role: Role, content: &Content) {
        let before: &[u8] = match role {
            Role::User => b"{\"role\":\"user\",\"content\":",
            Role::Assistant => b"{\"role\":\"assistant\",\"content\":",
        };
        self.push_within(before, content, b"}");
    }

    /// Sets the description of a prompt's messages.
    pub fn describe(&mut self, text: impl Into<String>) {
        self.description = Some(text.into());
    }

    /// Adds an item of `contents`: a `ResourceContents` object.
    pub(crate) fn contents(&mut self, contents: &Map<String, Value>) {
        let _ = serde_json::to_writer(&mut self.content, contents);
        self.end_block();
    }

    /// Sets the values of a completion, of which the first [`COMPLETIONS_MAX`] are sent. `total`: the number of all values,
    /// where `values` does not have all.
    pub(crate) fn completion<'a>(
        &mut self,
        values: impl ExactSizeIterator<Item = &'a str>,
        total: Option<usize>,
    ) {
        let count = values.len();
        self.structured.clear();
        self.structured.extend_from_slice(b"\"values\":[");
        for (number, value) in values.take(COMPLETIONS_MAX).enumerate() {
            if number > 0 {
                self.structured.push(b',');
            }
            write_string(&mut self.structured, value);
        }
        let total = total.unwrap_or(count).max(count);
        self.structured.extend_from_slice(b"],\"total\":");
        write_unsigned(&mut self.structured, total as u64);
        let more: &[u8] =
            if total > count.min(COMPLETIONS_MAX) { b",\"hasMore\":true" } else { b",\"hasMore\":false" };
        self.structured.extend_from_slice(more);
    }

    /// Replaces the reply by an error for the model.
    pub fn error(&mut self, text: &str) {
        self.clear();
        self.is_error = true;
        self.text(text);
    }

    /// Replaces the reply by a JSON-RPC error.
    pub fn fail(&mut self, error: ProtocolError) {
        self.clear();
        self.failure = Some(error);
    }

    /// Adds or replaces a member of the result's `_meta`. The key of the server's info is ignored: the server sets it.
    pub fn meta(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        if key != SERVER_INFO {
            self.meta.insert(key, value.into());
        }
    }

    /// Whether the result has `isError`.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }

    /// The JSON-RPC error, if the call failed with one.
    #[must_use]
    pub fn failure(&self) -> Option<&ProtocolError> {
        self.failure.as_ref()
    }

    /// Whether the reply is an error: for the model, or of JSON-RPC.
    #[must_use]
    pub(crate) fn is_failed(&self) -> bool {
        self.is_error || self.failure.is_some()
    }

    /// Bytes of the content.
    #[must_use]
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.content.len() + self.structured.len()
    }

    /// The structured content as JSON; empty if there is none.
    #[must_use]
    pub fn structured_json(&self) -> &[u8] {
        &self.structured
    }

    /// Stores the result of validating the structured content.
    pub(super) fn set_output(&mut self, validation: Option<OutputValidation>, is_cached: bool) {
        (self.output, self.is_output_cached) = (validation, is_cached);
    }

    /// Whether the structured content matches the output schema; `None` if it was not validated.
    #[must_use]
    pub(crate) fn output(&self) -> Option<&OutputValidation> {
        self.output.as_ref()
    }

    /// Whether the structured content was validated with a validator compiled before; `None` if it was not validated.
    #[must_use]
    pub(crate) fn is_output_cached(&self) -> Option<bool> {
        self.output.as_ref().map(|_| self.is_output_cached)
    }

    /// Members that the handler added to the result's `_meta`.
    #[must_use]
    pub fn meta_members(&self) -> &Map<String, Value> {
        &self.meta
    }

    /// Clears the reply and keeps its memory, up to 64 KiB per buffer.
    pub fn clear(&mut self) {
        for buffer in [&mut self.content, &mut self.structured] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES_MAX);
        }
        self.blocks.clear();
        // Clearing an empty map costs instructions.
        if !self.meta.is_empty() {
            self.meta.clear();
        }
        self.structured_is_object = false;
        self.description = None;
        self.is_error = false;
        self.failure = None;
        self.output = None;
    }

    /// Whether the reply has no content blocks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Appends the members of the result of `kind` that `revision` has, without braces, `_meta` and caching hints.
    #[doc(hidden)]
    pub fn write(&self, out: &mut Vec<u8>, kind: Kind, revision: Revision) {
        if let (Kind::Prompt, Some(description)) = (kind, &self.description) {
            out.extend_from_slice(b"\"description\":");
            write_string(out, description);
            out.push(b',');
        }
        let blocks: &[u8] = match kind {
            Kind::Tool => b"\"content\":[",
            Kind::Prompt => b"\"messages\":[",
            Kind::Resource => b"\"contents\":[",
            Kind::Completion => {
                out.extend_from_slice(b"\"completion\":{");
                out.extend_from_slice(&self.structured);
                out.push(b'}');
                return;
            }
        };
        out.extend_from_slice(blocks);
        let mut start = 0;
        for (number, block) in self.blocks.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            let range = if block.since <= revision { start..block.end } else { block.end..block.instead_end };
            out.extend_from_slice(self.content.get(range).unwrap_or_default());
            start = block.instead_end;
        }
        out.push(b']');
        if kind != Kind::Tool {
            return;
        }
        let can_carry =
            revision.has_structured_content() && (revision.is_modern() || self.structured_is_object);
        if !self.structured.is_empty() && can_carry {
            out.extend_from_slice(b",\"structuredContent\":");
            out.extend_from_slice(&self.structured);
        }
        if self.is_error {
            out.extend_from_slice(b",\"isError\":true");
        }
    }

    /// Ends a block that every revision has.
    fn end_block(&mut self) {
        let end = self.content.len();
        self.blocks.push(Block { since: Revision::V2024_11_05, end, instead_end: end });
    }
}

/// Types that a tool may return: `()`, a string, a number or a `bool`; [`Content`] or a `Vec` of it; [`Structured`] or a
/// JSON value; a pair of blocks and [`Structured`]; an `Option` or a `Result` of these; a [`Reply`].
///
/// ```
/// use corelane::{NoArguments, Structured, Tool};
///
/// let answer = Tool::new("answer").run(|_: NoArguments, _cx| 42);
/// let both = Tool::new("both").run(|_: NoArguments, _cx| {
///     ("The sum is 3", Structured(serde_json::json!({"sum": 3})))
/// });
/// ```
#[diagnostic::on_unimplemented(
    message = "a tool cannot return `{Self}`",
    label = "cannot be made a reply",
    note = "return a text, a number, `Content`, `Vec<Content>`, `Structured(value)` for a value that serde can write, or a `Result` of \
            these"
)]
pub trait IntoReply {
    /// Writes the value to an empty reply.
    fn into_reply(self, reply: &mut Reply);
}

/// Structured content: any serializable value.
#[derive(Clone, Copy, Debug)]
pub struct Structured<T>(pub T);

impl IntoReply for () {
    fn into_reply(self, _reply: &mut Reply) {}
}

impl IntoReply for &str {
    fn into_reply(self, reply: &mut Reply) {
        reply.text(self);
    }
}

impl IntoReply for String {
    fn into_reply(self, reply: &mut Reply) {
        reply.text(&self);
    }
}

impl IntoReply for ResourceLink {
    fn into_reply(self, reply: &mut Reply) {
        reply.push(self.into());
    }
}

impl IntoReply for Content {
    fn into_reply(self, reply: &mut Reply) {
        reply.push(self);
    }
}

/// One block for each item.
impl<T: Into<Content>> IntoReply for Vec<T> {
    fn into_reply(self, reply: &mut Reply) {
        for content in self {
            reply.push(content.into());
        }
    }
}

impl<T: Serialize> IntoReply for Structured<T> {
    fn into_reply(self, reply: &mut Reply) {
        reply.structured(&self.0);
    }
}

/// A JSON value is structured content.
impl IntoReply for Value {
    fn into_reply(self, reply: &mut Reply) {
        reply.structured(&self);
    }
}

/// An error becomes a result with `isError` and its text; a [`ProtocolError`] becomes a JSON-RPC error.
impl<T: IntoReply, E: HandlerError> IntoReply for Result<T, E> {
    fn into_reply(self, reply: &mut Reply) {
        match self.map_err(HandlerError::into_call_error) {
            Ok(value) => value.into_reply(reply),
            Err(CallError::Told(text)) => reply.error(&text),
            Err(CallError::Protocol(error)) => reply.fail(error),
        }
    }
}

/// `None` is an empty result.
impl<T: IntoReply> IntoReply for Option<T> {
    fn into_reply(self, reply: &mut Reply) {
        if let Some(value) = self {
            value.into_reply(reply);
        }
    }
}

/// The blocks of the first member, and structured content without the text block that [`Structured`] alone adds. Where the
/// first is an error, there is no structured content.
impl<T: IntoReply, S: Serialize> IntoReply for (T, Structured<S>) {
    fn into_reply(self, reply: &mut Reply) {
        self.0.into_reply(reply);
        if !reply.is_error && reply.failure.is_none() {
            reply.structured_only(&self.1.0);
        }
    }
}

impl IntoReply for Cow<'_, str> {
    fn into_reply(self, reply: &mut Reply) {
        reply.text(&self);
    }
}

/// A text block with the `Display` form.
macro_rules! texts {
    ($($type:ty)*) => {$(
        impl IntoReply for $type {
            fn into_reply(self, reply: &mut Reply) {
                reply.text(&self.to_string());
            }
        }
    )*};
}

texts! { bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize f32 f64 }

impl IntoReply for Reply {
    fn into_reply(self, reply: &mut Reply) {
        *reply = self;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: impl IntoReply, revision: Revision) -> String {
        let mut reply = Reply::default();
        value.into_reply(&mut reply);
        let mut out = Vec::new();
        reply.write(&mut out, Kind::Tool, revision);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn structured_content_is_sent_to_revisions_that_have_it() {
        let object = || Structured(serde_json::json!({"sum": 2}));
        let block = r#""content":[{"type":"text","text":"{\"sum\":2}"}]"#;
        assert_eq!(written(object(), Revision::V2025_03_26), block);
        let both = format!(r#"{block},"structuredContent":{{"sum":2}}"#);
        assert_eq!(written(object(), Revision::V2025_11_25), both);
        assert_eq!(
            written(Structured(2), Revision::V2025_11_25),
            r#""content":[{"type":"text","text":"2"}]"#
        );
        let number = r#""content":[{"type":"text","text":"2"}],"structuredContent":2"#;
        assert_eq!(written(Structured(2), Revision::V2026_07_28), number);
    }

    #[test]
    fn raw_structured_content_is_one_line() {
        let raw = serde_json::value::RawValue::from_string("{\r\n\"a\":\n1}".to_owned()).unwrap();
        let both = r#""content":[{"type":"text","text":"{  \"a\": 1}"}],"structuredContent":{  "a": 1}"#;
        assert_eq!(written(Structured(raw), Revision::V2026_07_28), both);
    }

    #[test]
    fn error_replaces_earlier_content() {
        let failed: Result<String, &str> = Err("no \"luck\"");
        let expected = r#""content":[{"type":"text","text":"no \"luck\""}],"isError":true"#;
        assert_eq!(written(failed, Revision::V2026_07_28), expected);
    }

    #[test]
    fn plain_values_become_blocks() {
        let newest = Revision::V2026_07_28;
        let text = |text: &str| format!(r#"{{"type":"text","text":"{text}"}}"#);
        let blocks = |blocks: &[String]| format!(r#""content":[{}]"#, blocks.join(","));
        assert_eq!(written(None::<String>, newest), blocks(&[]));
        assert_eq!(written(Some(7_u8), newest), blocks(&[text("7")]));
        assert_eq!(written(-1.5, newest), blocks(&[text("-1.5")]));
        assert_eq!(written(u128::MAX, newest), blocks(&[text(&u128::MAX.to_string())]));
        assert_eq!(written(true, newest), blocks(&[text("true")]));
        assert_eq!(written(Cow::Borrowed("a"), newest), blocks(&[text("a")]));
        assert_eq!(written(vec!["a", "b"], newest), blocks(&[text("a"), text("b")]));
        let both = ("two", Structured(serde_json::json!({"sum": 2})));
        let structured = format!(r#"{},"structuredContent":{{"sum":2}}"#, blocks(&[text("two")]));
        assert_eq!(written(both, newest), structured);
        let failed = (Err::<String, _>("no"), Structured(2));
        assert_eq!(written(failed, newest), format!(r#"{},"isError":true"#, blocks(&[text("no")])));
    }

    #[test]
    fn resource_link_has_all_members() {
        let icon = crate::call::Icon { src: "data:,".into(), ..Default::default() };
        let annotations = crate::call::Annotations { priority: Some(1.0), ..Default::default() };
        let link = ResourceLink::new("file:///a", "a")
            .title("A")
            .description("first")
            .mime_type("text/plain")
            .size(3)
            .icon(icon)
            .annotations(annotations)
            .meta("k", 1);
        let block = concat!(
            r#"{"type":"resource_link","uri":"file:///a","name":"a","title":"A","description":"first","#,
            r#""mimeType":"text/plain","size":3,"icons":[{"src":"data:,"}],"annotations":{"priority":1.0},"_meta":{"k":1}}"#
        );
        assert_eq!(written(link, Revision::V2026_07_28), format!(r#""content":[{block}]"#));
    }

    #[test]
    fn blocks_unknown_to_a_revision_become_text() {
        let blocks = || {
            vec![
                Content::audio(b"la", "audio/wav"),
                Content::resource_link("file:///a", "a"),
                Content::image(&[1], "image/png").meta("k", 1),
            ]
        };
        let image = r#"{"type":"image","data":"AQ==","mimeType":"image/png","_meta":{"k":1}}"#;
        assert_eq!(
            written(blocks(), Revision::V2024_11_05),
            format!(
                r#""content":[{{"type":"text","text":"[audio, audio/wav]"}},{{"type":"text","text":"a: file:///a"}},{image}]"#
            )
        );
        assert_eq!(
            written(blocks(), Revision::V2026_07_28),
            format!(
                r#""content":[{{"type":"audio","data":"bGE=","mimeType":"audio/wav"}},{{"type":"resource_link","uri":"file:///a","name":"a"}},{image}]"#
            )
        );
    }
}
