//! The versioned store of objects: the one place where state is kept.
//!
//! Words: an *entry* is one object at one revision; a *commit* is one conditional write; a *batch* is what one durable flush
//! carries; the *history* is the bounded run of newest events that watches may start in.
//!
//! Invariants:
//! * Revisions grow by one with each commit, over restarts too; none is used twice for an acknowledged write.
//! * A commit is answered only after its batch is on the disk (`fdatasync` returned).
//! * A snapshot is one revision of everything. A watch yields every event of its scope after its start, in order, once, or
//!   says that it can't.
//! * An entry's bytes are encoded once and shared by every reader.
//!
//! Never: knows a kind, validates, calls out, or answers from anything but memory.
//!
//! The way of a write: [`Store::commit`] -> the writer thread ([`writer`]) checks the expectation, splices the revision into
//! the draft, appends the batch to the [`backend`], publishes the next [`Snapshot`] and the events ([`history`]), and answers.

pub mod backend;
pub mod backup;
mod codec;
pub mod disk;
mod entry;
mod history;
mod index;
mod snapshot;
mod stats;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::api::{Key, Rev, Scope};
use crate::metrics::Text;

pub use backend::{Backend, BackendError, Held, Record, Rewrite};
pub use codec::{Codec, CodecError, Plain};
pub use entry::{DecodeError, Draft, Entry};
pub use history::{Event, Size};
pub use index::Index;
pub use snapshot::Snapshot;
pub use watch::{Delivery, Watch};

use history::History;
use stats::Stats;
use writer::{Request, Writer};

/// What must be true for a commit to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key is free.
    Absent,
    /// The key holds exactly this revision.
    Rev(Rev),
}

/// What a commit does.
#[derive(Debug)]
pub enum Change {
    /// Writes the object.
    Put(Draft),
    /// Removes the key; the draft is the last state, which watchers see (with the revision of the removal).
    Delete(Draft),
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The expectation did not hold; the entry found instead, if any.
    #[error("the object is not at the expected revision")]
    Conflict(Option<Arc<Entry>>),
    /// The backend failed (disk full, I/O error). Nothing was written.
    #[error("the store can't write: {0}")]
    Backend(String),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// A watch can't start: the history since that revision is gone.
#[derive(Debug, thiserror::Error)]
#[error("revision {from} is not within the kept history, which starts at {oldest}")]
pub struct Expired {
    /// Asked for.
    pub from: Rev,
    /// Oldest revision that a watch may start from.
    pub oldest: Rev,
}

/// Bounds of the history that watches can start in.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most events kept.
    pub events: usize,
    /// Most bytes of JSON kept by events.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { events: 10_000, bytes: 16 << 20 }
    }
}

/// What all handles share.
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    history: History,
    /// Whether the last write failed.
    broken: AtomicBool,
    stats: Stats,
}

/// The store. Cheap to clone; the writer ends when the last handle is dropped or [`Store::close`] is called.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    requests: tokio::sync::mpsc::Sender<Request>,
    codec: Arc<dyn Codec>,
}

impl Store {
    /// Opens (or makes) the sled database in `dir` and reads it. What was half written is cut off, and said in the log.
    pub fn open(dir: &Path, limits: Limits, indexes: &'static [Index]) -> Result<Store, BackendError> {
        Store::open_sealed(dir, limits, indexes, Arc::new(Plain)).map(|(store, _)| store)
    }

    /// The same, with all that is kept sealed by `codec`. Returns the number of records that are sealed in an old way, too.
    pub fn open_sealed(
        dir: &Path,
        limits: Limits,
        indexes: &'static [Index],
        codec: Arc<dyn Codec>,
    ) -> Result<(Store, usize), BackendError> {
        let (disk, held) = disk::Disk::open(dir)?;
        let (backend, held, stale) = codec::Sealed::new(Box::new(disk), held, codec.clone())?;
        let mut store = Store::with_backend(Box::new(backend), held, limits, indexes)?;
        store.codec = codec;
        Ok((store, stale))
    }

    /// A store over any backend and what it holds.
    pub fn with_backend(backend: Box<dyn Backend>, held: Held, limits: Limits, indexes: &'static [Index]) -> Result<Store, BackendError> {
        let (writer, shared, requests) = Writer::new(backend, held, limits, indexes)?;
        std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run()).map_err(|source| BackendError::Io {
            doing: "starting",
            path: "the writer thread".into(),
            source,
        })?;
        Ok(Store { shared, requests, codec: Arc::new(Plain) })
    }

    /// Whether the last write went well.
    pub fn is_healthy(&self) -> bool {
        !self.shared.broken.load(Ordering::Relaxed)
    }

    /// What is counted, in Prometheus' text form.
    pub fn write_metrics(&self, out: &mut Text) {
        self.shared.stats.write(self, out);
    }

    /// How much there is of the resource that `scope` lies in.
    pub fn size(&self, scope: &Scope) -> Size {
        self.shared.history.size(scope)
    }

    /// How much there is of each resource that was ever written, by `GROUP/RESOURCE/`.
    pub fn sizes(&self) -> Vec<(String, Size)> {
        self.shared.history.sizes()
    }

    /// How what is kept is sealed (for backups).
    pub fn codec(&self) -> &dyn Codec {
        &*self.codec
    }

    /// Seals again every record that is sealed in an old way, whether live or history. Returns how many, once that is durable.
    pub async fn reseal(&self) -> Result<usize, StoreError> {
        let (done, answered) = oneshot::channel();
        self.requests.send(Request::Reseal { done }).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// The newest state.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::clone(&self.shared.snapshot.load())
    }

    /// The changes in `scope` after `from`.
    pub fn watch(&self, scope: Scope, from: Rev) -> Result<Watch, Expired> {
        Watch::new(self.shared.clone(), scope, from)
    }

    /// Writes durably, if `expect` holds. Returns the entry as written once it is on disk.
    ///
    /// Dropping the future does not undo the write.
    pub async fn commit(&self, key: Key, expect: Expect, change: Change) -> Result<Arc<Entry>, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Commit { key, expect, change, answer }).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Writes what was accepted so far, ends every watch, and releases the files. Returns when that is done.
    pub async fn close(&self) {
        let (done, finished) = oneshot::channel();
        if self.requests.send(Request::Close { done }).await.is_ok() {
            // An error means that the writer ended first, which is what was asked for.
            finished.await.ok();
        }
    }
}

#[cfg(test)]
mod tests;
