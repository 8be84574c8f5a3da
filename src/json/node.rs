//! A cursor over the tape.

use simd_json::{StaticNode, tape};

/// One JSON value on a tape. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// The value, followed by the values it contains and by the rest of the tape. Never empty.
    nodes: &'a [tape::Node<'a>],
}

/// A JSON number as the parser read it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer, negative in most cases.
    Signed(i64),
    /// A non-negative integer.
    Unsigned(u64),
    /// A number with a fraction or an exponent, or an integer beyond 64 bits.
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

    /// Calls `f` with the node of a string that is not on a tape.
    pub fn with_string<T>(text: &str, f: impl FnOnce(Node<'_>) -> T) -> T {
        f(Node { nodes: &[tape::Node::String(text)] })
    }

    /// An empty object, for an absent value.
    #[must_use]
    pub fn empty_object() -> Self {
        Self { nodes: EMPTY_OBJECT }
    }

    fn first(self) -> tape::Node<'a> {
        self.nodes.first().copied().unwrap_or(tape::Node::Static(StaticNode::Null))
    }

    /// Number of tape nodes of this value, including itself.
    fn span(self) -> usize {
        match self.first() {
            tape::Node::Object { count, .. } | tape::Node::Array { count, .. } => count + 1,
            tape::Node::String(_) | tape::Node::Static(_) => 1,
        }
    }

    /// Tape nodes of this value and of the values it contains.
    pub(super) fn tape(self) -> &'a [tape::Node<'a>] {
        self.nodes.get(..self.span()).unwrap_or_default()
    }

    fn children(self) -> &'a [tape::Node<'a>] {
        self.nodes.get(1..self.span()).unwrap_or_default()
    }

    /// The value's address on the tape: unique per value, and constant.
    #[must_use]
    pub fn address(self) -> usize {
        self.nodes.as_ptr().addr()
    }

    /// Number of values in this one, including keys and itself.
    #[must_use]
    pub fn node_count(self) -> usize {
        self.span()
    }

    /// Bytes of the strings in this value, including keys. Visits every value in it.
    pub(crate) fn string_bytes(self) -> usize {
        let length = |node: &tape::Node<'_>| if let tape::Node::String(text) = node { text.len() } else { 0 };
        self.tape().iter().map(length).sum()
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

    /// The unescaped string, in the buffer it was received in, if this is one.
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

    /// The members in the document's order; `None` if this is not an object.
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

    /// The value of the member `key`, of which there is at most one.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        self.members()?.find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// Iterator over an object's members.
#[derive(Clone, Debug, Default)]
pub struct Members<'a> {
    /// The remaining keys and values; empty if and only if `left` is 0.
    rest: &'a [tape::Node<'a>],
    left: usize,
}

/// Iterator over an array's elements.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    /// The remaining values; empty if and only if `left` is 0.
    rest: &'a [tape::Node<'a>],
    left: usize,
}

/// Splits the first value off `rest`.
#[inline]
fn take_value<'a>(rest: &mut &'a [tape::Node<'a>]) -> Option<Node<'a>> {
    let span = Node { nodes: rest }.span();
    let (value, after) = rest.split_at_checked(span)?;
    *rest = after;
    Some(Node { nodes: value })
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        debug_assert_eq!(self.rest.is_empty(), self.left == 0, "{} members left", self.left);
        let (tape::Node::String(key), after) = self.rest.split_first()? else {
            return None;
        };
        self.rest = after;
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
        debug_assert_eq!(self.rest.is_empty(), self.left == 0, "{} elements left", self.left);
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
    fn cursor_reads_the_written_values() {
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

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "1 members left")]
    fn object_with_fewer_members_than_counted_panics() {
        Members { rest: &[], left: 1 }.next();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "0 elements left")]
    fn array_with_more_elements_than_counted_panics() {
        Elements { rest: NULL, left: 0 }.next();
    }
}
