//! The immutable snapshot of the registry that one shard serves from, without locks.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table::Entry};
use serde_json::{Map, Value, json};

use super::{
    Registry, RegistryError,
    callable::{Callable, SharedCallable},
    capability::TASKS,
    compile::{self, Before, Compile},
    info::{SERVER_INFO, append},
    list::{EncodedList, LIST_TTL_MS, List, Lists, PageSettings, members},
    prompt::Prompt,
    registered::{Completers, RegisteredPrompt, RegisteredTemplate, RegisteredTool},
    resource::{Resource, ResourceTemplate},
    revision::Revision,
    tool::Tool,
};
use crate::{config::Limits, signed_token::Secret};

/// Positions of the entries of one kind, by key. The hash need not resist collisions: the keys come from the server.
#[derive(Clone, Default)]
struct Index(HashTable<u32>);

fn hash(name: &str) -> u64 {
    FixedState::default().hash_one(name)
}

impl Index {
    /// Indexes all entries.
    ///
    /// # Errors
    /// Two entries have one key.
    fn build<E: Compile>(
        entries: &[E],
        before: Option<&Self>,
        kept: &Before<'_, E>,
    ) -> Result<Self, RegistryError> {
        // A prefix that has not changed is already indexed.
        let before = before.filter(|_| kept.is_start_of(entries));
        let known = before.map_or(0, |_| kept.len());
        let mut index = before.cloned().unwrap_or_default();
        let name = |position: u32| entries.get(position as usize).map_or("", E::key);
        for (position, entry) in entries.iter().enumerate().skip(known) {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let hashed = hash(entry.key());
            match index.0.entry(hashed, |other| name(*other) == entry.key(), |other| hash(name(*other))) {
                Entry::Occupied(_) => return Err(RegistryError::Duplicate(entry.key().to_owned())),
                Entry::Vacant(slot) => _ = slot.insert(position),
            }
        }
        Ok(index)
    }

    /// Finds the entry with this key.
    fn find<'a, T>(
        &self,
        entries: &'a [Arc<T>],
        name: &str,
        name_of: impl Fn(&T) -> &str,
    ) -> Option<&'a Arc<T>> {
        let entry = |position: &u32| entries.get(*position as usize);
        let is_named = |position: &u32| entry(position).is_some_and(|entry| name_of(entry) == name);
        self.0.find(hash(name), is_named).and_then(entry)
    }
}

/// The part of a snapshot that all shards share: encoded results, and the indexes.
pub struct EncodedLists {
    registry: Arc<Registry>,
    limits: Limits,
    /// By list.
    lists: [Arc<EncodedList>; List::ALL.len()],
    /// By list.
    indexes: [Arc<Index>; List::ALL.len()],
    /// Lists that the server declares a capability for.
    offers: Lists,
    /// Whether any argument has a completer.
    completes: bool,
    /// `"_meta":{…}` of a result without other `_meta` members.
    meta: Vec<u8>,
    /// `"io.modelcontextprotocol/serverInfo":{…}`, a member of the `_meta` of every result of revision 2026-07-28
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic#meta>).
    server_info: Vec<u8>,
    /// Result of `server/discover`: the members without braces.
    discover: Vec<u8>,
    /// Results of `initialize` after their `protocolVersion`, by revision: the members without braces.
    initialize: [Vec<u8>; Revision::ALL.len()],
}

/// Everything that a shard looks up or lists, compiled and encoded. Clones share it.
#[derive(Clone)]
pub struct Snapshot {
    tools: Arc<[Arc<RegisteredTool>]>,
    prompts: Arc<[Arc<RegisteredPrompt>]>,
    resources: Arc<[SharedCallable]>,
    templates: Arc<[Arc<RegisteredTemplate>]>,
    /// Shared by all shards.
    encoded: Arc<EncodedLists>,
}

/// Inputs of the encoding of a list.
struct Encoding<'a> {
    registry: &'a Registry,
    before: Option<&'a EncodedLists>,
    limits: &'a Limits,
    settings: PageSettings<'a>,
}

impl Encoding<'_> {
    /// Encodes a list and indexes its entries. Reuses what has not changed since the previous snapshot.
    fn list<E: Compile>(&self) -> Result<(Arc<EncodedList>, Arc<Index>), RegistryError> {
        let entries = E::declared(self.registry);
        let mut kept = Before::<E>::new(self.before.map(|before| &*before.registry));
        let before = self.before.and_then(|before| {
            Some((before.lists.get(E::LIST.index())?, before.indexes.get(E::LIST.index())?))
        });
        let has_meta = self.before.is_some_and(|before| before.meta == self.settings.meta);
        if let Some((list, index)) = before
            && has_meta
            && kept.is_same(entries)
        {
            return Ok((Arc::clone(list), Arc::clone(index)));
        }
        let list_before = before.map(|(list, _)| list);
        let item = |(position, entry): (usize, &E)| {
            let item =
                list_before.zip(kept.position(position, entry)).and_then(|(list, before)| list.item(before));
            item.map_or_else(|| entry.items(self.limits), |item| Ok(Arc::clone(item)))
        };
        let items = entries.iter().enumerate().map(item).collect::<Result<Vec<_>, _>>()?;
        let index = Index::build(entries, before.map(|(_, index)| &**index), &kept)?;
        let list_before = list_before.map(AsRef::as_ref);
        Ok((Arc::new(EncodedList::encode(E::LIST, items, list_before, &self.settings)), Arc::new(index)))
    }
}

impl EncodedLists {
    fn build(
        registry: &Arc<Registry>,
        limits: &Limits,
        secret: &Secret,
        before: Option<&Self>,
    ) -> Result<Self, RegistryError> {
        let info = json!({SERVER_INFO: registry.info.describe(Revision::V2026_07_28)});
        let server_info = members(&info);
        let whole_meta = json!({"_meta": info});
        let meta = members(&whole_meta);
        let settings = PageSettings { items_max: limits.list_page_items_max, meta: &meta, secret };
        let encoding = Encoding { registry, before, limits, settings };
        let (tools, tools_index) = encoding.list::<Tool>()?;
        let (prompts, prompts_index) = encoding.list::<Prompt>()?;
        let (resources, resources_index) = encoding.list::<Resource>()?;
        let (templates, templates_index) = encoding.list::<ResourceTemplate>()?;

        let mut offers = Lists::default().with(List::Tools);
        if !registry.resources.is_empty() || !registry.templates.is_empty() {
            offers = offers.with(List::Resources);
        }
        if !registry.prompts.is_empty() {
            offers = offers.with(List::Prompts);
        }
        let completes = registry.prompts.iter().any(|prompt| !prompt.description.completers.is_empty())
            || registry.templates.iter().any(|template| !template.description.completers.is_empty());
        let capabilities = |revision| capabilities(registry, offers, completes, revision);
        Ok(Self {
            lists: List::ALL.map(|list| {
                Arc::clone(match list {
                    List::Tools => &tools,
                    List::Resources => &resources,
                    List::Templates => &templates,
                    List::Prompts => &prompts,
                })
            }),
            indexes: List::ALL.map(|list| {
                Arc::clone(match list {
                    List::Tools => &tools_index,
                    List::Resources => &resources_index,
                    List::Templates => &templates_index,
                    List::Prompts => &prompts_index,
                })
            }),
            discover: members(&discover(registry, &capabilities(Revision::V2026_07_28), &whole_meta)),
            initialize: Revision::ALL
                .map(|revision| members(&initialize(registry, &capabilities(revision), revision))),
            registry: Arc::clone(registry),
            limits: *limits,
            offers,
            completes,
            meta,
            server_info,
        })
    }

    fn index(&self, list: List) -> Option<&Index> {
        self.indexes.get(list.index()).map(AsRef::as_ref)
    }

    /// The lists that differ from those of `other`.
    #[must_use]
    pub fn changed_since(&self, other: &Self) -> Lists {
        let differs = |list: &List| match (self.lists.get(list.index()), other.lists.get(list.index())) {
            (Some(one), Some(other)) => !Arc::ptr_eq(one, other) && !one.is_like(other),
            _ => false,
        };
        List::ALL.into_iter().filter(differs).fold(Lists::default(), Lists::with)
    }
}

impl Snapshot {
    /// Compiles a registry for shard 0, from nothing.
    ///
    /// # Errors
    /// The first declaration that cannot be served.
    pub fn build(registry: &Registry, limits: &Limits, secret: &Secret) -> Result<Self, RegistryError> {
        Self::build_for(&Arc::new(registry.clone()), limits, secret, 0, None, None)
    }

    /// Compiles a registry for a shard. Reuses what has not changed since `before`, the previous snapshot of the shard, and the
    /// `encoded` lists of another shard's snapshot of the same registry.
    ///
    /// # Errors
    /// The first declaration that cannot be served.
    pub fn build_for(
        registry: &Arc<Registry>,
        limits: &Limits,
        secret: &Secret,
        shard: usize,
        before: Option<&Self>,
        encoded: Option<&Arc<EncodedLists>>,
    ) -> Result<Self, RegistryError> {
        compile::check_icons(&registry.info.name, &registry.info.icons)?;
        compile::check_extensions(&registry.extensions)?;
        let before = before.filter(|before| before.encoded.limits == *limits);
        let compiling = Compiling { registry, before, limits, shard };
        Ok(Self {
            tools: compiling.all::<Tool>(|before| &before.tools)?,
            prompts: compiling.all::<Prompt>(|before| &before.prompts)?,
            resources: compiling.all::<Resource>(|before| &before.resources)?,
            templates: compiling.all::<ResourceTemplate>(|before| &before.templates)?,
            encoded: match encoded {
                Some(encoded) => Arc::clone(encoded),
                None => {
                    let before = before.map(|before| &*before.encoded);
                    Arc::new(EncodedLists::build(registry, limits, secret, before)?)
                }
            },
        })
    }

    /// The part that all shards share.
    #[must_use]
    pub fn encoded(&self) -> &Arc<EncodedLists> {
        &self.encoded
    }

    /// Finds a tool.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<&Arc<RegisteredTool>> {
        self.encoded.index(List::Tools)?.find(&self.tools, name, |tool| tool.callable.name())
    }

    /// All tools, in the order they are listed.
    #[must_use]
    pub fn tools(&self) -> &[Arc<RegisteredTool>] {
        &self.tools
    }

    /// Finds a prompt.
    #[must_use]
    pub fn prompt(&self, name: &str) -> Option<&RegisteredPrompt> {
        let index = self.encoded.index(List::Prompts)?;
        index.find(&self.prompts, name, |prompt| prompt.callable.name()).map(AsRef::as_ref)
    }

    /// Finds the callable that reads a resource: that of the resource, or of the first template that its URI matches.
    #[must_use]
    pub fn resource(&self, uri: &str) -> Option<&SharedCallable> {
        let index = self.encoded.index(List::Resources)?;
        index.find(&self.resources, uri, Callable::name).or_else(|| {
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

/// The `ServerCapabilities` object. Only what is served is declared (<https://modelcontextprotocol.io/specification/2026-07-28/server/discover>,
/// <https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/subscriptions>).
fn capabilities(registry: &Registry, offers: Lists, completes: bool, revision: Revision) -> Value {
    let mut capabilities = Map::new();
    capabilities.insert("tools".into(), json!({"listChanged": true}));
    if offers.has(List::Resources) {
        capabilities.insert("resources".into(), json!({"subscribe": true, "listChanged": true}));
    }
    if offers.has(List::Prompts) {
        capabilities.insert("prompts".into(), json!({"listChanged": true}));
    }
    // Revisions before 2025-03-26 have no such capability.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for number in 0..5 {
            registry.add(Tool::new(format!("tool{number}")).run(|_, _| "x"));
            registry.add(Prompt::new(format!("prompt{number}")).run(|_, _| "x"));
            registry.add(Resource::new(format!("x://{number}"), "x").run(|_, _| "x"));
            registry.add(ResourceTemplate::new(format!("x://{number}/{{name}}"), "x").run(|_, _| "x"));
        }
        registry
    }

    fn limits() -> Limits {
        Limits { list_page_items_max: 2, ..Limits::default() }
    }

    fn following(registry: &Registry, before: Option<&Snapshot>) -> Snapshot {
        let secret = Secret::new(b"key");
        Snapshot::build_for(&Arc::new(registry.clone()), &limits(), &secret, 0, before, None).unwrap()
    }

    /// All pages of all lists, by cursor.
    fn pages(snapshot: &Snapshot) -> Vec<String> {
        let mut pages = Vec::new();
        for (list, revision) in
            List::ALL.into_iter().flat_map(|list| Revision::ALL.map(|revision| (list, revision)))
        {
            let mut cursor: Option<String> = None;
            loop {
                let page = snapshot.page(list, revision, cursor.as_deref()).unwrap().concat();
                let page = format!("{{{}}}", String::from_utf8(page).unwrap());
                let next =
                    serde_json::from_str::<Value>(&page).unwrap()["nextCursor"].as_str().map(str::to_owned);
                pages.push(page);
                if next.is_none() {
                    break;
                }
                cursor = next;
            }
        }
        pages
    }

    #[test]
    fn incremental_build_equals_build_from_nothing() {
        let mut registry = registry();
        let mut snapshot = following(&registry, None);
        let changes: [fn(&mut Registry); 11] = [
            |_| {},
            |registry| registry.add(Tool::new("new").run(|_, _| "x")),
            |registry| _ = registry.remove::<Tool>("tool0"),
            |registry| _ = registry.replace(Tool::new("tool2").title("Other").run(|_, _| "x")),
            |registry| registry.add(Prompt::new("new").title("New").run(|_, _| "x")),
            |registry| _ = registry.remove::<Resource>("x://1"),
            |registry| _ = registry.remove::<ResourceTemplate>("x://4/{name}"),
            |registry| registry.tools.reverse(),
            |registry| registry.info.name = "other".to_owned(),
            |registry| registry.prompts.clear(),
            |registry| registry.tools.swap(0, 3),
        ];
        for (number, change) in changes.iter().enumerate() {
            let encoded = Arc::clone(snapshot.encoded());
            change(&mut registry);
            snapshot = following(&registry, Some(&snapshot));
            let fresh = following(&registry, None);
            assert_eq!(pages(&snapshot), pages(&fresh), "change {number}");
            assert_eq!(snapshot.discover(), fresh.discover());
            assert_eq!(snapshot.encoded().changed_since(&encoded), fresh.encoded().changed_since(&encoded));
            for (position, tool) in registry.tools.iter().enumerate() {
                let found = snapshot.tool(tool.name()).unwrap();
                assert_eq!((found.callable.name(), found.callable.position()), (tool.name(), position));
            }
            assert!(registry.prompts.iter().all(|prompt| snapshot.prompt(prompt.name()).is_some()));
            assert!(registry.resources.iter().all(|resource| snapshot.resource(resource.uri()).is_some()));
            for gone in ["tool0", "prompt0"].iter().filter(|_| number == changes.len() - 1) {
                assert!(snapshot.tool(gone).is_none() && snapshot.prompt(gone).is_none());
            }
        }
    }

    #[test]
    fn duplicate_keys_are_rejected() {
        let secret = Secret::new(b"key");
        let before = following(&registry(), None);
        let duplicates: [fn(&mut Registry); 5] = [
            |registry| registry.add(Tool::new("tool3").run(|_, _| "x")),
            |registry| registry.add(Prompt::new("prompt0").run(|_, _| "x")),
            |registry| registry.add(Resource::new("x://4", "y").run(|_, _| "x")),
            |registry| registry.add(ResourceTemplate::new("x://0/{name}", "y").run(|_, _| "x")),
            |registry| registry.tools.insert(0, Tool::new("tool4").run(|_, _| "x")),
        ];
        for duplicate in duplicates {
            let mut registry = (*before.encoded.registry).clone();
            duplicate(&mut registry);
            let built = Snapshot::build_for(&Arc::new(registry), &limits(), &secret, 0, Some(&before), None);
            assert!(matches!(built, Err(RegistryError::Duplicate(_))));
        }
    }

    #[test]
    fn unchanged_entries_are_reused() {
        let mut registry = registry();
        let before = following(&registry, None);
        registry.add(Prompt::new("new").run(|_, _| "x"));
        registry.remove::<Resource>("x://0");
        registry.add(Tool::new("new").run(|_, _| "x"));
        let after = following(&registry, Some(&before));
        assert!(before.tools.iter().zip(&*after.tools).all(|(one, other)| Arc::ptr_eq(one, other)));
        assert!(before.prompts.iter().zip(&*after.prompts).all(|(one, other)| Arc::ptr_eq(one, other)));
        assert!(
            before
                .resources
                .iter()
                .skip(1)
                .zip(&*after.resources)
                .all(|(one, other)| Arc::ptr_eq(one, other))
        );
        assert!(Arc::ptr_eq(&before.templates, &after.templates));
        let list = |snapshot: &Snapshot, list: List| Arc::clone(&snapshot.encoded.lists[list.index()]);
        assert!(Arc::ptr_eq(&list(&before, List::Templates), &list(&after, List::Templates)));
        for (kind, shift) in [(List::Tools, 0), (List::Prompts, 0), (List::Resources, 1)] {
            let (before, after) = (list(&before, kind), list(&after, kind));
            for position in shift..5 {
                let (one, other) = (before.item(position).unwrap(), after.item(position - shift).unwrap());
                assert!(Arc::ptr_eq(one, other), "{kind:?} {position}");
            }
        }
        let text = |snapshot: &Snapshot, list: List| {
            snapshot.page(list, Revision::V2026_07_28, None).unwrap()[1].as_ptr()
        };
        assert_eq!(text(&before, List::Tools), text(&after, List::Tools), "the first page's items");
        // Nothing is reused with other limits.
        let limits = Limits { list_page_items_max: 3, ..Limits::default() };
        let other = Snapshot::build_for(
            &after.encoded.registry,
            &limits,
            &Secret::new(b"key"),
            0,
            Some(&after),
            None,
        )
        .unwrap();
        assert_ne!(pages(&other), pages(&after));
    }
}
