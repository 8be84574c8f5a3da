//! Deserializes a type from named strings: the arguments of a prompt or the variables of a template. Parses numbers,
//! booleans, enums and lists. Types that cannot be parsed from strings (nested structs, maps) are found when the type is
//! registered.

use std::borrow::Cow;

use serde::{
    de::{
        self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
        VariantAccess, Visitor,
        value::{BorrowedStrDeserializer, Error, SeqDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use super::mismatch::mismatch;

/// A string, and its form as a list.
pub(super) struct Text<'de> {
    pub(super) text: Cow<'de, str>,
    /// The items, where the string may be parsed as a list.
    pub(super) list: Option<Vec<String>>,
}

impl<'de> IntoDeserializer<'de, Error> for Text<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The value of a whole number that is written with a fraction or an exponent.
fn integral(text: &str) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let value = text.parse::<f64>().ok()?;
    #[allow(clippy::cast_possible_truncation, reason = "whole and at most 2^53")]
    (value.fract() == 0.0 && value.abs() <= EXACT_MAX).then_some(value as i64)
}

macro_rules! integers {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.text.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => match integral(&self.text) {
                    Some(value) => visitor.visit_i64(value),
                    None => self.deserialize_any(visitor),
                },
            }
        }
    )*};
}

macro_rules! lists {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Error> {
            match self.list {
                Some(list) => {
                    let list = list.into_iter().map(|text| Text { text: Cow::Owned(text), list: None });
                    let mut list = SeqDeserializer::new(list);
                    let value = visitor.visit_seq(&mut list)?;
                    list.end()?;
                    Ok(value)
                }
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text.parse() {
            Ok(value) => visitor.visit_bool(value),
            Err(_) => self.deserialize_any(visitor),
        }
    }

    integers! {
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
        deserialize_i128 visit_i128 deserialize_u128 visit_u128
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text.parse::<f32>() {
            Ok(value) if value.is_finite() => visitor.visit_f32(value),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text.parse::<f64>() {
            Ok(value) if value.is_finite() => visitor.visit_f64(value),
            _ => self.deserialize_any(visitor),
        }
    }

    lists! {
        deserialize_seq() deserialize_tuple(_length: usize)
        deserialize_tuple_struct(_name: &'static str, _length: usize)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text: StrDeserializer<'_, Error> = self.text.as_ref().into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct map struct identifier ignored_any
    }
}

/// Map access over named strings.
struct Texts<'de, I> {
    texts: I,
    next: Option<(&'de str, Text<'de>)>,
}

/// Deserializes a type from named strings. Calls `texts` a second time after a failure, to find its position.
///
/// # Errors
/// The JSON pointer of the value that does not deserialize, and the reason.
pub(super) fn read<'de, T, I>(texts: impl Fn() -> I) -> Result<T, String>
where
    T: de::Deserialize<'de>,
    I: Iterator<Item = (&'de str, Text<'de>)>,
{
    let named = || Named(Texts { texts: texts(), next: None });
    T::deserialize(named()).map_err(|_| mismatch::<T>(named()))
}

impl<'de, I: Iterator<Item = (&'de str, Text<'de>)>> MapAccess<'de> for Texts<'de, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.next = self.texts.next();
        let name = self.next.as_ref().map(|(name, _)| *name);
        name.map(|name| seed.deserialize(BorrowedStrDeserializer::new(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (_, text) =
            self.next.take().ok_or_else(|| de::Error::custom("a value was read before its name"))?;
        seed.deserialize(text)
    }
}

/// Deserializer of a map, for types of every kind.
struct Named<M>(M);

impl<'de, M: MapAccess<'de>> Deserializer<'de> for Named<M> {
    type Error = M::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, M::Error> {
        visitor.visit_map(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, M::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, M::Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

/// Why a type cannot be deserialized from strings of these names: a field that is not parsed from a string, a required name
/// that is missing, a name that the type rejects. Found by deserializing sample values, so other causes may go unnoticed.
/// `takes_lists`: strings may be parsed as lists.
pub(super) fn unreadable<T: DeserializeOwned>(names: &[&str], takes_lists: bool) -> Option<String> {
    let mut reason = None;
    for variant in 0..VARIANTS_TRIED {
        let sample = Sample { names, next: 0, text: SampleText { takes_lists, variant } };
        match T::deserialize(Named(sample)) {
            Ok(_) | Err(Unreadable::Value) => return None,
            Err(Unreadable::Type(text)) => return Some(text),
            // Another variant may be a unit variant.
            Err(Unreadable::Enum(text)) => reason = Some(text),
        }
    }
    reason
}

/// Maximum variants of an enum that are tried.
const VARIANTS_TRIED: usize = 32;

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    /// The variant that was tried has fields.
    #[error("{0}")]
    Enum(String),
    /// The sample value was rejected; another may be accepted.
    #[error("a sample value did not fit")]
    Value,
    /// The type accepts no string.
    #[error("{0}")]
    Type(String),
}

impl de::Error for Unreadable {
    fn custom<T: std::fmt::Display>(_message: T) -> Self {
        Self::Value
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Type(format!("the field `{field}` is required, and there is nothing of that name"))
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Self::Type(format!("the type refuses `{field}`"))
    }
}

/// Map access over sample values.
struct Sample<'n> {
    names: &'n [&'n str],
    next: usize,
    text: SampleText,
}

impl<'de> MapAccess<'de> for Sample<'_> {
    type Error = Unreadable;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unreadable> {
        let Some(name) = self.names.get(self.next) else { return Ok(None) };
        self.next += 1;
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unreadable> {
        let name = self.names.get(self.next.saturating_sub(1)).copied().unwrap_or_default();
        seed.deserialize(self.text).map_err(|error| match error {
            Unreadable::Type(reason) => Unreadable::Type(format!("`{name}` {reason}")),
            Unreadable::Enum(reason) => Unreadable::Enum(format!("`{name}` {reason}")),
            Unreadable::Value => Unreadable::Value,
        })
    }
}

/// Deserializer of a sample value of the requested type; fails where the type is not parsed from a string.
#[derive(Clone, Copy)]
struct SampleText {
    takes_lists: bool,
    /// Index of the enum variant that is tried.
    variant: usize,
}

impl<'de> IntoDeserializer<'de, Unreadable> for SampleText {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn no_text<T>(what: &str) -> Result<T, Unreadable> {
    Err(Unreadable::Type(format!("is {what}, which no text can become")))
}

fn holds_values() -> Unreadable {
    Unreadable::Enum("is an enum whose variants hold values, which no text can become".to_owned())
}

macro_rules! samples {
    ($($method:ident $visit:ident($value:expr))*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
            visitor.$visit($value)
        }
    )*};
}

impl SampleText {
    fn list<'de, V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Unreadable> {
        if self.takes_lists {
            let members = std::iter::repeat_with(|| Self { takes_lists: false, ..self }).take(length);
            visitor.visit_seq(SeqDeserializer::new(members))
        } else {
            no_text("a list")
        }
    }
}

impl<'de> Deserializer<'de> for SampleText {
    type Error = Unreadable;

    samples! {
        deserialize_any visit_str("1") deserialize_char visit_char('1') deserialize_str visit_str("1")
        deserialize_string visit_str("1") deserialize_bytes visit_bytes(b"1") deserialize_byte_buf visit_bytes(b"1")
        deserialize_identifier visit_str("1") deserialize_ignored_any visit_str("1") deserialize_bool visit_bool(true)
        deserialize_i8 visit_i8(1) deserialize_i16 visit_i16(1) deserialize_i32 visit_i32(1) deserialize_i64 visit_i64(1)
        deserialize_u8 visit_u8(1) deserialize_u16 visit_u16(1) deserialize_u32 visit_u32(1) deserialize_u64 visit_u64(1)
        deserialize_i128 visit_i128(1) deserialize_u128 visit_u128(1) deserialize_f32 visit_f32(1.0)
        deserialize_f64 visit_f64(1.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Unreadable> {
        no_text("nothing")
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _visitor: V,
    ) -> Result<V::Value, Unreadable> {
        no_text("nothing")
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unreadable> {
        self.list(1, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Unreadable> {
        self.list(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        self.list(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Unreadable> {
        no_text("a map")
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Unreadable> {
        no_text("a struct")
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unreadable> {
        let name = variants.get(self.variant).or(variants.last());
        visitor.visit_enum(SampleVariant(name.copied().unwrap_or_default()))
    }
}

struct SampleVariant(&'static str);

impl<'de> EnumAccess<'de> for SampleVariant {
    type Error = Unreadable;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Unreadable> {
        Ok((seed.deserialize(StrDeserializer::new(self.0))?, self))
    }
}

impl<'de> VariantAccess<'de> for SampleVariant {
    type Error = Unreadable;

    fn unit_variant(self) -> Result<(), Unreadable> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Unreadable> {
        Err(holds_values())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, _visitor: V) -> Result<V::Value, Unreadable> {
        Err(holds_values())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Unreadable> {
        Err(holds_values())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Sort {
        Up,
        Down,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Number(u128);

    #[derive(Debug, Deserialize, PartialEq)]
    struct All {
        text: String,
        small: Option<i8>,
        ratio: f64,
        flag: bool,
        letter: char,
        sort: Sort,
        number: Option<Number>,
        list: Vec<u16>,
        pair: (u8, Sort),
    }

    fn text(text: &str) -> Text<'_> {
        let list = text.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
        Text { text: text.into(), list: Some(list) }
    }

    #[test]
    fn strings_are_parsed_to_the_types_of_fields() {
        let texts = [
            ("text", "5"),
            ("small", "-5.0"),
            ("ratio", "1e-1"),
            ("flag", "true"),
            ("letter", "é"),
            ("sort", "down"),
            ("number", "340282366920938463463374607431768211455"),
            ("list", "1,2"),
            ("pair", "1,up"),
        ];
        let all: All = read(|| texts.into_iter().map(|(name, value)| (name, text(value)))).unwrap();
        let (letter, number) = ('é', Some(Number(u128::MAX)));
        let wanted = All {
            text: "5".into(),
            small: Some(-5),
            ratio: 0.1,
            flag: true,
            letter,
            sort: Sort::Down,
            number,
            list: vec![1, 2],
            pair: (1, Sort::Up),
        };
        assert_eq!(all, wanted);
    }

    #[test]
    fn error_names_the_string_that_does_not_parse() {
        fn reason<T: DeserializeOwned + std::fmt::Debug>(value: &'static str) -> String {
            read::<BTreeMap<String, T>, _>(|| [("n", text(value))].into_iter()).unwrap_err()
        }
        for (value, message) in
            [("300", "/n: "), ("x", "/n: invalid type: string \"x\", expected u8"), ("", "/n: ")]
        {
            assert!(reason::<u8>(value).starts_with(message), "{}", reason::<u8>(value));
        }
        assert!(reason::<Vec<u8>>("1,2,x").starts_with("/n/2: invalid type: string \"x\""));
        assert!(reason::<(u8, u8)>("1,2,3").starts_with("/n: "));
        assert!(reason::<f32>("inf").starts_with("/n: "));
    }

    #[test]
    fn types_that_cannot_be_parsed_are_found() {
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "never read")]
        struct Nested {
            n: BTreeMap<String, String>,
        }
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "never read")]
        struct Holds {
            n: Option<Held>,
        }
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "never read")]
        enum Held {
            A(u8),
        }
        let names = ["n"];
        for (reason, wanted) in [
            (unreadable::<Nested>(&names, true), "`n` is a map, which no text can become"),
            (
                unreadable::<BTreeMap<String, Nested>>(&names, true),
                "`n` is a struct, which no text can become",
            ),
            (
                unreadable::<BTreeMap<String, Vec<u8>>>(&names, false),
                "`n` is a list, which no text can become",
            ),
            (
                unreadable::<Holds>(&names, true),
                "`n` is an enum whose variants hold values, which no text can become",
            ),
            (
                unreadable::<Nested>(&["m"], true),
                "the field `n` is required, and there is nothing of that name",
            ),
        ] {
            assert_eq!(reason.as_deref(), Some(wanted));
        }
        assert_eq!(unreadable::<BTreeMap<String, Vec<u8>>>(&names, true), None);
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "never read")]
        enum Mixed {
            Holds(u8),
            Plain,
        }
        assert_eq!(unreadable::<BTreeMap<String, Mixed>>(&names, true), None);
        let all = ["text", "small", "ratio", "flag", "letter", "sort", "number", "list", "pair"];
        assert_eq!(unreadable::<All>(&all, true), None);
    }
}
