//! What one shard serves from: nothing in it changes, so nothing in it is locked.

use std::{collections::HashMap, sync::Arc, time::Duration};

use foldhash::fast::FixedState;
use serde_json::{Map, Value, json};

use super::{
    Registry, RegistryError,
    callable::{Callable, Kind, SharedCallable},
    capability::{Capabilities, TASKS},
    compile, describe,
    header_params::HeaderParam,
    info::{SERVER_INFO, append},
    list::{Item, Items, LIST_TTL_MS, List, Lists, Pages, items, members},
    revision::Revision,
    uri_template::UriTemplate,
};
use crate::{config::Limits, schema::Validator, seal::Secret};

/// A tool with its compiled schemas.
pub struct RegisteredTool {
    pub(super) callable: SharedCallable,
    pub(super) input: Validator,
    pub(super) header_params: Vec<HeaderParam>,
    pub(super) requires: Capabilities,
}

impl RegisteredTool {
    /// What runs.
    #[must_use]
    pub fn callable(&self) -> &SharedCallable {
        &self.callable
    }

    /// The compiled schema of its arguments.
    #[must_use]
    pub fn input(&self) -> &Validator {
        &self.input
    }

    /// Arguments that clients repeat in headers.
    #[must_use]
    pub fn header_params(&self) -> &[HeaderParam] {
        &self.header_params
    }

    /// What the client must be able to do.
    #[must_use]
    pub fn requires(&self) -> Capabilities {
        self.requires
    }
}

/// A prompt with what its arguments must be.
pub struct RegisteredPrompt {
    pub(super) callable: SharedCallable,
    pub(super) required: Vec<Box<str>>,
    pub(super) completers: Completers,
}

impl RegisteredPrompt {
    /// What runs.
    #[must_use]
    pub fn callable(&self) -> &SharedCallable {
        &self.callable
    }

    /// The arguments that must be given.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        self.required.iter().map(AsRef::as_ref)
    }

    /// Its arguments, with how they are completed.
    #[must_use]
    pub fn completers(&self) -> &Completers {
        &self.completers
    }
}

/// The arguments of a prompt or the variables of a template, each with what completes it, if something does.
#[derive(Default)]
pub struct Completers {
    pub(super) arguments: Vec<(Box<str>, Option<SharedCallable>)>,
}

impl Completers {
    /// Whether there is such an argument, and what completes it.
    #[must_use]
    pub fn find(&self, argument: &str) -> Option<Option<&SharedCallable>> {
        let found = self.arguments.iter().find(|(name, _)| **name == *argument)?;
        Some(found.1.as_ref())
    }

    fn is_empty(&self) -> bool {
        self.arguments.iter().all(|(_, completer)| completer.is_none())
    }
}

/// A template, compiled.
pub(super) struct RegisteredTemplate {
    pub(super) template: UriTemplate,
    pub(super) callable: SharedCallable,
    pub(super) completers: Completers,
}

/// A fast hash will do: what is in there was chosen by the server, not by its clients.
type ByName<T> = HashMap<Box<str>, T, FixedState>;

/// The pages of one list, by revision.
type PagesByRevision = [Arc<Pages>; Revision::ALL.len()];

/// The answers that are the same on every shard, encoded.
pub struct EncodedLists {
    /// By list.
    pages: [PagesByRevision; List::ALL.len()],
    /// Result of `server/discover`: members without braces.
    discover: Vec<u8>,
    /// Results of `initialize` behind their `protocolVersion`, by revision: members without braces.
    initialize: [Vec<u8>; Revision::ALL.len()],
}

/// Everything a shard looks up or lists, compiled and encoded.
pub struct Snapshot {
    tools: Vec<Arc<RegisteredTool>>,
    tools_by_name: ByName<usize>,
    prompts: ByName<RegisteredPrompt>,
    resources: ByName<SharedCallable>,
    templates: Vec<RegisteredTemplate>,
    /// Shared by all shards.
    encoded: Arc<EncodedLists>,
    /// Lists there are, with what they hold.
    offers: Lists,
    completes: bool,
    /// `"io.modelcontextprotocol/serverInfo":{…}`, as the `_meta` of every result of the 2026 era carries it
    /// (checklist M-08).
    server_info: Vec<u8>,
}

impl EncodedLists {
    fn build(
        registry: &Registry,
        offers: Lists,
        completes: bool,
        limits: &Limits,
        secret: &Secret,
    ) -> Result<Self, RegistryError> {
        let info = json!({SERVER_INFO: registry.info.describe(Revision::V2026_07_28)});
        let meta = json!({"_meta": info});
        let meta_members = members(&meta);
        let pages = |list: List| -> Result<PagesByRevision, RegistryError> {
            let listed: Vec<Items> = match list {
                List::Tools => registry
                    .tools
                    .iter()
                    .map(|tool| Ok(Arc::clone(&compile::tool(tool, limits)?.items)))
                    .collect::<Result<_, RegistryError>>()?,
                List::Prompts => registry
                    .prompts
                    .iter()
                    .map(|prompt| items(|revision| describe::prompt(prompt, revision)))
                    .collect(),
                List::Resources => registry
                    .resources
                    .iter()
                    .map(|resource| {
                        items(|revision| describe::resource("uri", &resource.description, revision))
                    })
                    .collect(),
                List::Templates => registry
                    .templates
                    .iter()
                    .map(|template| {
                        items(|revision| describe::resource("uriTemplate", &template.description, revision))
                    })
                    .collect(),
            };
            let mut last: Option<(Vec<&Item>, Arc<Pages>)> = None;
            Ok(Revision::ALL.map(|revision| {
                let shown: Vec<&Item> =
                    listed.iter().filter_map(|item| item.get(revision.index()).map(|item| &**item)).collect();
                // Legacy revisions that show every item alike have the same pages.
                let same = last.take().filter(|(before, _)| {
                    !revision.is_modern()
                        && before.iter().zip(&shown).all(|(before, item)| std::ptr::eq(*before, *item))
                });
                let pages = same.map_or_else(
                    || {
                        let page_items_max = limits.list_page_items_max;
                        Arc::new(Pages::encode(list, &shown, page_items_max, revision, &meta_members, secret))
                    },
                    |(_, pages)| pages,
                );
                last = Some((shown, Arc::clone(&pages)));
                pages
            }))
        };
        let [tools, resources, templates, prompts] = List::ALL.map(pages);
        let capabilities = |revision| capabilities(registry, offers, completes, revision);
        Ok(Self {
            pages: [tools?, resources?, templates?, prompts?],
            discover: members(&discover(registry, &capabilities(Revision::V2026_07_28), &meta)),
            initialize: Revision::ALL
                .map(|revision| members(&initialize(registry, &capabilities(revision), revision))),
        })
    }

    /// In which lists this differs from another.
    #[must_use]
    pub fn changed_since(&self, other: &Self) -> Lists {
        let differs = |list: &List| self.pages.get(list.index()) != other.pages.get(list.index());
        List::ALL.into_iter().filter(differs).fold(Lists::default(), Lists::with)
    }
}

impl Snapshot {
    /// Compiles a registry for the first shard, or for the only one.
    ///
    /// # Errors
    /// The first thing that cannot be served.
    pub fn build(registry: &Registry, limits: &Limits, secret: &Secret) -> Result<Self, RegistryError> {
        Self::build_for(registry, limits, secret, 0, None)
    }

    /// Compiles a registry for a shard: only what no registry before it had. `encoded`: that of another shard's snapshot of
    /// the same registry, if there is one.
    ///
    /// # Errors
    /// The first thing that cannot be served.
    pub fn build_for(
        registry: &Registry,
        limits: &Limits,
        secret: &Secret,
        shard: usize,
        encoded: Option<&Arc<EncodedLists>>,
    ) -> Result<Self, RegistryError> {
        compile::check_icons(&registry.info.name, &registry.info.icons)?;
        compile::check_extensions(&registry.extensions)?;
        let mut tools = Vec::with_capacity(registry.tools.len());
        let mut tools_by_name = ByName::with_capacity_and_hasher(registry.tools.len(), FixedState::default());
        for (position, tool) in registry.tools.iter().enumerate() {
            insert(&mut tools_by_name, tool.name(), position)?;
            tools.push(compile::registered_tool(tool, position, limits, shard)?);
        }
        let mut prompts = ByName::default();
        for (position, prompt) in registry.prompts.iter().enumerate() {
            insert(&mut prompts, prompt.name(), compile::prompt(prompt, position, limits)?)?;
        }
        let mut resources = ByName::default();
        for (position, resource) in registry.resources.iter().enumerate() {
            insert(&mut resources, resource.uri(), compile::resource(resource, position, limits)?)?;
        }
        let mut known = ByName::default();
        let mut templates = Vec::with_capacity(registry.templates.len());
        for (position, template) in registry.templates.iter().enumerate() {
            insert(&mut known, template.template(), ())?;
            templates.push(compile::template(template, position, limits)?);
        }

        let mut offers = Lists::default().with(List::Tools);
        if !resources.is_empty() || !templates.is_empty() {
            offers = offers.with(List::Resources);
        }
        if !prompts.is_empty() {
            offers = offers.with(List::Prompts);
        }
        let completes = prompts.values().any(|prompt| !prompt.completers.is_empty())
            || templates.iter().any(|template| !template.completers.is_empty());
        let encoded = match encoded {
            Some(encoded) => Arc::clone(encoded),
            None => Arc::new(EncodedLists::build(registry, offers, completes, limits, secret)?),
        };
        let info = json!({SERVER_INFO: registry.info.describe(Revision::V2026_07_28)});
        Ok(Self {
            encoded,
            server_info: members(&info),
            tools,
            tools_by_name,
            prompts,
            resources,
            templates,
            offers,
            completes,
        })
    }

    /// The answers that are the same on every shard.
    #[must_use]
    pub fn encoded(&self) -> &Arc<EncodedLists> {
        &self.encoded
    }

    /// Finds a tool.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&Arc<RegisteredTool>> {
        self.tools_by_name.get(name).and_then(|&index| self.tools.get(index))
    }

    /// All tools, in the order they are listed.
    #[must_use]
    pub fn tools(&self) -> &[Arc<RegisteredTool>] {
        &self.tools
    }

    /// Finds a prompt.
    #[must_use]
    pub fn prompt(&self, name: &str) -> Option<&RegisteredPrompt> {
        self.prompts.get(name)
    }

    /// Finds what reads a resource: its own, or that of the first template its URI matches.
    #[must_use]
    pub fn resource(&self, uri: &str) -> Option<&SharedCallable> {
        self.resources.get(uri).or_else(|| {
            let template = self.templates.iter().find(|template| template.template.is_match(uri))?;
            Some(&template.callable)
        })
    }

    /// Finds the variables of a template by the template's text.
    #[must_use]
    pub fn template_completers(&self, template: &str) -> Option<&Completers> {
        let found = self.templates.iter().find(|other| other.template.as_str() == template)?;
        Some(&found.completers)
    }

    /// Whether a list is offered at all. Tools always are.
    #[must_use]
    pub fn offers(&self, list: List) -> bool {
        self.offers.has(list)
    }

    /// Whether anything can be completed.
    #[must_use]
    pub fn completes(&self) -> bool {
        self.completes
    }

    /// One page of a list, by the cursor of the page before: members of the result, without braces.
    #[must_use]
    pub fn page(&self, list: List, revision: Revision, cursor: Option<&str>) -> Option<&[u8]> {
        self.encoded.pages.get(list.index())?.get(revision.index())?.page(cursor)
    }

    /// The result of `server/discover`: members without braces.
    #[must_use]
    pub fn discover(&self) -> &[u8] {
        &self.encoded.discover
    }

    /// The result of `initialize` but for its `protocolVersion`: members without braces.
    #[must_use]
    pub fn initialize(&self, revision: Revision) -> &[u8] {
        self.encoded.initialize.get(revision.index()).map_or(&[], Vec::as_slice)
    }

    /// The member of `_meta` that every result of the 2026 era carries.
    #[must_use]
    pub fn server_info(&self) -> &[u8] {
        &self.server_info
    }
}

fn insert<T>(map: &mut ByName<T>, name: &str, value: T) -> Result<(), RegistryError> {
    match map.insert(name.into(), value) {
        None => Ok(()),
        Some(_) => Err(RegistryError::Duplicate(name.to_owned())),
    }
}

/// What a server can do. Only what works is named (checklist M-21, M-69).
fn capabilities(registry: &Registry, offers: Lists, completes: bool, revision: Revision) -> Value {
    let mut capabilities = Map::new();
    capabilities.insert("tools".into(), json!({"listChanged": true}));
    if offers.has(List::Resources) {
        capabilities.insert("resources".into(), json!({"subscribe": true, "listChanged": true}));
    }
    if offers.has(List::Prompts) {
        capabilities.insert("prompts".into(), json!({"listChanged": true}));
    }
    // Before 2025-03-26 there was no name for it.
    if completes && revision >= Revision::V2025_03_26 {
        capabilities.insert("completions".into(), json!({}));
    }
    capabilities.insert("logging".into(), json!({}));
    if revision.is_modern() {
        let mut extensions = registry.extensions.clone();
        extensions.insert(TASKS.into(), json!({}));
        capabilities.insert("extensions".into(), Value::Object(extensions));
    }
    Value::Object(capabilities)
}

fn discover(registry: &Registry, capabilities: &Value, meta: &Value) -> Value {
    let versions: Vec<_> = Revision::ALL.iter().rev().map(|revision| revision.as_str()).collect();
    let mut result = Map::new();
    result.insert("resultType".into(), "complete".into());
    result.insert("supportedVersions".into(), versions.into());
    result.insert("capabilities".into(), capabilities.clone());
    if let Some(instructions) = &registry.info.instructions {
        result.insert("instructions".into(), instructions.as_str().into());
    }
    result.insert("ttlMs".into(), LIST_TTL_MS.into());
    result.insert("cacheScope".into(), "public".into());
    append(&mut result, meta);
    Value::Object(result)
}

fn initialize(registry: &Registry, capabilities: &Value, revision: Revision) -> Value {
    let mut result = Map::new();
    result.insert("capabilities".into(), capabilities.clone());
    result.insert("serverInfo".into(), registry.info.describe(revision));
    if let Some(instructions) = &registry.info.instructions {
        result.insert("instructions".into(), instructions.as_str().into());
    }
    Value::Object(result)
}

/// A callable as it is registered: what most of them have in common.
pub(super) fn callable(
    kind: Kind,
    name: &str,
    position: usize,
    handler: &super::handler::Handler,
    deadline: Option<Duration>,
    limits: &Limits,
) -> Result<Callable, RegistryError> {
    if let Some(deadline) = deadline {
        compile::check_deadline(name, deadline)?;
    }
    Ok(Callable {
        kind,
        name: name.into(),
        position,
        handler: handler.clone(),
        deadline: deadline.unwrap_or(limits.call_deadline),
        output: None,
        cache: super::resource::Cache::default(),
        task: None,
    })
}
