//! Changing resources and their subscribers: `cargo run --example notes -- serve`

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, PoisonError, RwLock},
};

use corelane::{Completer, Completion, Resource, ResourceTemplate, Server, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Note {
    /// Title of the note
    title: String,
    /// Text of the note
    text: String,
}

#[derive(serde::Deserialize)]
struct Title {
    title: String,
}

type Notes = Arc<RwLock<BTreeMap<String, String>>>;

fn main() -> ExitCode {
    let notes = Notes::default();
    let (writing, listing, reading, completing) = (notes.clone(), notes.clone(), notes.clone(), notes);
    Server::builder("notes", "1.0.0")
        .tool(Tool::new("write").description("Writes a note").input::<Note>().run(move |note, cx| {
            let uri = format!("note://{}", note.title);
            writing.write().unwrap_or_else(PoisonError::into_inner).insert(note.title, note.text);
            // Notifies every subscriber, on every core.
            cx.resource_updated(&uri);
            cx.resource_updated("note://");
            uri
        }))
        .resource(Resource::new("note://", "all").mime_type("text/plain").run(move |_uri, _cx| {
            let notes = listing.read().unwrap_or_else(PoisonError::into_inner);
            notes.keys().cloned().collect::<Vec<_>>().join("\n")
        }))
        .template(
            ResourceTemplate::new("note://{title}", "note")
                .description("A note by its title")
                .mime_type("text/plain")
                .variables::<Title>()
                .complete(Completer::new("title", move |typed, _cx| -> Completion {
                    let notes = completing.read().unwrap_or_else(PoisonError::into_inner);
                    notes.keys().filter(|title| title.starts_with(&typed.value)).cloned().collect()
                }))
                // `None` becomes the "not found" error of the revision.
                .run(move |read, _cx| {
                    let notes = reading.read().unwrap_or_else(PoisonError::into_inner);
                    notes.get(&read.variables.title).cloned()
                }),
        )
        .main()
}
