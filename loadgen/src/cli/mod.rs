//! The command line. Exit code 0: success; 1: a demand, a check or a budget is missed; 2: an error.

mod mix;
mod arguments;
mod attack;
mod chaos;
mod names;
mod output;
mod print;
mod load;
mod saturate;
mod self_test;
mod suites;
mod results;
mod peers;
mod ablate;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::{Parser, Subcommand};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};

use crate::{error::LoadError, job::RunContext, process, progress::ProgressTarget, workloads};

/// Measures MCP servers: latency from the time each request was due, every reply checked.
#[derive(Parser)]
#[command(name = "corelane-loadgen", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// No progress bar
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// One run: a mix of requests at a fixed rate (--rate), or as fast as replies come (--closed)
    Run(load::Run),
    /// Find the highest rate at which a demand holds
    Saturate(saturate::Saturate),
    /// A long run; reports how memory, throughput and p99 changed
    Soak(load::Soak),
    /// Many idle connections; memory per connection, and the throughput of others beside them
    Idle(load::Idle),
    /// One update, many subscribers: the time to each subscriber and to the last one
    Fanout(load::FanOut),
    /// One connection for each request
    Storm(load::Storm),
    /// List the named workloads
    Workloads,
    /// Run every workload and keep the result as the baseline
    Baseline(suites::Baseline),
    /// Run the baseline's workloads again; exit code 1 if something regressed, 2 without a usable baseline
    Regression(suites::Regression),
    /// Compare one result with another
    Compare(results::Compare),
    /// Check results against the budgets
    Budget(results::Budget),
    /// Run other servers and corelane in turn
    Peers(peers::Peers),
    /// Attack servers from one client address, and measure a client from another
    Attack(attack::Attacks),
    /// Write results as pages and tables
    Report(results::Report),
    /// Switch the server's optimisations off in turn, and report what each gains
    Ablate(ablate::Ablate),
    /// Do faults to a running server under load; exit code 1 if one is not survived as it must be
    Chaos(chaos::Chaos),
}

/// Runs the command of the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let context = match context(arguments.quiet) {
        Ok(context) => context,
        Err(error) => return fail(&error),
    };
    let done = match arguments.command {
        Command::Run(command) => command.execute(&context),
        Command::Saturate(command) => command.execute(&context),
        Command::Soak(command) => command.execute(&context),
        Command::Idle(command) => command.execute(&context),
        Command::Fanout(command) => command.execute(&context),
        Command::Storm(command) => command.execute(&context),
        Command::Workloads => list_workloads(),
        Command::Baseline(command) => command.execute(&context),
        Command::Regression(command) => command.execute(&context),
        Command::Compare(command) => command.execute(&context),
        Command::Budget(command) => command.execute(&context),
        Command::Peers(command) => command.execute(&context),
        Command::Attack(command) => command.execute(&context),
        Command::Report(command) => command.execute(),
        Command::Ablate(command) => command.execute(&context),
        Command::Chaos(command) => command.execute(&context),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // An interruption by the user is not a failure.
        Err(error @ LoadError::Interrupted) => {
            eprintln!("{error}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &LoadError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}

/// Installs the signal handlers. The first Ctrl-C ends the run, and its results are reported; the second ends the
/// program and the servers that it has started.
fn context(quiet: bool) -> Result<RunContext, LoadError> {
    let resource = |error: std::io::Error| LoadError::Resource(error.to_string());
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(resource)?;
    // A closing terminal sends SIGHUP. Under nohup it is ignored, and stays so.
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    if status.is_ok_and(|status| status.sigign & (1 << (SIGHUP - 1)) == 0) {
        signals.add_signal(SIGHUP).map_err(resource)?;
    }
    let listen = move || {
        for signal in signals.forever() {
            if flag.swap(true, Ordering::Relaxed) {
                process::kill_all();
                let _ = emulate_default_handler(signal);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(resource)?;
    Ok(RunContext { progress: ProgressTarget::of(quiet), interrupted })
}

fn list_workloads() -> Result<bool, LoadError> {
    for workload in workloads::all() {
        println!("{:<24} {}", workload.id, workload.description);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn command_line_definition_is_valid() {
        super::Arguments::command().debug_assert();
    }
}
