//! corelane: a Model Context Protocol server that gives each core its own lane.
#![forbid(clippy::undocumented_unsafe_blocks)]

mod cli;
pub mod config;
pub mod demo;
pub mod exec;
pub mod http;
pub mod json;
pub mod jsonrpc;
pub mod mcp;
pub mod metrics;
pub mod registry;
#[doc(hidden)]
pub mod ring;
pub mod schema;
mod server;
pub mod shard;

pub use config::{Config, Limits};
pub use registry::{
    BorrowedArguments, Context, IntoReply, NoArguments, Reply, Structured, Tool, ToolBuilder,
};
pub use server::{Running, Server, ServerBuilder, StartError, Stopper};
