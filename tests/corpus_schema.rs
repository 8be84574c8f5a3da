//! JSON-Schema-Test-Suite on the tape: verdicts equal those of `jsonschema` over serde_json and those the suite
//! expects.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/corpora.rs"]
mod corpora;
#[path = "support/missing.rs"]
mod missing;

use std::{collections::BTreeMap, fs};

use corelane::{
    Limits,
    internals::json::{Decoder, Node},
    internals::schema::Validator,
};
use serde_json::{Value, json};

/// Results of the cases of one part of the suite.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    cases: usize,
    as_expected: usize,
    /// The schema refers to the server of the suite, or uses a dialect that the server describes.
    remote: usize,
    /// The schema does not compile for another reason, or the verdict differs.
    otherwise: usize,
}

fn element(node: Node<'_>, number: usize) -> Node<'_> {
    node.elements().unwrap().nth(number).unwrap()
}

/// The same library over serde_json, with the same options.
fn reference(schema: &Value, limits: &Limits) -> Option<jsonschema::Validator> {
    jsonschema::options()
        .with_pattern_options(jsonschema::PatternOptions::regex().size_limit(limits.schema_pattern_bytes_max))
        .offline()
        .build(schema)
        .ok()
}

/// Adds the `$schema` that an operator would write for that draft. The suite names the draft by its directory only.
fn with_dialect(schema: &Value, draft: &str) -> Value {
    let mut schema = schema.clone();
    if let (Value::Object(members), "draft7") = (&mut schema, draft) {
        members.entry("$schema").or_insert(json!("http://json-schema.org/draft-07/schema#"));
    }
    schema
}

/// Runs a draft: counts of required and optional cases, and the differences by file.
fn run(directory: &std::path::Path, draft: &str) -> (Counts, Counts, Vec<String>) {
    let limits = Limits::default();
    let (mut required, mut optional, mut differences) = (Counts::default(), Counts::default(), Vec::new());
    for (name, path) in corpora::files(&directory.join("tests").join(draft), "json") {
        let text = fs::read(path).unwrap();
        let groups: Vec<Value> = serde_json::from_slice(&text).unwrap();
        // The instances are taken from the file itself, because serde_json would reformat numbers.
        let mut padded = text.clone();
        padded.resize(text.len() + 64, 0);
        let mut decoder = Decoder::new(&limits);
        let document = decoder.decode(&mut padded, text.len()).unwrap();
        let counts = if name.starts_with("optional/") { &mut optional } else { &mut required };
        let mut otherwise: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, group) in groups.iter().enumerate() {
            let schema = with_dialect(&group["schema"], draft);
            let ours = Validator::compile(&schema, &limits);
            let theirs = reference(&schema, &limits);
            let place = format!("{draft}/{name}: {}", group["description"]);
            let error = ours.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let is_remote = error.contains("is outside the schema") || error.contains("unknown dialect");
            assert_eq!(ours.is_ok(), theirs.is_some(), "{place}: {error}");
            if is_remote {
                assert!(schema.to_string().contains("localhost:1234"), "{place}: {error}");
            }
            let tests = element(document.root(), number).get("tests").unwrap();
            for (number, case) in group["tests"].as_array().unwrap().iter().enumerate() {
                counts.cases += 1;
                let (Ok(ours), Some(theirs)) = (&ours, &theirs) else {
                    if is_remote {
                        counts.remote += 1;
                    } else {
                        counts.otherwise += 1;
                        *otherwise.entry("schema refused").or_default() += 1;
                    }
                    continue;
                };
                let place = format!("{place}: {}", case["description"]);
                let data = element(tests, number).get("data").unwrap();
                let verdict = ours.is_valid(data);
                assert_eq!(verdict, theirs.is_valid(&case["data"]), "{place}: tape and serde_json differ");
                assert_eq!(verdict, ours.violations(data).is_empty(), "{place}: a verdict without a reason");
                if verdict == case["valid"].as_bool().unwrap() {
                    counts.as_expected += 1;
                } else {
                    counts.otherwise += 1;
                    *otherwise.entry(if verdict { "valid" } else { "not valid" }).or_default() += 1;
                }
            }
        }
        let rows = otherwise.iter().map(|(we_say, count)| format!("{draft}/{name} | {we_say} | {count}"));
        differences.extend(rows);
    }
    (required, optional, differences)
}

#[test]
fn schema_validation_matches_the_json_schema_test_suite() {
    let Some(directory) = corpora::directory("json-schema") else { return };
    let mut differences = Vec::new();
    let counts = |cases, as_expected, remote, otherwise| Counts { cases, as_expected, remote, otherwise };
    // The newest copy, and the copy in the registry.
    let newest = [
        ("draft2020-12", counts(1299, 1250, 49, 0), counts(926, 533, 5, 388)),
        ("draft7", counts(927, 904, 23, 0), counts(794, 736, 2, 56)),
    ];
    let registry = [
        ("draft2020-12", counts(1257, 1208, 49, 0), counts(649, 440, 5, 204)),
        ("draft7", counts(913, 890, 23, 0), counts(552, 514, 2, 36)),
    ];
    let found = ["draft2020-12", "draft7"].map(|draft| {
        let (required, optional, differing) = run(&directory, draft);
        println!("{draft}: required {required:?}, optional {optional:?}");
        differences.extend(differing);
        (draft, required, optional)
    });
    let is_newest = found[0].1.cases == newest[0].1.cases;
    assert_eq!(found, if is_newest { newest } else { registry });
    // The table counts the cases of the newest copy.
    if is_newest {
        corpora::compare("JSON Schema: optional cases", &differences, true);
    }
}
