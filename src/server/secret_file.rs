//! Reads the key that signs session ids, cursors and request states from `secret_file`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use tracing::warn;

use super::error::StartError;

/// Minimum length of a key, in bytes.
pub(super) const SECRET_BYTES_MIN: usize = 32;

/// Maximum length of the file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Maximum length, in bytes, of a pattern whose repetition makes a key weak.
const PATTERN_BYTES_MAX: usize = 16;

/// Minimum number of distinct bytes in a key. 32 random hexadecimal digits have at least 10 in 999 of 1,000 cases; fewer than 6
/// do not occur in practice.
const DISTINCT_BYTES_MIN: usize = 6;

/// Read and write permission bits of group and others.
const OTHERS_READ: u32 = 0o044;
const OTHERS_WRITE: u32 = 0o022;

/// Reads the key in the file at `path`, without the white space around it. Logs a warning if group or others may read the file.
///
/// # Errors
/// The file cannot be read, is not a regular file, can be written by others, or its key is too short, too long or weak.
pub(super) fn read_secret(path: &Path) -> Result<Vec<u8>, StartError> {
    let shown = path.display().to_string();
    let refuse = |reason: String, remedy: String| StartError::Secret { path: shown.clone(), reason, remedy };
    let make = || format!("make a key: (umask 077; head -c 32 /dev/urandom | base64 > {shown})");
    let renew = || {
        "make a key in another file: (umask 077; head -c 32 /dev/urandom | base64 > FILE), and name that"
            .to_owned()
    };
    // Opening a FIFO would otherwise block until another process opens it for writing.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let file = opened.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => make(),
            io::ErrorKind::PermissionDenied => {
                format!("let this user read it (chown, or chmod u+r {shown}), and every directory above it (chmod +x)")
            }
            _ => "name another file with [security] secret_file or --secret-file".to_owned(),
        };
        refuse(error.to_string(), remedy)
    })?;
    let metadata = file.metadata().map_err(|error| refuse(error.to_string(), renew()))?;
    if !metadata.is_file() {
        let reason = "it is not a regular file".to_owned();
        return Err(refuse(reason, "name a regular file, without directories, pipes and devices".to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        let reason = format!("others may write to it (mode {mode:04o}), and could choose the key");
        let remedy = format!("chmod 600 {shown}, and make a new key if others may have written this one");
        return Err(refuse(reason, remedy));
    }
    let key = read_bounded(&file).map_err(|error| refuse(error.to_string(), renew()))?;
    if key.len() as u64 > SECRET_BYTES_MAX {
        return Err(refuse(format!("more than {SECRET_BYTES_MAX} bytes"), renew()));
    }
    let key = key.trim_ascii();
    if let Some(reason) = weakness(key) {
        return Err(refuse(reason, renew()));
    }
    if mode & OTHERS_READ != 0 {
        warn!(path = shown, "secret_file can be read by others (mode {mode:04o}); remedy: chmod 600 {shown}");
    }
    Ok(key.to_vec())
}

fn read_bounded(file: &File) -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut key)?;
    Ok(key)
}

/// Why a key is weak; `None` if it is not.
fn weakness(key: &[u8]) -> Option<String> {
    if key.len() < SECRET_BYTES_MIN {
        return Some(format!("{} bytes, fewer than {SECRET_BYTES_MIN} bytes", key.len()));
    }
    let repeats = |period: usize| key.iter().zip(key.iter().skip(period)).all(|(one, other)| one == other);
    if let Some(period) = (1..=PATTERN_BYTES_MAX).find(|&period| repeats(period)) {
        return Some(match period {
            1 => "all of its bytes are equal".to_owned(),
            _ => format!("it repeats a pattern of {period} bytes"),
        });
    }
    let steps =
        |step: u8| key.iter().zip(key.iter().skip(1)).all(|(one, next)| one.wrapping_add(step) == *next);
    if steps(1) || steps(u8::MAX) {
        return Some("its bytes count up or down".to_owned());
    }
    let mut distinct = key.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let few = distinct.len() < DISTINCT_BYTES_MIN;
    few.then(|| format!("it has only {} distinct bytes", distinct.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_without_entropy_are_weak() {
        for (key, reason) in [
            (&[0_u8; 32][..], "equal"),
            (&[b'a'; 64], "equal"),
            (b"short", "5 bytes"),
            (b"", "0 bytes"),
            (&b"ab".repeat(16), "pattern of 2"),
            (&b"password".repeat(5), "pattern of 8"),
            (&b"0123456789abcdef".repeat(2), "pattern of 16"),
            (&b"changeme!".repeat(4)[..35], "pattern of 9"),
            (&(0..32).collect::<Vec<u8>>(), "count"),
            (b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "2 distinct"),
        ] {
            let text = weakness(key).unwrap_or_else(|| panic!("{key:?} is accepted"));
            assert!(text.contains(reason), "{text}");
        }
        for key in [
            &b"pZ7p1sC2hA0Z3C0vK9mJw5o8v3m1pX2y"[..],
            b"3f786850e387550fdab836ed7e6dc881",
            b"correct horse battery staple, and more",
        ] {
            assert_eq!(weakness(key), None);
        }
    }
}
