//! A copy of a document that outlives the bytes it was decoded from.

use self_cell::self_cell;
use simd_json::tape;

use super::node::Node;

type Nodes<'strings> = Vec<tape::Node<'strings>>;

self_cell! {
    /// A copy of a document: its strings, and a tape over them. Another thread can read it, and nothing is decoded again.
    pub struct OwnedDocument {
        owner: String,
        #[covariant]
        dependent: Nodes,
    }
}

impl OwnedDocument {
    /// Copies a document.
    #[must_use]
    pub fn copy_of(root: Node<'_>) -> Self {
        let texts = root.tape().iter().filter_map(|node| match *node {
            tape::Node::String(text) => Some(text),
            _ => None,
        });
        let mut strings = String::with_capacity(texts.clone().map(str::len).sum());
        strings.extend(texts);
        Self::new(strings, |strings| {
            let mut rest = strings.as_str();
            let copy = |node: &tape::Node<'_>| match *node {
                tape::Node::String(text) => {
                    let (text, after) = rest.split_at_checked(text.len()).unwrap_or_default();
                    rest = after;
                    tape::Node::String(text)
                }
                tape::Node::Object { len, count } => tape::Node::Object { len, count },
                tape::Node::Array { len, count } => tape::Node::Array { len, count },
                tape::Node::Static(value) => tape::Node::Static(value),
            };
            root.tape().iter().map(copy).collect()
        })
    }

    /// The root of the copy.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node::root(self.borrow_dependent())
    }

    /// Size of the tape of a value in a copy, in bytes. Its strings are no longer than its text.
    #[must_use]
    pub fn tape_bytes(value: Node<'_>) -> usize {
        size_of_val(value.tape())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::{super::with_node, *};

    #[test]
    fn copy_equals_the_document_and_outlives_it() {
        let text = r#"{"":[],"a\u00e9\n":["ü",{"b":-1.5e3,"c":[true,null,18446744073709551615,-7]},""],"d":"a longer string"}"#;
        let (copy, expected) = with_node(text, |root| (OwnedDocument::copy_of(root), format!("{root:?}")));
        assert_eq!(format!("{:?}", copy.root()), expected);
        fn assert_shared_by_threads(_: &(impl Send + Sync)) {}
        assert_shared_by_threads(&copy);
        assert_eq!(Value::deserialize(copy.root()).unwrap(), text.parse::<Value>().unwrap());
        assert_eq!(OwnedDocument::tape_bytes(copy.root()), copy.borrow_dependent().len() * 24);
        for text in ["7", "\"\"", "[]", "{}"] {
            let copy = with_node(text, OwnedDocument::copy_of);
            assert_eq!(Value::deserialize(copy.root()).unwrap().to_string(), text);
        }
    }
}
