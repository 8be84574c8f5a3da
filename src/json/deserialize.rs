//! serde over the tape: typed arguments without a second tree; `&str` fields borrow from the receive buffer.

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::node::{Node, Number};

/// Why a value does not fit a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeserializeError(String);

impl de::Error for DeserializeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'de> IntoDeserializer<'de, DeserializeError> for Node<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// JSON Schema counts `1.0` among the integers, and many clients write every number that way.
macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.as_number().and_then(whole) {
                Some(value) => visitor.visit_i64(value),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

/// The integer a number written with a fraction or an exponent stands for, where it is one that a double holds exactly.
fn whole(number: Number) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match number {
        #[allow(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
        Number::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT_MAX => Some(value as i64),
        _ => None,
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if let Some(text) = self.as_str() {
            return visitor.visit_borrowed_str(text);
        }
        match self.as_number() {
            Some(Number::Signed(value)) => return visitor.visit_i64(value),
            Some(Number::Unsigned(value)) => return visitor.visit_u64(value),
            Some(Number::Float(value)) => return visitor.visit_f64(value),
            None => {}
        }
        if let Some(value) = self.as_bool() {
            visitor.visit_bool(value)
        } else if let Some(members) = self.members() {
            visitor.visit_map(MapDeserializer::new(members.map(|(key, value)| (Key(key), value))))
        } else if let Some(elements) = self.elements() {
            visitor.visit_seq(SeqDeserializer::new(elements))
        } else {
            visitor.visit_unit()
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if let Some(name) = self.as_str() {
            return visitor.visit_enum(Variant { name, content: None });
        }
        let mut members =
            self.members().ok_or_else(|| de::Error::custom("expected a string or an object"))?;
        match (members.next(), members.next()) {
            (Some((name, content)), None) => visitor.visit_enum(Variant { name, content: Some(content) }),
            _ => Err(de::Error::custom("expected an object with one member")),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A member's name: borrowed, as serde's own string deserializers are not.
struct Key<'de>(&'de str);

impl<'de> IntoDeserializer<'de, DeserializeError> for Key<'de> {
    type Deserializer = de::value::BorrowedStrDeserializer<'de, DeserializeError>;

    fn into_deserializer(self) -> Self::Deserializer {
        de::value::BorrowedStrDeserializer::new(self.0)
    }
}

/// An externally tagged enum: `"name"` or `{"name": content}`.
struct Variant<'de> {
    name: &'de str,
    content: Option<Node<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = DeserializeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Self::Error> {
        Ok((seed.deserialize(Key(self.name).into_deserializer())?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = DeserializeError;

    fn unit_variant(self) -> Result<(), Self::Error> {
        match self.content {
            None => Ok(()),
            Some(content) if content.is_null() => Ok(()),
            Some(_) => Err(de::Error::custom("expected no content")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        seed.deserialize(self.content.ok_or_else(|| de::Error::custom("expected content"))?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.content.ok_or_else(|| de::Error::custom("expected content"))?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.content.ok_or_else(|| de::Error::custom("expected content"))?.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::decode::tests::with_node;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Shape {
        Point,
        Circle { radius: f64 },
        Pair(i8, i8),
        Named(String),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Arguments<'a> {
        name: &'a str,
        count: u8,
        ratio: f64,
        tags: Vec<String>,
        note: Option<String>,
        #[serde(default)]
        shape: Option<Shape>,
    }

    #[test]
    fn typed_values_come_off_the_tape() {
        let text = r#"{"name":"a\nb","count":7,"ratio":3,"tags":["x","y"],"note":null,"shape":{"circle":{"radius":2}}}"#;
        with_node(text, |node| {
            let read = Arguments::deserialize(node).unwrap();
            assert_eq!((read.name, read.count, read.ratio), ("a\nb", 7, 3.0));
            assert_eq!(read.tags, ["x", "y"]);
            assert_eq!((read.note, read.shape), (None, Some(Shape::Circle { radius: 2.0 })));
        });
        for (text, shape) in [
            (r#""point""#, Shape::Point),
            (r#"{"pair":[1,-2]}"#, Shape::Pair(1, -2)),
            (r#"{"named":"n"}"#, Shape::Named("n".to_owned())),
        ] {
            assert_eq!(with_node(text, |node| Shape::deserialize(node).unwrap()), shape);
        }
    }

    #[test]
    fn a_whole_number_is_an_integer_however_it_is_written() {
        for text in ["7", "7.0", "0.7e1"] {
            assert_eq!(with_node(text, |node| u8::deserialize(node).unwrap()), 7, "{text}");
            assert_eq!(with_node(text, |node| Option::<i64>::deserialize(node).unwrap()), Some(7), "{text}");
        }
        assert!(with_node("7.5", |node| u8::deserialize(node)).is_err());
        assert!(with_node("300.0", |node| u8::deserialize(node)).is_err());
        let large = with_node("100000000000000000000", |node| f64::deserialize(node).unwrap());
        assert!((large - 1e20).abs() < 1.0);
    }

    #[test]
    fn a_value_that_does_not_fit_says_why() {
        let told = with_node(r#"{"name":1}"#, |node| Arguments::deserialize(node).unwrap_err().to_string());
        assert!(told.contains("invalid type: integer `1`"), "{told}");
        let told =
            with_node(r#"{"circle":{},"point":1}"#, |node| Shape::deserialize(node).unwrap_err().to_string());
        assert!(told.contains("one member"), "{told}");
    }
}
