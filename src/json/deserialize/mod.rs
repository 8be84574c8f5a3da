//! serde deserializer over the tape: typed arguments without a second tree; `&str` fields borrow from the receive buffer.
//!
//! Accepts the same values as `serde_json`, and in addition reads a number with a fraction or an exponent as the integer it
//! equals: `5.0` is an integer in JSON Schema, and many clients write all numbers that way.

use std::any::TypeId;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
        Visitor,
        value::{BorrowedStrDeserializer, MapDeserializer},
    },
    forward_to_deserialize_any,
};

use crate::json::{
    digits::{may_be_wide, with_digits},
    node::{Elements, Members, Node, Number},
};

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

/// Name of the newtype struct that `serde_json::value::RawValue` deserializes, and key of its text.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Visits a number as it was parsed.
fn visit_number<'de, V: Visitor<'de>>(number: Number, visitor: V) -> Result<V::Value, DeserializeError> {
    match number {
        Number::Signed(value) => visitor.visit_i64(value),
        Number::Unsigned(value) => visitor.visit_u64(value),
        Number::Float(value) => visitor.visit_f64(value),
    }
}

/// Visits a number as an integer if it equals one of 64 bits. A larger integer was rounded when it was parsed, so it is visited as a
/// double. So is the double `i64::MIN`, which may be a rounded one.
fn visit_integral<'de, V: Visitor<'de>>(number: Number, visitor: V) -> Result<V::Value, DeserializeError> {
    const SIGNED_BELOW: f64 = -9_223_372_036_854_775_808.0;
    const UNSIGNED_END: f64 = 18_446_744_073_709_551_616.0;
    match number {
        Number::Float(value) if value.fract() == 0.0 && value > SIGNED_BELOW && value < UNSIGNED_END =>
        {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
            if value < 0.0 {
                visitor.visit_i64(value as i64)
            } else {
                visitor.visit_u64(value as u64)
            }
        }
        _ => visit_number(number, visitor),
    }
}

/// Whether a type distinguishes `5.0` from `5`. All others receive the integer, because values that serde buffers for `flatten`,
/// `untagged` and internally tagged types would otherwise not fit an integer field; a float field accepts both.
fn keeps_fractions<T: ?Sized>() -> bool {
    let id = typeid::of::<T>();
    id == TypeId::of::<serde_json::Value>() || id == TypeId::of::<serde_json::Number>()
}

macro_rules! numbers {
    ($visit:ident: $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.as_number() {
                Some(number) => $visit(number, visitor),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

/// Integers of 128 bits. The tape does not have the digits of those beyond 64 bits.
macro_rules! wide_numbers {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.as_number() {
                Some(Number::Float(value)) if may_be_wide(value) => {
                    match with_digits(self, str::parse) {
                        Some(Ok(value)) => visitor.$visit(value),
                        _ => visitor.visit_f64(value),
                    }
                }
                Some(number) => visit_integral(number, visitor),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if let Some(text) = self.as_str() {
            return visitor.visit_borrowed_str(text);
        }
        match self.as_number() {
            Some(number @ Number::Float(_)) if keeps_fractions::<V::Value>() => {
                return visit_number(number, visitor);
            }
            Some(number) => return visit_integral(number, visitor),
            None => {}
        }
        if let Some(value) = self.as_bool() {
            visitor.visit_bool(value)
        } else if let Some(members) = self.members() {
            let mut entries = Entries { members, value: None };
            let value = visitor.visit_map(&mut entries)?;
            check_all_read(entries.members.len(), value)
        } else if let Some(elements) = self.elements() {
            let mut elements = Sequence(elements);
            let value = visitor.visit_seq(&mut elements)?;
            check_all_read(elements.0.len(), value)
        } else {
            visitor.visit_unit()
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if name == RAW_VALUE {
            let text = serde_json::Value::deserialize(self)?.to_string();
            return visitor.visit_map(MapDeserializer::new(std::iter::once((RAW_VALUE, text))));
        }
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

    numbers! {
        visit_integral:
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    wide_numbers! {
        deserialize_i128 visit_i128 deserialize_u128 visit_u128
    }

    numbers! { visit_number: deserialize_f64 }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        // The conversion to `f32` would yield infinity.
        if self.as_number().is_some_and(|number| number.to_f64().abs() > f64::from(f32::MAX)) {
            return Err(de::Error::custom("number out of range"));
        }
        self.deserialize_f64(visitor)
    }

    forward_to_deserialize_any! {
        bool char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Rejects a value with more elements than its type, such as an array of three for a pair.
fn check_all_read<T>(left: usize, value: T) -> Result<T, DeserializeError> {
    if left == 0 { Ok(value) } else { Err(DeserializeError(format!("{left} more values than expected"))) }
}

/// An array's elements.
struct Sequence<'de>(Elements<'de>);

impl<'de> SeqAccess<'de> for &mut Sequence<'de> {
    type Error = DeserializeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        self.0.next().map(|element| seed.deserialize(element)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// An object's members.
struct Entries<'de> {
    members: Members<'de>,
    /// The value of the last key.
    value: Option<Node<'de>>,
}

impl<'de> MapAccess<'de> for &mut Entries<'de> {
    type Error = DeserializeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let Some((key, value)) = self.members.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Self::Error> {
        let value = self.value.take().ok_or_else(|| de::Error::custom("a value was read before its key"))?;
        seed.deserialize(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len())
    }
}

/// A member's key: deserializes as a string, or as the number or boolean that it spells, as in `serde_json`.
struct Key<'de>(&'de str);

/// Reads a key as a number if it is a JSON number.
macro_rules! number_keys {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match serde_json::from_str(self.0) {
                Ok(number) if !self.0.contains(char::is_whitespace) => visitor.$visit(number),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => self.deserialize_any(visitor),
        }
    }

    number_keys! {
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_i128 visit_i128 deserialize_u128 visit_u128 deserialize_f32 visit_f32 deserialize_f64 visit_f64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
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
        visitor.visit_enum(Variant { name: self.0, content: None })
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// An externally tagged enum: `"name"` or `{"name": content}`.
struct Variant<'de> {
    name: &'de str,
    content: Option<Node<'de>>,
}

impl<'de> Variant<'de> {
    fn content(self, expected: &'static str) -> Result<Node<'de>, DeserializeError> {
        self.content.ok_or_else(|| de::Error::invalid_type(Unexpected::UnitVariant, &expected))
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = DeserializeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Self::Error> {
        Ok((seed.deserialize(BorrowedStrDeserializer::<DeserializeError>::new(self.name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = DeserializeError;

    fn unit_variant(self) -> Result<(), Self::Error> {
        self.content.map_or(Ok(()), <()>::deserialize)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        seed.deserialize(self.content("newtype variant")?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.content("tuple variant")?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.content("struct variant")?.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests;
