//! Ids of requests: compared by value, echoed byte for byte.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::as_written::{as_written, integer};
use crate::json::{Node, Number, write_integer, write_string, write_unsigned};

/// A request's id: a string or an integer, never null
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic#requests>). Compared by value, not by notation.
#[derive(Clone, Copy, Debug)]
pub enum Id<'a> {
    /// An integer within `i64`.
    Signed(i64),
    /// An integer within `u64`.
    Unsigned(u64),
    /// A string.
    String(&'a str),
    /// The text of an integer of 64 bits that has a fraction or an exponent, or is `-0`.
    Written(&'a str),
}

/// An id that outlives its request. Compared and hashed by value. Copies share the text.
#[derive(Clone, Debug)]
pub enum OwnedId {
    /// As [`Id::Signed`].
    Signed(i64),
    /// As [`Id::Unsigned`].
    Unsigned(u64),
    /// As [`Id::String`].
    String(Arc<str>),
    /// As [`Id::Written`].
    Written(Arc<str>),
}

/// Value by which ids are compared and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdValue<'a> {
    /// An integer within `i64` or `u64`.
    Integer(i128),
    /// A string.
    String(&'a str),
}

impl<'a> Id<'a> {
    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> OwnedId {
        match self {
            Self::Signed(value) => OwnedId::Signed(value),
            Self::Unsigned(value) => OwnedId::Unsigned(value),
            Self::String(value) => OwnedId::String(value.into()),
            Self::Written(text) => OwnedId::Written(text.into()),
        }
    }

    /// Value by which the id is compared.
    #[must_use]
    pub fn value(self) -> IdValue<'a> {
        match self {
            Self::Signed(value) => IdValue::Integer(value.into()),
            Self::Unsigned(value) => IdValue::Integer(value.into()),
            Self::String(value) => IdValue::String(value),
            // The text was validated when the id was read.
            Self::Written(text) => IdValue::Integer(integer(text).unwrap_or_default()),
        }
    }
}

impl OwnedId {
    /// The id, borrowed.
    #[must_use]
    pub fn as_id(&self) -> Id<'_> {
        match self {
            Self::Signed(value) => Id::Signed(*value),
            Self::Unsigned(value) => Id::Unsigned(*value),
            Self::String(value) => Id::String(value),
            Self::Written(text) => Id::Written(text),
        }
    }

    /// Value by which the id is compared.
    #[must_use]
    pub fn value(&self) -> IdValue<'_> {
        self.as_id().value()
    }
}

/// A string as it is, without quotes; an integer as it was written.
impl fmt::Display for Id<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(value) => value.fmt(formatter),
            Self::Unsigned(value) => value.fmt(formatter),
            Self::String(text) | Self::Written(text) => text.fmt(formatter),
        }
    }
}

impl PartialEq for Id<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for Id<'_> {}

impl PartialEq for OwnedId {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for OwnedId {}

impl Hash for OwnedId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

/// Appends an id with its original type and notation.
pub fn write_id(out: &mut Vec<u8>, id: Id<'_>) {
    match id {
        Id::Signed(value) => write_integer(out, value),
        Id::Unsigned(value) => write_unsigned(out, value),
        Id::String(value) => write_string(out, value),
        Id::Written(text) => out.extend_from_slice(text.as_bytes()),
    }
}

/// Whether an id equals the one that is encoded in `json`.
#[must_use]
pub fn has_value_of(id: Id<'_>, json: &[u8]) -> bool {
    let mut text = Vec::new();
    write_id(&mut text, id);
    let number = std::str::from_utf8(json).ok().and_then(integer).map(IdValue::Integer);
    text == json || number == Some(id.value())
}

/// Why a value is not a valid id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdFault {
    /// Neither a string nor an integer.
    Kind,
    /// A number that is not an integer of 64 bits.
    Range,
    /// Longer than [`Limits::id_bytes_max`](crate::config::Limits::id_bytes_max).
    Long,
}

/// Reads an id whose text follows from its value, as for nearly all ids; [`read_id_member`] reads the others.
#[must_use]
pub fn read_id(node: Node<'_>, id_bytes_max: usize) -> Option<Id<'_>> {
    match node.as_number() {
        Some(Number::Signed(0) | Number::Float(_)) => None,
        Some(Number::Signed(value)) => Some(Id::Signed(value)),
        Some(Number::Unsigned(value)) => Some(Id::Unsigned(value)),
        None => node.as_str().filter(|text| text.len() <= id_bytes_max).map(Id::String),
    }
}

/// Reads the id `object[key]`; `None` if it is absent or null.
///
/// # Errors
/// [`IdFault`]; [`IdFault::Range`] also if the document [`needs_text`](super::needs_text) and has not been rewritten.
pub fn read_id_member<'a>(
    object: Node<'a>,
    key: &str,
    id_bytes_max: usize,
) -> Result<Option<Id<'a>>, IdFault> {
    match object.get(key).filter(|id| !id.is_null()) {
        None => Ok(None),
        Some(id) => match read_id(id, id_bytes_max) {
            Some(id) => Ok(Some(id)),
            None => read_uncommon_id(object, key, id, id_bytes_max).map(Some),
        },
    }
}

/// Reads the ids that [`read_id`] does not.
#[cold]
pub(super) fn read_uncommon_id<'a>(
    object: Node<'a>,
    key: &str,
    node: Node<'a>,
    id_bytes_max: usize,
) -> Result<Id<'a>, IdFault> {
    if node.as_str().is_some() {
        return Err(IdFault::Long);
    }
    match node.as_number() {
        None => return Err(IdFault::Kind),
        Some(Number::Float(value)) if value.fract() != 0.0 => return Err(IdFault::Kind),
        Some(_) => {}
    }
    let text = as_written(object, key).filter(|text| integer(text).is_some()).ok_or(IdFault::Range)?;
    if text.len() <= id_bytes_max { Ok(Id::Written(text)) } else { Err(IdFault::Long) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_equal_and_hashed_by_value() {
        let hash = |id: Id<'_>| {
            let mut hasher = std::hash::DefaultHasher::new();
            id.to_owned().hash(&mut hasher);
            hasher.finish()
        };
        for (one, other) in [
            (Id::Unsigned(1000), Id::Written("1e3")),
            (Id::Written("1000.0"), Id::Written("1E3")),
            (Id::Signed(-5), Id::Written("-5.0")),
            (Id::Unsigned(0), Id::Written("-0")),
            (Id::Unsigned(7), Id::Signed(7)),
        ] {
            assert_eq!(one, other);
            assert_eq!(one.to_owned(), other.to_owned());
            assert_eq!(hash(one), hash(other));
            let mut text = Vec::new();
            write_id(&mut text, other);
            assert!(has_value_of(one, &text));
        }
        for (one, other) in [
            (Id::Unsigned(1000), Id::String("1000")),
            (Id::Unsigned(1000), Id::Unsigned(1001)),
            (Id::String("1e3"), Id::Written("1e3")),
            (Id::Written("9007199254740993.0"), Id::Unsigned(9_007_199_254_740_992)),
        ] {
            assert_ne!(one.to_owned(), other.to_owned());
            let mut text = Vec::new();
            write_id(&mut text, other);
            assert!(!has_value_of(one, &text));
        }
    }
}
