//! The command line: the same for the bare binary and for every server built on the library.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{config::Config, server::ServerBuilder};

#[derive(Parser)]
#[command(version, about = "A Model Context Protocol server that gives each core its own lane")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve MCP over HTTP until Ctrl-C or SIGTERM
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Address to listen on; may be given more than once, port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_values_t = [Config::LISTEN])]
    listen: Vec<SocketAddr>,

    /// Number of shards [default: one per core]; more than cores share them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Option<u16>,

    /// Cores to pin shards to, as 0,2-5 [default: all available]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<CpuList>,

    /// Microseconds a shard looks for work before it sleeps [default: 50, or 0 where shards share a core]
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    spin_us: Option<u32>,

    /// Print latency histograms when the server ends
    #[arg(long)]
    stats: bool,
}

#[derive(Clone)]
struct CpuList(Vec<usize>);

/// `0,2-5` → 0, 2, 3, 4, 5.
fn cpu_list(text: &str) -> Result<CpuList, String> {
    const CPU_MAX: usize = 4095;
    let number = |part: &str| {
        let cpu = part.trim().parse::<usize>().map_err(|_| format!("{part:?} is not a core number"))?;
        if cpu > CPU_MAX { Err(format!("core numbers end at {CPU_MAX}")) } else { Ok(cpu) }
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("{part:?} runs backwards"));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("core {cpu} is named twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(CpuList(cpus))
}

impl Serve {
    fn into_config(self) -> Config {
        Config {
            listen: self.listen,
            shards: self.shards.map(usize::from),
            cpus: self.cpus.map(|list| list.0),
            spin_before_park: self.spin_us.map(|spin| Duration::from_micros(spin.into())),
            stats: self.stats,
            ..Config::default()
        }
    }
}

impl ServerBuilder {
    /// Does what the process's arguments say: the command line of the `corelane` binary, for this server.
    #[must_use]
    pub fn main(self) -> ExitCode {
        let Arguments { command: Command::Serve(serve) } = Arguments::parse();
        match self.serve(&serve.into_config()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lists_of_cores_are_read_or_refused_with_a_reason() {
        assert_eq!(cpu_list("0,2-5").unwrap().0, [0, 2, 3, 4, 5]);
        for (text, reason) in [
            ("", "not a core number"),
            ("a", "not a core number"),
            ("3-1", "runs backwards"),
            ("1,0-2", "named twice"),
            ("0-99999", "end at"),
        ] {
            let told = cpu_list(text).err().unwrap();
            assert!(told.contains(reason), "{text}: {told}");
        }
    }
}
