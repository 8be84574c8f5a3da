//! The fixture server: the demo server with additional tools for the named workloads. `corelane-fixture serve …` has
//! corelane's command line; suites start it themselves.

use std::{
    fmt, io,
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use corelane::{
    Content, NoArguments, Prompt, PromptArgument, ServerBuilder, Tool, demo,
    internals::profile::{ProfileOptions, SampledThreads, capture},
};
use corelane_loadgen::{attack, fault_injection, payloads};
use serde_json::{Value, json};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

/// The allocator of corelane's own binary, so that the same program is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if std::env::var_os(fault_injection::UNOBSERVED_VARIABLE).is_some() {
        corelane::internals::telemetry::metrics::omit_latencies();
    }
    if std::env::var_os(fault_injection::PROFILED_VARIABLE).is_some() {
        thread::spawn(profile);
    }
    let mut server = demo::server();
    for count in [1, 5, 20] {
        server = server.tool(
            Tool::new(format!("strings_{count}"))
                .description("Counts its strings")
                .input_schema::<()>(payloads::strings_schema(count))
                .run_raw(|arguments, _cx, reply| {
                    let count = arguments.members().into_iter().flatten().count();
                    reply.push(Content::text(count.to_string()));
                }),
        );
    }
    for count in [5, 20, 100] {
        server = server
            .tool(
                Tool::new(format!("schema_{count}"))
                    .description("Takes fields with rules")
                    .input_schema::<()>(payloads::mixed_schema(count))
                    .run_raw(|_arguments, _cx, reply| reply.push(Content::text("valid"))),
            )
            .tool(
                Tool::new(format!("json_{count}"))
                    .description("Gives back what it was given")
                    .input_schema(json!({"type": "object"}))
                    .output_schema(json!({"type": "object"}))
                    .run(|arguments: Value, _cx| arguments),
            );
    }
    for count in [0, 10, 50] {
        server = server.prompt(prompt(count));
    }
    let panics_at = std::env::var(fault_injection::PANICS_VARIABLE);
    let has_attacks = std::env::var_os(attack::ATTACKS_VARIABLE).is_some();
    if panics_at.is_ok() || has_attacks {
        server = with_panics(server);
    }
    if let Ok(line) = panics_at {
        let log = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr);
        let log = tracing_subscriber::registry().with(LevelFilter::INFO).with(log).with(PanicsAt(line));
        // If a subscriber is already set, it stays.
        let _ = tracing::subscriber::set_global_default(log);
    }
    if has_attacks {
        server = attack::add_tools(server);
    }
    let delay = fault_injection::injected_delay();
    server
        .tool(
            Tool::new(fault_injection::TOOL)
                .description("Takes the planted delay")
                .input_schema::<()>(json!({"type": "object"}))
                .run_raw(move |_arguments, _cx, reply| {
                    work_for(delay);
                    reply.push(Content::text("done"));
                }),
        )
        .main()
}

/// Takes profiles with the defaults of `corelane ctl profile` until the process ends.
fn profile() {
    let options = ProfileOptions { seconds: 60, hz: 99, threads: SampledThreads::All };
    loop {
        // Without a profile the server would measure as one with a profile that costs nothing.
        if let Err(error) = capture(&options, || false) {
            eprintln!("error: no profile can be taken: {error}");
            process::exit(1);
        }
    }
}

/// Adds one panicking tool for each way to run a tool.
fn with_panics(server: ServerBuilder) -> ServerBuilder {
    let tool = |name| Tool::new(name).description("Panics");
    server
        .tool(tool("panic_inline").run(|_: NoArguments, _cx| panic_inline()))
        .tool(tool("panic_async").run_async(async |_: NoArguments, _cx| panic_async()))
        .tool(tool("panic_blocking").run_blocking(|_: NoArguments, _cx| panic_blocking()))
}

/// Functions whose names must appear in the log.
macro_rules! panicking {
    ($($name:ident)*) => {
        $(
            #[inline(never)]
            #[allow(clippy::panic, reason = "the fault that is planted")]
            fn $name() {
                panic!("planted");
            }
        )*
    };
}

panicking!(panic_inline panic_async panic_blocking panic_in_log);

/// A log layer that panics at one message. With a second word, only at such a message about this tool.
struct PanicsAt(String);

impl<S: Subscriber> Layer<S> for PanicsAt {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (message, tool) = self.0.split_once(' ').unwrap_or((&self.0, ""));
        if fields.message == message && fields.tool.contains(tool) {
            panic_in_log();
        }
    }
}

/// The message of an event, and the tools that it names.
#[derive(Default)]
struct Fields {
    message: String,
    tool: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "tool" => self.tool = format!("{value:?}"),
            _ => {}
        }
    }
}

/// A prompt whose text lists all of its variables.
fn prompt(count: usize) -> Prompt {
    let mut prompt = Prompt::new(format!("variables_{count}"))
        .description("Says its variables")
        .argument(PromptArgument { name: "parameter_0".to_owned(), ..Default::default() });
    for number in 1..count {
        prompt =
            prompt.argument(PromptArgument { name: format!("parameter_{number}"), ..Default::default() });
    }
    prompt.run(|arguments, _cx| {
        let lines: Vec<String> = arguments.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.join("\n")
    })
}

/// Occupies the shard like a tool that computes.
fn work_for(delay: Duration) {
    let until = Instant::now() + delay;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
