//! Time of validations per unit of the work that is computed before they start, for each keyword and for hostile values.
//!
//! The unit is meant to be about a nanosecond. `ns/unit` above 1 is an underestimate, which lets a value hold a shard for longer than
//! `limits.validation_inline_work_max` states; below 1 an overestimate, which sends a value to the blocking pool too early.
//! `explain` is the time of listing the violations, for values with many, per unit of the same work.
//!
//! `cargo bench --bench validation_work`; a name as argument selects rows. Times are minima of several runs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use corelane::{
    Limits,
    internals::json::{Decoder, Node},
    internals::schema::Validator,
};
use corelane_ring::PADDING_BYTES;
use serde_json::{Value, json};

/// The server's allocator, which accounts for a large part of the time of some keywords.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Total duration of the runs of one row.
const DURATION: Duration = Duration::from_millis(200);

struct Row {
    name: &'static str,
    schema: Value,
    value: Value,
}

fn row(name: &'static str, schema: Value, value: Value) -> Row {
    Row { name, schema, value }
}

fn repeated(count: usize, element: impl Fn(usize) -> Value) -> Value {
    (0..count).map(element).collect()
}

fn object(count: usize, member: impl Fn(usize) -> Value) -> Value {
    (0..count).map(|number| (format!("name_{number}"), member(number))).collect()
}

/// Letters a and b in no order.
fn mixed(length: u32) -> String {
    let is_a = |number: u32| number.wrapping_mul(2_654_435_761).rotate_right(13).is_multiple_of(2);
    (0..length).map(|number| if is_a(number) { 'a' } else { 'b' }).collect()
}

/// Nested empty arrays of this many brackets, of which none is equal to another.
fn shapes(count: usize) -> Vec<Value> {
    let mut of_size: Vec<Vec<Vec<Value>>> = vec![vec![Vec::new()]];
    for size in 1..=count {
        let mut lists = Vec::new();
        for first in 0..size {
            for inner in of_size[first].clone() {
                for rest in &of_size[size - 1 - first] {
                    let mut list = vec![Value::Array(inner.clone())];
                    list.extend(rest.iter().cloned());
                    lists.push(list);
                }
            }
        }
        of_size.push(lists);
    }
    of_size[count].iter().cloned().map(Value::Array).collect()
}

fn items(schema: &Value) -> Value {
    json!({"type": "array", "items": schema})
}

// Long: one row for each keyword and attack.
fn rows() -> Vec<Row> {
    let text = |length: usize| Value::from("ab".repeat(length / 2));
    let strings = |count: usize, length: usize| repeated(count, |_| text(length));
    let numbers = |count: usize| repeated(count, |number| json!(number));
    let names = |count: usize| -> Value { (0..count).map(|number| format!("name_{number}")).collect() };
    let nested =
        |depth: usize| (0..depth).fold(json!({"a": 1}), |inner, _| json!({"a": inner, "b": inner["b"]}));
    let mut rows = vec![
        row("type, number", items(&json!({"type": "integer"})), numbers(50_000)),
        row("type, string", items(&json!({"type": "string"})), strings(50_000, 8)),
        row(
            "type, 5 of object",
            items(&json!({"type": ["object", "null", "array", "string", "boolean"]})),
            repeated(30_000, |_| json!({})),
        ),
        row("minimum, maximum", items(&json!({"minimum": 0, "maximum": 1e9})), numbers(50_000)),
        row(
            "exclusiveMinimum of fractions",
            items(&json!({"exclusiveMinimum": -0.5})),
            repeated(50_000, |number| json!(number as f64 + 0.25)),
        ),
        row(
            "multipleOf 0.01",
            items(&json!({"multipleOf": 0.01})),
            repeated(5000, |number| json!(number as f64 / 100.0)),
        ),
        row("multipleOf 0.1 of integers", items(&json!({"multipleOf": 0.1})), numbers(5000)),
        row(
            "multipleOf 1e-300",
            items(&json!({"multipleOf": 1e-300})),
            repeated(2000, |number| json!(1e300 + number as f64 * 1e285)),
        ),
        row(
            "multipleOf 0.01 of 1e300",
            items(&json!({"multipleOf": 0.01})),
            repeated(2000, |number| json!(1.234_567_890_123_456_7e300 * (1.0 + number as f64 / 7.0))),
        ),
        row(
            "multipleOf 1.234e-300 of 1e308",
            items(&json!({"multipleOf": 1.234_567_890_123_4e-300})),
            repeated(2000, |number| json!(1.234_567_890_123_456_7e307 * (1.0 + number as f64 / 700.0))),
        ),
        row(
            "multipleOf 0.1 of 16 digits",
            items(&json!({"multipleOf": 0.1})),
            repeated(2000, |number| json!(505_661.899_999_999_97 + number as f64 / 3.0)),
        ),
        row("multipleOf 3", items(&json!({"multipleOf": 3})), repeated(50_000, |number| json!(number * 3))),
        row("multipleOf 3 of 1e300", items(&json!({"multipleOf": 3})), repeated(5000, |_| json!(1e300))),
        row("const 1", items(&json!({"const": 1})), repeated(50_000, |_| json!(1))),
        row("const string", items(&json!({"const": "ab"})), repeated(50_000, |_| json!("ab"))),
        row(
            "const object",
            items(&json!({"const": {"a": 1, "b": [1, 2, 3]}})),
            repeated(10_000, |_| json!({"a": 1, "b": [1, 2, 3]})),
        ),
        row(
            "const object, one large value",
            json!({"const": {"a": 1}}),
            object(40_000, |number| json!(number)),
        ),
        row(
            "enum of 100 strings",
            items(&json!({"enum": names(100)})),
            repeated(20_000, |number| json!(format!("name_{}", number % 100))),
        ),
        row(
            "enum of 8 long strings",
            items(&json!({"enum": repeated(8, |number| json!(format!("{}{number}", "a".repeat(999))))})),
            repeated(3000, |_| json!(format!("{}7", "a".repeat(999)))),
        ),
        row("enum of 100 numbers", items(&json!({"enum": numbers(100)})), repeated(10_000, |_| json!(99))),
        row(
            "enum of 50 mixed",
            items(
                &json!({"enum": repeated(50, |number| if number % 2 == 0 { json!(number) } else { json!(format!("{number}")) })}),
            ),
            repeated(5000, |_| json!("49")),
        ),
        row(
            "enum of 50 objects, one large value",
            json!({"enum": repeated(50, |number| json!({"a": number}))}),
            object(2000, |number| json!(number)),
        ),
        row(
            "minLength, maxLength",
            items(&json!({"minLength": 1, "maxLength": 100_000})),
            strings(20, 50_000),
        ),
        row(
            "maxLength of é",
            items(&json!({"maxLength": 100_000})),
            repeated(20, |_| json!("é".repeat(25_000))),
        ),
        row("uniqueItems, numbers", json!({"uniqueItems": true}), numbers(50_000)),
        row(
            "uniqueItems, strings",
            json!({"uniqueItems": true}),
            repeated(20_000, |number| json!(format!("{number:050}"))),
        ),
        row(
            "uniqueItems, objects",
            json!({"uniqueItems": true}),
            repeated(5000, |number| object(5, |_| json!(number))),
        ),
        row(
            "uniqueItems, 15 similar arrays",
            json!({"uniqueItems": true}),
            repeated(15, |last| {
                let mut array = vec![json!(1); 3000];
                array.push(json!(last));
                Value::Array(array)
            }),
        ),
        row(
            "uniqueItems, 15 similar objects",
            json!({"uniqueItems": true}),
            repeated(15, |last| {
                let mut members = object(1500, |number| json!(number));
                members["last"] = json!(last);
                members
            }),
        ),
        row(
            "uniqueItems, 15 similar strings",
            json!({"uniqueItems": true}),
            repeated(15, |last| json!(format!("{}{last:02}", "a".repeat(60_000)))),
        ),
        row(
            "uniqueItems, shapes of empty arrays",
            json!({"uniqueItems": true}),
            Value::Array(shapes(9).into_iter().take(3000).collect()),
        ),
        row("contains", json!({"contains": {"const": -1}}), numbers(20_000)),
        row(
            "minContains, maxContains",
            json!({"contains": {"type": "integer"}, "minContains": 1, "maxContains": 100_000}),
            numbers(50_000),
        ),
        row(
            "prefixItems",
            json!({"prefixItems": repeated(500, |_| json!({"type": "integer"}))}),
            numbers(500),
        ),
        row(
            "properties, 5",
            items(&json!({"properties": object(5, |_| json!({"type": "integer"}))})),
            repeated(5000, |_| object(5, |number| json!(number))),
        ),
        row(
            "properties, 100",
            items(&json!({"properties": object(100, |_| json!({"type": "integer"}))})),
            repeated(200, |_| object(100, |number| json!(number))),
        ),
        row(
            "properties, 10 of 20,000 members",
            json!({"properties": object(10, |_| json!({"type": "integer"}))}),
            object(20_000, |number| json!(number)),
        ),
        row(
            "required, last 100 of 20,000",
            json!({"required": (19_900..20_000).map(|number| format!("name_{number}")).collect::<Vec<_>>()}),
            object(20_000, |number| json!(number)),
        ),
        row(
            "required, 100 of 100",
            items(&json!({"required": names(100)})),
            repeated(200, |_| object(100, |number| json!(number))),
        ),
        row(
            "required, 10 of 10",
            items(&json!({"required": names(10)})),
            repeated(2000, |_| object(10, |number| json!(number))),
        ),
        row(
            "properties and required, 100",
            items(
                &json!({"properties": object(100, |_| json!({"type": "integer"})), "required": names(100), "additionalProperties": false}),
            ),
            repeated(200, |_| object(100, |number| json!(number))),
        ),
        row(
            "additionalProperties",
            json!({"additionalProperties": {"type": "integer"}}),
            object(30_000, |number| json!(number)),
        ),
        row(
            "additionalProperties beside 14",
            json!({"properties": object(14, |_| json!(true)), "additionalProperties": {"type": "integer"}}),
            object(30_000, |number| json!(number)),
        ),
        row(
            "patternProperties ^name_",
            json!({"patternProperties": {"^name_": {"type": "integer"}}}),
            object(29_000, |number| json!(number)),
        ),
        row(
            "patternProperties, 3 automata",
            json!({"patternProperties": {"^(a|n)[a-z]+_[0-9]+$": {}, "[0-9]{3}$": {}, "^x.*y": {}}, "additionalProperties": {"type": "integer"}}),
            object(20_000, |number| json!(number)),
        ),
        row(
            "patternProperties, large automaton",
            json!({"patternProperties": {"^[^0]*a[^0]{50}[0-8]$": {}}}),
            (0..2000).map(|number| (format!("{}{number:09}", mixed(200)), json!(1))).collect(),
        ),
        row(
            "propertyNames, maxLength",
            json!({"propertyNames": {"maxLength": 100}}),
            object(30_000, |number| json!(number)),
        ),
        row(
            "propertyNames, pattern",
            json!({"propertyNames": {"pattern": "^[a-z]+_[0-9]+$"}}),
            object(20_000, |number| json!(number)),
        ),
        row(
            "dependentRequired",
            json!({"dependentRequired": {"name_1": ["name_2", "name_29000"]}}),
            object(30_000, |number| json!(number)),
        ),
        row(
            "allOf, 50",
            items(&json!({"allOf": repeated(50, |number| json!({"minimum": number}))})),
            repeated(3000, |_| json!(50)),
        ),
        row(
            "anyOf, 50",
            items(&json!({"anyOf": repeated(50, |number| json!({"maximum": -(number as i64)}))})),
            repeated(3000, |_| json!(-49)),
        ),
        row(
            "oneOf, 50 objects",
            items(
                &json!({"oneOf": repeated(50, |number| json!({"properties": {"a": {"const": number}}, "required": ["a"]}))}),
            ),
            repeated(2000, |_| json!({"a": 49})),
        ),
        row(
            "not, if, then, else",
            items(
                &json!({"not": {"type": "string"}, "if": {"minimum": 5}, "then": {"type": "integer"}, "else": {"maximum": 9}}),
            ),
            numbers(20_000),
        ),
        row(
            "unevaluatedProperties",
            items(
                &json!({"anyOf": repeated(10, |number| json!({"properties": {format!("name_{number}"): {"type": "integer"}}, "required": [format!("name_{number}")]})), "unevaluatedProperties": false}),
            ),
            repeated(2000, |_| object(10, |number| json!(number))),
        ),
        row(
            "unevaluatedProperties, nested",
            json!({"allOf": [{"anyOf": [{"allOf": [{"anyOf": [{"patternProperties": {"^name_": {"type": "integer"}}}]}]}]}], "unevaluatedProperties": false}),
            object(20_000, |number| json!(number)),
        ),
        row(
            "unevaluatedItems",
            json!({"anyOf": [{"prefixItems": [true]}, {"contains": {"type": "integer"}}], "unevaluatedItems": false}),
            numbers(30_000),
        ),
        row(
            "$ref",
            json!({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "integer"}}}),
            numbers(50_000),
        ),
        row(
            "recursion of a list",
            json!({"properties": {"next": {"$ref": "#"}, "value": {"type": "integer"}}}),
            (0..60).fold(json!({}), |inner, number| json!({"next": inner, "value": number})),
        ),
        row(
            "recursion of a tree",
            json!({"properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "name": {"type": "string"}}}),
            json!({"children": repeated(100, |_| json!({"children": repeated(100, |_| json!({"children": [], "name": "a"})), "name": "b"}))}),
        ),
        row(
            "recursion of two branches",
            json!({"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["b"]}, {"properties": {"a": {"$ref": "#"}}}]}),
            nested(12),
        ),
        row(
            "contentMediaType",
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": {"contentMediaType": "application/json"}}),
            repeated(10, |_| json!(format!("[{}1]", "1,".repeat(10_000)))),
        ),
        row(
            "contentEncoding",
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": {"contentEncoding": "base64"}}),
            repeated(10, |_| json!("abcd".repeat(10_000))),
        ),
    ];
    rows.extend([
        row("violations of type", items(&json!({"type": "integer"})), repeated(40_000, |_| json!("a"))),
        row("violations of enum", items(&json!({"enum": names(100)})), repeated(20_000, |_| json!("a"))),
        row("violations of required", items(&json!({"required": names(10)})), repeated(10_000, |_| json!({}))),
        row("violations of additionalProperties", json!({"additionalProperties": false}), object(40_000, |number| json!(number))),
        row("violations of anyOf", items(&json!({"anyOf": repeated(10, |number| json!({"const": number}))})), repeated(5000, |_| json!("a"))),
        row("violations of oneOf of objects", items(&json!({"oneOf": repeated(10, |number| json!({"properties": {"a": {"type": "string"}, "b": {"const": number}}}))})), repeated(2000, |_| json!({"a": 1, "b": 99}))),
        row("violations of uniqueItems", items(&json!({"uniqueItems": true})), repeated(10_000, |_| json!([1, 1]))),
    ]);
    for (name, pattern, text) in [
        ("pattern ^[a-z]+$", "^[a-z]+$", text(1_000_000)),
        ("pattern ^[a-z]{1,1000}$", "^[a-z]{1,1000}$", text(500)),
        (
            "pattern of a UUID",
            "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
            json!("01234567-89ab-cdef-0123-456789abcdef"),
        ),
        (
            "pattern of an address",
            "^[\\w.+-]+@[\\w-]+\\.[\\w.-]+$",
            json!(format!("{}@example.com", "ab".repeat(100_000))),
        ),
        ("pattern [ab]*a[ab]{12}[^ab]", "[ab]*a[ab]{12}[^ab]", json!(mixed(20_000))),
        ("pattern ^[ab]*a[ab]{12}[^ab]", "^[ab]*a[ab]{12}[^ab]", json!(mixed(20_000))),
        ("pattern ^[ab]*a[ab]{200}[^ab]", "^[ab]*a[ab]{200}[^ab]", json!(mixed(20_000))),
        ("pattern [ab]*a[ab]{200}[^ab]", "[ab]*a[ab]{200}[^ab]", json!(mixed(6400))),
        ("pattern ^[ab]*a[ab]{3000}[^ab]", "^[ab]*a[ab]{3000}[^ab]", json!(mixed(6400))),
        ("pattern ([ab]*a[ab]{1000}|[^c]{900}d)$", "([ab]*a[ab]{1000}|[^c]{900}d)$", json!(mixed(6400))),
        ("pattern ([^a]?){500}", "^([^x]?){500}[^x]{500}[x]", json!("a".repeat(1500))),
        ("pattern (\\w{1,50} ?){50}", "^(\\w{1,50} ?){50}[^\\w ]", json!(mixed(3200))),
        ("pattern (.{1,10}b){10}[^ab]", "(.{1,10}b){10}[^ab]", json!(mixed(3200))),
        ("pattern ([ab]{1,100}[a-c]{1,100}){20}", "([ab]{1,100}[a-c]{1,100}){20}[x-z]", json!(mixed(6400))),
        ("pattern ([ab]{1,100}[a-c]{1,100}){1}", "([ab]{1,100}[a-c]{1,100})[x-z]", json!(mixed(6400))),
        ("pattern (a?){500}a{500}", "^(a?){500}a{500}$", json!("a".repeat(900))),
        ("pattern (\\w{1,50} ?){50}", "(\\w{1,50} ?){50}!", json!("ab".repeat(3200))),
        ("pattern (.*)(.*)(.*)(.*)x", "(.*)(.*)(.*)(.*)x", text(6400)),
        ("pattern of é", "^([à-ü]|\\d){1,100}x", json!("é".repeat(3200))),
        ("pattern \\bab\\b of é", "\\bab\\b.*x", json!("é ab ".repeat(2000))),
        (
            "pattern of 500 words",
            "^(?:(?:w1[a-z]|w2[a-z]|w3[a-z]|w4[a-z]|w5[a-z])+ ?)*$",
            json!("w1aw5b w3c".repeat(1000)),
        ),
    ] {
        rows.push(row(name, json!({"items": {"pattern": pattern}}), json!([text])));
    }
    rows.push(row(
        "format regex",
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": {"format": "regex"}}),
        repeated(3000, |number| json!(format!("{number}{}", "(a|b[^c]{1,9})*".repeat(20)))),
    ));
    rows.push(row(
        "format regex \\p{L}",
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": {"format": "regex"}}),
        repeated(3000, |number| json!(format!("{number}{}", "\\p{L}[\\w]\\W".repeat(20)))),
    ));
    rows.push(row("content of objects", json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": {"contentMediaType": "application/json"}}), json!([object(10_000, |number| json!([number])).to_string()])));
    for (format, text) in [
        ("date-time", "2026-07-28T10:00:00.123456789Z".to_owned()),
        ("email", format!("{}@example.com", "a".repeat(60))),
        ("idn-email", format!("{}@example.com", "a".repeat(60))),
        ("hostname", "abc.".repeat(50)),
        ("idn-hostname", "éa.".repeat(50)),
        ("ipv4", "192.168.100.100".to_owned()),
        ("ipv6", "2001:db8:1111:2222:3333:4444:5555:6666".to_owned()),
        ("uri", format!("https://example.com/{}", "a/".repeat(20_000))),
        ("iri", format!("https://example.com/{}", "é/".repeat(20_000))),
        ("uri-reference", format!("/{}?{}", "%20".repeat(10_000), "a=b&".repeat(5000))),
        ("uri-template", "{a}{b}".repeat(5000)),
        ("uuid", "01234567-89ab-cdef-0123-456789abcdef".to_owned()),
        ("json-pointer", "/a~1b".repeat(10_000)),
        ("relative-json-pointer", format!("1{}", "/a~1b".repeat(10_000))),
        ("duration", "P1Y2M3DT4H5M6S".to_owned()),
    ] {
        rows.push(row(
            "format",
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": {"format": format}}),
            json!([text]),
        ));
    }
    rows
}

fn minimum(mut operation: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut least = Duration::MAX;
    while begin.elapsed() < DURATION {
        let start = Instant::now();
        operation();
        least = least.min(start.elapsed());
    }
    least.as_nanos() as f64
}

fn with_tape<T>(value: &Value, limits: &Limits, f: impl FnOnce(Node<'_>, usize) -> T) -> T {
    let mut bytes = value.to_string().into_bytes();
    let length = bytes.len();
    bytes.resize(length + PADDING_BYTES, 0);
    f(Decoder::new(limits).decode(&mut bytes, length).unwrap().root(), length)
}

/// Prints the time of refusing, and of parsing, documents with more values than the limit.
fn print_decoding() {
    let ones = format!("[{}1]", "1,".repeat(2_000_000));
    let text = format!("[\"{}\"]", "one, two: ".repeat(400_000));
    let default = Limits::default();
    let unlimited = Limits { json_nodes_max: usize::MAX, ..default };
    for (name, document) in [("4 MB of 1,1,1", ones), ("4 MB of text", text)] {
        let time = |limits: &Limits| {
            minimum(|| {
                let mut bytes = document.clone().into_bytes();
                bytes.resize(document.len() + PADDING_BYTES, 0);
                let is_decoded = Decoder::new(limits).decode(&mut bytes, document.len()).is_ok();
                black_box(is_decoded);
            })
        };
        println!(
            "decode {name}: {:.0} ns with json_nodes_max, {:.0} ns without",
            time(&default),
            time(&unlimited)
        );
    }
}

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let limits = Limits { validation_work_max: usize::MAX, json_nodes_max: usize::MAX, ..Limits::default() };
    println!(
        "{:45} {:>12} {:>13} {:>8} {:>9} {:>9} {:>9}",
        "", "ns", "units", "ns/unit", "bound", "computing", "explain"
    );
    if wanted.is_empty() {
        print_decoding();
    }
    for Row { name, schema, value } in rows() {
        let label =
            if name == "format" { format!("format {}", schema["items"]["format"]) } else { name.to_owned() };
        if !wanted.is_empty() && !wanted.iter().any(|wanted| label.contains(wanted.as_str())) {
            continue;
        }
        let validator = match Validator::compile(&schema, &limits) {
            Ok(validator) => validator,
            Err(error) => {
                println!("{label:45} {error}");
                continue;
            }
        };
        with_tape(&value, &limits, |root, length| {
            let time = minimum(|| {
                black_box(validator.validate(black_box(root)));
            });
            let units = validator.work(root, u64::MAX).unwrap() as f64;
            let computing = minimum(|| {
                black_box(validator.work(black_box(root), u64::MAX));
            });
            let explain = if validator.is_valid(root) {
                0.0
            } else {
                minimum(|| {
                    black_box(validator.violations(black_box(root)));
                })
            };
            let bound = validator.work_bound(root, length) as f64 / units;
            println!(
                "{label:45} {time:12.0} {units:13.0} {:8.2} {bound:9.1} {:9.2} {:9.2}",
                time / units,
                computing / time,
                explain / units
            );
        });
    }
}
