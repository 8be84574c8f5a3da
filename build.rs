//! Sets what `corelane_build_info` reports: `CORELANE_COMMIT`, `CORELANE_RUSTC` and `CORELANE_FEATURES`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The longest commit name, in bytes: twice a SHA-256 object name in hexadecimal.
const COMMIT_BYTES_MAX: usize = 128;

fn main() {
    println!("cargo::rerun-if-env-changed=CORELANE_COMMIT");
    // Without such a line a change of any file would run this again.
    println!("cargo::rerun-if-changed=build.rs");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let given = env::var("CORELANE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| git_commit(&root)).or_else(|| packaged_commit(&root));
    let commit = commit.filter(|commit| {
        let is_name = commit.len() <= COMMIT_BYTES_MAX
            && commit.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte));
        if !is_name {
            println!(
                "cargo::warning=CORELANE_COMMIT is not used: it may have up to {COMMIT_BYTES_MAX} letters, \
                 digits, and . - _ +"
            );
        }
        is_name
    });
    let rustc = env::var_os("RUSTC").and_then(|rustc| output(Command::new(rustc).arg("-V")));
    let mut features: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_ascii_lowercase()))
        .filter(|feature| feature != "default")
        .collect();
    features.sort();
    println!("cargo::rustc-env=CORELANE_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=CORELANE_RUSTC={}", rustc.as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=CORELANE_FEATURES={}", features.join(","));
}

/// The commit that is checked out in `root`. Runs this again when that changes.
fn git_commit(root: &Path) -> Option<String> {
    // A package that was unpacked inside of another repository is not of that repository's commit.
    if !root.join(".git").exists() {
        return None;
    }
    // Nothing of the repository is run by these, whoever owns it.
    let git = |arguments: &[&str]| {
        output(Command::new("git").args(["-c", "safe.directory=*", "-C"]).arg(root).args(arguments))
    };
    let commit = git(&["rev-parse", "--verify", "HEAD"])?;
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"]).unwrap_or_default();
    // A file that is not there would run this at each build. The log of HEAD grows with each commit, where a branch that was
    // packed has no file of its own yet.
    for name in ["HEAD", "logs/HEAD", "packed-refs", &branch] {
        let path = git(&["rev-parse", "--git-path", name]).map(|path| root.join(path));
        if let Some(path) = path.filter(|path| path.is_file()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    Some(commit)
}

/// The commit that `cargo package` noted in a package.
fn packaged_commit(root: &Path) -> Option<String> {
    let noted = fs::read_to_string(root.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = noted.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// What a command prints, in one line; nothing where it fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
