//! serde over the tape: typed arguments without a second tree; `&str` fields borrow from the receive buffer.
//!
//! Deserializes what `serde_json` does, and also reads a number written with a fraction or an exponent as the integer it
//! equals: JSON Schema counts `5.0` among the integers, and many clients write every number that way.

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

use super::{
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

/// The name `serde_json::value::RawValue` deserializes under, and the key its text stands behind.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Passes a number on as it was parsed.
fn visit_number<'de, V: Visitor<'de>>(number: Number, visitor: V) -> Result<V::Value, DeserializeError> {
    match number {
        Number::Signed(value) => visitor.visit_i64(value),
        Number::Unsigned(value) => visitor.visit_u64(value),
        Number::Float(value) => visitor.visit_f64(value),
    }
}

/// Passes a number on as an integer where it equals one of 64 bits. An integer with more digits was rounded when it was parsed,
/// so it stays a double; `i64::MIN` as a double may be one of those.
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

/// Whether a type keeps `5.0` apart from `5`. All others get the integer: what serde buffers for `flatten`, `untagged` and
/// internally tagged types would not fit an integer field otherwise, and a float field takes both.
fn keeps_fractions<T: ?Sized>() -> bool {
    let wanted = typeid::of::<T>();
    wanted == TypeId::of::<serde_json::Value>() || wanted == TypeId::of::<serde_json::Number>()
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

/// Integers of 128 bits: of those that have more than 64 the tape has no digits.
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
            all_read(entries.members.len(), value)
        } else if let Some(elements) = self.elements() {
            let mut elements = Sequence(elements);
            let value = visitor.visit_seq(&mut elements)?;
            all_read(elements.0.len(), value)
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
        // The conversion would make it infinite.
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

/// Refuses a value that is longer than its type, such as an array of three for a pair.
fn all_read<T>(left: usize, value: T) -> Result<T, DeserializeError> {
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
    /// Of the key that was read last.
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

/// A member's name: a text, or the number or boolean it spells, as `serde_json` reads keys.
struct Key<'de>(&'de str);

/// Reads a key as a number, where it is spelled as JSON spells one.
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

    mod as_serde_json {
        use std::{borrow::Cow, cell::RefCell, collections::BTreeMap, fmt::Debug};

        use serde::de::DeserializeOwned;
        use serde_json::value::RawValue;

        use super::{super::super::digits::tests::digits, *};

        /// Checks that a type reads `text` from the tape as `serde_json` reads it, or that both refuse it. The digits of numbers are
        /// at hand.
        fn same<T: DeserializeOwned + Debug>(text: &str) {
            let digits = digits(text);
            let tape = with_node(text, |node| {
                let _at_hand = digits.install(node);
                T::deserialize(node)
            });
            let wanted = serde_json::from_str::<T>(text);
            let is_same = match (&tape, &wanted) {
                (Ok(tape), Ok(wanted)) => format!("{tape:?}") == format!("{wanted:?}"),
                (Err(_), Err(_)) => true,
                _ => false,
            };
            assert!(is_same, "{} from {text}: {tape:?}, not {wanted:?}", std::any::type_name::<T>());
        }

        /// Checks that a type reads `text`, which `serde_json` refuses for its fractions, as `plain` without them.
        fn integral<T: DeserializeOwned + Debug>(text: &str, plain: &str) {
            let tape = with_node(text, |node| T::deserialize(node).unwrap());
            assert_eq!(
                format!("{tape:?}"),
                format!("{:?}", serde_json::from_str::<T>(plain).unwrap()),
                "{text}"
            );
        }

        macro_rules! same {
            ($($type:ty),* => $($text:expr),* $(,)?) => {
                for text in [$($text),*] { $(same::<$type>(text);)* }
            };
        }

        #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
        struct Id(u64);

        #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
        #[serde(transparent)]
        struct Name {
            text: String,
        }

        #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
        #[serde(rename_all = "kebab-case")]
        enum Color {
            DarkRed,
            #[serde(alias = "grey")]
            Gray,
        }

        #[derive(Debug, Deserialize)]
        struct Unit;

        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "compared by their debug output")]
        struct Pair(i32, Option<String>);

        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "compared by their debug output")]
        enum External {
            Unit,
            New(u8),
            Optional(Option<u8>),
            Tuple(u8, String),
            Struct { a: u8 },
        }

        #[derive(Debug, Deserialize)]
        #[serde(tag = "kind")]
        #[allow(dead_code, reason = "compared by their debug output")]
        enum Internal {
            Unit,
            Struct { a: u8, b: Option<i64> },
            New(Inner),
        }

        #[derive(Debug, Deserialize)]
        #[serde(tag = "kind", content = "value")]
        #[allow(dead_code, reason = "compared by their debug output")]
        enum Adjacent {
            Unit,
            New(u8),
            Tuple(u8, u8),
            Struct { a: u8 },
        }

        #[derive(Debug, Deserialize)]
        #[serde(untagged)]
        #[allow(dead_code, reason = "compared by their debug output")]
        enum Untagged {
            Flag(bool),
            Small(u8),
            Large(i64),
            Text(String),
            List(Vec<u16>),
            Inner(Inner),
            Null(()),
        }

        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "compared by their debug output")]
        struct Inner {
            count: u32,
            ratio: f32,
        }

        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "compared by their debug output")]
        struct Flat {
            id: u64,
            #[serde(flatten)]
            inner: Inner,
            #[serde(flatten)]
            rest: BTreeMap<String, i64>,
        }

        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "compared by their debug output")]
        struct Strict {
            #[serde(alias = "amount", rename = "number")]
            a: u8,
            #[serde(default)]
            b: Vec<char>,
            #[serde(skip)]
            c: u8,
            d: Option<Option<bool>>,
        }

        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "compared by their debug output")]
        struct Bytes(std::ffi::CString);

        #[test]
        fn every_type_reads_from_the_tape_what_it_reads_from_text() {
            same!(bool, char, String, (), Unit, Cow<'static, str>, Box<str>, std::path::PathBuf, Bytes,
                Option<bool>, Option<Option<u8>>, Option<()>, serde_json::Value, Color, External, Untagged,
                std::net::IpAddr, RefCell<String>, Box<[u8]>
                => "true", "null", "\"\"", "\"x\"", "\"xy\"", "\"\\u00e9\"", "\"dark-red\"", "\"grey\"", "\"Unit\"",
                "\"New\"", "[]", "[1,2]", "[1,256]", "{}", "7", "300", "\"::1\"", "{\"Unit\":null}", "{\"Unit\":1}",
                "{\"New\":7}", "{\"New\":null}", "{\"Optional\":null}", "{\"Optional\":1}", "{\"Tuple\":[1,\"a\"]}",
                "{\"Tuple\":[1]}", "{\"Tuple\":[1,\"a\",2]}", "{\"Tuple\":{}}", "{\"Struct\":{\"a\":1}}",
                "{\"Struct\":[1]}", "{\"Struct\":[1,2]}", "{\"New\":1,\"Unit\":null}", "{\"dark-red\":null}",
                "{\"count\":1,\"ratio\":0.5}");
            same!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, f32, f64, Option<u64>, Id,
                serde_json::Number, serde_json::Value, std::num::NonZeroU8, Untagged
                => "0", "1", "-1", "127", "128", "255", "-128", "65535", "4294967296", "9223372036854775807",
                "-9223372036854775808", "18446744073709551615", "1.5", "-2.25", "1e-3", "true", "\"1\"", "null");
            same!(f64, f32, serde_json::Value, serde_json::Number => "5.0", "1e3", "100000000000000000000", "1e300");
            same!(i64, u64 => "-9223372036854775809", "18446744073709551616", "1e300", "100000000000000000000");
            same!(u128, i128, u64, i64, f64, Option<u128>, Vec<u128>, Vec<Option<i128>>, BTreeMap<String, i128>,
                std::num::NonZeroU128, Untagged, serde_json::Value
                => "340282366920938463463374607431768211455", "340282366920938463463374607431768211456",
                "18446744073709551616", "-9223372036854775809", "-170141183460469231731687303715884105728",
                "-170141183460469231731687303715884105729", "1e30", "[18446744073709551616,1,-9223372036854775809]",
                "[18446744073709551616,1,18446744073709551617]", "{\"a\":-9223372036854775809,\"b\":5}");
            same!(Pair, (u8, u8), [u8; 2], Vec<u8>, std::collections::BTreeSet<u8>, (u8,), (u8, Option<u8>),
                Option<(u8, u8)>, std::time::Duration, Vec<Option<Vec<u8>>>
                => "[]", "[1]", "[1,2]", "[1,null]", "[1,2,3]", "[1,\"a\"]", "null", "{}", "[[1],null]");
            same!(Strict => "{\"number\":1}", "{\"amount\":1,\"b\":[\"a\"],\"d\":null}", "{\"number\":1,\"c\":1}",
                "{\"number\":1,\"d\":true}", "{}", "[1,[],true]", "[1,[],true,4]", "{\"number\":1,\"x\":1}");
            same!(Flat => "{\"id\":1,\"count\":2,\"ratio\":1,\"x\":3}", "{\"id\":1,\"count\":2}",
                "{\"id\":1,\"count\":2,\"ratio\":1.5,\"x\":\"y\"}");
            same!(Internal => "{\"kind\":\"Unit\"}", "{\"kind\":\"Struct\",\"a\":1}", "{\"a\":1,\"b\":-1,\"kind\":\"Struct\"}",
                "{\"kind\":\"New\",\"count\":1,\"ratio\":2.5}", "{\"kind\":\"Other\"}", "{}", "[\"Unit\"]");
            same!(Adjacent => "{\"kind\":\"Unit\"}", "{\"value\":7,\"kind\":\"New\"}", "{\"kind\":\"Tuple\",\"value\":[1,2]}",
                "{\"kind\":\"Tuple\",\"value\":[1,2,3]}", "{\"kind\":\"Struct\",\"value\":{\"a\":1}}", "{\"kind\":\"New\"}",
                "[\"New\",7]");
        }

        #[test]
        fn map_keys_are_read_as_the_type_they_spell() {
            same!(BTreeMap<i8, u8>, BTreeMap<i64, u8>, BTreeMap<u8, u8>, BTreeMap<u64, u8>, BTreeMap<i128, u8>,
                BTreeMap<u128, u8>, BTreeMap<bool, u8>, BTreeMap<char, u8>, BTreeMap<String, u8>, BTreeMap<Id, u8>,
                BTreeMap<Name, u8>, BTreeMap<Color, u8>, BTreeMap<Option<u8>, u8>, BTreeMap<Option<Id>, u8>,
                BTreeMap<(), u8>, std::collections::HashMap<Id, u8>, Vec<BTreeMap<Id, BTreeMap<bool, u8>>>
                => "{}", "{\"1\":1}", "{\"-1\":1,\"2\":2}", "{\"300\":1}", "{\"true\":1,\"false\":2}", "{\"True\":1}",
                "{\"x\":1}", "{\"dark-red\":1,\"grey\":2}", "{\"\":1}", "{\" 1\":1}", "{\"1 \":1}", "{\"01\":1}", "{\"+1\":1}", "{\"null\":1}",
                "{\"1.0\":1}", "{\"340282366920938463463374607431768211455\":1}", "{\"1\":\"x\"}",
                "[{\"1\":{\"true\":1}}]");
        }

        #[test]
        fn integral_floats_are_integers_at_every_place() {
            integral::<u128>("5.0", "5");
            integral::<i128>("-5e0", "-5");
            integral::<u64>("1e18", "1000000000000000000");
            integral::<BTreeMap<Id, Id>>("{\"1\":2.0}", "{\"1\":2}");
            integral::<Flat>(
                "{\"id\":1.0,\"count\":2e0,\"ratio\":1.0,\"x\":3.0}",
                "{\"id\":1,\"count\":2,\"ratio\":1,\"x\":3}",
            );
            integral::<Internal>(
                "{\"kind\":\"Struct\",\"a\":1.0,\"b\":-2.0}",
                "{\"kind\":\"Struct\",\"a\":1,\"b\":-2}",
            );
            integral::<Internal>(
                "{\"kind\":\"New\",\"count\":1.0,\"ratio\":2}",
                "{\"kind\":\"New\",\"count\":1,\"ratio\":2}",
            );
            integral::<Adjacent>(
                "{\"value\":[1.0,2.0],\"kind\":\"Tuple\"}",
                "{\"value\":[1,2],\"kind\":\"Tuple\"}",
            );
            integral::<External>("{\"New\":7.0}", "{\"New\":7}");
            for (text, plain) in [("5.0", "5"), ("300.0", "300"), ("[1.0,2e0]", "[1,2]"), ("-0.0", "0")] {
                integral::<Untagged>(text, plain);
            }
            integral::<Untagged>("{\"count\":1.0,\"ratio\":2.0}", "{\"count\":1,\"ratio\":2}");
        }

        #[test]
        fn raw_values_are_written_again() {
            let text = r#"{ "a": [1, 2.0, null], "b": "\u00e9" }"#;
            let raw = with_node(text, |node| Box::<RawValue>::deserialize(node).unwrap());
            assert_eq!(raw.get(), r#"{"a":[1,2.0,null],"b":"é"}"#);
        }

        #[test]
        fn strings_and_bytes_are_borrowed_from_the_tape() {
            #[derive(Deserialize)]
            struct Borrowed<'a> {
                text: &'a str,
                bytes: &'a [u8],
                #[serde(borrow)]
                cow: Cow<'a, str>,
                #[serde(borrow)]
                keys: BTreeMap<&'a str, &'a str>,
            }
            let text = r#"{"text":"t","bytes":"b","cow":"c","keys":{"k":"v"}}"#;
            with_node(text, |node| {
                let read = Borrowed::deserialize(node).unwrap();
                assert_eq!((read.text, read.bytes, read.keys.get("k")), ("t", &b"b"[..], Some(&"v")));
                assert!(matches!(read.cow, Cow::Borrowed("c")));
            });
        }
    }
}
