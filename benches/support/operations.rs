//! Operations that both the instruction counts and the times are taken of, and what these two programs share.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use std::{fs, hint::black_box, path::Path, process::Command};

use clap::ValueEnum;
use corelane::{
    Limits,
    internals::json::{Decoder, Node},
    internals::schema::{Validator, Verdict},
};
use corelane_ring::PADDING_BYTES;
use serde::Deserialize;
use serde_json::{Value, json};

/// A way of measuring. It is handed an operation that is ready to run, so that what comes before it is not measured.
pub trait Measure {
    /// What is found out.
    type Found;

    /// Runs the operation as often as it takes. `operation` does once what is measured, and says whether that came out
    /// right: that is part of what is measured, and costs a comparison or two.
    fn measure(self, operation: impl FnMut() -> bool) -> Self::Found;
}

/// The bytes as a receive buffer holds them, with room behind them; and their length without it.
pub fn padded(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() + PADDING_BYTES, 0);
    (padded, bytes.len())
}

/// A schema with that many strings, all required and nothing else allowed, as one derived from a type has them; and
/// arguments that fit it.
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

/// Bytes to tape. The document has no escapes, so that decoding it in place leaves its bytes as they were.
pub fn decode<M: Measure>(body: &[u8], measure: M) -> M::Found {
    let value: Value = serde_json::from_slice(body).unwrap();
    let (mut padded, length) = padded(body);
    let mut decoder = Decoder::new(&Limits::default());
    // Once in full; from then on by the number of its values.
    assert!(Value::deserialize(decoder.decode(&mut padded, length).unwrap().root()).unwrap() == value);
    let expected = count_values(&value);
    let found = measure.measure(|| {
        let decoded = decoder.decode(black_box(&mut padded), length);
        decoded.is_ok_and(|document| black_box(document.root()).node_count() == expected)
    });
    assert!(padded.get(..length) == Some(body));
    found
}

/// Values of a document, keys included.
fn count_values(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(|member| 1 + count_values(member)).sum(),
        Value::Array(elements) => elements.iter().map(count_values).sum(),
        _ => 0,
    }
}

/// That many string arguments on the tape against their schema, compiled before.
pub fn validate<M: Measure>(count: usize, measure: M) -> M::Found {
    let (schema, arguments) = strings(count);
    let validator = Validator::compile(&schema, &Limits::default()).unwrap();
    on_tape(&arguments, |arguments| {
        measure.measure(|| validator.judge(black_box(arguments)) == Verdict::Fits)
    })
}

/// Calls `f` with a value on the tape.
pub fn on_tape<T>(value: &Value, f: impl FnOnce(Node<'_>) -> T) -> T {
    let (mut bytes, length) = padded(value.to_string().as_bytes());
    let mut decoder = Decoder::new(&Limits::default());
    let document = decoder.decode(&mut bytes, length).unwrap();
    f(document.root())
}

/// What an operation is called, on the command line and in the results.
pub fn name(operation: impl ValueEnum) -> String {
    operation.to_possible_value().unwrap().get_name().to_owned()
}

/// What an operation is, in a few words.
pub fn what(operation: impl ValueEnum) -> String {
    operation.to_possible_value().unwrap().get_help().unwrap().to_string()
}

/// All operations in the order of the pipeline, or those of them that were asked for.
pub fn chosen<O: ValueEnum + PartialEq>(only: &[O]) -> Vec<O> {
    let is_chosen = |operation: &&O| only.is_empty() || only.contains(operation);
    O::value_variants().iter().filter(is_chosen).cloned().collect()
}

/// The processor's name.
pub fn cpu() -> String {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told.lines().find(|line| line.starts_with("model name"));
    model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, model)| model).to_owned()
}

/// The compiler's version.
pub fn rustc() -> String {
    let told =
        Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let told = String::from_utf8_lossy(&told);
    told.trim().strip_prefix("rustc ").unwrap_or("unknown").to_owned()
}

/// Writes results into a file. The error says what to tell the user.
pub fn write_json(file: &Path, results: &Value) -> Result<(), String> {
    let text = serde_json::to_string_pretty(results).map_err(|error| error.to_string())? + "\n";
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// A whole number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
