//! Messages of violations, written so that a model can correct its arguments.

use std::{collections::BTreeSet, fmt};

use jsonschema::{
    JsonType, ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Value;

/// Maximum depth of nested `anyOf` and `oneOf` in an explanation.
const BRANCH_DEPTH_MAX: usize = 4;

/// Maximum number of reported violations of the closest branch.
const BRANCH_VIOLATIONS_MAX: usize = 3;

/// Maximum number of listed values, types or unknown names. An enum may be as long as its schema, and the number of unknown names is
/// chosen by the client.
const LISTED_MAX: usize = 32;

/// Minimum Jaro-Winkler similarity of a suggested argument name.
const SIMILARITY_MIN: f64 = 0.75;

/// Names of the properties that each subschema declares.
pub(super) type KnownNames = Box<[Known]>;

/// A subschema's JSON pointer, and the names of its properties.
type Known = (Box<str>, Box<[Box<str>]>);

/// Collects the names of properties. Recursive: the schema's depth has been checked before.
pub(super) fn known_names(schema: &Value) -> KnownNames {
    let mut known = Vec::new();
    collect(schema, &mut String::new(), &mut known);
    known.into()
}

fn collect(schema: &Value, pointer: &mut String, known: &mut Vec<Known>) {
    let mut inner = |key: &str, value: &Value| {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        collect(value, pointer, known);
        pointer.truncate(length);
    };
    match schema {
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| inner(key, value));
            if let Some(properties) = members.get("properties").and_then(Value::as_object) {
                let names = properties.keys().map(|name| name.as_str().into()).collect();
                known.push((pointer.as_str().into(), names));
            }
        }
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(index, value)| inner(&index.to_string(), value));
        }
        _ => {}
    }
}

/// Explains one violation.
pub(super) fn explain(error: &ValidationError<'_>, known: &KnownNames) -> String {
    explain_within(error, known, BRANCH_DEPTH_MAX)
}

fn explain_within(error: &ValidationError<'_>, known: &KnownNames, depth_left: usize) -> String {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let names = unexpected.iter().take(LISTED_MAX).map(|name| match similar(error, name, known) {
                Some(similar) => format!("unknown argument {name:?}, did you mean {similar:?}?"),
                None => format!("unknown argument {name:?}"),
            });
            let mut text = names.collect::<Vec<_>>().join("; ");
            if unexpected.len() > LISTED_MAX {
                text.push_str("; …");
            }
            text
        }
        ValidationErrorKind::FalseSchema => {
            let path = error.instance_path().as_str();
            match path.rsplit('/').next().filter(|name| !name.is_empty()) {
                Some(name) => format!("{name:?} is not allowed here"),
                None => "no value is allowed here".to_owned(),
            }
        }
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
            let mut values = Allowed::default();
            add_allowed(error, &mut values);
            format!("must be {values}")
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }
            if depth_left > 0 =>
        {
            branches(error, context, known, depth_left - 1)
        }
        ValidationErrorKind::BacktrackLimitExceeded { .. } => {
            "matching a pattern takes more steps than schema_backtrack_steps_max allows".to_owned()
        }
        _ => error.masked_with("the value").to_string(),
    }
}

/// Describes a value that is valid for none of several branches.
fn branches(
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    known: &KnownNames,
    depth_left: usize,
) -> String {
    let here = error.instance_path();
    // A choice of values or types, such as an enum with null.
    let mut values = Allowed::default();
    let is_choice = context.iter().all(|branch| {
        branch.iter().any(|error| error.instance_path() == here && add_allowed(error, &mut values))
    });
    if is_choice && !values.listed.is_empty() {
        return format!("must be {values}");
    }
    // Objects distinguished by the value of a member, which no branch accepts: all accepted values are listed.
    let mut tags: Option<(&str, Allowed)> = None;
    let is_tagged = context.iter().all(|branch| {
        branch.iter().any(|error| match tags.as_mut() {
            Some((path, values)) => error.instance_path().as_str() == *path && add_value(error, values),
            None => {
                let mut values = Allowed::default();
                let adds = error.instance_path() != here && add_value(error, &mut values);
                if adds {
                    tags = Some((error.instance_path().as_str(), values));
                }
                adds
            }
        })
    });
    if let Some((path, values)) = tags.filter(|_| is_tagged) {
        return format!("{path} must be {values}");
    }
    let closest = context.iter().filter(|branch| !branch.is_empty()).min_by_key(|branch| {
        let of_kind =
            |is: fn(&ValidationErrorKind) -> bool| branch.iter().filter(|error| is(error.kind())).count();
        let other_type = branch.iter().any(|error| {
            error.instance_path() == here && matches!(error.kind(), ValidationErrorKind::Type { .. })
        });
        let other_tag = of_kind(|kind| matches!(kind, ValidationErrorKind::Constant { .. }));
        (other_type, other_tag, branch.len())
    });
    let Some(closest) = closest else { return error.masked_with("the value").to_string() };
    let reasons = closest.iter().take(BRANCH_VIOLATIONS_MAX).map(|error| {
        let reason = explain_within(error, known, depth_left);
        if error.instance_path() == here { reason } else { format!("{} {reason}", error.instance_path()) }
    });
    format!(
        "fits none of {} alternatives; of the closest: {}",
        context.len(),
        reasons.collect::<Vec<_>>().join(", ")
    )
}

/// Valid values and types.
#[derive(Default)]
struct Allowed {
    listed: BTreeSet<String>,
    /// More than [`LISTED_MAX`] were added.
    is_cut: bool,
}

impl Allowed {
    /// Adds values up to [`LISTED_MAX`]; the others are not formatted.
    fn add<T>(&mut self, values: impl IntoIterator<Item = T>, written: impl Fn(T) -> String) {
        for value in values {
            if self.listed.len() >= LISTED_MAX {
                self.is_cut = true;
                return;
            }
            self.listed.insert(written(value));
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self.listed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let one_of = if self.listed.len() > 1 { "one of " } else { "" };
        let more = if self.is_cut { ", …" } else { "" };
        write!(formatter, "{one_of}{listed}{more}")
    }
}

/// Adds the valid values or types that a violation names. Returns `false` if it names none.
fn add_allowed(error: &ValidationError<'_>, values: &mut Allowed) -> bool {
    match error.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Single(kind) } => values.add([*kind], named),
        ValidationErrorKind::Type { kind: TypeKind::Multiple(kinds) } => {
            values.add(kinds.iter(), named);
        }
        _ => return add_value(error, values),
    }
    true
}

/// A type with its article.
fn named(kind: JsonType) -> String {
    match kind {
        JsonType::Null => "null".to_owned(),
        JsonType::Array | JsonType::Integer | JsonType::Object => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

fn add_value(error: &ValidationError<'_>, values: &mut Allowed) -> bool {
    match error.kind() {
        ValidationErrorKind::Enum { options } => {
            values.add(options.as_array().into_iter().flatten(), Value::to_string);
        }
        ValidationErrorKind::Constant { expected_value } => values.add([&**expected_value], Value::to_string),
        _ => return false,
    }
    true
}

/// The known property that is most similar to an unknown one.
fn similar<'a>(error: &ValidationError<'_>, name: &str, known: &'a KnownNames) -> Option<&'a str> {
    let path = error.schema_path().as_str();
    let (parent, _) = path.rsplit_once('/')?;
    let (_, names) = known.iter().find(|(pointer, _)| **pointer == *parent)?;
    let rated =
        names.iter().map(|known| (strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase()), known));
    let (similarity, best) = rated.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (similarity >= SIMILARITY_MIN).then_some(&**best)
}
