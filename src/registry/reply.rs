//! What a tool says, encoded as it says it.

use serde::Serialize;

use super::revision::Revision;
use crate::json::write_string;

/// A tool's result: content blocks, structured content, and whether it is an error. Reused between calls, so that a
/// warm call allocates nothing.
#[derive(Debug, Default)]
pub struct Reply {
    /// Content blocks, JSON, separated by commas.
    content: Vec<u8>,
    /// JSON; empty if there is none.
    structured: Vec<u8>,
    structured_is_object: bool,
    is_error: bool,
}

/// Memory kept between calls, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

impl Reply {
    /// Adds a text block.
    pub fn text(&mut self, text: &str) {
        self.separate();
        self.content.extend_from_slice(b"{\"type\":\"text\",\"text\":");
        write_string(&mut self.content, text);
        self.content.push(b'}');
    }

    /// Sets the structured content, and adds a text block with the same JSON for clients that know no structure
    /// (checklist T-10). A value serde cannot write makes the reply an error; a number that is not finite becomes null.
    pub fn structured<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.structured.clear();
        match serde_json::to_writer(&mut self.structured, value) {
            Ok(()) => {
                self.structured_is_object = self.structured.first() == Some(&b'{');
                let text = String::from_utf8(std::mem::take(&mut self.structured)).unwrap_or_default();
                self.text(&text);
                self.structured = text.into_bytes();
            }
            Err(error) => self.error(&format!("The result cannot be encoded: {error}")),
        }
    }

    /// Makes the reply an error with this text, whatever it was before.
    pub fn error(&mut self, text: &str) {
        self.clear();
        self.is_error = true;
        self.text(text);
    }

    /// Whether this is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }

    /// Empties the reply and keeps its memory.
    pub fn clear(&mut self) {
        self.content.clear();
        self.structured.clear();
        self.content.shrink_to(KEPT_BYTES_MAX);
        self.structured.shrink_to(KEPT_BYTES_MAX);
        self.structured_is_object = false;
        self.is_error = false;
    }

    /// Appends the members of a `CallToolResult`, without braces, as far as `revision` knows them.
    pub fn write(&self, out: &mut Vec<u8>, revision: Revision) {
        out.extend_from_slice(b"\"content\":[");
        out.extend_from_slice(&self.content);
        out.push(b']');
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

    fn separate(&mut self) {
        if !self.content.is_empty() {
            self.content.push(b',');
        }
    }
}

/// What a tool may return.
pub trait IntoReply {
    /// Puts the value into an empty reply.
    fn into_reply(self, reply: &mut Reply);
}

/// Structured content: any value serde can write.
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

impl<T: Serialize> IntoReply for Structured<T> {
    fn into_reply(self, reply: &mut Reply) {
        reply.structured(&self.0);
    }
}

/// An error becomes a result with `isError`, its text for the model to read.
impl<T: IntoReply, E: std::fmt::Display> IntoReply for Result<T, E> {
    fn into_reply(self, reply: &mut Reply) {
        match self {
            Ok(value) => value.into_reply(reply),
            Err(error) => reply.error(&error.to_string()),
        }
    }
}

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
        reply.write(&mut out, revision);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn structured_content_goes_only_where_it_is_known() {
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
    fn an_error_replaces_what_was_said_before() {
        let failed: Result<String, &str> = Err("no \"luck\"");
        let expected = r#""content":[{"type":"text","text":"no \"luck\""}],"isError":true"#;
        assert_eq!(written(failed, Revision::V2026_07_28), expected);
    }
}
