//! Operations of both benches, and their common functions.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use std::{fs, hint::black_box, path::Path, process::Command};

use clap::ValueEnum;
use corelane::{
    Limits,
    internals::json::{Decoder, Node},
    internals::schema::{Validation, Validator},
};
use corelane_ring::PADDING_BYTES;
use serde::Deserialize;
use serde_json::{Value, json};

/// A way of measuring. It receives a prepared operation, so that the preparation is not measured.
pub trait Measure {
    /// The result of the measurement.
    type Output;

    /// Runs the operation as often as needed. `operation` performs the measured work once and returns whether its
    /// outcome was correct; this check, one or two comparisons, is part of the measurement.
    fn measure(self, operation: impl FnMut() -> bool) -> Self::Output;
}

/// The bytes as in a receive buffer, with padding; and their length without it.
pub fn padded(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() + PADDING_BYTES, 0);
    (padded, bytes.len())
}

/// A schema with `count` required strings and no additional properties, like one derived from a type; and matching
/// arguments.
pub fn strings(count: usize) -> (Value, Value) {
    let names = || (0..count).map(|number| format!("parameter_{number}"));
    let properties: Value = names().map(|name| (name, json!({"type": "string"}))).collect();
    let required: Value = names().collect();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false
    });
    (schema, names().map(|name| (name, json!("some text of a usual length"))).collect())
}

/// Decodes bytes to the tape. The document has no escapes, so that decoding in place does not change its bytes.
pub fn decode<M: Measure>(body: &[u8], measure: M) -> M::Output {
    let value: Value = serde_json::from_slice(body).unwrap();
    let (mut padded, length) = padded(body);
    let mut decoder = Decoder::new(&Limits::default());
    // The first result is compared in full, the others by their number of values.
    assert!(Value::deserialize(decoder.decode(&mut padded, length).unwrap().root()).unwrap() == value);
    let expected = count_values(&value);
    let output = measure.measure(|| {
        let decoded = decoder.decode(black_box(&mut padded), length);
        decoded.is_ok_and(|document| black_box(document.root()).node_count() == expected)
    });
    assert!(padded.get(..length) == Some(body));
    output
}

/// Number of values of a document, keys included.
fn count_values(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(|member| 1 + count_values(member)).sum(),
        Value::Array(elements) => elements.iter().map(count_values).sum(),
        _ => 0,
    }
}

/// Validates `count` string arguments on the tape against a compiled schema.
pub fn validate<M: Measure>(count: usize, measure: M) -> M::Output {
    let (schema, arguments) = strings(count);
    let validator = Validator::compile(&schema, &Limits::default()).unwrap();
    on_tape(&arguments, |arguments| {
        measure.measure(|| validator.validate(black_box(arguments)) == Validation::Valid)
    })
}

/// Calls `f` with a value on the tape.
pub fn on_tape<T>(value: &Value, f: impl FnOnce(Node<'_>) -> T) -> T {
    let (mut bytes, length) = padded(value.to_string().as_bytes());
    let mut decoder = Decoder::new(&Limits::default());
    let document = decoder.decode(&mut bytes, length).unwrap();
    f(document.root())
}

/// Name of an operation, on the command line and in results.
pub fn name(operation: impl ValueEnum) -> String {
    operation.to_possible_value().unwrap().get_name().to_owned()
}

/// Short description of an operation.
pub fn description(operation: impl ValueEnum) -> String {
    operation.to_possible_value().unwrap().get_help().unwrap().to_string()
}

/// All operations in the order of the pipeline, or the selected ones.
pub fn selected<O: ValueEnum + PartialEq>(only: &[O]) -> Vec<O> {
    let is_chosen = |operation: &&O| only.is_empty() || only.contains(operation);
    O::value_variants().iter().filter(is_chosen).cloned().collect()
}

/// The processor's name.
pub fn cpu() -> String {
    let output = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = output.lines().find(|line| line.starts_with("model name"));
    model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, model)| model).to_owned()
}

/// The compiler's version.
pub fn rustc() -> String {
    let output =
        Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    output.trim().strip_prefix("rustc ").unwrap_or("unknown").to_owned()
}

/// Writes results to a file. The error is a message for the user.
pub fn write_json(file: &Path, results: &Value) -> Result<(), String> {
    let text = serde_json::to_string_pretty(results).map_err(|error| error.to_string())? + "\n";
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// Formats an integer with separated thousands.
pub fn format_thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
