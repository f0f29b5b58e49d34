//! What a store needs of a disk: an append-only run of checksummed records.
//!
//! One record is one commit: object, revision and event at once. The state is the last record of each key. Records are
//! forgotten when the event that superseded them leaves the history.

use std::path::PathBuf;

use bytes::Bytes;

use crate::api::{Key, Rev};

/// One commit, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its revision.
    pub rev: Rev,
    /// What it wrote.
    pub key: Key,
    /// The revision it replaced, if any.
    pub prev: Option<Rev>,
    /// Whether it removed the key.
    pub deleted: bool,
    /// The object.
    pub json: Bytes,
}

/// What failed, on what, why.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A file operation.
    #[error("{doing} {path}: {source}")]
    Io {
        /// Such as `opening`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded database.
    #[error("{doing} the database {path}: {source}")]
    Database {
        /// Such as `opening`.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: sled::Error,
    },
    /// Not enough room to write safely.
    #[error("the disk of {path} is full: {free} bytes free, {need} needed; free some space")]
    Full {
        /// Where the store is.
        path: PathBuf,
        /// Bytes left.
        free: u64,
        /// Bytes wanted.
        need: u64,
    },
    /// A record is sealed with what nobody here can open. Nothing was changed.
    #[error("{path} at revision {rev} can't be opened: {source}")]
    Locked {
        /// Its key.
        path: PathBuf,
        /// Its revision.
        rev: Rev,
        /// Why.
        source: super::CodecError,
    },
    /// The database holds what can't be right, and no backup can replace it.
    #[error("the database {path} is damaged: {why}; restore a backup into an empty data directory, or move it away to start anew")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What was found.
        why: String,
    },
}

/// What a backend holds at the start.
#[derive(Debug, Default)]
pub struct Held {
    /// In revision order: the live objects, and without a gap every record after `floor`.
    pub records: Vec<Record>,
    /// The history starts after it.
    pub floor: Rev,
}

/// What becomes of one stored record: its new bytes, or `None` to leave it as it is.
pub type Rewrite<'a> = &'a mut dyn FnMut(&Record) -> Result<Option<Bytes>, BackendError>;

/// A disk, or a double of one.
pub trait Backend: Send {
    /// Appends records durably: when this returns `Ok`, they survive a power cut. On an error, none of them does once
    /// [`Backend::recover`] has succeeded.
    fn append(&mut self, records: &[Record]) -> Result<(), BackendError>;

    /// Drops records that are no longer needed, and remembers that all records after `floor` must be there at the next start.
    /// Both or neither; may become durable later.
    fn forget(&mut self, revs: &[Rev], floor: Rev) -> Result<(), BackendError>;

    /// After a failed append: makes the backend usable again, with nothing after `head` in it.
    fn recover(&mut self, head: Rev) -> Result<(), BackendError>;

    /// Offers every record that is kept to `change`, and replaces those it changes; durable when this returns. Nothing is replaced
    /// after the first error, but what was before it stays replaced. Returns how many were replaced.
    fn rewrite(&mut self, change: Rewrite<'_>) -> Result<usize, BackendError>;

    /// Seals again what is sealed in an old way. A backend without a codec has nothing to do.
    fn reseal(&mut self) -> Result<usize, BackendError> {
        Ok(0)
    }
}
