//! Ids of requests: compared by value, echoed byte for byte.

use std::hash::{Hash, Hasher};

use super::as_written::{as_written, integer};
use crate::json::{Node, Number, write_integer, write_string, write_unsigned};

/// A request's id: a string or an integer, never null (checklist B-02). Equal where its value is, however it was written.
#[derive(Clone, Copy, Debug)]
pub enum Id<'a> {
    /// Any integer that fits 64 bits signed.
    Signed(i64),
    /// Any non-negative integer that fits 64 bits.
    Unsigned(u64),
    /// A string.
    String(&'a str),
    /// The text of an integer that fits 64 bits, with a fraction, an exponent or a minus sign that its value lacks.
    Written(&'a str),
}

/// An id that outlives the request it came with. Equal where its value is, and hashed by it.
#[derive(Clone, Debug)]
pub enum OwnedId {
    /// As [`Id::Signed`].
    Signed(i64),
    /// As [`Id::Unsigned`].
    Unsigned(u64),
    /// As [`Id::String`].
    String(Box<str>),
    /// As [`Id::Written`].
    Written(Box<str>),
}

/// What ids are compared and hashed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdValue<'a> {
    /// An integer of 64 bits, signed or not.
    Integer(i128),
    /// A string.
    String(&'a str),
}

impl<'a> Id<'a> {
    /// A copy that borrows nothing.
    #[must_use]
    pub fn to_owned(self) -> OwnedId {
        match self {
            Self::Signed(value) => OwnedId::Signed(value),
            Self::Unsigned(value) => OwnedId::Unsigned(value),
            Self::String(value) => OwnedId::String(value.into()),
            Self::Written(text) => OwnedId::Written(text.into()),
        }
    }

    /// What the id is compared by.
    #[must_use]
    pub fn value(self) -> IdValue<'a> {
        match self {
            Self::Signed(value) => IdValue::Integer(value.into()),
            Self::Unsigned(value) => IdValue::Integer(value.into()),
            Self::String(value) => IdValue::String(value),
            // Checked where it was made.
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

    /// What the id is compared by.
    #[must_use]
    pub fn value(&self) -> IdValue<'_> {
        self.as_id().value()
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

/// Appends an id as it came, with its type.
pub fn write_id(out: &mut Vec<u8>, id: Id<'_>) {
    match id {
        Id::Signed(value) => write_integer(out, value),
        Id::Unsigned(value) => write_unsigned(out, value),
        Id::String(value) => write_string(out, value),
        Id::Written(text) => out.extend_from_slice(text.as_bytes()),
    }
}

/// Whether an id has the value of one that is JSON text.
#[must_use]
pub fn has_value_of(id: Id<'_>, json: &[u8]) -> bool {
    let mut text = Vec::new();
    write_id(&mut text, id);
    let number = std::str::from_utf8(json).ok().and_then(integer).map(IdValue::Integer);
    text == json || number == Some(id.value())
}

/// Why a value is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdFault {
    /// Neither a string nor an integer.
    Kind,
    /// A number that is no integer of 64 bits.
    Range,
    /// Longer than an id may be.
    Long,
}

/// The id a value is, if its text can be derived from its value, as for nearly every id; else see [`read_id_member`].
#[must_use]
pub fn read_id(node: Node<'_>, id_bytes_max: usize) -> Option<Id<'_>> {
    match node.as_number() {
        Some(Number::Signed(0) | Number::Float(_)) => None,
        Some(Number::Signed(value)) => Some(Id::Signed(value)),
        Some(Number::Unsigned(value)) => Some(Id::Unsigned(value)),
        None => node.as_str().filter(|text| text.len() <= id_bytes_max).map(Id::String),
    }
}

/// The id that `object[key]` is; `None` if it is absent or null.
///
/// # Errors
/// What is wrong with it; [`IdFault::Range`] also where [`needs_text`](super::needs_text) was not called before.
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

/// The ids that [`read_id`] does not read.
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
