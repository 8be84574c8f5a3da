//! corelane: a Model Context Protocol server with one shard per core.
//!
//! A *shard* is one pinned thread with a [glommio] executor, an io_uring of its own that accepts, receives and
//! sends by completion, its connections, and its copy of the registered tools. Schemas are compiled once per process, or once
//! per shard where they have a pattern. No two shards write to the same memory on the path of a request.
//!
//! ```no_run
//! use corelane::{Server, Tool};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Greet {
//!     name: String,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Server::builder("greeter", "1.0.0")
//!         .tool(
//!             Tool::new("greet")
//!                 .description("Greets somebody")
//!                 .input::<Greet>()
//!                 .run(|arguments, _cx| format!("Hello, {}!", arguments.name)),
//!         )
//!         .main()
//! }
//! ```
//!
//! # Life of a request
//!
//! `docs/ARCHITECTURE.md` names the functions of each stage, and the file in which something is or is to be added.
//!
//! | # | stage | where | in → out |
//! |---|---|---|---|
//! | 1 | accept | [`corelane_ring`] → `shard/hand_over.rs`, `shard/accept.rs` | listener → direct descriptor → connection, handed to the shard with the fewest, or refused by a limit |
//! | 2 | receive | [`corelane_ring`] → `shard/receive.rs` → `connection/wire.rs` | a provided buffer with bytes |
//! | 3 | frame | `http1/framer.rs` | bytes → head and body, in place; assembled once if split (`jsonl/framer.rs` for newline-delimited JSON) |
//! | 4 | guard | `http1/guard.rs` | head → allowed, or a rejection with its status |
//! | 5 | decode | `dispatch` → `json`, `jsonrpc` | body → document → message |
//! | 6 | route | `dispatch` → `mcp/router.rs` | message and headers → what to run or to do, or an error |
//! | 7 | validate | `dispatch` → `schema` | arguments → valid, or an `isError` result with the path of each violation |
//! | 8 | run | `dispatch` → `runtime` | inline: a reply now; async, blocking and tokio: a delivery later |
//! | 9 | encode | `mcp/response`; head: `http1/response.rs` | reply → bytes in the outbox |
//! | 10 | send | `shard/send.rs` → [`corelane_ring`] | one send in flight per connection, one system call per turn |
//! | | deliver | `delivery.rs` → `shard/deliver.rs` | what comes later, from calls and other shards → outboxes, at one point of the turn |
//! | | between shards | `mesh.rs` | an event, encoded once → the subscribers of every shard |
//! | | measure | `telemetry` | counters, histograms and log lines of the shard |
//!
//! # Threads
//!
//! One thread per shard, pinned; the threads of the blocking pool and of tokio, on other cores than the shards if there are
//! any; one for signals; one that writes the log; two that copy for stdio; the threads of the admin interface and of the control
//! socket; and the caller of [`Server::serve`], which waits.
//!
//! # Invariants
//!
//! 1. A buffer the kernel may touch is owned by the ring until its completion.
//! 2. A connection's id carries a generation: a stale id finds no connection.
//! 3. `http1`, `jsonl`, `json`, `jsonrpc`, `uri_template`, `schema`, `call`, `registry` and `mcp` do no I/O: results depend on the
//!    arguments only.
//! 4. Every queue, buffer and wait is bounded by a field of [`Limits`].
//! 5. A call in flight ends once; its slot is not reused before.
//! 6. A module imports only modules that are declared before it.
//! 7. `unsafe` code is in [`corelane_ring`] only.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "corelane runs on Linux only: it drives sockets through io_uring, which needs Linux 6.1 or newer on x86-64 or aarch64. \
     Build it there, in a Linux virtual machine, in WSL 2, or in a container whose seccomp profile allows io_uring \
     (deploy/seccomp.json)"
);

// Lowest first: a module may import only modules above it, and of those the ones that docs/ARCHITECTURE.md lists.
pub mod config;
mod signed_token;
mod profile;
mod control;
mod peer;
mod memory;
mod policy;
mod segments;
mod json;
mod jsonrpc;
mod http1;
mod jsonl;
mod uri_template;
mod schema;
mod call;
mod paths;
mod registry;
mod mcp;
mod telemetry;
mod runtime;
mod delivery;
mod mesh;
mod session;
mod dispatch;
mod connection;
mod shard;
mod admin;
mod server;
#[cfg(feature = "cli")]
mod cli;
#[doc(hidden)]
pub mod demo;

/// Internals for this package's benches and tests. Not part of the public API; changes without notice.
#[doc(hidden)]
pub mod internals {
    pub mod call {
        pub use crate::call::*;
    }
    pub mod http1 {
        pub use crate::http1::*;
    }
    pub mod json {
        pub use crate::json::*;
    }
    pub mod jsonl {
        pub use crate::jsonl::*;
    }
    pub mod jsonrpc {
        pub use crate::jsonrpc::*;
    }
    pub mod mcp {
        pub use crate::mcp::*;
    }
    pub mod mesh {
        pub use crate::mesh::*;
    }
    pub mod memory {
        pub use crate::memory::MemoryPressure;
    }
    pub mod peer {
        pub use crate::peer::NoRoom;
    }
    pub mod policy {
        pub use crate::policy::*;
    }
    pub mod profile {
        pub use crate::profile::*;
    }
    pub mod registry {
        pub use crate::registry::*;
    }
    pub mod runtime {
        pub use crate::runtime::*;
    }
    pub mod schema {
        pub use crate::schema::*;
    }
    pub mod connection {
        pub use crate::connection::*;
    }
    pub mod shard {
        pub use crate::shard::*;
    }
    pub mod signed_token {
        pub use crate::signed_token::*;
    }
    pub mod telemetry {
        pub use crate::telemetry::*;
    }
    pub mod uri_template {
        pub use crate::uri_template::*;
    }
}

/// Time for async handlers, on the shard's thread.
pub mod time {
    pub use crate::runtime::{Elapsed, sleep, timeout};
}

pub use call::{
    Annotations, AskError, CacheScope, CallError, Caller, Capabilities, Capability, ClientInfo, Content,
    Context, Elicited, Form, HandlerError, Icon, InlineContext, InputRequest, IntoReply, Level, ListRoots,
    Page, Ping, ProtocolError, Question, RemoteContext, Reply, ResourceLink, Revision, Role, Root, Sampled,
    Sampling, Structured, TaskTerms, Theme,
};
pub use config::{
    Config, ConfigError, ControlSocket, ForwardedHeader, JsonBackend, Limits, Network, Percent, Performance,
    Proxy, Rollout, ShardPlacement,
};
pub use corelane_ring::ProbeError;
pub use json::{DeserializeError, Elements, Members, Node, Number};
pub use jsonrpc::{Id as RequestId, IdValue as RequestIdValue, OwnedId as OwnedRequestId};
pub use paths::{open_within, path_within};
pub use policy::{
    Flag, FlagError, Flags, UnknownFlag,
    comparison::{Metric, Worse},
};
pub use registry::{
    BorrowedArguments, Completer, Completing, Completion, Contents, Entry as RegistryEntry, IntoCompletion,
    IntoContents, IntoMessages, Messages, NoArguments, Prompt, PromptArgument, PromptBuilder, Read, Registry,
    RegistryError, Resource, ResourceBuilder, ResourceTemplate, ResourceTemplateBuilder, ServerInfo, Tool,
    ToolAnnotations, ToolBuilder,
};
pub use runtime::{LocalTask, spawn_local};
pub use schema::SchemaError;
/// The version of schemars that [`ToolBuilder::input`] derives schemas with. A server that uses this re-export needs no
/// dependency on schemars of its own, and cannot end up with a second version of it; the derives need the crate's path:
///
/// ```
/// use corelane::{Server, Tool};
///
/// #[derive(corelane::serde::Deserialize, corelane::schemars::JsonSchema)]
/// #[serde(crate = "corelane::serde")]
/// #[schemars(crate = "corelane::schemars")]
/// struct Greet {
///     name: String,
/// }
///
/// let server = Server::builder("greeter", "1.0.0")
///     .tool(Tool::new("greet").input::<Greet>().run(|greet, _cx| format!("Hello, {}!", greet.name)))
///     .build();
/// ```
pub use schemars;
/// The version of serde that reads arguments and writes results. Types that derive from it need
/// `#[serde(crate = "corelane::serde")]`; the example is at [`schemars`].
pub use serde;
pub use server::{LiveRegistry, Running, Server, ServerBuilder, StartError, Stopper};
pub use telemetry::metrics::ShardMetrics;
pub use uri_template::UriTemplateError;
