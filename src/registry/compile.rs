//! Compiles declarations into the entries of a snapshot, and rejects those that cannot be served.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fluent_uri::Uri;
use foldhash::fast::FixedState;
use serde_json::{Map, Value};

use super::{
    Entry, Registry, RegistryError,
    compiled_tool::{CompiledTool, ToolLimits},
    completion::Completer,
    describe,
    header_params::{self},
    list::{Items, List, items},
    prompt::Prompt,
    registered::{Completers, RegisteredPrompt, RegisteredTemplate, RegisteredTool},
    resource::{Resource, ResourceDescription, ResourceTemplate},
    tool::Tool,
};
use crate::{
    call::{Cache, Callable, DeclaredReads, Handler, Icon, Kind, SharedCallable, TaskTerms},
    config::Limits,
    schema::{CompiledSchema, SchemaError},
    uri_template::UriTemplate,
};

/// A kind of declaration, and its compiled form.
pub(super) trait Compile: Entry {
    /// The compiled form.
    type Compiled;

    /// The list that has this kind.
    const LIST: List;

    /// The declarations of this kind, in the order they are listed.
    fn declared(registry: &Registry) -> &[Self];

    /// Address of the shared declaration: equal for clones, different for other declarations that are alive.
    fn address(&self) -> usize;

    /// The encoded list items, by revision.
    fn items(&self, limits: &Limits) -> Result<Items, RegistryError>;

    /// Compiles the declaration for a shard.
    fn compile(
        &self,
        position: usize,
        limits: &Limits,
        shard: usize,
    ) -> Result<Arc<Self::Compiled>, RegistryError>;

    /// Whether an entry compiled earlier can be used at this position.
    fn fits(_compiled: &Self::Compiled, _position: usize) -> bool {
        true
    }
}

/// Positions of the declarations in the previous registry; almost always the same as now.
pub(super) struct Before<'a, E> {
    entries: &'a [E],
    /// Positions by address; built when the first declaration is not at its old position.
    by_address: Option<HashMap<usize, usize, FixedState>>,
}

impl<'a, E: Compile> Before<'a, E> {
    pub(super) fn new(registry: Option<&'a Registry>) -> Self {
        Self { entries: registry.map_or(&[], E::declared), by_address: None }
    }

    /// Whether the declarations are the same.
    pub(super) fn is_same(&self, entries: &[E]) -> bool {
        entries.len() == self.entries.len() && self.is_start_of(entries)
    }

    /// Whether the previous declarations are a prefix of these.
    pub(super) fn is_start_of(&self, entries: &[E]) -> bool {
        entries.len() >= self.entries.len()
            && self.entries.iter().zip(entries).all(|(one, other)| one.address() == other.address())
    }

    /// Number of previous declarations.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Previous position of the declaration that is at `position` now.
    pub(super) fn position(&mut self, position: usize, entry: &E) -> Option<usize> {
        let address = entry.address();
        if self.entries.get(position).is_some_and(|before| before.address() == address) {
            return Some(position);
        }
        let entries = self.entries;
        let by_address = self.by_address.get_or_insert_with(|| {
            entries.iter().enumerate().map(|(position, entry)| (entry.address(), position)).collect()
        });
        by_address.get(&address).copied()
    }
}

impl Compile for Tool {
    type Compiled = RegisteredTool;

    const LIST: List = List::Tools;

    fn declared(registry: &Registry) -> &[Self] {
        &registry.tools
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.description).addr()
    }

    fn items(&self, limits: &Limits) -> Result<Items, RegistryError> {
        Ok(Arc::clone(&tool(self, limits)?.items))
    }

    fn compile(
        &self,
        position: usize,
        limits: &Limits,
        shard: usize,
    ) -> Result<Arc<RegisteredTool>, RegistryError> {
        registered_tool(self, position, limits, shard)
    }

    fn fits(compiled: &RegisteredTool, position: usize) -> bool {
        compiled.callable.position() == position
    }
}

impl Compile for Prompt {
    type Compiled = RegisteredPrompt;

    const LIST: List = List::Prompts;

    fn declared(registry: &Registry) -> &[Self] {
        &registry.prompts
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.description).addr()
    }

    fn items(&self, _limits: &Limits) -> Result<Items, RegistryError> {
        Ok(items(|revision| describe::prompt(self, revision)))
    }

    fn compile(
        &self,
        position: usize,
        limits: &Limits,
        _shard: usize,
    ) -> Result<Arc<RegisteredPrompt>, RegistryError> {
        prompt(self, position, limits).map(Arc::new)
    }
}

impl Compile for Resource {
    type Compiled = Callable;

    const LIST: List = List::Resources;

    fn declared(registry: &Registry) -> &[Self] {
        &registry.resources
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.description).addr()
    }

    fn items(&self, _limits: &Limits) -> Result<Items, RegistryError> {
        Ok(items(|revision| describe::resource("uri", &self.description, revision)))
    }

    fn compile(
        &self,
        position: usize,
        limits: &Limits,
        _shard: usize,
    ) -> Result<SharedCallable, RegistryError> {
        resource(self, position, limits)
    }
}

impl Compile for ResourceTemplate {
    type Compiled = RegisteredTemplate;

    const LIST: List = List::Templates;

    fn declared(registry: &Registry) -> &[Self] {
        &registry.templates
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.description).addr()
    }

    fn items(&self, _limits: &Limits) -> Result<Items, RegistryError> {
        Ok(items(|revision| describe::resource("uriTemplate", &self.description, revision)))
    }

    fn compile(
        &self,
        position: usize,
        limits: &Limits,
        _shard: usize,
    ) -> Result<Arc<RegisteredTemplate>, RegistryError> {
        template(self, position, limits).map(Arc::new)
    }
}

/// The compiled form of a tool, from the cache where the limits are the same.
fn tool(tool: &Tool, limits: &Limits) -> Result<Arc<CompiledTool>, RegistryError> {
    // A panic cannot leave a partial value behind the lock.
    let mut compiled = tool.description.compiled.0.lock().unwrap_or_else(PoisonError::into_inner);
    match &*compiled {
        Some(compiled) if compiled.limits == ToolLimits::of(limits) => Ok(Arc::clone(compiled)),
        _ => {
            let new = Arc::new(compile_tool(tool, limits)?);
            *compiled = Some(Arc::clone(&new));
            Ok(new)
        }
    }
}

fn compile_tool(tool: &Tool, limits: &Limits) -> Result<CompiledTool, RegistryError> {
    let description = &tool.description;
    let name = tool.name();
    check_name(name)?;
    check_texts(name, [description.title.as_deref(), description.text.as_deref()])?;
    check_icons(name, &description.icons)?;
    if description.input_schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(RegistryError::NotObject(name.to_owned()));
    }
    if description.task.is_some() && matches!(tool.handler, Handler::Inline(_)) {
        return Err(RegistryError::InlineTask(name.to_owned()));
    }
    let compiled = |which, schema: &Value| {
        CompiledSchema::compile(schema, &limits.schema()).map_err(|source| schema_error(name, which, source))
    };
    let input = compiled("inputSchema", &description.input_schema)?;
    let output =
        description.output_schema.as_ref().map(|schema| compiled("outputSchema", schema)).transpose()?;
    if let Some(terms) = description.task {
        check_terms(name, terms)?;
    }
    Ok(CompiledTool {
        limits: ToolLimits::of(limits),
        input,
        output,
        header_params: header_params::find(name, &description.input_schema)?,
        items: items(|revision| describe::tool(tool, revision)),
        registered: Mutex::default(),
    })
}

/// A tool compiled for a shard, from the cache where it has the same position.
fn registered_tool(
    tool: &Tool,
    position: usize,
    limits: &Limits,
    shard: usize,
) -> Result<Arc<RegisteredTool>, RegistryError> {
    let compiled = self::tool(tool, limits)?;
    // A panic cannot leave a partial value behind the lock.
    let mut registered = compiled.registered.lock().unwrap_or_else(PoisonError::into_inner);
    if registered.len() <= shard {
        registered.resize(shard.saturating_add(1), None);
    }
    match registered.get(shard) {
        Some(Some(before)) if before.callable.position() == position => return Ok(Arc::clone(before)),
        _ => {}
    }
    let description = &tool.description;
    let name = tool.name();
    let input = compiled
        .input
        .validator(&description.input_schema, shard)
        .map_err(|source| schema_error(name, "inputSchema", source))?;
    let output = match (&compiled.output, &description.output_schema) {
        (Some(compiled), Some(schema)) => Some(
            compiled.validator(schema, shard).map_err(|source| schema_error(name, "outputSchema", source))?,
        ),
        _ => None,
    };
    let callable = callable(
        Kind::Tool,
        name,
        position,
        &tool.handler,
        (description.deadline, &description.reads),
        limits,
    )?;
    let new = Arc::new(RegisteredTool {
        callable: Arc::new(Callable {
            output,
            task: description.task,
            once: description.once.clone(),
            ..callable
        }),
        input,
        header_params: compiled.header_params.clone(),
        requires: description.requires,
    });
    if let Some(slot) = registered.get_mut(shard) {
        *slot = Some(Arc::clone(&new));
    }
    Ok(new)
}

fn schema_error(tool: &str, which: &'static str, source: SchemaError) -> RegistryError {
    RegistryError::Schema { tool: tool.to_owned(), which, source }
}

fn prompt(prompt: &Prompt, position: usize, limits: &Limits) -> Result<RegisteredPrompt, RegistryError> {
    let description = &prompt.description;
    let name = prompt.name();
    check_name(name)?;
    let texts = description.arguments.iter().flat_map(|argument| [&argument.title, &argument.description]);
    check_texts(name, texts.map(Option::as_deref))?;
    check_texts(name, [description.title.as_deref(), description.text.as_deref()])?;
    check_icons(name, &description.icons)?;
    check_readable(name, description.unreadable.as_deref())?;
    let arguments = description.arguments.iter().map(|argument| argument.name.as_str());
    let required = description.arguments.iter().filter(|argument| argument.required);
    Ok(RegisteredPrompt {
        callable: Arc::new(callable(
            Kind::Prompt,
            name,
            position,
            &prompt.handler,
            (description.deadline, &description.reads),
            limits,
        )?),
        required: required.map(|argument| argument.name.as_str().into()).collect(),
        completers: completers(name, arguments, &description.completers, limits)?,
    })
}

fn resource(resource: &Resource, position: usize, limits: &Limits) -> Result<SharedCallable, RegistryError> {
    let uri = resource.uri();
    Uri::parse(uri).map_err(|_| RegistryError::Uri(uri.to_owned()))?;
    read(&resource.description, position, &resource.handler, limits)
}

fn template(
    template: &ResourceTemplate,
    position: usize,
    limits: &Limits,
) -> Result<RegisteredTemplate, RegistryError> {
    let text = template.template();
    let compiled = UriTemplate::parse(text)
        .map_err(|source| RegistryError::Template { template: text.to_owned(), source })?;
    check_readable(text, template.description.unreadable.as_deref())?;
    let completers = completers(text, compiled.variables(), &template.description.completers, limits)?;
    let callable = read(&template.description, position, &template.handler, limits)?;
    Ok(RegisteredTemplate { template: compiled, callable, completers })
}

fn read(
    description: &ResourceDescription,
    position: usize,
    handler: &Handler,
    limits: &Limits,
) -> Result<SharedCallable, RegistryError> {
    let uri = description.uri.as_ref();
    let texts = [Some(description.name.as_ref()), description.title.as_deref(), description.text.as_deref()];
    check_texts(uri, texts)?;
    check_icons(uri, &description.icons)?;
    let callable =
        callable(Kind::Resource, uri, position, handler, (description.deadline, &description.reads), limits)?;
    check_duration(uri, "cache ttl", description.cache.ttl, Duration::ZERO)?;
    Ok(Arc::new(Callable { cache: description.cache, ..callable }))
}

fn completers<'a>(
    of: &str,
    arguments: impl Iterator<Item = &'a str>,
    completers: &[Completer],
    limits: &Limits,
) -> Result<Completers, RegistryError> {
    let arguments: Vec<&str> = arguments.collect();
    if let Some(unknown) =
        completers.iter().find(|completer| !arguments.contains(&completer.argument.as_ref()))
    {
        return Err(RegistryError::Completer {
            of: of.to_owned(),
            argument: unknown.argument.clone().into_owned(),
        });
    }
    let compiled = |argument: &&str| {
        let completer = completers.iter().find(|completer| completer.argument == **argument);
        let callable = completer
            .map(|completer| {
                callable(Kind::Completion, of, 0, &completer.handler, (None, &completer.reads), limits)
            })
            .transpose()?;
        Ok((Box::from(*argument), callable.map(Arc::new)))
    };
    let arguments = arguments.iter().map(compiled).collect::<Result<_, RegistryError>>()?;
    Ok(Completers { arguments })
}

/// Maximum of any declared duration: the maximum lifetime of a session.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Minimum of a deadline and of a task's time to live.
const DEADLINE_MIN: Duration = Duration::from_millis(1);

/// Checks the range of a deadline of the entry `of`.
pub(super) fn check_deadline(of: &str, deadline: Duration) -> Result<(), RegistryError> {
    check_duration(of, "deadline", deadline, DEADLINE_MIN)
}

fn check_terms(of: &str, terms: TaskTerms) -> Result<(), RegistryError> {
    if let Some(ttl) = terms.ttl {
        check_duration(of, "task ttl", ttl, DEADLINE_MIN)?;
    }
    check_duration(of, "task poll_interval", terms.poll_interval, Duration::ZERO)
}

fn check_duration(of: &str, what: &'static str, value: Duration, min: Duration) -> Result<(), RegistryError> {
    if (min..=DURATION_MAX).contains(&value) {
        return Ok(());
    }
    Err(RegistryError::OutOfRange { of: of.to_owned(), what, value, min, max: DURATION_MAX })
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=128).contains(&name.len()) && name.bytes().all(is_name) {
        Ok(())
    } else {
        Err(RegistryError::Name(name.to_owned()))
    }
}

fn check_readable(of: &str, unreadable: Option<&str>) -> Result<(), RegistryError> {
    match unreadable {
        None => Ok(()),
        Some(reason) => Err(RegistryError::Arguments { of: of.to_owned(), reason: reason.to_owned() }),
    }
}

fn check_texts<'a>(
    name: &str,
    texts: impl IntoIterator<Item = Option<&'a str>>,
) -> Result<(), RegistryError> {
    let is_control = |character: char| character.is_control() && character != '\n' && character != '\t';
    if texts.into_iter().flatten().flat_map(str::chars).any(is_control) {
        return Err(RegistryError::Text(name.to_owned()));
    }
    Ok(())
}

pub(super) fn check_icons(name: &str, icons: &[Icon]) -> Result<(), RegistryError> {
    let is_known = |icon: &Icon| icon.src.starts_with("https:") || icon.src.starts_with("data:");
    if icons.iter().all(is_known) { Ok(()) } else { Err(RegistryError::Icon(name.to_owned())) }
}

pub(super) fn check_extensions(extensions: &Map<String, Value>) -> Result<(), RegistryError> {
    let has_prefix =
        |id: &str| id.split_once('/').is_some_and(|(prefix, name)| prefix.contains('.') && !name.is_empty());
    match extensions.keys().find(|id| !has_prefix(id)) {
        None => Ok(()),
        Some(id) => Err(RegistryError::Extension(id.clone())),
    }
}

/// A callable with default caching, without an output schema and without task terms.
fn callable(
    kind: Kind,
    name: &str,
    position: usize,
    handler: &Handler,
    (deadline, reads): (Option<Duration>, &DeclaredReads),
    limits: &Limits,
) -> Result<Callable, RegistryError> {
    if let Some(header) = reads.headers.iter().find(|name| !is_token(name)) {
        return Err(RegistryError::HeaderName { of: name.to_owned(), header: header.clone().into_owned() });
    }
    if let Some(deadline) = deadline {
        check_deadline(name, deadline)?;
    }
    Ok(Callable {
        kind,
        name: name.into(),
        position,
        handler: handler.clone(),
        deadline: deadline.unwrap_or(limits.call_deadline),
        output: None,
        cache: Cache::default(),
        task: None,
        reads: (!reads.is_empty()).then(|| Arc::new(reads.clone())),
        once: None,
    })
}

/// A header's name (<https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2>).
fn is_token(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}
