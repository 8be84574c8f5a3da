//! Tests of validators.

use serde_json::json;

use super::{
    super::{
        cost::VALUES_PER_STEP,
        error::{TEXT_CHARS_MAX, backtracking_construct},
    },
    *,
};

fn compile(schema: &Value) -> Result<Validator, SchemaError> {
    Validator::compile(schema, &Limits::default())
}

fn violations(schema: &Value, instance: &Value) -> Vec<Violation> {
    let validator = compile(schema).unwrap();
    let mut bytes = serde_json::to_vec(instance).unwrap();
    let length = bytes.len();
    bytes.resize(length + 64, 0);
    let mut decoder = Decoder::new(&Limits::default());
    let document = decoder.decode(&mut bytes, length).unwrap();
    let violations = validator.violations(document.root());
    assert_eq!(validator.is_valid(document.root()), violations.is_empty());
    violations
}

#[test]
fn violation_has_its_path() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"items": {"maxLength": 2}}, "c": true},
        "required": ["c"],
        "additionalProperties": false
    });
    let found = violations(&schema, &json!({"a": "x", "b": ["ok", "long"], "d": 1}));
    let paths: Vec<_> = found.iter().map(|violation| violation.path.as_str()).collect();
    assert!(paths.contains(&"/a") && paths.contains(&"/b/1") && paths.contains(&""), "{found:?}");
    assert!(violations(&schema, &json!({"a": 1, "c": null})).is_empty());
}

#[test]
fn violation_lists_valid_values() {
    let schema = json!({
        "properties": {
            "city": {"type": "string"},
            "unit": {"anyOf": [{"$ref": "#/$defs/unit"}, {"type": "null"}]},
            "gone": false,
            "shape": {"oneOf": [
                {"type": "object", "properties": {"kind": {"const": "circle"}, "radius": {"type": "number"}},
                    "required": ["kind", "radius"]},
                {"type": "object", "properties": {"kind": {"const": "square"}, "side": {"type": "number"}},
                    "required": ["kind", "side"]}
            ]},
            "inner": {"$ref": "#/$defs/inner"}
        },
        "additionalProperties": false,
        "$defs": {
            "unit": {"type": "string", "enum": ["metric", "imperial"]},
            "inner": {"type": "object", "properties": {"street": {}}, "additionalProperties": false}
        }
    });
    for (value, path, message) in [
        (json!({"unit": "metrical"}), "/unit", "must be one of \"imperial\", \"metric\", null"),
        (json!({"citty": "Ulm"}), "", "unknown argument \"citty\", did you mean \"city\"?"),
        (json!({"zzz": 1}), "", "unknown argument \"zzz\""),
        (json!({"inner": {"stret": 1}}), "/inner", "did you mean \"street\"?"),
        (json!({"gone": 1}), "/gone", "\"gone\" is not allowed here"),
        (json!({"city": 1}), "/city", "the value is not of type \"string\""),
        (json!({"shape": {"kind": "cirle"}}), "/shape", "/shape/kind must be one of \"circle\", \"square\""),
        (json!({"shape": {"kind": "square", "side": "x"}}), "/shape", "/shape/side the value is not of type"),
    ] {
        let found = violations(&schema, &value);
        let [violation] = found.as_slice() else { panic!("{found:?}") };
        assert!(violation.path == path && violation.reason.contains(message), "{value}: {violation:?}");
    }
    let many: Vec<String> = (0..1000).map(|number| format!("value {number}")).collect();
    let found = violations(&json!({"anyOf": [{"enum": many}, {"type": "null"}]}), &json!("x"));
    assert!(found[0].reason.chars().count() <= TEXT_CHARS_MAX + 1, "{found:?}");
}

#[test]
fn long_lists_are_truncated_before_they_are_formatted() {
    let listed = |schema: &Value, value: &Value| {
        let found = violations(schema, value);
        let [violation] = found.as_slice() else { panic!("{found:?}") };
        assert!(violation.reason.ends_with(", …") || violation.reason.ends_with("; …"), "{violation:?}");
        violation.reason.matches([',', ';']).count()
    };
    let numbers: Vec<u32> = (0..400).collect();
    let constants: Vec<Value> = numbers.iter().map(|number| json!({"const": number})).collect();
    let tagged: Vec<Value> =
        numbers.iter().map(|number| json!({"properties": {"k": {"const": number}}})).collect();
    assert_eq!(listed(&json!({"enum": numbers}), &json!(-1)), 32);
    assert_eq!(listed(&json!({"anyOf": constants}), &json!(-1)), 32);
    assert_eq!(listed(&json!({"oneOf": tagged}), &json!({"k": -1})), 32);
    let unknown: serde_json::Map<String, Value> =
        numbers.iter().map(|number| (number.to_string(), json!(1))).collect();
    let strict = json!({"additionalProperties": false});
    let found = violations(&strict, &Value::Object(unknown));
    // The reason is truncated as well.
    assert!(!found[0].reason.contains("\"32\""), "{found:?}");
}

#[test]
fn external_reference_is_rejected_with_a_reason() {
    for reference in ["http://169.254.169.254/", "file:///etc/passwd", "other.json", "urn:x:y"] {
        for schema in [
            json!({"$ref": reference}),
            json!({"properties": {"a": {"items": {"$ref": reference}}}}),
            json!({"$dynamicRef": reference}),
        ] {
            let message = compile(&schema).err().unwrap().to_string();
            assert!(message.contains("nothing is read from the network or from files"), "{message}");
        }
    }
    let inside = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$anchor": "b", "type": "string"}}});
    assert!(compile(&inside).is_ok());
    assert!(compile(&json!({"$ref": "https://json-schema.org/draft/2020-12/schema"})).is_ok(), "built in");
}

#[test]
fn unknown_dialect_is_rejected_by_name() {
    let of = |dialect: &str| compile(&json!({"$schema": dialect}));
    for known in [
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema#",
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-04/schema",
    ] {
        assert!(of(known).is_ok(), "{known}");
    }
    for unknown in
        ["https://json-schema.org/draft/2099-01/schema", "http://169.254.169.254/x", "nonsense", ""]
    {
        let message = of(unknown).err().unwrap().to_string();
        assert!(message.starts_with("invalid JSON Schema at /$schema: unknown dialect"), "{message}");
    }
}

#[test]
fn schema_error_has_its_path() {
    for (schema, message) in [
        (json!({"type": "no such type"}), "/type: "),
        (json!({"properties": {"a": {"pattern": "(a)\\1"}}}), "/properties/a/pattern: "),
        (json!({"properties": {"a": {"minLength": -1}}}), "/properties/a/minLength: "),
        (json!([]), "(root): "),
        (json!({"$ref": "#/$defs/none"}), ": "),
    ] {
        let text = compile(&schema).err().unwrap().to_string();
        assert!(text.starts_with(&format!("invalid JSON Schema at {message}")) || message == ": ", "{text}");
        assert!(text.len() < 500, "{text}");
    }
}

const ZOD_EMAIL: &str =
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$";

fn backtracking() -> Limits {
    Limits { schema_backtracking: true, ..Limits::default() }
}

/// Schemas with the pattern in each possible position, with values that have `text` in that position.
fn with_pattern(pattern: &str, text: &str) -> [(Value, Value); 8] {
    [
        (json!({"properties": {"a": {"pattern": pattern}}}), json!({"a": text})),
        (json!({"properties": {"a": {"items": {"pattern": pattern}}}}), json!({"a": [text]})),
        (json!({"patternProperties": {pattern: {}}, "additionalProperties": false}), json!({text: 1})),
        (json!({"propertyNames": {"pattern": pattern}}), json!({text: 1})),
        (
            json!({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"pattern": pattern}}}),
            json!({"a": text}),
        ),
        (
            json!({"propertyNames": {"$ref": "#/$defs/a"}, "$defs": {"a": {"pattern": pattern}}}),
            json!({text: 1}),
        ),
        (json!({"additionalProperties": {"anyOf": [{"pattern": pattern}, false]}}), json!({"a": text})),
        (
            json!({"properties": {"a": {"pattern": pattern}, "b": {"$ref": "#/properties/a"}}}),
            json!({"b": text}),
        ),
    ]
}

fn validate(schema: &Value, instance: &Value, limits: &Limits) -> (Validation, String) {
    let validator = Validator::compile(schema, limits).unwrap();
    let mut bytes = serde_json::to_vec(instance).unwrap();
    let length = bytes.len();
    bytes.resize(length + 64, 0);
    let mut decoder = Decoder::new(limits);
    let document = decoder.decode(&mut bytes, length).unwrap();
    (validator.validate(document.root()), format!("{:?}", validator.violations(document.root())))
}

#[test]
fn backtracking_pattern_is_rejected_with_its_construct() {
    for (pattern, construct, fits, unfit) in [
        (ZOD_EMAIL, "a lookahead", "ann@example.com", "ann..b@example.com"),
        ("^(?!\\.)[a-z]+$", "a lookahead", "abc", ".abc"),
        ("(?=.*[0-9]).{8,}x", "a lookahead", "12345678x", "abcdefghx"),
        ("(?<=a)b", "a lookbehind", "ab", "cb"),
        ("(?<!a)b", "a lookbehind", "cb", "ab"),
        ("(a)\\1", "a backreference", "aa", "ab"),
        ("(?<x>a)\\1", "a backreference", "aa", "ab"),
    ] {
        for (schema, value) in with_pattern(pattern, fits) {
            let Err(error) = compile(&schema) else { panic!("{schema} is accepted") };
            assert!(error.reason.contains(&format!("uses {construct}")), "{schema}: {error}");
            assert!(error.reason.contains("set [schema] backtracking = true"), "{schema}: {error}");
            assert_eq!(validate(&schema, &value, &backtracking()).0, Validation::Valid, "{schema}");
        }
        for (schema, value) in with_pattern(pattern, unfit) {
            let (verdict, message) = validate(&schema, &value, &backtracking());
            assert!(verdict == Validation::Invalid && message != "[]", "{schema}: {verdict:?}, {message}");
        }
    }
    for (schema, _) in with_pattern("(?<x>a)\\k<x>", "") {
        assert!(compile(&schema).err().unwrap().reason.contains("uses a backreference"));
        let message = Validator::compile(&schema, &backtracking()).err().unwrap().to_string();
        assert!(message.contains("named backreference") && message.contains("by its number"), "{message}");
    }
    assert_eq!(backtracking_construct("[(?=]\\(?=\\\\1"), None);
    let linear = Validator::compile(&json!({"pattern": "^(a|b)+c"}), &backtracking()).unwrap();
    assert!(linear.extra.is_none(), "no additional checks");
    assert!(Validator::compile(&json!({"pattern": "(?=a"}), &backtracking()).is_err());
}

#[test]
fn match_beyond_the_step_limit_is_a_violation() {
    let text = format!("{}!", "a".repeat(200));
    for (schema, value) in with_pattern("^(?:(?=a)a+)+$", &text) {
        let (verdict, message) = validate(&schema, &value, &backtracking());
        assert!(
            verdict == Validation::Invalid && message.contains("schema_backtrack_steps_max"),
            "{schema}: {message}"
        );
    }
    for pattern in ["^(?=(a+)+$)", "^(?=(a|a)+$)b"] {
        for (schema, value) in with_pattern(pattern, &text) {
            let limits = backtracking();
            assert_eq!(validate(&schema, &value, &limits).0, Validation::Invalid, "{schema}");
        }
    }
    // The library copies the value to find the position of the match, even without remaining work.
    let schema = json!({"items": {"anyOf": vec![json!({"pattern": "^(?:(?=a)a+)+$"}); 20]}});
    let many: Vec<Value> = (0..20).map(|number| json!(format!("{text}{number}"))).collect();
    let limits = Limits { validation_work_max: 1_000_000_000_000, ..backtracking() };
    assert!(validate(&schema, &json!(many), &limits).1.contains("schema_backtrack_steps_max"));
}

/// Limits with work for 50 matches.
fn few_matches() -> Limits {
    let limits = backtracking();
    let of_match = limits.schema_backtrack_steps_max * VALUES_PER_STEP * VISITED_VALUE;
    Limits { validation_work_max: 50 * of_match, ..limits }
}

#[test]
fn strings_that_may_exceed_the_step_limit_are_rejected_before_matching() {
    let limits = few_matches();
    for (count, verdict) in [(10, Validation::Valid), (100, Validation::BudgetExceeded)] {
        let texts: Vec<String> = (0..count).map(|number| format!("u{number}@example.com")).collect();
        let names: Value = texts.iter().map(|text| (text.clone(), json!(1))).collect();
        for (schema, value) in [
            (json!({"properties": {"a": {"items": {"pattern": ZOD_EMAIL}}}}), json!({"a": texts})),
            (
                json!({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"items": {"pattern": ZOD_EMAIL}}}}),
                json!({"a": texts}),
            ),
            (json!({"patternProperties": {ZOD_EMAIL: {}}}), names.clone()),
            (json!({"propertyNames": {"pattern": ZOD_EMAIL}}), names.clone()),
            (json!({"propertyNames": {"$ref": "#/$defs/a"}, "$defs": {"a": {"pattern": ZOD_EMAIL}}}), names),
        ] {
            assert_eq!(validate(&schema, &value, &limits).0, verdict, "{schema}, {count}");
        }
    }
    let schema = json!({"properties": {"mail": {"pattern": ZOD_EMAIL}, "text": {"type": "string"}}});
    let value = |mail: &str| json!({"mail": mail, "text": "x".repeat(100_000)});
    assert_eq!(validate(&schema, &value("a@example.com"), &limits).0, Validation::Valid, "no candidate");
    let long = value(&"a".repeat(100_000));
    assert_eq!(validate(&schema, &long, &limits).0, Validation::BudgetExceeded);
}

#[test]
fn matches_beyond_the_step_limit_are_repeated_within_the_work_limit() {
    // The library tries each outcome of the slow matches, up to 64 times, and repeats the other matches each time.
    let (slow, fast) = (format!("{}!", "a".repeat(200)), "aa");
    let texts: Vec<String> = (0..40)
        .map(|number| if number < 6 { format!("{slow}{number}") } else { format!("{fast}{number}") })
        .collect();
    let limits = few_matches();
    let names: Value = texts.iter().map(|text| (text.clone(), json!(1))).collect();
    let pattern = json!({"pattern": "^(?:(?=a)a+)+$|^aa[0-9]+$"});
    let referring = json!({
        "properties": {"a": {"items": {"allOf": vec![json!({"$ref": "#/$defs/a"}); 100]}}},
        "$defs": {"a": pattern}
    });
    for (schema, value) in [
        (json!({"properties": {"a": {"items": pattern}}}), json!({"a": texts})),
        (json!({"items": {"not": {"not": pattern}}}), json!(texts)),
        (json!({"propertyNames": pattern}), names.clone()),
        (json!({"patternProperties": {"^(?:(?=a)a+)+$|^aa[0-9]+$": {}}}), names),
        // The pattern counts once in advance, and is matched once per reference.
        (referring, json!({"a": vec![fast; 40]})),
    ] {
        let strings_max = limits.validation_work_max
            / VISITED_VALUE
            / (limits.schema_backtrack_steps_max * VALUES_PER_STEP);
        crate::schema::tape::STRINGS.set(0);
        let (verdict, message) = validate(&schema, &value, &limits);
        let strings = crate::schema::tape::STRINGS.get();
        assert_eq!(verdict, Validation::BudgetExceeded, "{schema}: {message}");
        // Once to validate, and once more, with a fifth more work, to explain.
        assert!(strings <= strings_max * 2 + strings_max / 5, "{schema}: {strings} strings");
    }
}

#[test]
fn schema_beyond_a_limit_is_rejected() {
    let limits = Limits {
        schema_depth_max: 5,
        schema_subschemas_max: 4,
        schema_pattern_bytes_max: 10_000,
        ..Limits::default()
    };
    let message = |schema: &Value| Validator::compile(schema, &limits).err().map(|error| error.to_string());
    let deep = |arrays: usize| {
        let nested = (0..arrays).fold(json!(1), |inner, _| json!([inner]));
        json!({"properties": {"a": {"const": nested}}})
    };
    assert_eq!(message(&deep(2)), None);
    assert!(message(&deep(3)).unwrap().contains("(root): nested deeper than 5 levels"));
    assert_eq!(message(&json!({"allOf": [true, true, {}]})), None);
    assert!(message(&json!({"allOf": [true, true, {}, true]})).unwrap().contains("more than 4 subschemas"));
    assert_eq!(message(&json!({"pattern": "^a{100}$"})), None);
    assert!(message(&json!({"pattern": "^a{1000}{1000}$"})).unwrap().contains("/pattern"));
    assert!(message(&json!({"patternProperties": {"^a{1000}{1000}$": 1}})).is_some());
    assert_eq!(Validator::compile(&json!(true), &limits).unwrap().subschemas(), 1);
    assert_eq!(Validator::compile(&json!({"not": {"uniqueItems": true}}), &limits).unwrap().subschemas(), 3);

    let limits = Limits::default();
    let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"not": inner}));
    assert!(Validator::compile(&nested(limits.schema_depth_max), &limits).is_ok());
    assert!(Validator::compile(&nested(limits.schema_depth_max + 1), &limits).is_err());
    let wide = |count: usize| json!({"anyOf": vec![json!({}); count - 1]});
    assert!(Validator::compile(&wide(limits.schema_subschemas_max), &limits).is_ok());
    assert!(Validator::compile(&wide(limits.schema_subschemas_max + 1), &limits).is_err());
}

/// Schema of a tree with two kinds of nodes, as generated for an internally tagged enum.
fn recursive() -> Value {
    let kind = |kind: &str| {
        json!({
            "type": "object",
            "properties": {"child": {"$ref": "#/$defs/node"}, "kind": {"const": kind}},
            "required": ["kind"]
        })
    };
    json!({"$ref": "#/$defs/node", "$defs": {"node": {"oneOf": [kind("a"), kind("b")]}}})
}

#[test]
fn recursive_schema_with_nested_value_is_validated_in_bounded_time() {
    let schema = recursive();
    let tree = |leaf: &str| {
        (0..60).fold(
            json!({"kind": leaf}),
            |child, level| json!({"child": child, "kind": if level % 2 == 0 { "a" } else { "b" }}),
        )
    };
    assert_eq!(violations(&schema, &tree("a")), []);
    let found = violations(&schema, &tree("c"));
    assert!(found.len() == 1 && found[0].path.is_empty(), "{found:?}");
}

#[test]
fn validation_beyond_the_work_limit_is_invalid() {
    let limits = Limits { validation_work_max: 100 * VISITED_VALUE, ..Limits::default() };
    let validator = Validator::compile(&json!({"items": {"type": "integer"}}), &limits).unwrap();
    for (count, fits) in [(90, true), (110, false), (90, true)] {
        let mut bytes = format!("[{}1]", "1,".repeat(count - 1)).into_bytes();
        let length = bytes.len();
        bytes.resize(length + 64, 0);
        let mut decoder = Decoder::new(&limits);
        let document = decoder.decode(&mut bytes, length).unwrap();
        assert_eq!(validator.is_valid(document.root()), fits, "{count}");
    }
}

#[test]
fn references_that_expand_beyond_the_limit_are_rejected() {
    let doubling = |levels: usize, to: fn(usize) -> String| {
        let definition = |level: usize| {
            let name =
                if level < levels { json!({"$ref": to(level + 1)}) } else { json!({"type": "string"}) };
            (format!("d{level}"), json!({"$anchor": format!("a{level}"), "anyOf": [name, name]}))
        };
        let definitions: serde_json::Map<_, _> = (0..=levels).map(definition).collect();
        json!({"$ref": to(0), "$defs": definitions})
    };
    let pointer: fn(usize) -> String = |level| format!("#/$defs/d{level}");
    let anchor: fn(usize) -> String = |level| format!("#a{level}");
    for to in [pointer, anchor] {
        assert!(compile(&doubling(8, to)).is_ok());
        let message = compile(&doubling(30, to)).err().unwrap().to_string();
        assert!(message.contains("expand to more than 32000"), "{message}");
    }
    let chain = |levels: usize| {
        let definitions: serde_json::Map<_, _> = (0..levels)
            .map(|level| (format!("d{level}"), json!({"$ref": format!("#/$defs/d{}", level + 1)})))
            .chain([(format!("d{levels}"), json!(true))])
            .collect();
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    };
    assert!(compile(&chain(60)).is_ok());
    for levels in [130, 1900] {
        assert!(compile(&chain(levels)).is_err());
    }
    assert!(compile(&recursive()).is_ok());
    let often = json!({
        "properties": (0..500).map(|name| (format!("p{name}"), json!({"$ref": "#/$defs/a"}))).collect::<Value>(),
        "$defs": {"a": {"properties": {"x": {"type": "string"}, "y": {"minimum": 1}, "z": {}}}}
    });
    assert!(compile(&often).is_ok(), "many references do not multiply each other");
}

#[test]
fn deepest_value_in_deepest_recursive_schema_does_not_overflow_the_stack() {
    // A test's thread has the stack of a shard, 2 MiB, and frames are larger without optimisation.
    let chain = |length: usize| {
        let mut definitions: serde_json::Map<_, _> = (0..length)
            .map(|link| (link.to_string(), json!({"anyOf": [{"$ref": format!("#/$defs/{}", link + 1)}]})))
            .collect();
        let last = json!({"type": "object", "properties": {"x": {"$ref": "#"}}});
        definitions.insert(length.to_string(), last);
        json!({"$ref": "#/$defs/0", "$defs": definitions})
    };
    let longest = (1..200).rev().map(chain).find(|schema| compile(schema).is_ok()).unwrap();
    assert!(longest["$defs"].as_object().unwrap().len() > 30);
    let nested = |levels: usize, leaf: Value| (1..levels).fold(leaf, |inner, _| json!({"x": inner}));
    let levels_max = Limits::default().json_depth_max;
    for length in 1..longest["$defs"].as_object().unwrap().len() {
        let validator = compile(&chain(length)).unwrap();
        assert!(validator.extra.as_ref().is_some_and(|extra| extra.recursive.is_some()));
        for levels in [2, 9, 30, levels_max] {
            // The violation is the library's, or states that there is too much to list.
            assert_eq!(violations(&chain(length), &nested(levels, json!(1))).len(), 1);
        }
    }
    assert_eq!(violations(&chain(10), &nested(levels_max, json!({}))), []);
    let found = violations(&chain(3), &nested(levels_max, json!(1)));
    assert!(!found[0].reason.starts_with("too large"), "{found:?}");
}
