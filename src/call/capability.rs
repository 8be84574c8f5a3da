//! Capabilities of clients (<https://modelcontextprotocol.io/specification/2026-07-28/schema#clientcapabilities>).

use serde_json::{Value, json};

use crate::json::Node;

/// A client capability that a tool may require.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `sampling`: requests to the client's model.
    Sampling,
    /// `sampling.tools`: requests to the client's model with tools.
    SamplingTools,
    /// `elicitation.form`: forms for the user.
    ElicitationForm,
    /// `elicitation.url`: pages for the user.
    ElicitationUrl,
    /// `roots`: the client's roots.
    Roots,
    /// `extensions["io.modelcontextprotocol/tasks"]`: polls the results of tasks.
    Tasks,
}

/// Id of the tasks extension (SEP-2663).
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u8);

impl Capability {
    const ALL: [Self; 6] = [
        Self::Sampling,
        Self::SamplingTools,
        Self::ElicitationForm,
        Self::ElicitationUrl,
        Self::Roots,
        Self::Tasks,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The member of `ClientCapabilities` that declares it, and the member inside, if any.
    fn members(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Sampling => ("sampling", None),
            Self::SamplingTools => ("sampling", Some("tools")),
            Self::ElicitationForm => ("elicitation", Some("form")),
            Self::ElicitationUrl => ("elicitation", Some("url")),
            Self::Roots => ("roots", None),
            Self::Tasks => ("extensions", Some(TASKS)),
        }
    }
}

impl Capabilities {
    /// Reads a `ClientCapabilities` object.
    #[must_use]
    pub fn read(node: Node<'_>) -> Self {
        let mut read = Self::default();
        for (key, value) in node.members().into_iter().flatten().filter(|(_, value)| value.is_object()) {
            for capability in Capability::ALL.into_iter().filter(|capability| capability.members().0 == key) {
                let has = |inner: &str| value.get(inner).is_some_and(Node::is_object);
                let declared = match capability.members().1 {
                    None => true,
                    // An empty `elicitation` declares forms
                    // (<https://modelcontextprotocol.io/specification/2026-07-28/client/elicitation#capabilities>).
                    Some("form") => has("form") || !has("url"),
                    Some(inner) => has(inner),
                };
                if declared {
                    read = read.with(capability);
                }
            }
        }
        read
    }

    /// The set with one more capability.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    /// Whether the capability is in the set.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// The set as a byte.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set of a byte from [`Capabilities::bits`].
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The capabilities of `self` that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a `ClientCapabilities` object.
    #[must_use]
    pub fn to_json(self) -> Value {
        let mut object = json!({});
        for capability in Capability::ALL.into_iter().filter(|capability| self.has(*capability)) {
            let (outer, inner) = capability.members();
            if let Value::Object(members) = &mut object
                && let Value::Object(members) = members.entry(outer).or_insert_with(|| json!({}))
                && let Some(inner) = inner
            {
                members.insert(inner.into(), json!({}));
            }
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::with_node;

    #[test]
    fn empty_elicitation_capability_declares_forms() {
        for (text, expected) in [
            ("{}", vec![]),
            (
                r#"{"sampling":{},"roots":{"listChanged":true}}"#,
                vec![Capability::Sampling, Capability::Roots],
            ),
            (r#"{"sampling":{"tools":{}}}"#, vec![Capability::Sampling, Capability::SamplingTools]),
            (r#"{"elicitation":{}}"#, vec![Capability::ElicitationForm]),
            (r#"{"elicitation":{"url":{}}}"#, vec![Capability::ElicitationUrl]),
            (r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#, vec![Capability::Tasks]),
            (r#"{"sampling":true,"x":{},"extensions":{"x":{}}}"#, vec![]),
        ] {
            let expected = expected.into_iter().fold(Capabilities::default(), Capabilities::with);
            assert_eq!(with_node(text, Capabilities::read), expected, "{text}");
        }
        let both = Capabilities::default().with(Capability::Roots).with(Capability::ElicitationUrl);
        assert_eq!(both.to_json(), json!({"elicitation": {"url": {}}, "roots": {}}));
    }
}
