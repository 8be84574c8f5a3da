//! Tests of the computed work. They compare work with work; `benches/validation_work.rs` compares it with the clock.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Model;
use crate::{config::Limits, json::with_node};

fn model(schema: &Value) -> Model {
    Model::of(schema, &Limits { schema_backtracking: true, ..Limits::default() }.schema())
}

fn work(schema: &Value, value: &Value) -> u64 {
    with_node(&value.to_string(), |root| model(schema).work(root, u64::MAX).unwrap())
}

fn repeated(count: usize, value: &Value) -> Value {
    Value::Array(vec![value.clone(); count])
}

fn object(count: usize, value: &Value) -> Value {
    (0..count).map(|number| (format!("name_{number:05}"), value.clone())).collect()
}

/// Asserts that the work grows by about `factor` where the value grows tenfold.
#[track_caller]
fn assert_growth(schema: &Value, value: impl Fn(usize) -> Value, factor: u64) {
    let (small, large) = (work(schema, &value(100)), work(schema, &value(1000)));
    let growth = large / small.max(1);
    assert!((factor / 2..=factor * 2).contains(&growth), "{growth} for {schema}: {small}, {large}");
}

#[test]
fn work_of_each_keyword_grows_with_the_part_of_the_value_it_reads() {
    let one = json!(1);
    for element in [
        json!({"type": "integer"}),
        json!({"multipleOf": 0.1}),
        json!({"enum": [1, 2, 3]}),
        json!({"const": 1}),
        json!({"minimum": 0}),
        json!({"allOf": [{"minimum": 0}, {"maximum": 2}]}),
        json!({"anyOf": [{"minimum": 0}, {"maximum": 2}]}),
        json!({"oneOf": [{"minimum": 0}, {"maximum": 2}]}),
        json!({"not": {"minimum": 5}}),
        json!({"if": {"minimum": 0}, "then": {"maximum": 2}, "else": false}),
        json!({"$ref": "#/$defs/a"}),
        json!({"$dynamicRef": "#a"}),
    ] {
        let defs = json!({"a": {"$dynamicAnchor": "a", "multipleOf": 0.5}});
        assert_growth(&json!({"items": element, "$defs": defs}), |count| repeated(count, &one), 10);
    }
    for schema in [
        json!({"contains": {"const": 2}}),
        json!({"uniqueItems": true}),
        json!({"unevaluatedItems": {"multipleOf": 0.1}}),
        json!({"prefixItems": vec![json!({"multipleOf": 0.1}); 2000]}),
    ] {
        assert_growth(&schema, |count| repeated(count, &one), 10);
    }
    for schema in [
        json!({"additionalProperties": {"multipleOf": 0.1}}),
        json!({"patternProperties": {"^n": {"multipleOf": 0.1}}}),
        json!({"patternProperties": {"^[a-z]+_[0-9]{5}$": true}}),
        json!({"propertyNames": {"maxLength": 10}}),
        json!({"propertyNames": {"pattern": "^[a-z]+_"}}),
        json!({"unevaluatedProperties": {"multipleOf": 0.1}}),
        json!({"required": ["a", "b", "c"]}),
        json!({"dependentRequired": {"a": ["b", "c"]}}),
        json!({"dependentSchemas": {"a": {"additionalProperties": {"multipleOf": 0.1}}}}),
    ] {
        assert_growth(&schema, |count| object(count, &one), 10);
    }
    for schema in [
        json!({"maxLength": 5}),
        json!({"pattern": "^[a-z]*x"}),
        json!({"format": "uri"}),
        json!({"contentMediaType": "application/json"}),
        json!({"const": "a"}),
    ] {
        // Beyond the work for a string of any length.
        assert_growth(&schema, |count| json!("a".repeat(count * 1000)), 10);
    }
}

#[test]
fn work_grows_with_the_number_of_branches_options_and_required_names() {
    let numbers = |count: usize| -> Vec<u64> { (0..count as u64).collect() };
    let branches =
        |count| -> Vec<Value> { numbers(count).iter().map(|number| json!({"minimum": number})).collect() };
    let names =
        |count| -> Vec<String> { numbers(count).iter().map(|number| format!("name_{number}")).collect() };
    for schema in [
        &(|count| json!({"items": {"allOf": branches(count)}})) as &dyn Fn(usize) -> Value,
        &|count| json!({"items": {"anyOf": branches(count)}}),
        &|count| json!({"items": {"oneOf": branches(count)}}),
        &|count| json!({"items": {"enum": numbers(count)}}),
    ] {
        let value = repeated(100, &json!(1));
        let (few, many) = (work(&schema(10), &value), work(&schema(100), &value));
        assert!((4..=11).contains(&(many / few)), "{}: {few}, {many}", schema(10));
    }
    let value = object(1000, &json!(1));
    let required = |count| work(&json!({"required": names(count)}), &value);
    assert!(required(100) > 5 * required(10));
}

#[test]
fn work_of_a_pattern_is_the_size_of_its_automaton_times_the_length_of_the_string() {
    let text = |length: usize| json!("ab".repeat(length / 2));
    let matched = |pattern: &str, length| work(&json!({"pattern": pattern}), &text(length));
    // A small deterministic automaton: some units per byte, whatever the size of the pattern.
    for pattern in
        ["^[a-z]+$", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}$", "^[\\w.+-]+@[\\w-]+\\.[\\w.-]+$", "ab.*c"]
    {
        assert!(matched(pattern, 100_000) < 100_000 * 10, "{pattern}");
    }
    // The deterministic automaton has 2^200 states.
    let (short, long) = ("[ab]*a[ab]{200}[^ab]", "[ab]*a[ab]{800}[^ab]");
    assert!(matched(short, 10_000) > 10_000 * 200);
    assert!((3..=5).contains(&(matched(long, 10_000) / matched(short, 10_000))));
    assert!((9..=11).contains(&(matched(short, 100_000) / matched(short, 10_000))));
    // Its end is fixed, and the automaton that is small from one side is not from the other.
    assert!(matched("[^b]*a[ab]{200}$", 10_000) > 10_000 * 200);
    assert!(matched("a[ab]{200}b[ab]*", 10_000) > 10_000 * 200);
    // Steps, which may scan 256 bytes each.
    let steps = Limits::default().schema_backtrack_steps_max as u64;
    let backtracking = |length| matched("^(a)[ab]*\\1$", length);
    assert!((steps * 10..steps * 50).contains(&backtracking(10)));
    assert!((9..=11).contains(&(backtracking(256 * 9) / backtracking(10))));
    // A name is matched like a string.
    let names = json!({"patternProperties": {short: true}});
    assert!(work(&names, &json!({"ab".repeat(500): 1})) > 1000 * 200);
}

#[test]
fn work_counts_only_the_strings_that_a_pattern_is_matched_against() {
    let schema =
        json!({"properties": {"id": {"pattern": "[ab]*a[ab]{800}[^ab]"}, "text": {"type": "string"}}});
    let large = |key: &str| work(&schema, &json!({key: "ab".repeat(50_000)}));
    assert!(large("text") < 1000);
    assert!(large("id") > 100_000_000);
}

#[test]
fn elements_of_which_each_may_be_compared_with_each_cost_quadratic_work() {
    let schema = json!({"uniqueItems": true});
    assert_growth(&schema, |count| repeated(count, &json!([[[]]])), 100);
    assert_growth(&schema, |count| repeated(count, &json!("a")), 10);
}

#[test]
fn recursion_has_no_bound_before_the_value_is_known() {
    for schema in [
        json!({"properties": {"a": {"$ref": "#"}}}),
        json!({"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}),
        json!({"$dynamicAnchor": "a", "items": {"$dynamicRef": "#a"}}),
        json!({"$id": "https://example.com/a", "items": {"$ref": "https://example.com/unknown/relative"}}),
    ] {
        assert_eq!(model(&schema).bound(1, 1), u64::MAX, "{schema}");
    }
    // Each of two branches leads to the same subschema, whose result the library remembers.
    let schema =
        json!({"anyOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]});
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!({"a": inner}));
    assert!((4..=8).contains(&(work(&schema, &nested(60)) / work(&schema, &nested(10)))));
}

#[test]
fn reference_to_itself_is_counted_once() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}, {"multipleOf": 0.1}]}}}),
    ] {
        assert!(work(&schema, &json!(1)) < 100_000);
    }
    let inner = json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}, {"multipleOf": 0.1}]}}});
    assert!(work(&inner, &json!(1)) > work(&json!({"multipleOf": 0.1}), &json!(1)));
}

#[test]
fn work_beyond_the_limit_is_not_computed() {
    let schema = json!({"items": {"multipleOf": 0.1}});
    let all = work(&schema, &repeated(1000, &json!(1)));
    with_node(&repeated(1000, &json!(1)).to_string(), |root| {
        assert_eq!(model(&schema).work(root, all), Some(all));
        assert_eq!(model(&schema).work(root, all - 1), None);
        assert_eq!(model(&schema).work(root, 0), None);
    });
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({"type": ["integer", "string"], "multipleOf": 0.5})),
        Just(json!({"enum": ["a", 1, {"a": 1}]})),
        Just(json!({"pattern": "^a[ab]{2,9}$", "maxLength": 9})),
        Just(json!({"propertyNames": {"pattern": "[ab]*a[ab]{30}[^ab]"}, "required": ["a", "b"]})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| json!({"allOf": [one, other]})),
            (inner.clone(), inner.clone())
                .prop_map(|(one, other)| json!({"properties": {"a": one}, "additionalProperties": other})),
            (inner.clone(), inner.clone())
                .prop_map(|(one, other)| json!({"anyOf": [one], "unevaluatedProperties": other})),
            (inner.clone(), inner.clone())
                .prop_map(|(one, other)| json!({"prefixItems": [one], "items": other})),
            (inner.clone(), inner)
                .prop_map(|(one, other)| { json!({"patternProperties": {"^[ab]": one}, "contains": other}) }),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i16>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[ab]{0,200}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[abc]{1,40}", inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn bound_is_not_below_the_work(schema in any_schema(), value in any_value()) {
        let text = value.to_string();
        let (bound, work) = with_node(&text, |root| {
            let model = model(&schema);
            (model.bound(root.node_count(), text.len()), model.work(root, u64::MAX).unwrap())
        });
        // Each product is rounded down to whole units once in the bound, and once for each string in the work.
        prop_assert!(bound >= work, "{} < {} for {} and {}", bound, work, schema, text);
    }
}
