//! Parser of templates.

use super::{
    error::{UriTemplateError, VARIABLES_MAX},
    parts::{Expression, Modifier, Operator, Part, Variable, expressions},
    percent::{begins_with_triplet, decodes_to_text, encode, is_reserved, is_unreserved},
};

pub(super) fn parse_parts(template: &str) -> Result<Vec<Part>, UriTemplateError> {
    let mut parts: Vec<Part> = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let at = template.len() - rest.len();
        let Some(opened) = rest.strip_prefix('{') else {
            let (literal, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            parts.push(Part::Literal(parse_literal(literal, at)?));
            rest = after;
            continue;
        };
        let (inside, after) = opened
            .split_once('}')
            .ok_or(UriTemplateError::Syntax { at, reason: "this brace is not closed" })?;
        let expression = parse_expression(inside, at + 1, &parts)?;
        if matches!(parts.last(), Some(Part::Expression(_))) && expression.operator.first().is_none() {
            let reason = "the end of the value of the preceding expression is undefined";
            return Err(UriTemplateError::Syntax { at, reason });
        }
        parts.push(Part::Expression(expression));
        rest = after;
    }
    Ok(parts)
}

/// The expansion of a literal (<https://www.rfc-editor.org/rfc/rfc6570#section-3.1>).
fn parse_literal(literal: &str, start: usize) -> Result<String, UriTemplateError> {
    let mut uri = String::with_capacity(literal.len());
    for (offset, character) in literal.char_indices() {
        let at = start + offset;
        match character {
            '}' => return Err(UriTemplateError::Syntax { at, reason: "this brace was not opened" }),
            '%' if !begins_with_triplet(literal.get(offset..).unwrap_or_default()) => {
                let reason = "the percent sign is not followed by two hexadecimal digits";
                return Err(UriTemplateError::Syntax { at, reason });
            }
            '%' => uri.push('%'),
            _ if is_unreserved(character) || is_reserved(character) => uri.push(character),
            _ if character.is_ascii() || character.is_control() => {
                return Err(UriTemplateError::Character { at, character });
            }
            _ => encode(character.encode_utf8(&mut [0; 4]), |_| false, false, &mut uri),
        }
    }
    // Complete characters in literals imply complete characters in the values between them.
    if !decodes_to_text(&uri) {
        let reason = "the percent-encoded bytes from here on are not text";
        return Err(UriTemplateError::Syntax { at: start, reason });
    }
    Ok(uri)
}

fn parse_expression(inside: &str, start: usize, before: &[Part]) -> Result<Expression, UriTemplateError> {
    if let Some(operator) = inside.chars().next().filter(|first| "=,!@|".contains(*first)) {
        return Err(UriTemplateError::Operator { at: start, operator });
    }
    let operator = inside.chars().next().and_then(Operator::parse);
    let list = if operator.is_some() { inside.get(1..).unwrap_or_default() } else { inside };
    if list.is_empty() {
        return Err(UriTemplateError::Syntax { at: start, reason: "the expression names no variable" });
    }
    let operator = operator.unwrap_or(Operator::Simple);
    let mut at = start + (inside.len() - list.len());
    let mut variables: Vec<Variable> = Vec::new();
    for text in list.split(',') {
        let variable = parse_variable(text, operator, at)?;
        let earlier = || expressions(before).flat_map(|expression| &expression.variables).chain(&variables);
        if earlier().any(|other| other.name == variable.name) {
            return Err(UriTemplateError::Twice { at, name: variable.name.into() });
        }
        if earlier().count() == VARIABLES_MAX {
            return Err(UriTemplateError::Variables);
        }
        variables.push(variable);
        at += text.len() + 1;
    }
    Ok(Expression { operator, variables })
}

fn parse_variable(text: &str, operator: Operator, at: usize) -> Result<Variable, UriTemplateError> {
    let (name, modifier) = if let Some(name) = text.strip_suffix('*') {
        (name, Modifier::Explode)
    } else if let Some((name, length)) = text.split_once(':') {
        let is_number = length.len() <= 4 && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|_| is_number && !length.starts_with('0'));
        let reason = "the length of a prefix must be a number from 1 to 9999";
        (name, Modifier::Prefix(length.ok_or(UriTemplateError::Syntax { at, reason })?))
    } else {
        (text, Modifier::Whole)
    };
    if !is_name(name) {
        return Err(UriTemplateError::Name { at, name: name.to_owned() });
    }
    if modifier == Modifier::Explode && operator.is_named() {
        let reason = "a list of named parameters is not supported";
        return Err(UriTemplateError::Syntax { at, reason });
    }
    Ok(Variable { name: name.into(), modifier })
}

/// Whether a name consists of letters, digits, `_` and percent-encoded text, with single dots between them.
fn is_name(name: &str) -> bool {
    let is_valid_part = |part: &str| {
        !part.is_empty()
            && part.char_indices().all(|(offset, character)| match character {
                '%' => begins_with_triplet(part.get(offset..).unwrap_or_default()),
                _ => character == '_' || character.is_ascii_alphanumeric(),
            })
    };
    name.split('.').all(is_valid_part) && decodes_to_text(name)
}

pub(super) fn has_scheme(template: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    template.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}
