//! What a client can do, as it says with every request of the 2026 era (checklist M-10).

use serde_json::{Value, json};

use crate::json::Node;

/// Something a tool may need of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `sampling`: asks its model.
    Sampling,
    /// `sampling.tools`: asks its model, with tools.
    SamplingTools,
    /// `elicitation.form`: asks the person to fill in a form.
    ElicitationForm,
    /// `elicitation.url`: sends the person to a page.
    ElicitationUrl,
    /// `roots`: tells its directories.
    Roots,
    /// `extensions["io.modelcontextprotocol/tasks"]`: comes back for the results of tasks.
    Tasks,
}

/// The tasks extension's id (SEP-2663).
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

    /// The member of `ClientCapabilities` that declares it, and the one inside that.
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
                    // Nothing said inside `elicitation` means forms (checklist M-10).
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

    /// The set with one more.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// As a byte, to be put where a set cannot be.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set that a byte from [`Capabilities::bits`] stands for.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Those of `self` that `other` lacks.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As a `ClientCapabilities` object.
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
    fn m_10_capabilities_are_read_and_an_empty_elicitation_means_forms() {
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
