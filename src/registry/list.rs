//! Lists, encoded page by page when the registry is compiled, so that a response is a copy
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/pagination>).

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    call::Revision,
    json::write_string,
    signed_token::{SigningKey, TokenKind},
};

/// The lists of the protocol.
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

/// How long clients may cache a list, in milliseconds (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/caching>).
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

    /// Position in [`List::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// A set of lists. Resources and templates count as one list, since they share a notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists(u8);

impl Lists {
    /// The set with one more list.
    #[must_use]
    pub fn with(self, list: List) -> Self {
        let notified = if list == List::Templates { List::Resources } else { list };
        Self(self.0 | 1 << notified as u8)
    }

    /// Whether the list is in the set.
    #[must_use]
    pub fn has(self, list: List) -> bool {
        Self::default().with(list).0 & self.0 != 0
    }

    /// The lists in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The lists in either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The lists of `self` that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a byte.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set of a byte from [`Lists::bits`].
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The lists of the set, one per notification.
    pub fn iter(self) -> impl Iterator<Item = List> {
        [List::Tools, List::Resources, List::Prompts].into_iter().filter(move |list| self.has(*list))
    }
}

/// One item of a list in the form of one or more revisions.
pub(super) struct Item {
    text: Box<str>,
    digest: [u8; 32],
}

/// One item of a list, by revision.
pub(super) type Items = Arc<[Arc<Item>; Revision::ALL.len()]>;

/// Encodes an item. Adjacent revisions with the same form share the text.
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

/// The items of one page, encoded. Shared by the snapshots in which the same items are a page, and by the revisions with
/// the same form.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    /// The items, with commas between them.
    text: Box<[u8]>,
    digest: [u8; 32],
}

/// The items of one page, by revision.
type Chunks = Arc<[Arc<Chunk>; Revision::ALL.len()]>;

fn encode_chunk(items: &[Items]) -> Chunks {
    let mut last: Option<(Vec<&Arc<Item>>, Arc<Chunk>)> = None;
    Arc::new(Revision::ALL.map(|revision| {
        let items: Vec<&Arc<Item>> = items.iter().filter_map(|item| item.get(revision.index())).collect();
        let is_same =
            |before: &[&Arc<Item>]| before.iter().zip(&items).all(|(before, item)| Arc::ptr_eq(before, item));
        let chunk = match &last {
            Some((before, chunk)) if is_same(before) => Arc::clone(chunk),
            _ => {
                let bytes: usize = items.iter().map(|item| item.text.len() + 1).sum();
                let mut text = Vec::with_capacity(bytes);
                let mut digest = Sha256::new();
                for (number, item) in items.iter().enumerate() {
                    if number > 0 {
                        text.push(b',');
                    }
                    text.extend_from_slice(item.text.as_bytes());
                    digest.update(item.digest);
                }
                Arc::new(Chunk { text: text.into(), digest: digest.finalize().into() })
            }
        };
        last = Some((items, Arc::clone(&chunk)));
        chunk
    }))
}

/// One list, encoded.
pub(super) struct EncodedList {
    items: Vec<Items>,
    chunks: Vec<Chunks>,
    /// By revision.
    pages: [Arc<Pages>; Revision::ALL.len()],
}

/// Inputs of the pages of a list besides its items.
pub(super) struct PageSettings<'a> {
    /// Maximum items per page.
    pub(super) items_max: usize,
    /// The `_meta` member of every result of revision 2026-07-28, without braces.
    pub(super) meta: &'a [u8],
    pub(super) signing_key: &'a SigningKey,
}

impl EncodedList {
    /// Encodes a list. Reuses the pages that are the same in `before`, a list of the same kind with the same `items_max`.
    pub(super) fn encode(
        list: List,
        items: Vec<Items>,
        before: Option<&Self>,
        settings: &PageSettings<'_>,
    ) -> Self {
        let items_max = settings.items_max.max(1);
        let mut chunks_before =
            before.into_iter().flat_map(|before| before.items.chunks(items_max).zip(&before.chunks));
        let chunks = items.chunks(items_max).map(|chunk| match chunks_before.next() {
            Some((before, chunks)) if is_same(before, chunk) => Arc::clone(chunks),
            _ => encode_chunk(chunk),
        });
        let mut chunks: Vec<Chunks> = chunks.collect();
        if chunks.is_empty() {
            chunks.push(encode_chunk(&[]));
        }
        let mut last: Option<(Vec<&Arc<Chunk>>, Arc<Pages>)> = None;
        let pages = Revision::ALL.map(|revision| {
            let chunks: Vec<&Arc<Chunk>> =
                chunks.iter().filter_map(|chunks| chunks.get(revision.index())).collect();
            // Legacy revisions with the same items have the same pages.
            let is_same = |before: &[&Arc<Chunk>]| {
                !revision.is_modern()
                    && before.iter().zip(&chunks).all(|(before, chunk)| Arc::ptr_eq(before, chunk))
            };
            let pages = match &last {
                Some((before, pages)) if is_same(before) => Arc::clone(pages),
                _ => Arc::new(Pages::encode(list, &chunks, revision, settings)),
            };
            last = Some((chunks, Arc::clone(&pages)));
            pages
        });
        Self { items, chunks, pages }
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The item at a position.
    pub(super) fn item(&self, position: usize) -> Option<&Items> {
        self.items.get(position)
    }

    /// The page that a cursor names, or the first page: the members of the result without braces, in three parts.
    pub(super) fn page(&self, revision: Revision, cursor: Option<&str>) -> Option<[&[u8]; 3]> {
        self.pages.get(revision.index())?.page(cursor)
    }

    /// Whether the pages are equal for every revision.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.pages == other.pages
    }
}

fn is_same(one: &[Items], other: &[Items]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// The pages of one list for one revision.
#[derive(Debug, PartialEq, Eq)]
struct Pages {
    /// The bytes before the items.
    head: Vec<u8>,
    pages: Vec<Page>,
}

#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// The cursor; empty for the first page.
    cursor: String,
    items: Arc<Chunk>,
    /// The bytes after the items.
    tail: Vec<u8>,
}

impl Pages {
    /// Encodes a list. A cursor is bound to the content of the list: after a change it is rejected, so that no item is
    /// skipped or repeated.
    fn encode(list: List, chunks: &[&Arc<Chunk>], revision: Revision, settings: &PageSettings<'_>) -> Self {
        let mut whole = Sha256::new();
        whole.update(list.member());
        chunks.iter().for_each(|chunk| whole.update(chunk.digest));
        let whole = whole.finalize();
        let cursor = |page: usize| {
            let page = u32::try_from(page).unwrap_or(u32::MAX).to_le_bytes();
            settings.signing_key.sign(TokenKind::Cursor, &page, &[&whole])
        };
        let mut head = Vec::new();
        if revision.is_modern() {
            head.extend_from_slice(b"\"resultType\":\"complete\",");
        }
        write_string(&mut head, list.member());
        head.extend_from_slice(b":[");
        let page = |(number, chunk): (usize, &&Arc<Chunk>)| {
            let mut tail = Vec::new();
            tail.push(b']');
            if number + 1 < chunks.len() {
                tail.extend_from_slice(b",\"nextCursor\":");
                write_string(&mut tail, &cursor(number + 1));
            }
            if revision.is_modern() {
                let hints = format!(",\"ttlMs\":{LIST_TTL_MS},\"cacheScope\":\"public\",");
                tail.extend_from_slice(hints.as_bytes());
                tail.extend_from_slice(settings.meta);
            }
            let cursor = if number == 0 { String::new() } else { cursor(number) };
            Page { cursor, items: Arc::clone(chunk), tail }
        };
        Self { pages: chunks.iter().enumerate().map(page).collect(), head }
    }

    fn page(&self, cursor: Option<&str>) -> Option<[&[u8]; 3]> {
        let page = match cursor {
            None => self.pages.first()?,
            Some(cursor) => self.pages.iter().skip(1).find(|page| page.cursor == cursor)?,
        };
        Some([&self.head, &page.items.text, &page.tail])
    }
}

/// The bytes of an object without its braces.
pub(super) fn members(object: &Value) -> Vec<u8> {
    let text = object.to_string().into_bytes();
    text.get(1..text.len().saturating_sub(1)).unwrap_or_default().to_vec()
}
