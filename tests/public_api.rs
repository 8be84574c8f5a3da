//! Compares the library's public API with docs/public-api.txt, its committed listing: one item per line, sorted.
//!
//! The listing covers the features `cli`, `tokio` and `anyhow`. It has no `#[doc(hidden)]` items, and no
//! implementations of auto traits or by blanket implementations. The items come from rustdoc's JSON output, which needs
//! a nightly compiler: without one the test is skipped, and fails where `CI` is set.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/missing.rs"]
mod missing;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where it is set, docs/public-api.txt is written instead of compared.
const UPDATE_VARIABLE: &str = "UPDATE_PUBLIC_API";

#[test]
fn public_api_matches_the_committed_listing() {
    let Some(listing) = listing() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/public-api.txt");
    if env::var_os(UPDATE_VARIABLE).is_some() {
        return fs::write(&path, listing).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(
        committed == listing,
        "the public API is not the one of docs/public-api.txt (-):\n{}\n\
         If the change is intended, update the file with\n  \
         {UPDATE_VARIABLE}=1 cargo nextest run --test public_api\n\
         and describe the change in CHANGELOG.md.",
        difference(&committed, &listing)
    );
}

/// The items of the public API, each with a line feed. `None` where no nightly compiler can list them.
fn listing() -> Option<String> {
    let Some(target) = nightly_target() else {
        missing::report("a nightly compiler", "`rustup toolchain install nightly` installs one");
        return None;
    };
    let api = public_api::Builder::from_rustdoc_json(rustdoc_json(&target))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build();
    match api {
        Ok(api) => Some(api.items().map(|item| format!("{item}\n")).collect()),
        Err(error) => {
            let remedy = format!("install one whose output the crate public-api reads: {error}");
            missing::report("a nightly compiler of the right age", &remedy);
            None
        }
    }
}

/// The target that the nightly compiler builds for by default.
fn nightly_target() -> Option<String> {
    let output = Command::new("rustc").args(["+nightly", "-vV"]).output().ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// Documents the library with the nightly compiler and returns the path of the JSON file.
fn rustdoc_json(target: &str) -> PathBuf {
    // scripts/test.sh runs AddressSanitizer in the same directory: build scripts and macros are compiled once for both.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("nightly");
    let status = Command::new("cargo")
        .args(["+nightly", "rustdoc", "--package", "corelane", "--lib", "--features", "tokio,anyhow"])
        .args(["--target", target, "--", "-Zunstable-options", "--output-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &directory)
        .status()
        .unwrap();
    assert!(status.success(), "cargo rustdoc: {status}");
    directory.join(target).join("doc/corelane.json")
}

/// The lines that only one of two listings has, after `-` or `+`.
fn difference(committed: &str, listing: &str) -> String {
    let committed: BTreeSet<_> = committed.lines().collect();
    let listing: BTreeSet<_> = listing.lines().collect();
    let lines = committed
        .symmetric_difference(&listing)
        .map(|line| format!("{} {line}", if committed.contains(line) { '-' } else { '+' }));
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths of this package in a listing that lead into a private module, or to the ring: a user cannot name these types. Excepted
/// are the types of the schema library's trait, which [`corelane::Node`] implements for the validator, and an error of the ring that
/// is exported.
fn unnameable_paths(listing: &str) -> BTreeSet<&str> {
    let words = listing.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | ':'));
    let paths = words.map(|word| word.trim_matches(':')).filter(|word| word.starts_with("corelane"));
    let is_nameable = |path: &str| {
        let mut modules = path.split("::").skip(1).take_while(|part| part.starts_with(char::is_lowercase));
        let is_last = |part: Option<&str>| part.is_none_or(|part| path.ends_with(part));
        match modules.next() {
            Some("config" | "time" | "schemars" | "serde") => is_last(modules.next()),
            first => is_last(first) && !path.starts_with("corelane_"),
        }
    };
    let is_excepted = |path: &str| {
        path.starts_with("corelane::schema::tape::") || path == "corelane_ring::probe::ProbeError"
    };
    paths.filter(|path| !is_nameable(path) && !is_excepted(path)).collect()
}

#[test]
fn signatures_name_only_exported_types() {
    let committed = include_str!("../docs/public-api.txt");
    assert_eq!(unnameable_paths(committed), BTreeSet::new());
    let listing = "pub fn corelane::spawn_local<T>(corelane::call::Input, &corelane::Node<'a>) -> corelane::time::Elapsed\n\
                   pub fn corelane::time::sleep(self) -> corelane_ring::Ring";
    assert_eq!(unnameable_paths(listing), ["corelane::call::Input", "corelane_ring::Ring"].into());
}
