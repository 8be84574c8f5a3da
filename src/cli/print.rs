//! Standard output of the commands that print a reply.

use std::io::{self, Write};

/// Writes to standard output. A reader that has closed it has what it needs, which is not an error.
///
/// # Errors
/// One line: the output cannot be written, as on a full disk.
pub(super) fn print(text: &[u8]) -> Result<(), Vec<String>> {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(vec![format!("cannot print: {error}")])
        }
        _ => Ok(()),
    }
}
