//! The immutable snapshot of the registry that one shard serves from, without locks.
//!
//! Invariants, which debug builds check for each snapshot that is built: the index of a list has the key of every entry
//! once, at the position of the entry; a list has one encoded item per entry, and the snapshot one compiled entry, in the
//! same order; a compiled tool has the position that it was compiled for.

mod encoded;
mod index;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::{encoded::EncodedLists, index::Entries};
use super::{
    Registry, RegistryError,
    compile::{self, Before, Compile},
    list::List,
    prompt::Prompt,
    registered::{Completers, RegisteredPrompt, RegisteredTemplate, RegisteredTool},
    resource::{Resource, ResourceTemplate},
    tool::Tool,
};
use crate::{
    call::{Callable, Revision, SharedCallable},
    config::Limits,
    signed_token::SigningKey,
};

/// Everything that a shard looks up or lists, compiled and encoded. Clones share it.
#[derive(Clone)]
pub struct Snapshot {
    tools: Entries<RegisteredTool>,
    prompts: Entries<RegisteredPrompt>,
    resources: Entries<Callable>,
    templates: Arc<[Arc<RegisteredTemplate>]>,
    /// Shared by all shards.
    encoded: Arc<EncodedLists>,
}

impl Snapshot {
    /// Compiles a registry for shard 0, from nothing.
    ///
    /// # Errors
    /// The first declaration that cannot be served.
    pub fn build(
        registry: &Registry,
        limits: &Limits,
        signing_key: &SigningKey,
    ) -> Result<Self, RegistryError> {
        Self::build_for(&Arc::new(registry.clone()), limits, signing_key, 0, None, None)
    }

    /// The snapshot of an empty registry.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self::build(&Registry::default(), &Limits::default(), &SigningKey::new(b"key")).unwrap()
    }

    /// Compiles a registry for a shard. Reuses what has not changed since `before`, the previous snapshot of the shard, and the
    /// `encoded` lists of another shard's snapshot of the same registry.
    ///
    /// # Errors
    /// The first declaration that cannot be served.
    pub fn build_for(
        registry: &Arc<Registry>,
        limits: &Limits,
        signing_key: &SigningKey,
        shard: usize,
        before: Option<&Self>,
        encoded: Option<&Arc<EncodedLists>>,
    ) -> Result<Self, RegistryError> {
        compile::check_icons(&registry.info.name, &registry.info.icons)?;
        compile::check_extensions(&registry.extensions)?;
        let before = before.filter(|before| before.encoded.limits == *limits);
        let compiling = Compiling { registry, before, limits, shard };
        let tools = compiling.all::<Tool>(|before| &before.tools.entries)?;
        let prompts = compiling.all::<Prompt>(|before| &before.prompts.entries)?;
        let resources = compiling.all::<Resource>(|before| &before.resources.entries)?;
        let templates = compiling.all::<ResourceTemplate>(|before| &before.templates)?;
        let encoded = match encoded {
            Some(encoded) => Arc::clone(encoded),
            None => {
                let before = before.map(|before| &*before.encoded);
                Arc::new(EncodedLists::build(registry, limits, signing_key, before)?)
            }
        };
        let snapshot = Self {
            tools: Entries::new(tools, encoded.index(List::Tools)),
            prompts: Entries::new(prompts, encoded.index(List::Prompts)),
            resources: Entries::new(resources, encoded.index(List::Resources)),
            templates,
            encoded,
        };
        if cfg!(debug_assertions) {
            snapshot.check_invariants();
        }
        Ok(snapshot)
    }

    /// Checks the invariants of the module's documentation.
    ///
    /// # Panics
    /// One of them does not hold.
    fn check_invariants(&self) {
        self.encoded.check_invariants();
        let registry = &self.encoded.registry;
        assert_eq!(self.prompts.len(), registry.prompts().len(), "compiled and declared prompts");
        assert_eq!(self.resources.len(), registry.resources().len(), "compiled and declared resources");
        assert_eq!(self.templates.len(), registry.templates().len(), "compiled and declared templates");
        let tools = self.tools.iter().map(|tool| (tool.callable.name(), tool.callable.position()));
        let declared = registry.tools().iter().enumerate().map(|(position, tool)| (tool.name(), position));
        assert!(tools.eq(declared), "compiled tools have other names or positions than the declared ones");
        let prompts = self.prompts.iter().map(|prompt| prompt.callable.name());
        assert!(
            prompts.eq(registry.prompts().iter().map(Prompt::name)),
            "compiled prompts are in another order"
        );
        let resources = self.resources.iter().map(|resource| resource.name());
        assert!(
            resources.eq(registry.resources().iter().map(Resource::uri)),
            "compiled resources are in another order"
        );
        let templates = self.templates.iter().map(|template| template.template.as_str());
        assert!(
            templates.eq(registry.templates().iter().map(ResourceTemplate::template)),
            "compiled templates are in another order"
        );
    }

    /// The part that all shards share.
    #[must_use]
    pub fn encoded(&self) -> &Arc<EncodedLists> {
        &self.encoded
    }

    /// The tools.
    #[must_use]
    pub fn tools(&self) -> &Entries<RegisteredTool> {
        &self.tools
    }

    /// Each tool with the length of its schemas as JSON, and the number of schemas within its input schema.
    pub fn schemas(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.encoded.registry.tools().iter().zip(self.tools.iter()).map(|(declared, compiled)| {
            let schemas =
                [Some(&declared.description.input_schema), declared.description.output_schema.as_ref()];
            let bytes = schemas.into_iter().flatten().map(|schema| schema.to_string().len()).sum();
            (declared.name(), bytes, compiled.input.subschemas())
        })
    }

    /// The callables of all tools, prompts, resources, templates and their completers.
    pub fn callables(&self) -> impl Iterator<Item = &SharedCallable> {
        let tools = self.tools.iter().map(|tool| &tool.callable);
        let prompts = self.prompts.iter().map(|prompt| &prompt.callable);
        let templates = self.templates.iter().map(|template| &template.callable);
        let completers = self.prompts.iter().map(|prompt| &prompt.completers);
        let completers = completers.chain(self.templates.iter().map(|template| &template.completers));
        let completers = completers.flat_map(Completers::callables);
        tools.chain(prompts).chain(self.resources.iter()).chain(templates).chain(completers)
    }

    /// The prompts.
    #[must_use]
    pub fn prompts(&self) -> &Entries<RegisteredPrompt> {
        &self.prompts
    }

    /// Finds the callable that reads a resource: that of the resource, or of the first template that its URI matches.
    #[must_use]
    pub fn resource(&self, uri: &str) -> Option<&SharedCallable> {
        self.resources.find(uri).or_else(|| {
            let template = self.templates.iter().find(|template| template.template.is_match(uri))?;
            Some(&template.callable)
        })
    }

    /// Finds the variables of a template, with their completers, by the template's text.
    #[must_use]
    pub fn template_completers(&self, template: &str) -> Option<&Completers> {
        let found = self.templates.iter().find(|other| other.template.as_str() == template)?;
        Some(&found.completers)
    }

    /// Whether the capability for a list is declared. That for tools always is.
    #[must_use]
    pub fn offers(&self, list: List) -> bool {
        self.encoded.offers.has(list)
    }

    /// Whether any argument has a completer.
    #[must_use]
    pub fn completes(&self) -> bool {
        self.encoded.completes
    }

    /// The page of a list that a cursor names, or the first page: the members of the result without braces, in three parts.
    /// `None` for an invalid cursor.
    #[must_use]
    pub fn page(&self, list: List, revision: Revision, cursor: Option<&str>) -> Option<[&[u8]; 3]> {
        self.encoded.lists.get(list.index())?.page(revision, cursor)
    }

    /// The result of `server/discover`: the members without braces.
    #[must_use]
    pub fn discover(&self) -> &[u8] {
        &self.encoded.discover
    }

    /// The result of `initialize` without its `protocolVersion`: the members without braces.
    #[must_use]
    pub fn initialize(&self, revision: Revision) -> &[u8] {
        self.encoded.initialize.get(revision.index()).map_or(&[], Vec::as_slice)
    }

    /// The member of `_meta` that every result of revision 2026-07-28 carries.
    #[must_use]
    pub fn server_info(&self) -> &[u8] {
        &self.encoded.server_info
    }
}

/// Inputs of the compilation of a shard's part of a snapshot.
struct Compiling<'a> {
    registry: &'a Registry,
    before: Option<&'a Snapshot>,
    limits: &'a Limits,
    shard: usize,
}

impl Compiling<'_> {
    /// Compiles the entries of one kind. Reuses those of the previous snapshot that have not changed.
    fn all<E: Compile>(
        &self,
        of: impl Fn(&Snapshot) -> &Arc<[Arc<E::Compiled>]>,
    ) -> Result<Arc<[Arc<E::Compiled>]>, RegistryError> {
        let entries = E::declared(self.registry);
        let mut kept = Before::<E>::new(self.before.map(|before| &*before.encoded.registry));
        let before = self.before.map(of);
        if let Some(before) = before.filter(|_| kept.is_same(entries)) {
            return Ok(Arc::clone(before));
        }
        let compiled = |(position, entry): (usize, &E)| {
            let compiled =
                before.zip(kept.position(position, entry)).and_then(|(all, before)| all.get(before));
            match compiled.filter(|compiled| E::fits(compiled, position)) {
                Some(compiled) => Ok(Arc::clone(compiled)),
                None => entry.compile(position, self.limits, self.shard),
            }
        };
        entries.iter().enumerate().map(compiled).collect()
    }
}
