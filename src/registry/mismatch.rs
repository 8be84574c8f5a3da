//! Reports where and why a value does not deserialize to a type, for values that are valid for the schema or have none.

use serde::{Deserialize, Deserializer};
use serde_path_to_error::{Path, Segment};

use crate::schema::Violation;

/// One line with the JSON pointer of the part that does not deserialize, and the reason. Deserializes the value a second
/// time while tracking the path, which allocates: call it only after deserialization has failed.
#[cold]
#[inline(never)]
pub(super) fn mismatch<'de, T: Deserialize<'de>>(value: impl Deserializer<'de>) -> String {
    match serde_path_to_error::deserialize::<_, T>(value) {
        Err(error) => Violation::new(pointer(error.path()), error.into_inner().to_string()).to_string(),
        // The type's `Deserialize` depends on more than the value.
        Ok(_) => "(root): the value was rejected".to_owned(),
    }
}

/// A path as a JSON pointer (RFC 6901). It ends where serde buffers a value: in flattened, untagged and internally tagged
/// types.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        let key = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                key.replace('~', "~0").replace('/', "~1")
            }
            Segment::Unknown => break,
        };
        pointer.push('/');
        pointer.push_str(&key);
    }
    pointer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "deserialized only")]
    struct Order {
        lines: Vec<Line>,
        ship: Option<Ship>,
        #[serde(default)]
        by: BTreeMap<String, u8>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "deserialized only")]
    struct Line {
        count: u8,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[allow(dead_code, reason = "deserialized only")]
    enum Ship {
        Home { street: String },
        Shop,
    }

    #[test]
    fn mismatch_has_the_json_pointer_and_the_reason() {
        let message = |text: &str| {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            mismatch::<Order>(&mut deserializer)
        };
        for (text, beginning) in [
            (r#"{"lines":[{"count":1},{"count":300}]}"#, "/lines/1/count: invalid value: integer `300`"),
            (r#"{"lines":[],"by":{"a/b~c":-1}}"#, "/by/a~1b~0c: invalid value: integer `-1`"),
            (r#"{"lines":[],"ship":{"home":{"street":7}}}"#, "/ship/home/street: invalid type: integer `7`"),
            (r#"{"lines":[],"ship":"moon"}"#, "/ship: unknown variant `moon`"),
            ("{}", "(root): missing field `lines`"),
        ] {
            assert!(message(text).starts_with(beginning), "{text}: {}", message(text));
        }
        let long = message(&format!(r#"{{"lines":[],"ship":"{}"}}"#, "x".repeat(10_000)));
        assert!(long.chars().count() < 400, "{long}");
    }
}
