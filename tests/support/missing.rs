//! Reports test data that is missing on this machine.

#![allow(clippy::panic, unreachable_pub)]

use std::env;

/// Prints that `what` is missing and a check is skipped, and the `remedy`.
///
/// # Panics
/// Where the environment variable `CI` is set: a skipped check must not pass there.
pub fn report(what: &str, remedy: &str) {
    let text = format!("{what} is missing: nothing is checked; {remedy}");
    assert!(env::var_os("CI").is_none_or(|value| value.is_empty()), "{text}");
    println!("{text}");
}
