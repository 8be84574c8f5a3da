//! The file of ended sessions, beside `secret_file`: a session that was ended is rejected after a restart too.
//!
//! Records have a fixed size and a signature of the key in `secret_file`, so that a torn or damaged record is recognized and
//! skipped. A thread appends them, in groups, and answers each DELETE when its record is on disk (`fdatasync(2)`). The file is
//! rewritten without expired records at the start, and whenever it has doubled. Processes that share the key share the file: each
//! locks it for an append or a rewrite, and opens it anew after another process has replaced it. A process reads the records
//! of the others at its start only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::SystemTime,
};

use tracing::{error, info, warn};

use crate::{
    config::Limits,
    mcp::{EndRecord, Sessions},
    mesh::{Answer, Broadcast, EndStore, Message},
    runtime::Ticket,
    signed_token::{SigningKey, TAG_BYTES, TokenKind},
};

/// Records that wait for the thread. Beyond it: the DELETE is answered "busy".
const QUEUE_MAX: usize = 4096;

/// Records written in one group.
const GROUP_MAX: usize = 1024;

/// Size of a file that is not rewritten, in bytes.
const REWRITE_BYTES_MIN: u64 = 1024 * 1024;

/// Attempts to open the file while other processes replace it.
const OPEN_ATTEMPTS: usize = 100;

/// The layout of a record: kind, peer or group, expiry, key, signature.
const PAYLOAD_BYTES: usize = 1 + 3 + 8 + 16;
const RECORD_BYTES: usize = PAYLOAD_BYTES + TAG_BYTES;

/// The first record of a file.
const HEADER: &[u8; RECORD_BYTES] = b"corelane ended sessions, version 1         \n";

const KIND_SESSION: u8 = 1;
const KIND_GROUP: u8 = 2;

/// Creates the queues of the shards. With a `secret_file`, opens the file beside it and starts the thread that appends to it. If
/// the file cannot be used, logs a warning, and ended sessions are recorded in memory only.
pub(super) fn store_ends(secret_file: Option<&Path>, signing_key: &SigningKey, limits: &Limits) -> Broadcast {
    let broadcast = Broadcast::default();
    let Some(secret_file) = secret_file else { return broadcast };
    let mut path = secret_file.as_os_str().to_owned();
    path.push(".sessions");
    let path = PathBuf::from(path);
    let shown = path.display().to_string();
    let started = EndFile::open(path, signing_key.clone(), limits).and_then(|(file, restored)| {
        let (sender, receiver) = crossbeam_channel::bounded(QUEUE_MAX);
        let mailboxes = broadcast.clone();
        let run = move || append_all(file, &receiver, &mailboxes);
        thread::Builder::new().name("ended-sessions".to_owned()).spawn(run)?;
        Ok(EndStore { queue: sender, restored: Mutex::new(restored) })
    });
    match started {
        Ok(store) => broadcast.with_end_store(store),
        Err(error) => {
            warn!(
                path = shown,
                %error,
                "ended sessions are not stored, and are valid again after a restart; remedy: let the server write to this file \
                 and its directory"
            );
            broadcast
        }
    }
}

/// Appends records until every sender is dropped.
fn append_all(
    mut file: EndFile,
    receiver: &crossbeam_channel::Receiver<(EndRecord, u16, Ticket)>,
    broadcast: &Broadcast,
) {
    let mut is_failing = false;
    while let Ok(first) = receiver.recv() {
        let group: Vec<_> = std::iter::once(first).chain(receiver.try_iter().take(GROUP_MAX - 1)).collect();
        match file.append(group.iter().map(|(record, ..)| *record)) {
            Ok(()) => {
                is_failing = false;
                for (_, shard, ticket) in group {
                    // If the queue of the shard is full, the request times out there, and is answered "busy".
                    broadcast.post(shard, Message::Answer { ticket, answer: Answer::Done });
                }
            }
            // The requests time out, and are answered "busy".
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    let path = file.path.display().to_string();
                    error!(path, %error, "ended sessions cannot be stored; DELETE is answered 503 until they can");
                }
            }
        }
    }
}

/// The file.
struct EndFile {
    path: PathBuf,
    file: File,
    signing_key: SigningKey,
    limits: Limits,
    /// Size beyond which the file is rewritten, in bytes.
    rewrite_at: u64,
}

impl EndFile {
    /// Opens or creates the file, rewrites it, and returns its records.
    fn open(path: PathBuf, signing_key: SigningKey, limits: &Limits) -> io::Result<(Self, Vec<EndRecord>)> {
        let file = open_file(&path)?;
        let mut this = Self { path, file, signing_key, limits: *limits, rewrite_at: REWRITE_BYTES_MIN };
        this.lock()?;
        let records = this.rewrite();
        // The lock of a replaced file needs no release, and one that fails ends with the process.
        let _ = this.file.unlock();
        Ok((this, records?))
    }

    /// Locks the file that has the path now.
    fn lock(&mut self) -> io::Result<()> {
        for _ in 0..OPEN_ATTEMPTS {
            self.file.lock()?;
            let is_current = match fs::metadata(&self.path) {
                Ok(current) => {
                    let own = self.file.metadata()?;
                    (current.dev(), current.ino()) == (own.dev(), own.ino())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if is_current {
                return Ok(());
            }
            self.file = open_file(&self.path)?;
        }
        Err(io::Error::other("it is replaced all the time"))
    }

    /// Appends records and waits until they are on disk.
    fn append(&mut self, records: impl Iterator<Item = EndRecord>) -> io::Result<()> {
        self.lock()?;
        let result = self.append_locked(records);
        let _ = self.file.unlock();
        result
    }

    fn append_locked(&mut self, records: impl Iterator<Item = EndRecord>) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length > self.rewrite_at {
            self.rewrite()?;
        }
        let mut end = self.file.metadata()?.len();
        // A torn record of a process that was killed would displace all later ones.
        end -= end % RECORD_BYTES as u64;
        let mut bytes = if end == 0 { HEADER.to_vec() } else { Vec::new() };
        records.for_each(|record| bytes.extend_from_slice(&encode(&record, &self.signing_key)));
        self.file.seek(SeekFrom::Start(end))?;
        self.file.write_all(&bytes)?;
        self.file.set_len(end + bytes.len() as u64)?;
        self.file.sync_data()
    }

    /// Replaces the file by one without expired and damaged records, and without those beyond `session_notes_max`. Returns the
    /// records.
    fn rewrite(&mut self) -> io::Result<Vec<EndRecord>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut stored = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut stored)?;
        let content = match stored.split_first_chunk::<RECORD_BYTES>() {
            Some((header, rest)) if header == HEADER => rest,
            None if HEADER.starts_with(&stored) => &[],
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is another file")),
        };
        let mut sessions = Sessions::new(self.signing_key.clone(), 1, 0, self.limits.session_notes_max);
        let mut damaged = 0;
        for record in content.chunks(RECORD_BYTES) {
            match decode(record, &self.signing_key) {
                Some(record) => sessions.restore(&[record], now),
                None => damaged += 1,
            }
        }
        if damaged > 0 {
            let path = self.path.display().to_string();
            info!(
                path,
                damaged, "records of ended sessions are torn, damaged or signed by another key, and skipped"
            );
        }
        let records: Vec<EndRecord> = sessions.ends(now).collect();
        let mut bytes = HEADER.to_vec();
        records.iter().for_each(|record| bytes.extend_from_slice(&encode(record, &self.signing_key)));
        if bytes != stored {
            self.replace(&bytes)?;
        }
        self.rewrite_at = REWRITE_BYTES_MIN.max(2 * bytes.len() as u64);
        Ok(records)
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".new");
        let path = PathBuf::from(path);
        // Left by a process that was killed: only the holder of the lock writes it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = open_file(&path)?;
        // Locked before others can open it.
        file.lock()?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&path, &self.path)?;
        self.file = file;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

fn encode(record: &EndRecord, signing_key: &SigningKey) -> [u8; RECORD_BYTES] {
    let (kind, peer, expires, key) = match *record {
        EndRecord::Session { key, peer, expires } => (KIND_SESSION, peer, expires, key),
        EndRecord::Group { group: [a, b], expires } => (KIND_GROUP, [a, b, 0], expires, 0),
    };
    let mut payload = Vec::with_capacity(RECORD_BYTES);
    payload.push(kind);
    payload.extend_from_slice(&peer);
    payload.extend_from_slice(&expires.to_le_bytes());
    payload.extend_from_slice(&key.to_le_bytes());
    let tag: [u8; TAG_BYTES] = signing_key.hash(TokenKind::EndRecord, &payload);
    payload.extend_from_slice(&tag);
    payload.try_into().unwrap_or([0; RECORD_BYTES])
}

fn decode(record: &[u8], signing_key: &SigningKey) -> Option<EndRecord> {
    let (payload, tag) = record.split_at_checked(PAYLOAD_BYTES)?;
    if tag != signing_key.hash::<TAG_BYTES>(TokenKind::EndRecord, payload) {
        return None;
    }
    let (head, rest) = payload.split_first_chunk::<4>()?;
    let (expires, key) = rest.split_first_chunk::<8>()?;
    let ([kind, a, b, c], expires) = (*head, u64::from_le_bytes(*expires));
    match kind {
        KIND_SESSION => {
            let key = u128::from_le_bytes(key.try_into().ok()?);
            Some(EndRecord::Session { key, peer: [a, b, c], expires })
        }
        KIND_GROUP => Some(EndRecord::Group { group: [a, b], expires }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("corelane-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn open(&self, records_max: usize) -> io::Result<(EndFile, Vec<EndRecord>)> {
            let limits = Limits { session_notes_max: records_max, ..Limits::default() };
            EndFile::open(self.path(), SigningKey::new(b"key"), &limits)
        }

        fn path(&self) -> PathBuf {
            self.0.join("secret.sessions")
        }

        /// The keys of the stored sessions.
        fn keys(&self) -> Vec<u128> {
            let (_, records) = self.open(1_000_000).unwrap();
            let mut keys: Vec<u128> = records
                .iter()
                .map(|record| match record {
                    EndRecord::Session { key, .. } => *key,
                    EndRecord::Group { .. } => 0,
                })
                .collect();
            keys.sort_unstable();
            keys
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn ended(key: u128) -> EndRecord {
        EndRecord::Session { key, peer: [1, 2, 3], expires: u64::MAX - 1 }
    }

    #[test]
    fn ends_are_read_back_and_expired_ones_are_not() {
        let directory = Directory::new("ends");
        let (mut file, records) = directory.open(100).unwrap();
        assert!(records.is_empty());
        assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o777, 0o600);
        let group = EndRecord::Group { group: [1, 2], expires: u64::MAX };
        file.append([ended(1), ended(2), group].into_iter()).unwrap();
        file.append(std::iter::once(EndRecord::Session { key: 3, peer: [0; 3], expires: 5 })).unwrap();
        drop(file);
        assert_eq!(directory.keys(), [0, 1, 2]);
        assert_eq!(fs::metadata(directory.path()).unwrap().len(), 4 * RECORD_BYTES as u64, "rewritten");
    }

    #[test]
    fn torn_and_damaged_records_are_skipped_and_later_ones_are_read() {
        let directory = Directory::new("torn");
        let (mut file, _) = directory.open(100).unwrap();
        file.append((1..=3).map(ended)).unwrap();
        let mut bytes = fs::read(directory.path()).unwrap();
        bytes[2 * RECORD_BYTES + 20] ^= 1;
        bytes.extend_from_slice(&[7; RECORD_BYTES / 2]);
        fs::write(directory.path(), bytes).unwrap();
        file.append(std::iter::once(ended(4))).unwrap();
        assert_eq!(directory.keys(), [1, 3, 4]);
    }

    #[test]
    fn two_processes_append_to_one_file_while_it_is_rewritten() {
        let directory = Directory::new("shared");
        let (mut one, _) = directory.open(100_000).unwrap();
        let (mut other, _) = directory.open(100_000).unwrap();
        for key in 0..30 {
            one.append(std::iter::once(ended(3 * key))).unwrap();
            other.append(std::iter::once(ended(3 * key + 1))).unwrap();
            let (mut third, _) = directory.open(100_000).unwrap();
            third.append(std::iter::once(ended(3 * key + 2))).unwrap();
        }
        assert_eq!(directory.keys(), (0..90).collect::<Vec<u128>>());
    }

    #[test]
    fn file_is_bounded_and_no_ended_session_is_lost() {
        let directory = Directory::new("bounded");
        let (mut file, _) = directory.open(10).unwrap();
        for key in 0..60 {
            file.append((key * 1000..(key + 1) * 1000).map(ended)).unwrap();
        }
        assert!(fs::metadata(directory.path()).unwrap().len() < REWRITE_BYTES_MIN + 100_000);
        let (_, records) = directory.open(10).unwrap();
        assert!(records.contains(&EndRecord::Group { group: [1, 2], expires: u64::MAX - 1 }), "{records:?}");
        assert!(records.len() <= 11);
    }

    #[test]
    fn another_file_is_left_alone() {
        let directory = Directory::new("another");
        fs::write(directory.path(), "the notes of somebody").unwrap();
        assert!(directory.open(10).is_err_and(|error| error.to_string().contains("another file")));
        assert_eq!(fs::read(directory.path()).unwrap(), b"the notes of somebody");
    }
}
