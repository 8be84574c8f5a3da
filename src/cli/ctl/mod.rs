//! `ctl`: sends one request to the control socket of a running server and prints the reply.

mod bottlenecks;
mod client;
mod find;
mod flags;
mod memory;
mod profile;
mod rows;
mod show;
mod table;
mod top;

use std::{os::unix::net::UnixStream, path::PathBuf};

use clap::{Args, Subcommand};
use flags::{FlagsCommand, RolloutCommand};
use memory::MemoryArguments;
use profile::ProfileArguments;
use rows::Top;
use top::TopArguments;

use super::print::print;
use crate::{
    config::LogLevel,
    control::{self, INTERVAL_SECONDS_MAX, Reply, Request},
};

/// Inspects a running server and controls it, through its control socket. Exit codes: 0 done, 1 no server or the request was
/// rejected, 2 wrong usage.
#[derive(Args)]
#[command(after_help = "Examples:\n  corelane ctl status\n  corelane ctl --json memory --top 5")]
pub(super) struct CtlArguments {
    /// Socket of the server [default: the one of the only running server]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,

    /// Print the reply as one line of JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: CtlCommand,
}

/// One subcommand for each command of the protocol.
#[derive(Subcommand)]
enum CtlCommand {
    /// Show the server and its shards
    #[command(after_help = "Example:\n  corelane ctl status")]
    Status,

    /// List the connections that keep the most memory
    #[command(after_help = "Example:\n  corelane ctl connections --top 50")]
    Connections(Top),

    /// List the sessions with state on the server: those of revisions before 2026-07-28 that have streams or subscriptions
    #[command(after_help = "Example:\n  corelane ctl sessions --json")]
    Sessions(Top),

    /// Show what uses memory: budgets of the shards, the allocator, and the largest of each kind; or write a heap profile
    #[command(
        after_help = "Examples:\n  corelane ctl memory --top 5\n  corelane ctl memory --heap -o heap.svg\n  \
                            corelane ctl memory --heap --since earlier.folded -o growth.svg"
    )]
    Memory(MemoryArguments),

    /// List the connections that keep far more memory than they use, and receive buffers that were not given back
    #[command(after_help = "Example:\n  corelane ctl buffers --shrink")]
    Buffers {
        #[command(flatten)]
        top: Top,

        /// Free what is not used, and the spare buffers
        #[arg(long)]
        shrink: bool,
    },

    /// Show the resident memory that is not allocated, of the process and of each arena; warns above 50 %
    #[command(after_help = "Example:\n  corelane ctl fragmentation")]
    Fragmentation,

    /// Show the level of the log, or set it until the server ends
    #[command(after_help = "Example:\n  corelane ctl log-level debug")]
    LogLevel {
        /// The new level
        level: Option<LogLevel>,
    },

    /// Sample where the server spends CPU time, and write a flame graph, folded stacks, or a file for pprof
    #[command(after_help = "Example:\n  corelane ctl profile --seconds 60 -o cpu.svg")]
    Profile(ProfileArguments),

    /// Show the flags and the requests that each position has served, or turn a flag on or off
    #[command(after_help = "Examples:\n  corelane ctl flags\n  corelane ctl flags set zero_copy off")]
    Flags {
        #[command(subcommand)]
        command: Option<FlagsCommand>,
    },

    /// Show what rolled-out flags do to their cohorts, or change the part of the sessions and connections that a flag is on for
    #[command(after_help = "Examples:\n  corelane ctl rollout\n  corelane ctl rollout set zero_copy 1\n  \
                            corelane ctl rollout rearm zero_copy")]
    Rollout {
        #[command(subcommand)]
        command: Option<RolloutCommand>,
    },

    /// Show where requests spend their time, by stage, and what the shards do: work, polling, sleep, kernel
    #[command(after_help = "Example:\n  corelane ctl bottlenecks --seconds 10")]
    Bottlenecks(Observed),

    /// Say which flag or limit to change, and for which figures; nothing, if no change is needed
    #[command(after_help = "Example:\n  corelane ctl advise --seconds 10")]
    Advise(Observed),

    /// Watch the server live: throughput, latencies, errors, load and memory of each shard and tool
    #[command(
        after_help = "Keys: q quits, p pauses, left and right choose the column that sorts, r reverses, tab changes the table, \
        up and down scroll.\n\nExamples:\n  corelane ctl top\n  corelane ctl top --json --interval 5 --count 12"
    )]
    Top(TopArguments),

    /// Start the drain, as SIGTERM does: calls in flight are finished, then the server exits
    #[command(after_help = "Example:\n  corelane ctl drain")]
    Drain,
}

/// How long to observe.
#[derive(Args)]
struct Observed {
    /// Time to observe the server
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(INTERVAL_SECONDS_MAX)))]
    seconds: u32,
}

impl CtlCommand {
    fn request(&self) -> Result<Request, String> {
        Ok(match self {
            Self::Status => Request::Status,
            Self::Connections(top) => Request::Connections { top: top.rows() },
            Self::Sessions(top) => Request::Sessions { top: top.rows() },
            Self::Memory(memory) => memory.request(),
            Self::Buffers { top, shrink } => Request::Buffers { top: top.rows(), shrink: *shrink },
            Self::Fragmentation => Request::Fragmentation,
            Self::LogLevel { level } => Request::LogLevel { level: *level },
            Self::Profile(profile) => profile.request(),
            Self::Flags { command } => FlagsCommand::request(command.as_ref()),
            Self::Rollout { command } => RolloutCommand::request(command.as_ref())?,
            Self::Bottlenecks(observed) => Request::Bottlenecks { seconds: observed.seconds },
            Self::Advise(observed) => Request::Advise { seconds: observed.seconds },
            Self::Top(top) => top.request(),
            Self::Drain => Request::Drain,
        })
    }
}

/// Runs a subcommand.
///
/// # Errors
/// One line: there is no server, or more than one; or the request was rejected.
pub(super) fn ctl(arguments: &CtlArguments) -> Result<(), Vec<String>> {
    if let CtlCommand::Top(top) = &arguments.command {
        return top.run(|| connect(arguments), arguments.json).map_err(|error| vec![error]);
    }
    let text = reply_text(arguments).map_err(|error| vec![error])?;
    print(text.as_bytes())
}

/// Connects to the server that the arguments name, or to the only one.
fn connect(arguments: &CtlArguments) -> Result<UnixStream, String> {
    match &arguments.socket {
        Some(path) => control::connect(path).map_err(|error| {
            format!("cannot connect to {}: {}", path.display(), client::explain(path, &error))
        }),
        None => find::only_server(),
    }
}

fn reply_text(arguments: &CtlArguments) -> Result<String, String> {
    // Opened first: a profile that cannot be written is not taken.
    let (mut cpu, mut heap) = (None, None);
    match &arguments.command {
        CtlCommand::Profile(profile) => cpu = Some(profile.open()?),
        CtlCommand::Memory(memory) => heap = memory.open()?,
        _ => {}
    }
    let request = arguments.command.request()?;
    let stream = connect(arguments)?;
    let reply = client::exchange(stream, request)?;
    match (cpu, heap, &reply) {
        (Some(output), _, Reply::Profile(profile)) => {
            return profile::write(output, profile, arguments.json);
        }
        (_, Some(output), Reply::HeapProfile(profile)) => {
            return memory::write(output, profile, arguments.json);
        }
        _ => {}
    }
    if arguments.json {
        return json(&reply)
            .map(|text| text + "\n")
            .map_err(|error| format!("cannot encode the reply: {error}"));
    }
    Ok(show::show(&reply))
}

/// The content of a reply without its kind, which the command names.
fn json(reply: &Reply) -> serde_json::Result<String> {
    let reply = serde_json::to_value(reply)?;
    let content = reply.as_object().and_then(|reply| reply.values().next());
    serde_json::to_string(content.unwrap_or(&reply))
}
