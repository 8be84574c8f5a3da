//! Parts of a template, and their expansion (<https://www.rfc-editor.org/rfc/rfc6570#section-3>).

use super::percent::{encode, is_reserved, is_unreserved};

#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Text that is already encoded for a URI.
    Literal(String),
    Expression(Expression),
}

#[derive(Clone, Debug)]
pub(super) struct Expression {
    pub(super) operator: Operator,
    pub(super) variables: Vec<Variable>,
}

#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: Box<str>,
    pub(super) modifier: Modifier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Modifier {
    Whole,
    Prefix(usize),
    Explode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Simple,
    Reserved,
    Fragment,
    Label,
    Path,
    Matrix,
    Query,
    Continuation,
}

impl Operator {
    pub(super) fn parse(character: char) -> Option<Self> {
        match character {
            '+' => Some(Self::Reserved),
            '#' => Some(Self::Fragment),
            '.' => Some(Self::Label),
            '/' => Some(Self::Path),
            ';' => Some(Self::Matrix),
            '?' => Some(Self::Query),
            '&' => Some(Self::Continuation),
            _ => None,
        }
    }

    /// First character of an expansion. An expression without one cannot be absent, only empty.
    pub(super) fn first(self) -> Option<char> {
        match self {
            Self::Simple | Self::Reserved => None,
            Self::Fragment => Some('#'),
            Self::Label => Some('.'),
            Self::Path => Some('/'),
            Self::Matrix => Some(';'),
            Self::Query => Some('?'),
            Self::Continuation => Some('&'),
        }
    }

    pub(super) fn separator(self) -> char {
        match self {
            Self::Simple | Self::Reserved | Self::Fragment => ',',
            Self::Label => '.',
            Self::Path => '/',
            Self::Matrix => ';',
            Self::Query | Self::Continuation => '&',
        }
    }

    /// Whether each value is preceded by its name.
    pub(super) fn is_named(self) -> bool {
        matches!(self, Self::Matrix | Self::Query | Self::Continuation)
    }

    /// Whether reserved characters and percent-encoded triplets are not encoded.
    pub(super) fn keeps_reserved(self) -> bool {
        matches!(self, Self::Reserved | Self::Fragment)
    }

    /// Whether a character of a value is not encoded.
    pub(super) fn keeps(self, modifier: Modifier, character: char) -> bool {
        is_unreserved(character)
            || (self.keeps_reserved() && is_reserved(character))
            || (modifier == Modifier::Explode && character == self.separator())
    }
}

impl Expression {
    pub(super) fn expand<'v>(&self, value_of: impl Fn(&Variable) -> Option<&'v str>, uri: &mut String) {
        let mut before = self.operator.first();
        for variable in &self.variables {
            let Some(value) = value_of(variable) else { continue };
            uri.extend(before);
            before = Some(self.operator.separator());
            if self.operator.is_named() {
                uri.push_str(&variable.name);
                if !value.is_empty() || self.operator != Operator::Matrix {
                    uri.push('=');
                }
            }
            let value = match variable.modifier {
                Modifier::Prefix(length) => value.char_indices().nth(length).map_or(value, |(end, _)| {
                    // `end` is a character boundary.
                    value.get(..end).unwrap_or(value)
                }),
                Modifier::Whole | Modifier::Explode => value,
            };
            let keeps = |character| self.operator.keeps(variable.modifier, character);
            encode(value, keeps, self.operator.keeps_reserved(), uri);
        }
    }
}

pub(super) fn expressions(parts: &[Part]) -> impl Iterator<Item = &Expression> {
    parts.iter().filter_map(|part| match part {
        Part::Expression(expression) => Some(expression),
        Part::Literal(_) => None,
    })
}
