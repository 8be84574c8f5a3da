//! URI templates (<https://www.rfc-editor.org/rfc/rfc6570>) and their matches in URIs
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/resources#resource-templates>).
//!
//! Expansion loses information, so matching has to choose. The rules:
//!
//! - A value is text: percent-decoded, without control characters. `{var}` matches no `/`, but its value may contain one
//!   (`..%2f` is `../`). `{+var}`, `{#var}` and `{/var*}` match `/` as it is, and any value may be `..` or empty.
//!   Values come from the client: `paths.rs` opens files by them.
//! - Absent variables are not in the result. `?`, `&` and `;` may omit any parameter, but the others must be in the
//!   template's order. In `{a,b}` and `{/a,b}` the last ones may be missing (`/x` is `a`); of `{#a,b}` and `{.a,b}` either
//!   all are present or none; `{a}`, and all of `{+a,b}`, are always present, possibly empty.
//! - Where a URI has several readings, as with `{a}-{b}`, the leftmost value is the longest possible. If a later expression
//!   that may be absent could be matched by the value (`{+path}{?q}`, `{name}{.suffix}`), the value is the shortest possible.
//! - `{var:3}` matches up to three characters. `{var*}` matches a list, and its value is the list with its separator `,`, `.`
//!   or `/`, each member decoded. `{?var*}`, `{&var*}` and `{;var*}` repeat the name, or replace it by arbitrary names, which
//!   has no form as one text, so they are rejected.
//! - An expression without operator, or with `+`, directly after another one is rejected: the end of the first value is
//!   undefined. So is a variable that occurs in a template twice.
//! - A value may contain every raw character that RFC 3986 allows in its position (`O'Brien`, `a@b`; in a query also `/` and
//!   `?`), although an expansion by RFC 6570 encodes most of them: the official SDKs expand with `encodeURIComponent`, which does
//!   not encode `!'()*`. Excepted are the separator of the expression, the first character of any later expression, and the
//!   first character of the following literal; if that is one of `!'()*`, the value may contain it and is the shortest possible.
//! - Literals and the names of parameters are compared as written (including the scheme), except that `%c3` equals `%C3`.
//!
//! The regular expression engine does not backtrack, so matching takes time linear in the URI's length. The lengths of the URI, of
//! the template and of the compiled template are bounded.

mod error;
mod parse;
mod parts;
mod pattern;
mod percent;

use regex::{Regex, RegexBuilder};

pub use self::error::UriTemplateError;
use self::{
    error::{PROGRAM_BYTES_MAX, TEMPLATE_BYTES_MAX},
    parse::{has_scheme, parse_parts},
    parts::{Modifier, Part, Variable, expressions},
    pattern::pattern,
    percent::{URI_BYTES_MAX, decode, decodes_to_text},
};

/// Memory for the states that the engine caches for one template, in bytes. Half of the crate's default.
const CACHE_BYTES_MAX: usize = 1 << 20;

/// A compiled URI template.
///
/// ```
/// use corelane::internals::uri_template::UriTemplate;
///
/// let template = UriTemplate::parse("notes://{author}/{title}{?rev}").unwrap();
/// let values = template.matches("notes://ada/on%20engines?rev=2").unwrap();
/// assert_eq!(values, [("author", "ada".into()), ("title", "on engines".into()), ("rev", "2".into())]);
/// assert!(!template.is_match("notes://ada/on/engines"));
/// ```
#[derive(Clone, Debug)]
pub struct UriTemplate {
    text: Box<str>,
    parts: Vec<Part>,
    regex: Regex,
}

impl UriTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// The first part of the template that is invalid or not supported.
    pub fn parse(template: &str) -> Result<Self, UriTemplateError> {
        if template.len() > TEMPLATE_BYTES_MAX {
            return Err(UriTemplateError::Long(template.len()));
        }
        if !has_scheme(template) {
            return Err(UriTemplateError::Scheme);
        }
        let parts = parse_parts(template)?;
        let regex = RegexBuilder::new(&pattern(&parts))
            .unicode(false)
            .size_limit(PROGRAM_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build()
            // `pattern` returns valid expressions, so this one is too large.
            .map_err(|_| UriTemplateError::Program)?;
        Ok(Self { text: template.into(), parts, regex })
    }

    /// The template's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The variables' names, in the template's order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        expressions(&self.parts).flat_map(|expression| &expression.variables).map(|variable| &*variable.name)
    }

    /// Whether a URI is an expansion of the template. Allocates only the engine's bounded cache, which later matches reuse. Each
    /// clone of a template has its own cache, so that threads with a clone each share no mutable state.
    #[must_use]
    pub fn is_match(&self, uri: &str) -> bool {
        is_decodable(uri) && self.regex.is_match(uri)
    }

    /// The variables with their decoded values, in the template's order, if the URI is an expansion of it. The values are untrusted
    /// input.
    #[must_use]
    pub fn matches(&self, uri: &str) -> Option<Vec<(&str, String)>> {
        self.raw(uri)?.into_iter().map(|(name, value, _)| Some((name, decode(value)?))).collect()
    }

    /// As [`matches`](Self::matches), each value also as a list. An exploded value is split before it is decoded; any other at its
    /// commas, which most operators encode.
    pub(crate) fn lists(&self, uri: &str) -> Option<Vec<(&str, String, Vec<String>)>> {
        let read = |(name, value, separator): (_, &str, Option<char>)| {
            let text = decode(value)?;
            let members = match separator {
                _ if value.is_empty() => Vec::new(),
                Some(separator) => value.split(separator).map(decode).collect::<Option<_>>()?,
                None => text.split(',').map(str::to_owned).collect(),
            };
            Some((name, text, members))
        };
        self.raw(uri)?.into_iter().map(read).collect()
    }

    /// The variables with their encoded values, and the separator of the members of an exploded one.
    fn raw<'u>(&self, uri: &'u str) -> Option<Vec<(&str, &'u str, Option<char>)>> {
        if !is_decodable(uri) {
            return None;
        }
        let captures = self.regex.captures(uri)?;
        let mut groups = captures.iter().skip(1).map(|group| group.map(|group| group.as_str()));
        let mut values = Vec::with_capacity(captures.len());
        for expression in expressions(&self.parts) {
            let separator = |variable: &Variable| match variable.modifier {
                Modifier::Explode => Some(expression.operator.separator()),
                Modifier::Whole | Modifier::Prefix(_) => None,
            };
            if expression.operator.is_named() {
                let group = groups.next().flatten().unwrap_or_default();
                // Without the operator. No value contains an unencoded separator.
                let parameters = group.get(1..).unwrap_or_default().split(expression.operator.separator());
                let mut parameters = parameters.filter(|text| !text.is_empty()).peekable();
                for variable in &expression.variables {
                    let value = parameters.peek().and_then(|parameter| value_of(parameter, &variable.name));
                    if let Some(value) = value {
                        parameters.next();
                        values.push((&*variable.name, value, separator(variable)));
                    }
                }
            } else {
                for variable in &expression.variables {
                    if let Some(value) = groups.next().flatten() {
                        values.push((&*variable.name, value, separator(variable)));
                    }
                }
            }
        }
        Some(values)
    }

    /// Expands the template with these values, by name; values of other names are ignored. The value of an exploded variable is
    /// the list as [`matches`](Self::matches) returns it.
    ///
    /// The template matches the URI unless a value contains control characters, or a required one is absent. It returns
    /// the same values unless a value can be read as the text next to it, or a value of `{+var}` or `{#var}` contains
    /// percent-encoding, which these do not encode again.
    #[must_use]
    pub fn expand<N: AsRef<str>, V: AsRef<str>>(&self, values: &[(N, V)]) -> String {
        let value_of = |variable: &Variable| {
            let (_, value) = values.iter().find(|(name, _)| name.as_ref() == &*variable.name)?;
            Some(value.as_ref())
        };
        let mut uri = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => uri.push_str(literal),
                Part::Expression(expression) => expression.expand(value_of, &mut uri),
            }
        }
        uri
    }
}

/// The value of `name=value` or `name`, if that is the parameter's name.
fn value_of<'p>(parameter: &'p str, name: &str) -> Option<&'p str> {
    match parameter.strip_prefix(name)? {
        "" => Some(""),
        rest => rest.strip_prefix('='),
    }
}

/// Whether a URI is within its length limit and percent-decodes to text. Decoding all of it checks every value, because the
/// literals between them are text as well.
fn is_decodable(uri: &str) -> bool {
    uri.len() <= URI_BYTES_MAX && (!uri.contains('%') || decodes_to_text(uri))
}

#[cfg(test)]
mod tests;
