//! The environment of a measurement, as results record it.

use std::time::SystemTime;

use crate::{
    placement::available,
    result::{Environment, NotRun, ResultFile, Run, SCHEMA},
};

impl Environment {
    /// Reads the properties of this machine and build.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, model)| model);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu_model: model.to_owned(),
            cores_count: available().len(),
            memory_bytes: memory * 1024,
            kernel: kernel.trim().to_owned(),
            generator_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: "unknown".to_owned(),
            generator_build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }
}

impl ResultFile {
    /// Creates a result file with this process's runs.
    #[must_use]
    pub fn of_this_process(started: SystemTime, runs: Vec<Run>, not_run: Vec<NotRun>) -> Self {
        // The directory of the program is not recorded: it has no influence on the measurement.
        let mut command_line: Vec<String> = std::env::args().collect();
        if let Some(program) = command_line.first_mut() {
            let name = std::path::Path::new(program.as_str()).file_name();
            *program = name.unwrap_or_default().to_string_lossy().into_owned();
        }
        let commit = runs.iter().find_map(|run| run.server.commit.clone());
        let commit = commit.unwrap_or_else(|| "unknown".to_owned());
        Self {
            schema: SCHEMA.to_owned(),
            started: humantime::format_rfc3339_seconds(started).to_string(),
            command_line,
            environment: Environment { commit, ..Environment::of_this_machine() },
            runs,
            not_run,
            instructions: None,
            stages: None,
        }
    }
}
