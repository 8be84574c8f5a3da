//! Sets the values of `corelane_build_info`: `CORELANE_COMMIT`, `CORELANE_RUSTC` and `CORELANE_FEATURES`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The longest commit name, in bytes: twice a SHA-256 object name in hexadecimal.
const COMMIT_BYTES_MAX: usize = 128;

fn main() {
    println!("cargo::rerun-if-env-changed=CORELANE_COMMIT");
    // Without this line a change of any file would run the script again.
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

/// The commit checked out in `root`. Runs the script again when it changes.
fn git_commit(root: &Path) -> Option<String> {
    // The commit of an enclosing repository does not apply to a package unpacked within it.
    if !root.join(".git").exists() {
        return None;
    }
    // Safe for repositories of any owner, because these commands execute nothing from the repository.
    let git = |arguments: &[&str]| {
        output(Command::new("git").args(["-c", "safe.directory=*", "-C"]).arg(root).args(arguments))
    };
    let commit = git(&["rev-parse", "--verify", "HEAD"])?;
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"]).unwrap_or_default();
    // A missing file would run the script at each build. The log of HEAD grows with each commit, even while the branch is packed
    // and has no file.
    for name in ["HEAD", "logs/HEAD", "packed-refs", &branch] {
        let path = git(&["rev-parse", "--git-path", name]).map(|path| root.join(path));
        if let Some(path) = path.filter(|path| path.is_file()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    Some(commit)
}

/// The commit that `cargo package` recorded in a package.
fn packaged_commit(root: &Path) -> Option<String> {
    let recorded = fs::read_to_string(root.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = recorded.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// The first line of the output of a command; `None` if it fails.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
