//! A cursor over the tape.

use simd_json::{StaticNode, tape};

/// One JSON value on a tape. Copying it is free.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// This value first, then the values it contains. Never empty.
    nodes: &'a [tape::Node<'a>],
}

/// A JSON number as the parser read it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A negative integer, or any that fits.
    Signed(i64),
    /// A non-negative integer.
    Unsigned(u64),
    /// Written with a fraction or an exponent, or too large for 64 bits.
    Float(f64),
}

impl Number {
    /// The nearest double.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Signed(value) => value as f64,
            Self::Unsigned(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

const EMPTY_OBJECT: &[tape::Node<'static>] = &[tape::Node::Object { len: 0, count: 0 }];
const NULL: &[tape::Node<'static>] = &[tape::Node::Static(StaticNode::Null)];

impl<'a> Node<'a> {
    pub(super) fn root(nodes: &'a [tape::Node<'a>]) -> Self {
        Self { nodes: if nodes.is_empty() { NULL } else { nodes } }
    }

    /// Calls `f` with a node of one string that is not on a tape.
    pub fn with_string<T>(text: &str, f: impl FnOnce(Node<'_>) -> T) -> T {
        f(Node { nodes: &[tape::Node::String(text)] })
    }

    /// `{}`, where nothing was sent.
    #[must_use]
    pub fn empty_object() -> Self {
        Self { nodes: EMPTY_OBJECT }
    }

    fn first(self) -> tape::Node<'a> {
        self.nodes.first().copied().unwrap_or(tape::Node::Static(StaticNode::Null))
    }

    /// How many tape nodes this value takes, itself included.
    fn span(self) -> usize {
        match self.first() {
            tape::Node::Object { count, .. } | tape::Node::Array { count, .. } => count + 1,
            tape::Node::String(_) | tape::Node::Static(_) => 1,
        }
    }

    /// The tape nodes of this value: itself and what it contains.
    pub(super) fn tape(self) -> &'a [tape::Node<'a>] {
        self.nodes.get(..self.span()).unwrap_or_default()
    }

    fn children(self) -> &'a [tape::Node<'a>] {
        self.nodes.get(1..self.span()).unwrap_or_default()
    }

    /// The value's position on the tape: distinct for distinct values, stable for one.
    #[must_use]
    pub fn address(self) -> usize {
        self.nodes.as_ptr().addr()
    }

    /// How many values this one consists of, keys and itself included.
    #[must_use]
    pub fn node_count(self) -> usize {
        self.span()
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self.first(), tape::Node::Static(StaticNode::Null))
    }

    /// The boolean, if this is one.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.first() {
            tape::Node::Static(StaticNode::Bool(value)) => Some(value),
            _ => None,
        }
    }

    /// The number, if this is one.
    #[must_use]
    pub fn as_number(self) -> Option<Number> {
        match self.first() {
            tape::Node::Static(StaticNode::I64(value)) => Some(Number::Signed(value)),
            tape::Node::Static(StaticNode::U64(value)) => Some(Number::Unsigned(value)),
            tape::Node::Static(StaticNode::F64(value)) => Some(Number::Float(value)),
            _ => None,
        }
    }

    /// The string, if this is one: unescaped, in the buffer it was received in.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        match self.first() {
            tape::Node::String(value) => Some(value),
            _ => None,
        }
    }

    /// Whether this is an object.
    #[must_use]
    pub fn is_object(self) -> bool {
        matches!(self.first(), tape::Node::Object { .. })
    }

    /// Whether this is an array.
    #[must_use]
    pub fn is_array(self) -> bool {
        matches!(self.first(), tape::Node::Array { .. })
    }

    /// The members in the order they were written; `None` if this is not an object.
    #[must_use]
    pub fn members(self) -> Option<Members<'a>> {
        match self.first() {
            tape::Node::Object { len, .. } => Some(Members { rest: self.children(), left: len }),
            _ => None,
        }
    }

    /// The elements; `None` if this is not an array.
    #[must_use]
    pub fn elements(self) -> Option<Elements<'a>> {
        match self.first() {
            tape::Node::Array { len, .. } => Some(Elements { rest: self.children(), left: len }),
            _ => None,
        }
    }

    /// The member called `key`; there is one at most.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        self.members()?.find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// Iterates over an object's members.
#[derive(Clone, Debug, Default)]
pub struct Members<'a> {
    rest: &'a [tape::Node<'a>],
    left: usize,
}

/// Iterates over an array's elements.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [tape::Node<'a>],
    left: usize,
}

/// Cuts the value that starts `rest` off it.
#[inline]
fn take_value<'a>(rest: &mut &'a [tape::Node<'a>]) -> Option<Node<'a>> {
    let span = Node { nodes: rest }.span();
    let (value, behind) = rest.split_at_checked(span)?;
    *rest = behind;
    Some(Node { nodes: value })
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (tape::Node::String(key), behind) = self.rest.split_first()? else {
            return None;
        };
        self.rest = behind;
        self.left = self.left.saturating_sub(1);
        Some((key, take_value(&mut self.rest)?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Members<'_> {}

impl<'a> Iterator for Elements<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.left = self.left.saturating_sub(1);
        take_value(&mut self.rest)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Elements<'_> {}

#[cfg(test)]
mod tests {
    use super::super::decode::tests::with_node;
    use super::*;

    #[test]
    fn a_cursor_walks_what_was_written() {
        with_node(r#"{"a":[1,-2,{"b":1.5}],"c":"h\u00e9","d":null,"f":true}"#, |root| {
            let members: Vec<_> = root.members().unwrap().map(|(key, _)| key).collect();
            assert_eq!(members, ["a", "c", "d", "f"]);
            assert_eq!(root.members().unwrap().len(), 4);
            let array = root.get("a").unwrap();
            let numbers: Vec<_> = array.elements().unwrap().map(Node::as_number).collect();
            assert_eq!(numbers, [Some(Number::Unsigned(1)), Some(Number::Signed(-2)), None]);
            let inner = array.elements().unwrap().nth(2).unwrap();
            assert_eq!(inner.get("b").unwrap().as_number(), Some(Number::Float(1.5)));
            assert_eq!(root.members().unwrap().nth(1).unwrap().1.as_str(), Some("hé"));
            assert!(root.get("d").unwrap().is_null());
            assert_eq!(root.get("f").unwrap().as_bool(), Some(true));
            assert!(root.get("e").is_none());
        });
    }
}
