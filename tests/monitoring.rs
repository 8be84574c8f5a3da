//! The dashboard and the alerts in deploy/ against the metrics that the server exports.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{collections::BTreeSet, fs, net::SocketAddr, path::PathBuf, process::Command};

use corelane::{Config, demo};
use serde_json::{Value, json};
use support::{Client, modern, post};

fn deploy(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// The metrics page of a server that has answered a call of each kind.
fn metrics() -> String {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = Config { listen: vec![any.into()], admin: Some(any), shards: Some(1), ..Config::default() };
    let running = demo::server().build().start(&config).unwrap();
    let mut client = Client::connect(running.addresses()[0]);
    let (headers, body) = modern("tools/call", json!({"name": "echo", "arguments": {"message": "x"}}));
    assert_eq!(client.send(post(&headers, body)).read().status, 200);
    let mut admin = Client::connect(running.admin_address().unwrap());
    let page = admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").read();
    running.stopper().drain();
    running.join().unwrap();
    String::from_utf8(page.body).unwrap()
}

/// The expressions of the Grafana dashboard: those of its panels, variables and annotations.
fn dashboard_expressions(dashboard: &Value) -> Vec<String> {
    let mut expressions = Vec::new();
    let mut values = vec![dashboard];
    while let Some(value) = values.pop() {
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    match member {
                        Value::String(text) if key == "expr" || key == "definition" => {
                            expressions.push(text.clone())
                        }
                        _ => values.push(member),
                    }
                }
            }
            Value::Array(items) => values.extend(items),
            _ => {}
        }
    }
    expressions
}

/// The lines of the rules from each `expr:` to the next key.
fn alert_expressions(rules: &str) -> Vec<String> {
    let mut expressions: Vec<String> = Vec::new();
    let mut is_expression = false;
    for line in rules.lines() {
        let text = line.trim();
        if let Some(rest) = text.strip_prefix("expr:") {
            expressions.push(rest.trim_matches([' ', '|']).to_owned());
            is_expression = true;
        } else if text.starts_with("for:") || text.starts_with("labels:") {
            is_expression = false;
        } else if is_expression {
            expressions.last_mut().unwrap().push_str(text);
        }
    }
    expressions
}

/// The names in a text that begin like those of the server's metrics.
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words
        .filter(|word| word.starts_with("corelane_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// The values that an expression requires of a label, alternatives of a pattern included.
fn label_values(expression: &str, label: &str) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    for operator in ["=\"", "=~\"", "!=\""] {
        for part in expression.split(&format!("{label}{operator}")).skip(1) {
            let value = part.split('"').next().unwrap();
            if !value.contains('$') {
                values.extend(value.split('|').map(str::to_owned));
            }
        }
    }
    values
}

/// Names and values that the expressions use and the page does not have.
fn missing(expressions: &[String], page: &str) -> Vec<String> {
    // Of the families, of which some have no sample yet.
    let mut exported = BTreeSet::new();
    for family in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = family.split_once(' ').unwrap();
        let suffixes: &[&str] = match kind {
            "histogram" => &["_bucket", "_count", "_sum"],
            "summary" => &["", "_count", "_sum"],
            _ => &[""],
        };
        exported.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
    }
    let mut missing = Vec::new();
    for expression in expressions {
        let names = metric_names(expression).into_iter().filter(|name| !exported.contains(name));
        missing.extend(names.map(|name| format!("{name} in {expression}")));
        for label in ["event", "reason", "limit", "queue", "state", "method", "position"] {
            let values = label_values(expression, label).into_iter();
            let absent = values.filter(|value| !page.contains(&format!("{label}=\"{value}\"")));
            missing.extend(absent.map(|value| format!("{label}={value} in {expression}")));
        }
    }
    missing
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(deploy("grafana-dashboard.json")).unwrap()).unwrap()
}

#[test]
fn metrics_of_dashboard_and_alerts_are_exported() {
    let page = metrics();
    let shown = dashboard_expressions(&dashboard());
    let alerts = alert_expressions(&fs::read_to_string(deploy("alerts.yml")).unwrap());
    assert!(shown.len() > 40 && alerts.len() > 10, "{} and {} expressions", shown.len(), alerts.len());
    for expressions in [&shown, &alerts] {
        assert_eq!(missing(expressions, &page), [""; 0]);
    }
    // Each metric of the server is shown, but those that repeat others.
    let used = metric_names(&shown.concat());
    let is_used = |family: &str| {
        ["", "_bucket", "_count", "_sum"].iter().any(|suffix| used.contains(&format!("{family}{suffix}")))
    };
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unused: Vec<&str> = families.filter(|family| !is_used(family)).collect();
    assert_eq!(
        unused,
        [
            "corelane_request_duration_quantile_seconds",
            "corelane_tool_duration_quantile_seconds",
            "corelane_stage_samples_total",
            "process_virtual_memory_bytes",
        ]
    );
}

#[test]
fn unknown_names_in_expressions_are_found() {
    let page = "# TYPE corelane_a counter\ncorelane_a{event=\"x\"} 1\n";
    let missing = |expression: &str| missing(&[expression.to_owned()], page).len();
    assert_eq!(missing("rate(corelane_a{event=~\"x|x\", instance=~\"$instance\"}[5m])"), 0);
    assert_eq!(missing("corelane_b + process_c"), 2);
    assert_eq!(missing("corelane_a{event=\"y\"}"), 1);
    assert_eq!(alert_expressions("expr: a\nfor: 1m\nexpr: |\n  b +\n  c\nlabels: {}\n"), ["a", "b +c"]);
}

#[test]
fn panels_of_the_dashboard_do_not_overlap_and_have_titles() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut cells = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(!title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title}");
        for row in at("y")..at("y") + at("h") {
            for column in at("x")..at("x") + at("w") {
                assert!(cells.insert((row, column)), "{title} overlaps another panel");
            }
        }
        if panel["type"] != "row" {
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

/// The output of promtool, if it succeeds; `None` where it is missing.
fn promtool(arguments: &[&str]) -> Option<Result<String, String>> {
    let Ok(output) = Command::new("promtool").args(arguments).output() else {
        support::missing::report("promtool", "scripts/test.sh installs it");
        return None;
    };
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Some(if output.status.success() { Ok(text) } else { Err(text) })
}

#[test]
fn promtool_accepts_the_alerts_and_their_tests_pass() {
    let (alerts, tests) = (deploy("alerts.yml"), deploy("alerts-test.yml"));
    for arguments in
        [["check", "rules", alerts.to_str().unwrap()], ["test", "rules", tests.to_str().unwrap()]]
    {
        if let Some(Err(text)) = promtool(&arguments) {
            panic!("{text}");
        }
    }
    // Each alert has a test that fires it.
    let (alerts, tests) = (fs::read_to_string(alerts).unwrap(), fs::read_to_string(tests).unwrap());
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires = tests
            .split(&format!("alertname: {alert}\n"))
            .skip(1)
            .any(|test| test.trim_start().starts_with("exp_alerts:\n"));
        assert!(fires, "no test fires {alert}");
    }
}

#[test]
fn promtool_accepts_the_expressions_of_the_dashboard() {
    let rules: Vec<Value> = dashboard_expressions(&dashboard())
        .iter()
        .filter(|expression| !expression.starts_with("label_values("))
        .enumerate()
        .map(|(index, expression)| {
            let expression = expression.replace("$__rate_interval", "5m");
            json!({"record": format!("expression_{index}"), "expr": expression})
        })
        .collect();
    assert!(rules.len() > 40, "{}", rules.len());
    let path = std::env::temp_dir().join(format!("corelane-expressions-{}.yml", std::process::id()));
    // JSON is YAML.
    fs::write(&path, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    let result = promtool(&["check", "rules", path.to_str().unwrap()]);
    fs::remove_file(&path).unwrap();
    if let Some(Err(text)) = result {
        panic!("{text}");
    }
}
