//! Lists, encoded page by page when the registry is compiled, so that answering one is a copy (checklist G-01).

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::revision::Revision;
use crate::{
    json::write_string,
    seal::{Purpose, Secret},
};

/// The lists there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `tools/list`
    Tools,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
    /// `prompts/list`
    Prompts,
}

/// How long clients may keep a list, in milliseconds (checklist M-30).
pub(super) const LIST_TTL_MS: u64 = 60_000;

impl List {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Resources, Self::Templates, Self::Prompts];

    /// The member of the result that holds the list.
    fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Prompts => "prompts",
        }
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// A set of lists: those that have changed, or that somebody wants to hear of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists(u8);

impl Lists {
    /// The set with one more. Templates are told of as resources.
    #[must_use]
    pub fn with(self, list: List) -> Self {
        let told = if list == List::Templates { List::Resources } else { list };
        Self(self.0 | 1 << told as u8)
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(self, list: List) -> bool {
        Self::default().with(list).0 & self.0 != 0
    }

    /// Those in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of `self` that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As a byte, to be put where a set cannot be.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set that a byte from [`Lists::bits`] stands for.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Each with the notification that tells of its change.
    pub fn iter(self) -> impl Iterator<Item = List> {
        [List::Tools, List::Resources, List::Prompts].into_iter().filter(move |list| self.has(*list))
    }
}

/// Bytes a page has, at most, besides its items and the members of every result.
const PAGE_MEMBERS_BYTES: usize = 512;

/// One item of a list as a revision shows it, encoded once.
pub(super) struct Item {
    text: Box<str>,
    digest: [u8; 32],
}

/// One item of a list, by revision.
pub(super) type Items = Arc<[Arc<Item>; Revision::ALL.len()]>;

/// Encodes an item. Revisions that show it alike share one text.
pub(super) fn items(describe: impl Fn(Revision) -> Value) -> Items {
    let mut last: Option<Arc<Item>> = None;
    Arc::new(Revision::ALL.map(|revision| {
        let text = describe(revision).to_string();
        let item = match last.take() {
            Some(last) if *last.text == text => last,
            _ => {
                let digest = Sha256::digest(&text).into();
                Arc::new(Item { text: text.into(), digest })
            }
        };
        last = Some(Arc::clone(&item));
        item
    }))
}

/// The pages of one list for one revision.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    pages: Vec<Page>,
}

#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// What asks for it; the first is asked for without one.
    cursor: String,
    /// Members of the result, without braces.
    members: Vec<u8>,
}

impl Pages {
    /// Encodes a list. A cursor is good for exactly this list: after a change it is refused, rather than skipping an item or
    /// showing one twice. `meta`: the members of every result of the 2026 era, without braces.
    pub(super) fn encode(
        list: List,
        items: &[&Item],
        page_items_max: usize,
        revision: Revision,
        meta: &[u8],
        secret: &Secret,
    ) -> Self {
        let mut whole = Sha256::new();
        whole.update(list.member());
        items.iter().for_each(|item| whole.update(item.digest));
        let whole = whole.finalize();
        let cursor = |page: usize| {
            let page = u32::try_from(page).unwrap_or(u32::MAX).to_le_bytes();
            secret.seal(Purpose::Cursor, &page, &[&whole])
        };
        let chunks: Vec<&[&Item]> =
            if items.is_empty() { vec![&[]] } else { items.chunks(page_items_max.max(1)).collect() };
        let last = chunks.len() - 1;
        let page = |(number, items): (usize, &&[&Item])| {
            let bytes: usize = items.iter().map(|item| item.text.len() + 1).sum();
            let mut members = Vec::with_capacity(bytes + meta.len() + PAGE_MEMBERS_BYTES);
            if revision.is_modern() {
                members.extend_from_slice(b"\"resultType\":\"complete\",");
            }
            write_string(&mut members, list.member());
            members.extend_from_slice(b":[");
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    members.push(b',');
                }
                members.extend_from_slice(item.text.as_bytes());
            }
            members.push(b']');
            if number < last {
                members.extend_from_slice(b",\"nextCursor\":");
                write_string(&mut members, &cursor(number + 1));
            }
            if revision.is_modern() {
                let told = format!(",\"ttlMs\":{LIST_TTL_MS},\"cacheScope\":\"public\",");
                members.extend_from_slice(told.as_bytes());
                members.extend_from_slice(meta);
            }
            let cursor = if number == 0 { String::new() } else { cursor(number) };
            Page { cursor, members }
        };
        Self { pages: chunks.iter().enumerate().map(page).collect() }
    }

    /// The page a cursor asks for; the first without one.
    pub(super) fn page(&self, cursor: Option<&str>) -> Option<&[u8]> {
        let page = match cursor {
            None => self.pages.first()?,
            Some(cursor) => self.pages.iter().skip(1).find(|page| page.cursor == cursor)?,
        };
        Some(&page.members)
    }
}

/// The bytes of an object without its braces.
pub(super) fn members(object: &Value) -> Vec<u8> {
    let text = object.to_string().into_bytes();
    text.get(1..text.len().saturating_sub(1)).unwrap_or_default().to_vec()
}
