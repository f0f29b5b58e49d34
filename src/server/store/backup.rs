//! Backups: one file that holds every live object, written beside the database from a snapshot.
//!
//! A backup is `orch-backup-1\n`, then a zstd stream of JSON lines (the floor, then a record a line), ending in a line with the
//! number of records and their checksum: a file without a right end is no backup. The newest [`KEEP`] are kept. A record is as the
//! [`Codec`] seals it, in base64 where that is no JSON.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::warn;

use super::{BackendError, Codec, Held, Record, Snapshot};
use crate::api::{Key, Rev, Scope};

/// How many backups are kept.
pub const KEEP: usize = 3;
const MAGIC: &[u8] = b"orch-backup-1\n";

/// An object, or with neither key nor JSON the end. (No enum: serde buffers those, and a raw value can't be buffered.)
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The object's revision; at the end the head.
    rev: Rev,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<Box<RawValue>>,
    /// In place of JSON: sealed bytes, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    /// At the end: objects in all, and the checksum of their JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<(usize, u32)>,
}

fn folder(dir: &Path) -> PathBuf {
    dir.join("backups")
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackendError {
    let path = path.to_path_buf();
    move |source| BackendError::Io { doing, path, source }
}

/// Writes a backup of `snapshot` into the store directory `dir`, sealed by `codec`, and drops all but the newest `keep`. Blocking.
pub fn write(dir: &Path, snapshot: &Snapshot, codec: &dyn Codec, keep: usize) -> Result<PathBuf, BackendError> {
    let folder = folder(dir);
    fs::create_dir_all(&folder).map_err(failed("making", &folder))?;
    let path = folder.join(format!("{:020}.backup", snapshot.rev().0));
    let temporary = path.with_extension("new");
    save(&temporary, snapshot, codec).map_err(failed("writing", &temporary))?;
    fs::rename(&temporary, &path).map_err(failed("renaming", &temporary))?;
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed("syncing", &folder))?;
    for old in files(&folder)?.into_iter().rev().skip(keep) {
        fs::remove_file(&old).map_err(failed("removing", &old))?;
    }
    Ok(path)
}

fn save(path: &Path, snapshot: &Snapshot, codec: &dyn Codec) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(MAGIC)?;
    let mut out = zstd::Encoder::new(file, 3)?;
    let mut crc = crc32fast::Hasher::new();
    let mut entries: Vec<_> = snapshot.range(&Scope::all()).collect();
    entries.sort_by_key(|entry| entry.rev);
    for entry in &entries {
        let bytes = codec.seal(&entry.key, &entry.json).map_err(io::Error::other)?;
        crc.update(&bytes);
        let (json, sealed) = if bytes == entry.json {
            let json = std::str::from_utf8(&bytes).map_err(io::Error::other)?;
            (Some(RawValue::from_string(json.to_owned())?), None)
        } else {
            (None, Some(STANDARD.encode(&bytes)))
        };
        serde_json::to_writer(&mut out, &Line { key: Some(entry.key.to_string()), rev: entry.rev, json, sealed, end: None })?;
        out.write_all(b"\n")?;
    }
    let end = Some((entries.len(), crc.finalize()));
    serde_json::to_writer(&mut out, &Line { key: None, rev: snapshot.rev(), json: None, sealed: None, end })?;
    out.write_all(b"\n")?;
    out.finish()?.sync_all()
}

/// The newest backup that is whole, if any. Its floor is its revision: watches start anew.
pub fn newest(dir: &Path) -> Result<Option<Held>, BackendError> {
    for path in files(&folder(dir))?.into_iter().rev() {
        match load(&path) {
            Ok(held) => return Ok(Some(held)),
            Err(error) => warn!("backup {} is not usable: {error}", path.display()),
        }
    }
    Ok(None)
}

fn load(path: &Path) -> io::Result<Held> {
    let mut file = File::open(path)?;
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(io::Error::other("it does not start as a backup does"));
    }
    let mut held = Held::default();
    let mut crc = crc32fast::Hasher::new();
    for line in BufReader::new(zstd::Decoder::new(file)?).lines() {
        let Line { key, rev, json, sealed, end } = serde_json::from_str(&line?)?;
        let bytes = match (json, sealed) {
            (Some(json), _) => Some(json.get().as_bytes().to_vec()),
            (None, Some(sealed)) => Some(STANDARD.decode(sealed).map_err(io::Error::other)?),
            (None, None) => None,
        };
        if let (Some(key), Some(bytes)) = (key, bytes) {
            crc.update(&bytes);
            let key = Key::parse(&key).ok_or_else(|| io::Error::other(format!("{key:?} is no key")))?;
            let json = bytes.into();
            held.records.push(Record { rev, key, prev: None, deleted: false, json });
        } else {
            if end != Some((held.records.len(), crc.finalize())) {
                return Err(io::Error::other("its checksum is wrong"));
            }
            held.floor = rev;
            return Ok(held);
        }
    }
    Err(io::Error::other("it has no end"))
}

/// Oldest first; none if there is no folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, BackendError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("reading", folder))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("reading", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "backup") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
