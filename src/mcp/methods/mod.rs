//! The methods: one file for each method or group of methods.

pub(super) mod call;
pub(super) mod completion;
pub(super) mod discover;
pub(super) mod initialize;
pub(super) mod listen;
pub(super) mod lists;
pub(super) mod logging;
pub(super) mod ping;
pub(super) mod prompts;
pub(super) mod resources;
pub(super) mod tasks;
pub(super) mod tools;
