//! Compiler errors for handlers whose return types cannot be converted to a reply.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

/// Handlers that return a `$returned`.
const HANDLERS: &str = r#"
use corelane::{Completer, NoArguments, Prompt, Resource, Tool};

#[derive(Clone)]
pub struct Mine;

pub fn tool() -> Tool {
    Tool::new("t").run(|_: NoArguments, _| $returned)
}

pub fn prompt() -> Prompt {
    Prompt::new("p").run(|_: NoArguments, _| $returned)
}

pub fn resource() -> Resource {
    Resource::new("test://r", "r").run(|_, _| $returned)
}

pub fn completer() -> Completer {
    Completer::new("a", |_, _| $returned)
}

pub fn blocking() -> Tool {
    Tool::new("t").run_blocking(|_: NoArguments, _| $returned)
}
"#;

fn handlers(returned: [&str; 5]) -> String {
    returned.iter().fold(HANDLERS.to_owned(), |source, returned| source.replacen("$returned", returned, 1))
}

/// The directory where cargo puts the libraries linked with this test.
fn libraries() -> PathBuf {
    env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// The most recently built library.
fn library() -> PathBuf {
    let built = fs::read_dir(libraries()).unwrap().map(|entry| entry.unwrap().path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libcorelane-") && name.ends_with(".rlib")
    };
    let age =
        |path: &PathBuf| path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    built.filter(is_library).max_by_key(age).unwrap()
}

/// Type-checks a program. Returns the compiler output on failure.
fn compile(name: &str, source: &str) -> Result<(), String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("diagnostics_{name}.rs"));
    fs::write(&file, source).unwrap();
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--color=never", "--out-dir"])
        .arg(directory)
        .arg("-L")
        .arg(format!("dependency={}", libraries().display()))
        .arg("--extern")
        .arg(format!("corelane={}", library().display()))
        .arg(file)
        .output()
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

#[test]
fn unsupported_return_type_error_names_supported_types() {
    // The programs below are rejected only for their return types.
    assert_eq!(compile("fine", &handlers(["1", "\"\"", "\"\"", "vec![\"\"]", "()"])), Ok(()));
    let errors = compile("wrong_reply", &handlers(["Mine"; 5])).unwrap_err();
    for expected in [
        "a tool cannot return `Mine`",
        "a prompt cannot return `Mine`",
        "reading a resource cannot return `Mine`",
        "a completer cannot return `Mine`",
        "cannot be made a reply",
        "cannot be made messages",
        "cannot be made contents",
        "cannot be made a completion",
        "return a text",
    ] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    assert_eq!(errors.matches("error[E0277]").count(), 5, "{errors}");
}

#[test]
fn unsupported_error_type_error_names_supported_types() {
    let errors = compile("wrong_error", &handlers(["Err::<String, _>(Mine)"; 5])).unwrap_err();
    for expected in [
        "`Mine` cannot be the error of a handler",
        "cannot be displayed",
        "return `CallError`, any `std::error::Error`, a text, or `anyhow::Error`",
    ] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
}
