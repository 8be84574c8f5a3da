//! Space in the log: calls of tools that panic.

use serde_json::json;

use super::{bystander::Bystander, definition::Attack, tools, wire::legacy_call};

pub(super) fn attacks() -> Vec<Attack> {
    vec![Attack {
        id: "panics",
        description: "calls of tools that panic: inline, async and blocking",
        bystander: Bystander::Canonical,
        run: |attacker| {
            let requests = tools::PANICS.map(|tool| legacy_call(attacker.target, None, tool, &json!({})));
            attacker.flood(2, 4, &requests.each_ref().map(Vec::as_slice));
        },
    }]
}
