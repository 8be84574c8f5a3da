//! Messages of newline-delimited JSON, one line each.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::part::{FrameError, Head, Part};

/// Maximum length of an excerpt in errors, in bytes.
const EXCERPT_BYTES: usize = 200;

/// The members that distinguish a reply from a notification or a request.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
}

/// Passes a line to `sink` if it is a reply. Blank lines, notifications and requests are skipped.
pub(super) fn message(line: &[u8], sink: &mut impl FnMut(Part<'_>)) -> Result<(), FrameError> {
    let line = line.trim_ascii();
    match line.first() {
        None => return Ok(()),
        Some(b'{') => {}
        Some(_) => {
            let excerpt = line.get(..EXCERPT_BYTES).unwrap_or(line);
            return Err(FrameError::Line(String::from_utf8_lossy(excerpt).into()));
        }
    }
    // Few replies contain the word; only those are parsed twice.
    if memmem::find(line, b"\"method\"").is_some()
        && serde_json::from_slice::<Envelope<'_>>(line)
            .is_ok_and(|message| message.jsonrpc.is_some() && message.method.is_some())
    {
        return Ok(());
    }
    let head = Head { status: 200, is_json: true, ..Head::default() };
    sink(Part::Message(&head, line));
    sink(Part::End(&head));
    Ok(())
}
