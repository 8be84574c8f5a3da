//! The regular expression that matches the expansions of a template.

use super::{
    parts::{Expression, Modifier, Operator, Part, Variable, expressions},
    percent::{is_raw_in_path, is_raw_in_query, survives_encode_uri_component},
};

impl Expression {
    /// The expression as a regular expression, with one group per variable, or one group for all named parameters, which
    /// [`super::UriTemplate::matches`] splits. `rest` holds the following parts; `in_query`: the expression is part of the URI's
    /// query or fragment.
    fn pattern(&self, rest: &[Part], in_query: bool) -> String {
        let separator = escape(self.operator.separator());
        let first = self.operator.first().map(escape).unwrap_or_default();
        let all: Vec<String> =
            self.variables.iter().map(|one| self.variable_pattern(one, rest, in_query)).collect();
        // A list matches the separator of variables too, so it must be the last one.
        let is_separable = matches!(self.operator, Operator::Simple | Operator::Path)
            && self.variables.iter().rev().skip(1).all(|variable| variable.modifier != Modifier::Explode);
        match self.operator {
            Operator::Query => format!("((?:{first}{})?)", some_of(&all, &separator)),
            Operator::Matrix | Operator::Continuation => format!("({})", any_of(&all, &separator)),
            Operator::Path if is_separable => any_of(&all, &separator),
            Operator::Simple if is_separable => match all.split_first() {
                Some((head, tail)) => format!("{head}{}", any_of(tail, &separator)),
                None => String::new(),
            },
            Operator::Simple | Operator::Reserved => all.join(&separator),
            Operator::Fragment | Operator::Label | Operator::Path => {
                format!("(?:{first}{})?", all.join(&separator))
            }
        }
    }

    /// Whether a value may contain the raw character although its expansion would encode it: RFC 3986 allows it in that position,
    /// and it does not end the value.
    fn tolerates(&self, character: char, rest: &[Part], in_query: bool) -> bool {
        let is_allowed = if in_query { is_raw_in_query(character) } else { is_raw_in_path(character) };
        // The comma separates the values of `{a,b}`; `{a}` has no separator.
        let is_separated = self.operator != Operator::Simple || self.variables.len() > 1;
        let begins_another = |other: &Expression| other.operator.first() == Some(character);
        let is_end = literal_begins_with(rest, character) && !survives_encode_uri_component(character);
        let separates = is_separated && character == self.operator.separator();
        is_allowed && !separates && !is_end && !expressions(rest).any(begins_another)
    }

    fn variable_pattern(&self, variable: &Variable, rest: &[Part], in_query: bool) -> String {
        let keeps = |character: char| self.operator.keeps(variable.modifier, character);
        let tolerates = |character: char| self.tolerates(character, rest, in_query);
        let kept: String =
            ('!'..='~').filter(|character| keeps(*character) || tolerates(*character)).map(escape).collect();
        let is_named = self.operator.is_named();
        // The empty value is `;var`; `;var=` is not an expansion.
        let least = usize::from(self.operator == Operator::Matrix);
        let could_match = |other: &Expression| other.operator.first().is_some_and(keeps);
        let could_match_literal = |character: char| {
            literal_begins_with(rest, character) && !keeps(character) && tolerates(character)
        };
        let is_lazy = expressions(rest).any(could_match) || ('!'..='~').any(could_match_literal);
        let lazy = if is_lazy { "?" } else { "" };
        let value = match variable.modifier {
            // One character: an ASCII byte, or a leading byte with its continuation bytes. URIs that do not decode to UTF-8 were
            // rejected before.
            Modifier::Prefix(most) => {
                format!("(?:[{kept}]|%[0-7]{HEX}|%[C-Fc-f]{HEX}(?:%[89ABab]{HEX})*){{{least},{most}}}{lazy}")
            }
            Modifier::Whole | Modifier::Explode => format!("(?:[{kept}]|%{HEX}{HEX}){{{least},}}{lazy}"),
        };
        let name = regex::escape(&variable.name);
        match self.operator {
            Operator::Matrix => format!("{name}(?:={value})?"),
            _ if is_named => format!("{name}={value}"),
            _ => format!("({value})"),
        }
    }
}

const HEX: &str = "[0-9A-Fa-f]";

pub(super) fn pattern(parts: &[Part]) -> String {
    let mut pattern = String::from(r"\A");
    let mut remaining = parts;
    let mut in_query = false;
    while let Some((part, rest)) = remaining.split_first() {
        remaining = rest;
        match part {
            Part::Literal(literal) => {
                in_query |= literal.contains(['?', '#']);
                literal_pattern(literal, &mut pattern);
            }
            Part::Expression(expression) => {
                in_query |= matches!(
                    expression.operator,
                    Operator::Query | Operator::Continuation | Operator::Fragment
                );
                pattern.push_str(&expression.pattern(rest, in_query));
            }
        }
    }
    pattern.push_str(r"\z");
    pattern
}

/// Whether the next part is a literal that begins with this character.
fn literal_begins_with(rest: &[Part], character: char) -> bool {
    matches!(rest.first(), Some(Part::Literal(literal)) if literal.starts_with(character))
}

/// Appends a literal. Hexadecimal digits after a `%` match in either case.
fn literal_pattern(literal: &str, pattern: &mut String) {
    let mut digits = 0_u8;
    for character in literal.chars() {
        let is_digit = digits > 0;
        digits = if character == '%' { 2 } else { digits.saturating_sub(1) };
        if is_digit && character.is_ascii_alphabetic() {
            pattern.extend(['[', character.to_ascii_lowercase(), character.to_ascii_uppercase(), ']']);
        } else {
            pattern.push_str(&escape(character));
        }
    }
}

/// Any subset of `all`, in order, each preceded by a separator.
fn any_of(all: &[String], separator: &str) -> String {
    all.iter().fold(String::new(), |pattern, one| pattern + "(?:" + separator + one + ")?")
}

/// Any non-empty subset of `all`, in order, with separators between. Divides the list in halves: the pattern's length is
/// O(n log n), as the alternatives after the first element are written once per half and not once per variable.
fn some_of(all: &[String], separator: &str) -> String {
    let (left, right) = all.split_at(all.len() / 2);
    if left.is_empty() {
        return right.concat();
    }
    let follows = any_of(right, separator);
    format!("(?:{}{follows}|{})", some_of(left, separator), some_of(right, separator))
}

fn escape(character: char) -> String {
    let mut bytes = [0; 4];
    regex::escape(character.encode_utf8(&mut bytes))
}
