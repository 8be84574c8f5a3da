//! Checks of the documentation: files and functions that it names exist, docs/CHECKLIST.md has the sections of the
//! specification and existing tests, and docs/RELIABILITY.md has existing tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/missing.rs"]
mod missing;
#[path = "support/source_tree.rs"]
mod source_tree;

use std::{collections::BTreeSet, fs, path::PathBuf};

use source_tree::{code, root, rust_files, tests_in};

/// The names in backquotes of a document that do not exist: files and folders, with the root or `src/` as the base, and
/// functions of a file in lists such as `file.rs`: `first`, `Type::second`.
fn dead_names(text: &str) -> Vec<String> {
    let mut dead = Vec::new();
    let mut listed: Option<PathBuf> = None;
    let mut parts = text.split('`');
    let mut between = parts.next().unwrap_or_default();
    while let (Some(name), Some(next)) = (parts.next(), parts.next()) {
        let is_path = name.ends_with(".rs") || name.ends_with('/') && !name.contains("//");
        if is_path && !name.starts_with(['/', '.']) && !name.contains(' ') {
            let file =
                [root().join(name), root().join("src").join(name)].into_iter().find(|path| path.exists());
            if file.is_none() {
                dead.push(name.to_owned());
            }
            listed = file.filter(|_| next.starts_with(": "));
        } else if let Some(file) = &listed {
            let follows = [":", ",", "\\*,"].contains(&between.trim_end());
            let function = name.rsplit("::").next().unwrap();
            if !follows {
                listed = None;
            } else if !code(file).contains(&format!("fn {function}")) {
                dead.push(format!("{name} of {}", file.display()));
            }
        }
        between = next;
    }
    dead
}

#[test]
fn files_and_functions_that_the_documentation_names_exist() {
    for document in ["docs/ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        assert_eq!(dead_names(&text), [""; 0], "{document}");
    }
    let known =
        "`shard/mod.rs`: `guarded`, `on_event`; `mcp/envelope/era.rs`: `Params::read`\\*, `expect`; `ring/`";
    assert_eq!(dead_names(known), [""; 0]);
    let dead =
        "`shard/none.rs`, `none/`, `shard/mod.rs`: `guarded`\\*, `nothing`. `Phase` of `connection/mod.rs`";
    let function = format!("nothing of {}", root().join("src/shard/mod.rs").display());
    assert_eq!(dead_names(dead), ["shard/none.rs", "none/", function.as_str()]);
}

/// A row of docs/CHECKLIST.md: one requirement of the specification.
struct Requirement<'a> {
    id: &'a str,
    /// A link to the section of the specification, which names the revision.
    section: &'a str,
    /// Names of tests in backquotes, with remarks.
    tests: &'a str,
}

/// The rows of the table of requirements.
fn requirements(text: &str) -> Vec<Requirement<'_>> {
    let rows = text.lines().skip_while(|line| *line != "| id | requirement | section | tests |").skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            Requirement { id: cells[1], section: cells[3], tests: cells[4] }
        })
        .collect()
}

/// The faults of the rows: no link to a section of a revision, no test, a test that does not exist, a second row.
fn checklist_faults(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    for Requirement { id, section, tests: cell } in requirements(text) {
        if !ids.insert(id) {
            faults.push(format!("{id} has two rows"));
        }
        if !section.contains("](https://") || !section.contains("/20") {
            faults.push(format!("{id} links no section of a revision"));
        }
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            faults.push(format!("{id} names no test"));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(*name));
        faults.extend(missing.map(|name| format!("{id}: there is no test {name}")));
    }
    faults
}

/// The ids of the mandatory requirements without a row.
fn requirements_without_row<'a>(checklist: &'a str, text: &str) -> Vec<&'a str> {
    let start = checklist.find("## 0. Constant tables").expect("the checklist has no section 0");
    let end = checklist.find("## 11. Authorization").expect("the checklist has no section 11");
    let rows: BTreeSet<&str> = requirements(text).iter().map(|row| row.id).collect();
    let mandatory: Vec<&str> = checklist[start..end]
        .lines()
        .filter(|line| line.contains("[M]") || line.contains("[!]"))
        .filter_map(|line| line.strip_prefix("- ")?.split(' ').next())
        .filter(|id| id.split_once('-').is_some_and(|(_, number)| number.parse::<u32>().is_ok()))
        .collect();
    assert!(mandatory.len() > 80, "only {} mandatory requirements were found", mandatory.len());
    mandatory.into_iter().filter(|id| !rows.contains(id)).collect()
}

fn checklist() -> String {
    fs::read_to_string(root().join("docs/CHECKLIST.md")).unwrap()
}

#[test]
fn checklist_rows_name_a_section_and_existing_tests() {
    let files = ["src", "ring", "loadgen", "tests"].into_iter().flat_map(rust_files);
    let tests = files.flat_map(|path| tests_in(&code(&path)).collect::<Vec<_>>()).collect();
    let text = checklist();
    assert!(requirements(&text).len() > 80, "the table in docs/CHECKLIST.md was not found");
    let faults = checklist_faults(&text, &tests);
    assert!(faults.is_empty(), "docs/CHECKLIST.md:\n{}", faults.join("\n"));
}

#[test]
fn checklist_faults_are_reported() {
    let tests = tests_in("#[test]\nfn a() {}\n#[test]\n#[ignore]\nfn b() {}").collect();
    let faults = |row: &str| {
        checklist_faults(
            &format!("| id | requirement | section | tests |\n|---|---|---|---|\n{row}\n"),
            &tests,
        )
    };
    assert_eq!(faults("| B-01 | x | [s](https://a/2026-07-28/b) | `a`, `b` |"), [""; 0]);
    assert_eq!(faults("| B-01 | x | [s](https://a/2026-07-28/b) | `c` |"), ["B-01: there is no test c"]);
    assert_eq!(faults("| B-01 | x | [s](https://a/2026-07-28/b) | none |"), ["B-01 names no test"]);
    assert_eq!(faults("| B-01 | x | page | `a` |"), ["B-01 links no section of a revision"]);
}

#[test]
fn every_mandatory_requirement_has_a_checklist_row() {
    let path = root().join("../shared/mcp/checklist.md");
    let Ok(checklist_of_project) = fs::read_to_string(&path) else {
        missing::report("../shared/mcp/checklist.md", "only the project's developers have it");
        return;
    };
    let text = checklist();
    assert_eq!(
        requirements_without_row(&checklist_of_project, &text),
        [""; 0],
        "docs/CHECKLIST.md lacks rows"
    );
    let shorter = text.replace("| L-50 |", "| - |");
    assert_eq!(requirements_without_row(&checklist_of_project, &shorter), ["L-50"]);
}

/// The tests of the repository as docs/RELIABILITY.md names them: `file::function`, with the path of the file below `tests/`
/// or `src/`, otherwise from the root, without `.rs`.
fn tests_with_files() -> BTreeSet<String> {
    let files = ["src", "ring", "loadgen", "tests"].into_iter().flat_map(rust_files);
    let tests = files.flat_map(|path| {
        let file = path.strip_prefix(root()).unwrap();
        let file = ["src", "tests"].iter().find_map(|base| file.strip_prefix(base).ok()).unwrap_or(file);
        let file = file.with_extension("").to_str().unwrap().to_owned();
        tests_in(&code(&path)).map(|name| format!("{file}::{name}")).collect::<Vec<_>>()
    });
    tests.collect()
}

/// The rows of the tables of promises, each with its names in backquotes of the column of tests.
fn promises(text: &str) -> Vec<(&str, Vec<&str>)> {
    let tables = text.split("| promise | test | figure |\n|---|---|---|\n").skip(1);
    let rows = tables.flat_map(|table| table.lines().take_while(|line| line.starts_with('|')));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        (cells[1], cells[2].split('`').skip(1).step_by(2).collect())
    })
    .collect()
}

/// The faults of the promises: no test, a test that does not exist, a second row. A row may also name a command that measures.
fn reliability_faults(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (promise, names) in promises(text) {
        if !seen.insert(promise) {
            faults.push(format!("{promise}: has two rows"));
        }
        let named: Vec<&str> = names.into_iter().filter(|name| !name.starts_with("cargo ")).collect();
        if named.is_empty() {
            faults.push(format!("{promise}: no test is named"));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(*name));
        faults.extend(missing.map(|name| format!("{promise}: there is no test {name}")));
    }
    faults
}

#[test]
fn promises_of_reliability_name_existing_tests() {
    let text = fs::read_to_string(root().join("docs/RELIABILITY.md")).unwrap();
    assert!(promises(&text).len() > 40, "the tables in docs/RELIABILITY.md were not found");
    let faults = reliability_faults(&text, &tests_with_files());
    assert!(faults.is_empty(), "docs/RELIABILITY.md:\n{}", faults.join("\n"));
}

#[test]
fn promises_without_an_existing_test_are_reported() {
    let tests = ["a::b", "c/d::e"].map(str::to_owned).into();
    let faults = |cell: &str| {
        reliability_faults(
            &format!("| promise | test | figure |\n|---|---|---|\n| Kept | {cell} | |\n"),
            &tests,
        )
    };
    assert_eq!(faults("`a::b`, `c/d::e`; measured by `cargo bench`"), [""; 0]);
    assert_eq!(faults("`a::e`"), ["Kept: there is no test a::e"]);
    assert_eq!(faults("`b` (`a.rs`)"), ["Kept: there is no test b", "Kept: there is no test a.rs"]);
    assert_eq!(faults("`cargo bench`"), ["Kept: no test is named"]);
    assert_eq!(faults("`a::b` | |\n| Kept | `a::b`"), ["Kept: has two rows"]);
}
