//! The part of a snapshot that all shards share: encoded lists and results, and the indexes.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    super::{
        Registry, RegistryError,
        compile::{Before, Compile},
        info::append,
        list::{EncodedList, LIST_TTL_MS, List, Lists, PageSettings, members},
        prompt::Prompt,
        resource::{Resource, ResourceTemplate},
        tool::Tool,
    },
    index::Index,
};
use crate::{
    call::{Revision, SERVER_INFO, TASKS},
    config::Limits,
    signed_token::SigningKey,
};

/// The part of a snapshot that all shards share: encoded results, and the indexes.
pub struct EncodedLists {
    pub(super) registry: Arc<Registry>,
    pub(super) limits: Limits,
    /// By list.
    pub(super) lists: [Arc<EncodedList>; List::ALL.len()],
    /// By list.
    pub(super) indexes: [Arc<Index>; List::ALL.len()],
    /// Lists that the server declares a capability for.
    pub(super) offers: Lists,
    /// Whether any argument has a completer.
    pub(super) completes: bool,
    /// `"_meta":{…}` of a result without other `_meta` members.
    meta: Vec<u8>,
    /// `"io.modelcontextprotocol/serverInfo":{…}`, a member of the `_meta` of every result of revision 2026-07-28
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic#meta>).
    pub(super) server_info: Vec<u8>,
    /// Result of `server/discover`: the members without braces.
    pub(super) discover: Vec<u8>,
    /// Results of `initialize` after their `protocolVersion`, by revision: the members without braces.
    pub(super) initialize: [Vec<u8>; Revision::ALL.len()],
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
    pub(super) fn build(
        registry: &Arc<Registry>,
        limits: &Limits,
        signing_key: &SigningKey,
        before: Option<&Self>,
    ) -> Result<Self, RegistryError> {
        let info = json!({SERVER_INFO: registry.info.describe(Revision::V2026_07_28)});
        let server_info = members(&info);
        let whole_meta = json!({"_meta": info});
        let meta = members(&whole_meta);
        let settings = PageSettings { items_max: limits.list_page_items_max, meta: &meta, signing_key };
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

    /// Checks that each list has an item per entry, and that its index has the key of each.
    ///
    /// # Panics
    /// A list or an index does not match the registry.
    pub(super) fn check_invariants(&self) {
        self.check_list::<Tool>();
        self.check_list::<Prompt>();
        self.check_list::<Resource>();
        self.check_list::<ResourceTemplate>();
    }

    fn check_list<E: Compile>(&self) {
        let entries = E::declared(&self.registry);
        let items = self.lists.get(E::LIST.index()).map(|list| list.len());
        assert_eq!(items, Some(entries.len()), "{:?}: encoded items and entries", E::LIST);
        self.index(E::LIST).check_invariants(entries);
    }

    pub(super) fn index(&self, list: List) -> &Arc<Index> {
        let [tools, resources, templates, prompts] = &self.indexes;
        match list {
            List::Tools => tools,
            List::Resources => resources,
            List::Templates => templates,
            List::Prompts => prompts,
        }
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
