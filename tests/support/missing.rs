//! Reports test data that this machine lacks.

#![allow(clippy::panic, unreachable_pub)]

use std::env;

/// Prints that `what` is missing, so that a check is skipped, and the `remedy`.
///
/// # Panics
/// Where the environment variable `CI` is set: there a skipped check must not pass.
pub fn report(what: &str, remedy: &str) {
    let text = format!("{what} is missing: nothing is checked; {remedy}");
    assert!(env::var_os("CI").is_none_or(|value| value.is_empty()), "{text}");
    println!("{text}");
}
