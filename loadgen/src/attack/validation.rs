//! Time of the shard: arguments that are expensive to validate, and documents that are expensive to parse.

use serde_json::{Value, json};

use super::{attacker::Attacker, bystander::Bystander, definition::Attack, tools, wire::legacy_call};
use crate::request::Request;

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        attack("multiple_of", "multipleOf for 90,000 numbers", |attacker| {
            let numbers: Vec<f64> = (0..90_000).map(|number| f64::from(number) / 4.0).collect();
            call(attacker, tools::MULTIPLE_OF, &json!({"list": numbers}));
        }),
        attack("pattern_properties", "patternProperties for 29,000 keys", |attacker| {
            let members: Value = (0..29_000).map(|number| (format!("key-{number}"), json!(1))).collect();
            call(attacker, tools::PATTERN_PROPERTIES, &members);
        }),
        attack("patterns", "a large pattern for strings of 6.4 KB and of 1 MB", |attacker| {
            let of = |pairs: usize| json!({"text": format!("{}!", "ab".repeat(pairs))});
            let requests =
                [3_200, 500_000].map(|pairs| legacy_call(attacker.target, None, tools::PATTERN, &of(pairs)));
            attacker.flood(4, 1, &requests.each_ref().map(Vec::as_slice));
        }),
        attack("pipelined_all_of", "32 pipelined requests for allOf of 50 branches", |attacker| {
            let arguments = json!({"list": vec![50; 100]});
            let request = legacy_call(attacker.target, None, tools::ALL_OF, &arguments);
            attacker.flood(2, 32, &[&request]);
        }),
        attack("many_values", "documents of 4 MB with 1,1,1…", |attacker| {
            let ones = "1,".repeat(1_900_000);
            let message =
                format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[{ones}1]}}");
            attacker.flood(1, 1, &[&Request::post_with(attacker.target, "", &message)]);
        }),
    ]
}

fn attack(id: &'static str, description: &'static str, run: fn(&Attacker<'_>)) -> Attack {
    Attack { id, description, bystander: Bystander::Canonical, run }
}

fn call(attacker: &Attacker<'_>, tool: &str, arguments: &Value) {
    attacker.flood(2, 1, &[&legacy_call(attacker.target, None, tool, arguments)]);
}
