//! `jsonschema`'s representation traits over a tape cursor.

use std::borrow::Cow;

use jsonschema::{
    JsonType,
    json::{Array, Json, JsonNumber, Node as JsonNode, NodeIdentity, Object},
};
use serde_json::Value;

use crate::json::{Elements, Members, Node, Number};

/// The tape as a representation of JSON.
pub struct TapeJson;

impl Json for TapeJson {
    type Node<'a> = Node<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = ();

    /// A lookup is a scan over the members, so one pass over them is preferred to a few lookups.
    const KEYS_PER_LOOKUP: usize = 8;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(Node<'_>) -> T) -> T {
        Node::with_string(string, f)
    }
}

impl JsonNumber for Number {
    fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => value.try_into().ok(),
            Self::Float(_) => None,
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Signed(value) => Some(value),
            Self::Unsigned(value) => value.try_into().ok(),
            Self::Float(_) => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        self.to_number().as_f64()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_number().to_string())
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        Cow::Owned(match *self {
            Self::Signed(value) => value.into(),
            Self::Unsigned(value) => value.into(),
            // The parser refuses what is not finite.
            Self::Float(value) => serde_json::Number::from_f64(value).unwrap_or_else(|| 0.into()),
        })
    }

    fn is_integer(&self) -> bool {
        match *self {
            Self::Float(value) => value.fract() == 0.0,
            Self::Signed(_) | Self::Unsigned(_) => true,
        }
    }

    fn is_written_as_integer(&self) -> bool {
        !matches!(self, Self::Float(_))
    }
}

impl<'a> JsonNode<'a, TapeJson> for Node<'a> {
    type Object = TapeObject<'a>;
    type Array = TapeArray<'a>;
    type Number = Number;

    fn as_object(&self) -> Option<TapeObject<'a>> {
        self.members().map(TapeObject)
    }

    fn as_array(&self) -> Option<TapeArray<'a>> {
        self.elements().map(TapeArray)
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.as_str().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<Number> {
        (*self).as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.as_bool()
    }

    fn is_null(&self) -> bool {
        (*self).is_null()
    }

    fn json_type(&self) -> JsonType {
        if self.as_str().is_some() {
            JsonType::String
        } else if (*self).as_number().is_some() {
            JsonType::Number
        } else if self.is_object() {
            JsonType::Object
        } else if self.is_array() {
            JsonType::Array
        } else if self.as_bool().is_some() {
            JsonType::Boolean
        } else {
            JsonType::Null
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(if let Some(text) = self.as_str() {
            Value::String(text.to_owned())
        } else if let Some(number) = (*self).as_number() {
            Value::Number(number.to_number().into_owned())
        } else if let Some(members) = self.members() {
            let member = |(key, value): (&str, Node<'_>)| (key.to_owned(), value.to_value().into_owned());
            Value::Object(members.map(member).collect())
        } else if let Some(elements) = self.elements() {
            Value::Array(elements.map(|element| element.to_value().into_owned()).collect())
        } else {
            self.as_bool().map_or(Value::Null, Value::Bool)
        })
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(self.address()))
    }
}

/// An object of the tape.
pub struct TapeObject<'a>(Members<'a>);

/// An array of the tape.
pub struct TapeArray<'a>(Elements<'a>);

impl<'a> Object<'a, TapeJson> for TapeObject<'a> {
    type Node = Node<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &Box<str>) -> Option<Node<'a>> {
        self.0.clone().find(|(name, _)| *name == &**key).map(|(_, value)| value)
    }

    fn members(&self) -> Members<'a> {
        self.0.clone()
    }
}

impl<'a> Array<'a, TapeJson> for TapeArray<'a> {
    type Node = Node<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> Elements<'a> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::json::conformance;

    use super::*;
    use crate::{config::Limits, json::Decoder};

    #[test]
    fn the_adapter_keeps_jsonschemas_own_contract() {
        let mut bytes = serde_json::to_vec(&conformance::document()).unwrap();
        let length = bytes.len();
        bytes.resize(length + 64, 0);
        let mut decoder = Decoder::new(&Limits::default());
        let document = decoder.decode(&mut bytes, length).unwrap();
        conformance::assert_conformance::<TapeJson>(&document.root());
    }
}
