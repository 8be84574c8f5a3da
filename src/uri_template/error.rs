//! Errors of parsing a URI template, and the limits of templates.

/// Maximum length of a template, in bytes.
pub(super) const TEMPLATE_BYTES_MAX: usize = 4096;
/// Maximum number of variables of a template.
pub(super) const VARIABLES_MAX: usize = 64;
/// Maximum size of a compiled template, in bytes. A tenth of the crate's default; only prefixes of a thousand characters need more.
pub(super) const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// Why a template is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriTemplateError {
    /// The template is longer than the limit. The value is its length in bytes.
    #[error("the template has {0} bytes, more than {TEMPLATE_BYTES_MAX}")]
    Long(usize),
    /// The template has no scheme; resources have absolute URIs.
    #[error("the template does not begin with a scheme and a colon")]
    Scheme,
    /// The template has more variables than the limit.
    #[error("the template has more than {VARIABLES_MAX} variables")]
    Variables,
    /// The compiled template is larger than the limit, as with prefixes of thousands of characters.
    #[error("the template compiles to more than {PROGRAM_BYTES_MAX} bytes")]
    Program,
    /// A character that URIs do not contain.
    #[error("at byte {at}: {character:?} is not allowed in a URI")]
    Character {
        /// Byte offset in the template.
        at: usize,
        /// The character.
        character: char,
    },
    /// An operator that RFC 6570 reserves for extensions.
    #[error("at byte {at}: the operator {operator:?} is reserved")]
    Operator {
        /// Byte offset in the template.
        at: usize,
        /// The operator.
        operator: char,
    },
    /// An invalid variable name.
    #[error("at byte {at}: {name:?} is not a variable's name")]
    Name {
        /// Byte offset in the template.
        at: usize,
        /// The invalid name.
        name: String,
    },
    /// A variable that occurs a second time.
    #[error("at byte {at}: the variable {name:?} occurs twice")]
    Twice {
        /// Byte offset in the template.
        at: usize,
        /// The variable.
        name: String,
    },
    /// Any other error.
    #[error("at byte {at}: {reason}")]
    Syntax {
        /// Byte offset in the template.
        at: usize,
        /// Description of the error.
        reason: &'static str,
    },
}
