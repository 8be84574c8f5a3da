//! Locates the corpora, which are not part of this project, and reads the tables of docs/CORPORA.md.

#![allow(unreachable_pub)]
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

/// Candidate directories of the corpora, best first: the complete copies, then the copies installed by
/// `scripts/corpora.sh`.
fn roots() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let named = env::var_os("CORELANE_CORPORA").map(PathBuf::from);
    named.into_iter().chain([root.join("../shared/corpora"), target.join("corpora")]).collect()
}

/// The directory of a corpus. `None` without a copy, which fails where `CI` is set.
pub fn directory(name: &str) -> Option<PathBuf> {
    let found = roots().into_iter().map(|root| root.join(name)).find(|directory| directory.is_dir());
    if found.is_none() {
        crate::missing::report(&format!("the corpus {name}"), "scripts/corpora.sh installs it");
    }
    found
}

/// The files below a directory with this suffix, sorted, with their relative paths.
pub fn files(directory: &Path, extension: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(inner) = directories.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push((path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned(), path));
            }
        }
    }
    found.sort();
    found
}

/// The rows of the table below a heading of docs/CORPORA.md: the last column is the reason, the others are what a test
/// must find.
pub fn table(heading: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CORPORA.md")).unwrap();
    let lines = text.lines().skip_while(|line| *line != format!("## {heading}")).skip(1);
    let rows =
        lines.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|')).skip(2).map(
            |row| {
                let row = row.trim_matches('|');
                let (found, why) = row.rsplit_once(" | ").unwrap_or_else(|| panic!("too few columns: {row}"));
                assert!(!why.trim().is_empty(), "no reason: {row}");
                (found.trim().to_owned(), why.trim().to_owned())
            },
        );
    rows.collect()
}

/// Fails unless the found rows equal those of the table; for an incomplete copy, unless they are a subset.
pub fn compare(heading: &str, found: &[String], is_whole: bool) {
    let table = table(heading);
    let missing: Vec<_> = found.iter().filter(|row| !table.contains_key(*row)).collect();
    let stale: Vec<_> = table.keys().filter(|row| is_whole && !found.contains(row)).collect();
    let rows: String = found
        .iter()
        .map(|row| format!("| {row} | {} |\n", table.get(row).map_or("", String::as_str)))
        .collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/CORPORA.md, {heading}: not explained {missing:#?}, stale {stale:#?}; found:\n{rows}"
    );
    assert!(!is_whole || table.len() == found.len(), "the same row twice");
}
