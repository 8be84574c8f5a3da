//! URI templates (RFC 6570), matched against URIs: which resource a client asks for (checklist R-02, R-05).
//!
//! Expansion loses information, so a match is a choice. What is chosen:
//!
//! - A value is text: percent-decoded, without control characters. `{var}` matches no `/`, yet its value may hold one
//!   (`..%2f` is `../`), `{+var}`, `{#var}` and `{/var*}` match them as they are, and any value may be `..` or empty.
//!   Values come from the client: whoever makes a path of one checks it first.
//! - Absent variables are not in the result. `?`, `&` and `;` may lack any parameter, but those given stand in the
//!   template's order. In `{a,b}` and `{/a,b}` those behind may be missing (`/x` is `a`); of `{#a,b}` and `{.a,b}` either
//!   all stand there or none; `{a}`, and all of `{+a,b}`, always stand there, if only as the empty text.
//! - Where a URI can be read in several ways, as by `{a}-{b}`, the leftmost value is as long as it can be. If an expression
//!   that may be absent stands further on and could be swallowed (`{+path}{?q}`, `{name}{.suffix}`), it is as short as it
//!   can be.
//! - `{var:3}` matches up to three characters. `{var*}` matches a list, and its value is the list as it stands, joined by
//!   `,`, `.` or `/`, each member decoded. `{?var*}`, `{&var*}` and `{;var*}` repeat the name, or replace it by names
//!   that nobody foresaw: no text says that, so they are refused.
//! - An expression without operator, or with `+`, right behind another one is refused: nothing would say where one value
//!   ends. So is a variable that stands in a template twice.
//! - A value may hold every character raw that RFC 3986 allows where it stands (`O'Brien`, `a@b`; in a query `/` and `?` too),
//!   although an expansion by RFC 6570 encodes most of them: the official SDKs expand with `encodeURIComponent`, which leaves
//!   `!'()*`. Excepted are the separator of the expression, the first character of any expression further on, and the
//!   first character of the literal that follows; if that one is of `!'()*`, the value may hold it and is as short as it can be.
//! - What stands between expressions, and the names of parameters, are compared as written (the scheme, too), except that
//!   `%c3` is `%C3`.
//!
//! The regex engine never goes back, so the time to match grows with the URI's length, whatever stands in it. The bounds
//! are on the URI, the template and what it compiles to.

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

/// Of the states that a thread keeps of a template while it matches. The crate would allow twice as much.
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
    /// The first thing in it that cannot be served.
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
            // What `pattern` writes is well formed: it can only be too large.
            .map_err(|_| UriTemplateError::Program)?;
        Ok(Self { text: template.into(), parts, regex })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The variables' names, in the order they stand in the template.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        expressions(&self.parts).flat_map(|expression| &expression.variables).map(|variable| &*variable.name)
    }

    /// Whether a URI is an expansion of the template. Allocates nothing but what the engine keeps for the next time, within
    /// bounds; each clone of a template keeps its own, so that threads with a clone each share nothing that changes.
    #[must_use]
    pub fn is_match(&self, uri: &str) -> bool {
        is_readable(uri) && self.regex.is_match(uri)
    }

    /// The variables with their values, decoded, in the order they stand in the template, if the URI is an expansion of
    /// it. Nothing in the values is to be trusted.
    #[must_use]
    pub fn matches(&self, uri: &str) -> Option<Vec<(&str, String)>> {
        self.raw(uri)?.into_iter().map(|(name, value, _)| Some((name, decode(value)?))).collect()
    }

    /// As [`matches`](Self::matches), each value also as the list it may be. An exploded one is split before it is decoded; any
    /// other at its commas, which most operators have encoded.
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

    /// The variables with their values as they stand in the URI, and what separates the members of an exploded one.
    fn raw<'u>(&self, uri: &'u str) -> Option<Vec<(&str, &'u str, Option<char>)>> {
        if !is_readable(uri) {
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
                // Behind the operator; no value holds a separator as it is.
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

    /// The URI for these values, by name; those of other names are left out. The value of an exploded variable is the list
    /// as [`matches`](Self::matches) gives it.
    ///
    /// The template matches the URI unless a value holds control characters, or an absent one has to be there. It gives
    /// the same values if nothing in them reads as what stands beside them, and nothing for `{+var}` or `{#var}` reads as
    /// percent-encoding, which these leave as it is.
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

/// What stands behind the parameter's name, if that is its name.
fn value_of<'p>(parameter: &'p str, name: &str) -> Option<&'p str> {
    match parameter.strip_prefix(name)? {
        "" => Some(""),
        rest => rest.strip_prefix('='),
    }
}

/// Whether a URI is short enough, and every value in it text. Looking at all of it at once is enough: what stands between
/// values is text as well.
fn is_readable(uri: &str) -> bool {
    uri.len() <= URI_BYTES_MAX && (!uri.contains('%') || decodes_to_text(uri))
}

#[cfg(test)]
mod tests;
