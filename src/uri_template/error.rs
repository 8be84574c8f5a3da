//! Why a text is no URI template.

pub(super) const TEMPLATE_BYTES_MAX: usize = 4096;
pub(super) const VARIABLES_MAX: usize = 64;
/// Of a compiled template. The crate would allow ten times as much; only prefixes of a thousand characters need more.
pub(super) const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// A template that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriTemplateError {
    /// Longer than a template may be.
    #[error("the template has {0} bytes, more than {TEMPLATE_BYTES_MAX}")]
    Long(usize),
    /// Resources are named by absolute URIs.
    #[error("the template does not begin with a scheme and a colon")]
    Scheme,
    /// More variables than a template may have.
    #[error("the template has more than {VARIABLES_MAX} variables")]
    Variables,
    /// Compiles to more than is kept, as prefixes of thousands of characters do.
    #[error("the template compiles to more than {PROGRAM_BYTES_MAX} bytes")]
    Program,
    /// A character that no URI holds.
    #[error("at byte {at}: {character:?} cannot stand in a URI")]
    Character {
        /// Where in the template.
        at: usize,
        /// The character.
        character: char,
    },
    /// An operator that RFC 6570 keeps for later.
    #[error("at byte {at}: the operator {operator:?} is reserved")]
    Operator {
        /// Where in the template.
        at: usize,
        /// The operator.
        operator: char,
    },
    /// Not the name of a variable.
    #[error("at byte {at}: {name:?} is not a variable's name")]
    Name {
        /// Where in the template.
        at: usize,
        /// What stands there.
        name: String,
    },
    /// A variable for the second time.
    #[error("at byte {at}: the variable {name:?} stands in the template twice")]
    Twice {
        /// Where in the template.
        at: usize,
        /// The variable.
        name: String,
    },
    /// Anything else.
    #[error("at byte {at}: {reason}")]
    Syntax {
        /// Where in the template.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
}
