//! Tests of snapshots, built from nothing and from an earlier snapshot.

use serde_json::Value;

use super::*;
use crate::registry::tool::Tool;

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
    let signing_key = SigningKey::new(b"key");
    Snapshot::build_for(&Arc::new(registry.clone()), &limits(), &signing_key, 0, before, None).unwrap()
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
            let found = snapshot.tools().find(tool.name()).unwrap();
            assert_eq!((found.callable.name(), found.callable.position()), (tool.name(), position));
        }
        assert!(registry.prompts.iter().all(|prompt| snapshot.prompts().find(prompt.name()).is_some()));
        assert!(registry.resources.iter().all(|resource| snapshot.resource(resource.uri()).is_some()));
        for gone in ["tool0", "prompt0"].iter().filter(|_| number == changes.len() - 1) {
            assert!(snapshot.tools().find(gone).is_none() && snapshot.prompts().find(gone).is_none());
        }
    }
}

#[test]
fn duplicate_keys_are_rejected() {
    let signing_key = SigningKey::new(b"key");
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
        let built = Snapshot::build_for(&Arc::new(registry), &limits(), &signing_key, 0, Some(&before), None);
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
        before.resources.iter().skip(1).zip(&*after.resources).all(|(one, other)| Arc::ptr_eq(one, other))
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
        &SigningKey::new(b"key"),
        0,
        Some(&after),
        None,
    )
    .unwrap();
    assert_ne!(pages(&other), pages(&after));
}

/// Breaks an invariant of a snapshot.
type Break = fn(&mut Snapshot);

#[test]
fn broken_invariants_are_found() {
    fn reversed<T>(entries: &Arc<[Arc<T>]>) -> Arc<[Arc<T>]> {
        entries.iter().rev().map(Arc::clone).collect()
    }
    fn encoded(snapshot: &mut Snapshot) -> &mut EncodedLists {
        Arc::get_mut(&mut snapshot.encoded).unwrap()
    }
    let breaks: [(&str, Break); 8] = [
        ("a tool at another position", |snapshot| snapshot.tools.entries = reversed(&snapshot.tools.entries)),
        ("a tool too few", |snapshot| {
            snapshot.tools.entries = snapshot.tools.iter().skip(1).cloned().collect()
        }),
        ("prompts in another order", |snapshot| {
            snapshot.prompts.entries = reversed(&snapshot.prompts.entries)
        }),
        ("resources in another order", |snapshot| {
            snapshot.resources.entries = reversed(&snapshot.resources.entries)
        }),
        ("templates in another order", |snapshot| snapshot.templates = reversed(&snapshot.templates)),
        ("an empty index", |snapshot| encoded(snapshot).indexes[0] = Arc::default()),
        ("an item too many", |snapshot| {
            let mut registry = (*snapshot.encoded.registry).clone();
            registry.tools.pop();
            encoded(snapshot).registry = Arc::new(registry);
        }),
        ("an index of another order", |snapshot| {
            let mut registry = (*snapshot.encoded.registry).clone();
            registry.tools.reverse();
            encoded(snapshot).registry = Arc::new(registry);
        }),
    ];
    following(&registry(), None).check_invariants();
    for (what, break_it) in breaks {
        let mut snapshot = following(&registry(), None);
        break_it(&mut snapshot);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| snapshot.check_invariants()));
        assert!(checked.is_err(), "{what} is not found");
    }
}
