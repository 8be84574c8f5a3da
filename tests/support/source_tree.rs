//! The files of the source tree, for the tests that check them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All `.rs` files below a directory of the project.
pub fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no source files in {directory}");
    found
}

/// The content of a file without comments. A `//` within a string counts as a comment too.
pub fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The names of the tests in a source text.
pub fn tests_in(code: &str) -> impl Iterator<Item = String> + '_ {
    code.split("#[test]").skip(1).map(|part| {
        let name = part.split("fn ").nth(1).unwrap();
        name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    })
}
