//! The embedded backend: sled, with what it lacks built around it.
//!
//! * sled's `flush` ends in `sync_file_range`, which a power cut may undo: each batch is followed by `fdatasync` of its file.
//! * sled puts large values into files that it never syncs: records are cut into chunks well below that size.
//! * a sled database may fail to open, or come back with pieces missing: every record carries a checksum, everything after the
//!   floor must be contiguous, and what does not hold is cut off (said in the log) or taken from the newest [`backup`].
//!
//! Layout: one tree; key `REV(8, big endian) CHUNK(2)`, so a record's chunks are adjacent and records are in order. Revision 0
//! holds the floor. Nobody outside of this file knows of sled.

use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sled::IVec;
use tracing::{error, info, warn};

use super::backend::{Backend, BackendError, Held, Record, Rewrite};
use super::backup;
use crate::api::{Key, Rev};

/// Bytes of a record per sled value; sled moves values from about 128 KiB on out of its log.
const CHUNK: usize = 64 << 10;
/// Page cache of sled. All reads are answered from our own memory, so it only has to serve writing.
const CACHE: u64 = 8 << 20;
/// Free space below which nothing is written: sled fails for good on a full disk, so it must never meet one.
const RESERVE: u64 = 32 << 20;

/// See the module.
pub struct Disk {
    dir: PathBuf,
    open: Option<Open>,
}

struct Open {
    db: sled::Db,
    /// The file that sled writes its log to, for `fdatasync`.
    file: File,
}

impl Disk {
    /// Opens the database in `dir`, mends what can be mended, and reads everything.
    pub fn open(dir: &Path) -> Result<(Disk, Held), BackendError> {
        std::fs::create_dir_all(dir).map_err(|source| BackendError::Io { doing: "making", path: dir.into(), source })?;
        match open_and_read(dir) {
            Ok((open, held)) => Ok((Disk { dir: dir.into(), open: Some(open) }, held)),
            Err(failure @ (BackendError::Database { .. } | BackendError::Damaged { .. })) => from_backup(dir, failure),
            Err(failure) => Err(failure),
        }
    }

    fn room_for(&self, records: &[Record]) -> Result<(), BackendError> {
        let bytes: usize = records.iter().map(|record| record.json.len()).sum();
        // sled rewrites segments while it writes: leave it several times the room.
        let need = RESERVE + 4 * bytes as u64;
        let free = free_bytes(&self.dir)?;
        if free < need { Err(BackendError::Full { path: self.dir.clone(), free, need }) } else { Ok(()) }
    }

    fn write(&mut self, batch: sled::Batch) -> Result<(), BackendError> {
        let path = &self.dir;
        let failed = |doing| move |source| BackendError::Database { doing, path: path.clone(), source };
        let Some(open) = &self.open else {
            let source = sled::Error::Unsupported("the database is closed after an earlier failure".into());
            return Err(failed("writing")(source));
        };
        open.db.apply_batch(batch).map_err(failed("writing"))?;
        open.db.flush().map_err(failed("flushing"))?;
        open.file.sync_data().map_err(|source| BackendError::Io { doing: "syncing", path: path.clone(), source })
    }
}

impl Backend for Disk {
    fn append(&mut self, records: &[Record]) -> Result<(), BackendError> {
        self.room_for(records)?;
        let mut batch = sled::Batch::default();
        for record in records {
            for (key, value) in encode(record) {
                batch.insert(&key[..], value);
            }
        }
        self.write(batch)
    }

    fn forget(&mut self, revs: &[Rev], floor: Rev) -> Result<(), BackendError> {
        let failed = |source| BackendError::Database { doing: "tidying", path: self.dir.clone(), source };
        let Some(Open { db, .. }) = &self.open else { return Ok(()) };
        let mut batch = sled::Batch::default();
        for rev in revs {
            for key in db.scan_prefix(rev.0.to_be_bytes()).keys() {
                batch.remove(key.map_err(failed)?);
            }
        }
        batch.insert(&chunk_key(Rev(0), 0)[..], encode_floor(floor));
        db.apply_batch(batch).map_err(failed)
    }

    fn recover(&mut self, head: Rev) -> Result<(), BackendError> {
        // sled remembers an I/O error for good: only a new instance works again.
        self.open = None;
        let open = open_sled(&self.dir)?;
        cut_after(&open.db, head).map_err(|source| BackendError::Database { doing: "mending", path: self.dir.clone(), source })?;
        self.open = Some(open);
        self.write(sled::Batch::default())?;
        info!("the store writes again, from revision {head}");
        Ok(())
    }

    fn rewrite(&mut self, change: Rewrite<'_>) -> Result<usize, BackendError> {
        let mut done = 0;
        let mut from = Rev(1);
        loop {
            let Some(Open { db, .. }) = &self.open else { return self.write(sled::Batch::default()).map(|()| done) };
            let (records, next) =
                page(db, from).map_err(|source| BackendError::Database { doing: "reading", path: self.dir.clone(), source })?;
            let mut changed = Vec::new();
            let mut batch = sled::Batch::default();
            for record in records {
                let Some(json) = change(&record)? else { continue };
                // The new form may need fewer chunks: the old ones go first.
                for key in db.scan_prefix(record.rev.0.to_be_bytes()).keys() {
                    batch.remove(key.map_err(|source| BackendError::Database { doing: "reading", path: self.dir.clone(), source })?);
                }
                changed.push(Record { json, ..record });
            }
            changed.iter().flat_map(encode).for_each(|(key, value)| batch.insert(&key[..], value));
            if !changed.is_empty() {
                self.room_for(&changed)?;
                self.write(batch)?;
            }
            done += changed.len();
            let Some(next) = next else { return Ok(done) };
            from = next;
        }
    }
}

/// Some records from `from` on, and where the next ones begin. What does not decode is left out: [`read`] deals with it.
fn page(db: &sled::Db, from: Rev) -> Result<(Vec<Record>, Option<Rev>), sled::Error> {
    const PAGE_BYTES: usize = 4 << 20;
    let (mut records, mut pending, mut bytes) = (Vec::new(), None::<(Rev, Vec<u8>)>, 0);
    for chunk in db.range(chunk_key(from, 0)..) {
        let (key, value) = chunk?;
        let rev = rev_of(&key);
        if pending.as_ref().is_some_and(|(open, _)| *open != rev) {
            records.extend(pending.take().and_then(|(rev, bytes)| decode(rev, bytes)));
            if bytes >= PAGE_BYTES {
                return Ok((records, Some(rev)));
            }
        }
        bytes += value.len();
        pending.get_or_insert((rev, Vec::new())).1.extend_from_slice(&value);
    }
    records.extend(pending.and_then(|(rev, bytes)| decode(rev, bytes)));
    Ok((records, None))
}

fn open_sled(dir: &Path) -> Result<Open, BackendError> {
    let path = dir.join("db");
    await_release(&path.join("db"))?;
    let db = sled::Config::new()
        .path(&path)
        .cache_capacity(CACHE)
        .flush_every_ms(None)
        .mode(sled::Mode::HighThroughput)
        .open()
        .map_err(|source| BackendError::Database { doing: "opening", path: path.clone(), source })?;
    let log = path.join("db");
    let file = File::open(&log).map_err(|source| BackendError::Io { doing: "opening", path: log, source })?;
    Ok(Open { db, file })
}

/// Waits until an instance that was dropped has let go of its file: sled's threads do so a little after the drop. (Another
/// process can't hold it: whoever opens a store holds the lock of its data directory.)
fn await_release(log: &Path) -> Result<(), BackendError> {
    let failed = |source| BackendError::Io { doing: "locking", path: log.into(), source };
    match File::open(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        file => file.and_then(|file| file.lock()).map_err(failed),
    }
}

fn open_and_read(dir: &Path) -> Result<(Open, Held), BackendError> {
    let open = open_sled(dir)?;
    let failed = |doing| move |source| BackendError::Database { doing, path: dir.to_path_buf(), source };
    let (held, bad) = read(&open.db).map_err(failed("reading"))?;
    let Some(bad) = bad else { return Ok((open, held)) };
    if bad.rev <= held.floor {
        return Err(BackendError::Damaged { path: dir.into(), why: format!("revision {}: {}", bad.rev, bad.why) });
    }
    let good = Rev(bad.rev.0 - 1);
    error!("the store's tail is damaged at revision {} ({}); restored to the last good revision, {good}", bad.rev, bad.why);
    cut_after(&open.db, good).map_err(failed("mending"))?;
    open.db.flush().map_err(failed("flushing"))?;
    Ok((open, held))
}

/// The first record that can't be right.
struct Bad {
    rev: Rev,
    why: &'static str,
}

/// Everything up to the first bad record.
fn read(db: &sled::Db) -> Result<(Held, Option<Bad>), sled::Error> {
    let mut held = Held::default();
    if let Some(value) = db.get(chunk_key(Rev(0), 0))? {
        match decode_floor(&value) {
            Some(floor) => held.floor = floor,
            None => return Ok((held, Some(Bad { rev: Rev(0), why: "the floor's checksum is wrong" }))),
        }
    }
    let mut pending: Option<(Rev, Vec<u8>)> = None;
    let mut last = None;
    let mut chunks = db.range(chunk_key(Rev(1), 0)..);
    loop {
        let chunk = chunks.next().transpose()?;
        let rev = chunk.as_ref().map(|(key, _)| rev_of(key));
        if pending.as_ref().map(|(rev, _)| *rev) != rev
            && let Some((rev, bytes)) = pending.take()
        {
            let gap = rev > held.floor && last.unwrap_or(held.floor).max(held.floor) != Rev(rev.0 - 1);
            if gap {
                let missing = last.unwrap_or(held.floor).max(held.floor).0 + 1;
                return Ok((held, Some(Bad { rev: Rev(missing), why: "it is missing" })));
            }
            let Some(record) = decode(rev, bytes) else {
                return Ok((held, Some(Bad { rev, why: "its checksum is wrong" })));
            };
            held.records.push(record);
            last = Some(rev);
        }
        let Some((key, value)) = chunk else { return Ok((held, None)) };
        pending.get_or_insert((rev_of(&key), Vec::new())).1.extend_from_slice(&value);
    }
}

/// Removes every record after `head`, newest first, so that an interruption leaves no gap.
fn cut_after(db: &sled::Db, head: Rev) -> Result<(), sled::Error> {
    for key in db.range(chunk_key(Rev(head.0 + 1), 0)..).keys().rev() {
        db.remove(key?)?;
    }
    db.flush().map(|_| ())
}

/// The database can't be used: starts a new one from the newest backup, keeping the old one aside.
fn from_backup(dir: &Path, failure: BackendError) -> Result<(Disk, Held), BackendError> {
    let Some(held) = backup::newest(dir)? else { return Err(failure) };
    let head = held.floor;
    let aside = aside(dir);
    warn!("{failure}; restoring the backup of revision {head}; the damaged database is kept as {}", aside.display());
    let db = dir.join("db");
    std::fs::rename(&db, &aside).map_err(|source| BackendError::Io { doing: "moving aside", path: db, source })?;
    let mut disk = Disk { dir: dir.into(), open: Some(open_sled(dir)?) };
    disk.forget(&[], head)?;
    disk.append(&held.records)?;
    Ok((disk, held))
}

fn aside(dir: &Path) -> PathBuf {
    let names = (1..).map(|n| dir.join(format!("db.damaged-{n}")));
    names.into_iter().find(|path| !path.exists()).expect("there is always a higher number")
}

fn free_bytes(dir: &Path) -> Result<u64, BackendError> {
    let stat = rustix::fs::statvfs(dir).map_err(|e| BackendError::Io { doing: "measuring", path: dir.into(), source: e.into() })?;
    Ok(stat.f_bavail * stat.f_frsize)
}

fn chunk_key(rev: Rev, chunk: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&rev.0.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

fn rev_of(key: &IVec) -> Rev {
    let bytes = key.get(..8).and_then(|bytes| bytes.try_into().ok());
    Rev(u64::from_be_bytes(bytes.unwrap_or([0xff; 8])))
}

fn encode_floor(floor: Rev) -> Vec<u8> {
    let bytes = floor.0.to_be_bytes();
    [&crc32fast::hash(&bytes).to_be_bytes()[..], &bytes].concat()
}

fn decode_floor(value: &[u8]) -> Option<Rev> {
    let (crc, bytes) = value.split_first_chunk::<4>()?;
    let good = u32::from_be_bytes(*crc) == crc32fast::hash(bytes);
    good.then(|| bytes.try_into().ok().map(|bytes| Rev(u64::from_be_bytes(bytes)))).flatten()
}

/// `CRC32(4) PREV(8, 0: none) DELETED(1) KEYLEN(2) KEY JSON`, in chunks. The checksum covers the revision too.
fn encode(record: &Record) -> Vec<([u8; 10], Vec<u8>)> {
    let key = record.key.as_str().as_bytes();
    let mut body = Vec::with_capacity(4 + 11 + key.len() + record.json.len());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&record.prev.unwrap_or_default().0.to_be_bytes());
    body.push(u8::from(record.deleted));
    body.extend_from_slice(&(key.len() as u16).to_be_bytes());
    body.extend_from_slice(key);
    body.extend_from_slice(&record.json);
    let crc = checksum(record.rev, &body[4..]).to_be_bytes();
    body[..4].copy_from_slice(&crc);
    body.chunks(CHUNK).enumerate().map(|(index, chunk)| (chunk_key(record.rev, index as u16), chunk.to_vec())).collect()
}

fn checksum(rev: Rev, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&rev.0.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

fn decode(rev: Rev, bytes: Vec<u8>) -> Option<Record> {
    let bytes = Bytes::from(bytes);
    let (crc, body) = bytes.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*crc) != checksum(rev, body) {
        return None;
    }
    let (prev, rest) = body.split_first_chunk::<8>()?;
    let (deleted, rest) = rest.split_first()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let (key, json) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    let prev = Rev(u64::from_be_bytes(*prev));
    Some(Record {
        rev,
        key: Key::parse(std::str::from_utf8(key).ok()?)?,
        prev: (prev.0 != 0).then_some(prev),
        deleted: *deleted == 1,
        json: bytes.slice_ref(json),
    })
}

#[cfg(test)]
impl Disk {
    /// Overwrites a stored chunk, to see it noticed.
    pub(super) fn spoil(dir: &Path, rev: Rev, remove: bool) {
        let open = open_sled(dir).expect("opens");
        match remove {
            true => drop(open.db.remove(chunk_key(rev, 0)).expect("removes")),
            false => drop(open.db.insert(chunk_key(rev, 0), b"garbage".to_vec()).expect("inserts")),
        }
        open.db.flush().expect("flushes");
    }
}
