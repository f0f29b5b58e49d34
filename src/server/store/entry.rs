//! Entries and drafts: an object encoded once, before and after its revision is known.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde::Deserialize;

use crate::api::{Key, Kind, Object, Rev, decode};

/// One object at one revision: encoded once, decoded at most once.
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// The revision that wrote it.
    pub rev: Rev,
    /// The whole object as JSON, `resourceVersion` included: what GET, LIST and WATCH send.
    pub json: Bytes,
    head: Head,
    /// See [`Entry::seen`]; seconds since the Unix epoch, since there are many entries.
    seen: u32,
    /// A form that was decoded from the bytes.
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// Bytes of the form that [`Entry::measured`] was asked about.
    measured: OnceLock<u64>,
}

/// What is always at hand of an object, without its `managedFields`: it is kept once, within the object if that is there.
enum Head {
    /// Only the metadata: the rest is in the bytes.
    Meta(Box<ObjectMeta>),
    /// The object as it was written.
    Whole(Arc<dyn Object>),
}

impl Entry {
    /// Its metadata (for selectors, owners, finalizers), `resourceVersion` included, `managedFields` not (see [`Entry::managed_fields`]).
    pub fn meta(&self) -> &ObjectMeta {
        match &self.head {
            Head::Meta(meta) => meta,
            Head::Whole(object) => object.meta(),
        }
    }

    /// When this server came to know it: at its commit, or when it was read from the disk. By this server's clock, in whole seconds; not
    /// stored.
    pub fn seen(&self) -> Timestamp {
        Timestamp::from_second(self.seen.into()).unwrap_or(Timestamp::MAX)
    }

    /// An entry from stored bytes. Fails when they are not JSON with an object's metadata.
    pub fn decode(key: Key, rev: Rev, json: Bytes) -> Result<Entry, DecodeError> {
        #[derive(Deserialize)]
        struct MetaOnly {
            metadata: ObjectMeta,
        }
        match serde_json::from_slice::<MetaOnly>(&json) {
            Ok(MetaOnly { mut metadata }) => {
                metadata.managed_fields = None;
                let head = Head::Meta(Box::new(metadata));
                Ok(Entry { key, rev, json, head, seen: now(), typed: OnceLock::new(), measured: OnceLock::new() })
            }
            Err(error) => Err(DecodeError { key, why: error.to_string() }),
        }
    }

    /// `metadata.managedFields`, read from the bytes. Neither the metadata nor the decoded form holds it: it can be larger than all
    /// the rest, and only writes look at it.
    pub fn managed_fields(&self) -> Option<Vec<ManagedFieldsEntry>> {
        #[derive(Deserialize)]
        struct Whole {
            metadata: Meta,
        }
        #[derive(Deserialize)]
        struct Meta {
            #[serde(rename = "managedFields")]
            managed_fields: Option<Vec<ManagedFieldsEntry>>,
        }
        // The bytes were written by this server: what can't be read as entries is as good as none.
        serde_json::from_slice::<Whole>(&self.json).ok().and_then(|whole| whole.metadata.managed_fields)
    }

    /// The decoded form, made at the first call and shared by all callers. Its `managedFields` is left out.
    pub fn typed<T: Kind>(&self) -> Result<Arc<T>, DecodeError> {
        if let Some(object) = self.at_hand() {
            return Ok(object);
        }
        let mut object: T = decode::json(&self.json).map_err(|error| DecodeError { key: self.key.clone(), why: error.to_string() })?;
        object.meta_mut().managed_fields = None;
        // A copy, for the same reason as a draft's.
        let object = Arc::new(object.clone());
        // Only the first kind is cached: a key is read as one kind, but for the few that are served in two versions.
        self.typed.get_or_init(|| object.clone());
        Ok(object)
    }
}

impl Entry {
    /// [`Entry::typed`] for forms that are no Rust type of the API, decoded by `decode` from the bytes.
    pub fn decoded<T: Any + Send + Sync, E>(&self, decode: impl FnOnce(&[u8]) -> Result<T, E>) -> Result<Arc<T>, E> {
        if let Some(object) = self.at_hand() {
            return Ok(object);
        }
        let object = Arc::new(decode(&self.json)?);
        self.typed.get_or_init(|| object.clone());
        Ok(object)
    }

    /// The object in this form, if it is there in it.
    fn at_hand<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let written = match &self.head {
            Head::Whole(object) => object.clone().into_any().downcast().ok(),
            Head::Meta(_) => None,
        };
        written.or_else(|| self.typed.get()?.clone().downcast().ok())
    }
}

impl Entry {
    /// How large the one other form is that entries are sent in (protobuf, as an item of a list), found out at the first call.
    pub fn measured<E>(&self, measure: impl FnOnce(&[u8]) -> Result<u64, E>) -> Result<u64, E> {
        match self.measured.get() {
            Some(size) => Ok(*size),
            None => measure(&self.json).map(|size| *self.measured.get_or_init(|| size)),
        }
    }
}

/// Of one store, two entries with the same key and revision are the same.
impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.rev == other.rev && self.key == other.key
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.rev)
    }
}

/// What is stored is not what the kind expects.
#[derive(Debug, thiserror::Error)]
#[error("decoding {key}: {why}")]
pub struct DecodeError {
    key: Key,
    why: String,
}

/// An object encoded but for its revision, which only the writer knows: the bytes are cut where the revision goes.
pub struct Draft {
    before: Bytes,
    after: Bytes,
    object: Box<dyn Object>,
    /// Whether the entry keeps the object, or its metadata alone.
    keep: bool,
    /// For tests, whose time is not the clock's.
    #[cfg(test)]
    seen: Option<Timestamp>,
}

/// The time, as entries note it.
fn now() -> u32 {
    seconds(Timestamp::now())
}

fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.as_second()).unwrap_or(0)
}

/// Stands for the revision while encoding. Random, so that no client can write it into an annotation and move the cut.
static MARK: LazyLock<String> = LazyLock::new(|| format!("@{}", uuid::Uuid::new_v4().simple()));

impl Draft {
    /// Encodes `object`; whatever resourceVersion it has is replaced at commit.
    pub fn new(object: &dyn Object) -> Draft {
        Draft { keep: false, ..Draft::keeping(object.clone_object()) }
    }

    /// The same, keeping the decoded form, so that readers need not decode again.
    pub fn of<T: Kind>(object: Arc<T>) -> Draft {
        Draft::keeping(Box::new(Arc::unwrap_or_clone(object)))
    }

    /// The same for an object whose kind is known only at run time.
    pub fn keeping(mut object: Box<dyn Object>) -> Draft {
        object.meta_mut().resource_version = Some(MARK.clone());
        let json = Bytes::from(object.to_json());
        let mark = MARK.as_bytes();
        let at = json.windows(mark.len()).position(|window| window == mark).expect("the mark was just encoded");
        object.meta_mut().managed_fields = None;
        Draft {
            before: json.slice(..at),
            after: json.slice(at + mark.len()..),
            // A copy is as small as can be, while every list that was parsed has room to grow: of a pod some KiB, for as long as it is.
            object: object.clone_object(),
            keep: true,
            #[cfg(test)]
            seen: None,
        }
    }

    /// The same, seen at this time.
    #[cfg(test)]
    pub(crate) fn seen(mut self, at: Timestamp) -> Draft {
        self.seen = Some(at);
        self
    }

    /// Bytes of JSON this will take, within a few.
    pub fn len(&self) -> usize {
        self.before.len() + self.after.len() + 20
    }

    /// Never true; there is no empty object.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The entry at `rev`.
    pub fn at(mut self, key: Key, rev: Rev) -> Entry {
        let number = rev.to_string();
        let mut json = BytesMut::with_capacity(self.len());
        json.put(self.before);
        json.put(number.as_bytes());
        json.put(self.after);
        self.object.meta_mut().resource_version = Some(number);
        let head = match self.keep {
            true => Head::Whole(Arc::from(self.object)),
            false => Head::Meta(Box::new(std::mem::take(self.object.meta_mut()))),
        };
        #[cfg(not(test))]
        let seen = now();
        #[cfg(test)]
        let seen = self.seen.map_or_else(now, seconds);
        Entry { key, rev, json: json.freeze(), head, seen, typed: OnceLock::new(), measured: OnceLock::new() }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({:?}, {} bytes)", self.object.meta().name, self.len())
    }
}
