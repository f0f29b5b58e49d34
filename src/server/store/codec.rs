//! How an object's bytes look at rest: the border between what is known in memory and what a disk or a backup holds.
//!
//! Words: the *plain* form is the object's JSON; the *sealed* form is what is kept. They are the same but for keys that a codec
//! cares about.
//!
//! Invariants: whatever the store writes, to its database or into a backup, was sealed first; nothing sealed reaches a reader. A
//! record that can't be opened stops the start and changes nothing.
//!
//! Never: knows a kind or a cipher. The composition root hands the codec in.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::backend::{Backend, BackendError, Held, Record, Rewrite};
use crate::api::{Key, Rev};

/// Turns plain bytes into sealed ones and back.
pub trait Codec: Send + Sync {
    /// What is kept for `plain`, the object at `key`. The same bytes where nothing has to be hidden.
    fn seal(&self, key: &Key, plain: &Bytes) -> Result<Bytes, CodecError>;

    /// The object's JSON.
    fn open(&self, key: &Key, sealed: &Bytes) -> Result<Bytes, CodecError>;

    /// Whether `sealed` is not what [`Codec::seal`] would make today: another key, or none.
    fn is_stale(&self, key: &Key, sealed: &Bytes) -> bool;
}

/// Why bytes can't be sealed or opened, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// Nothing is hidden.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Codec for Plain {
    fn seal(&self, _: &Key, plain: &Bytes) -> Result<Bytes, CodecError> {
        Ok(plain.clone())
    }

    fn open(&self, _: &Key, sealed: &Bytes) -> Result<Bytes, CodecError> {
        Ok(sealed.clone())
    }

    fn is_stale(&self, _: &Key, _: &Bytes) -> bool {
        false
    }
}

/// A backend that only ever sees sealed bytes.
pub(super) struct Sealed {
    inner: Box<dyn Backend>,
    codec: Arc<dyn Codec>,
}

impl Sealed {
    /// Opens what `inner` holds. Returns the number of records that [`Backend::reseal`] would change, too.
    pub(super) fn new(inner: Box<dyn Backend>, mut held: Held, codec: Arc<dyn Codec>) -> Result<(Sealed, Held, usize), BackendError> {
        let mut stale = 0;
        for record in &mut held.records {
            stale += usize::from(codec.is_stale(&record.key, &record.json));
            record.json = codec.open(&record.key, &record.json).map_err(|error| locked(record.rev, &record.key, error))?;
        }
        Ok((Sealed { inner, codec }, held, stale))
    }
}

fn locked(rev: Rev, key: &Key, source: CodecError) -> BackendError {
    BackendError::Locked { path: PathBuf::from(key.to_string()), rev, source }
}

impl Backend for Sealed {
    fn append(&mut self, records: &[Record]) -> Result<(), BackendError> {
        let seal = |record: &Record| {
            let json = self.codec.seal(&record.key, &record.json).map_err(|error| locked(record.rev, &record.key, error))?;
            Ok(Record { json, ..record.clone() })
        };
        let sealed = records.iter().map(seal).collect::<Result<Vec<_>, BackendError>>()?;
        self.inner.append(&sealed)
    }

    fn forget(&mut self, revs: &[Rev], floor: Rev) -> Result<(), BackendError> {
        self.inner.forget(revs, floor)
    }

    fn recover(&mut self, head: Rev) -> Result<(), BackendError> {
        self.inner.recover(head)
    }

    fn rewrite(&mut self, change: Rewrite<'_>) -> Result<usize, BackendError> {
        self.inner.rewrite(change)
    }

    fn reseal(&mut self) -> Result<usize, BackendError> {
        let codec = self.codec.clone();
        self.inner.rewrite(&mut |record| {
            if !codec.is_stale(&record.key, &record.json) {
                return Ok(None);
            }
            let again = codec.open(&record.key, &record.json).and_then(|plain| codec.seal(&record.key, &plain));
            again.map(Some).map_err(|error| locked(record.rev, &record.key, error))
        })
    }
}
