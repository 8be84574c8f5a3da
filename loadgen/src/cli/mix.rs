//! Parses the requests of a mix from the command line.

use clap::Args;

use crate::{
    error::LoadError,
    probe::ProbeResult,
    request::{Era, Operation},
};

/// The arguments that describe a mix of requests.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Requests")]
pub(super) struct Mix {
    /// Call a tool: NAME, NAME={…} or NAME={…}=WEIGHT; arguments may contain {{counter}}, {{random:16}}, {{pad:1024}}
    /// [default: echo, if the server has it]
    #[arg(long, value_name = "NAME[={…}][=WEIGHT]")]
    tool: Vec<String>,

    /// List the tools, with this weight
    #[arg(long, value_name = "WEIGHT", num_args = 0..=1, default_missing_value = "1")]
    list: Option<u32>,

    /// Read a resource: URI or URI=WEIGHT
    #[arg(long, value_name = "URI[=WEIGHT]")]
    resource: Vec<String>,

    /// Get a prompt: syntax as in --tool
    #[arg(long, value_name = "NAME[={…}][=WEIGHT]")]
    prompt: Vec<String>,

    /// server/discover, with this weight
    #[arg(long, value_name = "WEIGHT", num_args = 0..=1, default_missing_value = "1")]
    discover: Option<u32>,

    /// ping (2025-11-25), with this weight
    #[arg(long, value_name = "WEIGHT", num_args = 0..=1, default_missing_value = "1")]
    ping: Option<u32>,

    /// GET the path of any HTTP server, and expect a 200
    #[arg(long, conflicts_with_all = ["tool", "list", "resource", "prompt", "discover", "ping", "era"])]
    pub(super) plain: bool,
}

impl Mix {
    /// The only revision with `ping` is 2025-11-25.
    pub(super) fn needs_era(&self) -> Option<Era> {
        self.ping.is_some().then_some(Era::Legacy)
    }

    pub(super) fn operations(&self, probe: &ProbeResult) -> Result<Vec<(Operation, u32)>, LoadError> {
        if self.plain {
            return Ok(vec![(Operation::Plain, 1)]);
        }
        let mut operations = Vec::new();
        for text in &self.tool {
            let (name, arguments, weight) = named_arguments(text)?;
            let is_there = probe.tools.is_empty() || probe.tools.contains(&name);
            if !is_there {
                let available = probe.tools.join(", ");
                return Err(LoadError::Unsupported(format!(
                    "the server has no tool {name:?}; it has {available}"
                )));
            }
            let operation = match arguments {
                Some(arguments) => Operation::Tool { name, arguments },
                None if name == "echo" => Operation::canonical(),
                None => Operation::Tool { name, arguments: "{}".to_owned() },
            };
            operations.push((operation, weight));
        }
        for text in &self.prompt {
            let (name, arguments, weight) = named_arguments(text)?;
            operations.push((
                Operation::Prompt { name, arguments: arguments.unwrap_or_else(|| "{}".to_owned()) },
                weight,
            ));
        }
        for text in &self.resource {
            let (uri, weight) =
                match text.rsplit_once('=').and_then(|(uri, weight)| Some((uri, weight.parse().ok()?))) {
                    Some((uri, weight)) => (uri.to_owned(), weight),
                    None => (text.clone(), 1),
                };
            operations.push((Operation::Resource { uri }, weight));
        }
        let methods = [("tools/list", self.list), ("server/discover", self.discover), ("ping", self.ping)];
        for (method, weight) in methods {
            operations.extend(weight.map(|weight| (Operation::Method(method), weight)));
        }
        if operations.is_empty() {
            let echo = probe.tools.iter().any(|tool| tool == "echo");
            operations.push((if echo { Operation::canonical() } else { Operation::Method("tools/list") }, 1));
        }
        if operations.iter().all(|(_, weight)| *weight == 0) {
            return Err(LoadError::Usage("every request of the mix has weight 0".to_owned()));
        }
        Ok(operations)
    }
}

/// Parses `NAME`, `NAME={…}`, `NAME={…}=WEIGHT` or `NAME=WEIGHT`.
fn named_arguments(text: &str) -> Result<(String, Option<String>, u32), LoadError> {
    let usage =
        || LoadError::Usage(format!("{text:?} is not of the form NAME, NAME={{…}} or NAME={{…}}=WEIGHT"));
    let Some((name, rest)) = text.split_once('=') else { return Ok((text.to_owned(), None, 1)) };
    if name.is_empty() {
        return Err(usage());
    }
    if !rest.starts_with('{') {
        return Ok((name.to_owned(), None, rest.parse().map_err(|_| usage())?));
    }
    // The weight follows the last brace; an = inside a string precedes it.
    let end = rest.rfind('}').ok_or_else(usage)? + 1;
    let (arguments, behind) = rest.split_at(end);
    let weight = match behind.strip_prefix('=') {
        Some(weight) => weight.parse().map_err(|_| usage())?,
        None if behind.is_empty() => 1,
        None => return Err(usage()),
    };
    Ok((name.to_owned(), Some(arguments.to_owned()), weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_parsed_with_arguments_and_weights() {
        let read = |text| named_arguments(text).unwrap();
        assert_eq!(read("echo"), ("echo".to_owned(), None, 1));
        assert_eq!(read("echo=7"), ("echo".to_owned(), None, 7));
        let (name, arguments, weight) = read(r#"echo={"message":"a=b}"}=90"#);
        assert_eq!((name.as_str(), weight), ("echo", 90));
        assert_eq!(arguments.unwrap(), r#"{"message":"a=b}"}"#);
        for wrong in ["=1", "echo=x", "echo={}x", "echo={}=x", "echo={"] {
            assert!(named_arguments(wrong).is_err(), "{wrong}");
        }
    }
}
