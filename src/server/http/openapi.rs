//! OpenAPI documents: what kubectl reads for `explain`, for validation, and to know which parameters an operation takes.
//!
//! Words: a *document* is one of the v3 documents (one per group and version) or the v2 one (everything, as JSON or as the protobuf
//! messages of the gnostic library that clients parse). An *operation* is one verb on one path.
//!
//! Documents follow from the kinds alone; when a kind comes or goes, those that it is in are made again ([`Live`]). They are large (apps/v1: almost a
//! megabyte) and rarely asked for, so each is made on demand and kept compressed only; the hash in the index is of its content.
//!
//! Follows upstream's published `api/openapi-spec` and kube-openapi's handlers. Never: HTTP. Whoever serves these negotiates.

mod gnostic;
mod operations;
mod schemas;
mod swagger;
mod v3;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use schemars::{Schema, SchemaGenerator};
use sha2::{Digest, Sha256};

use crate::server::aggregation::{RemoteVersion, documents};
use crate::server::registry::strategy::Subresource;
use crate::server::registry::{KindRef, Registry, same_kinds};

/// Makes the schema of a kind.
pub type SchemaOf = Arc<dyn Fn(&mut SchemaGenerator) -> Schema + Send + Sync>;

/// What the documents say about one kind.
#[derive(Clone)]
pub struct KindDoc {
    /// API group, empty for core.
    pub group: Cow<'static, str>,
    /// Version, such as `v1`.
    pub version: Cow<'static, str>,
    /// `Pod`.
    pub kind: Cow<'static, str>,
    /// `PodList`.
    pub list_kind: Cow<'static, str>,
    /// `pods`.
    pub resource: Cow<'static, str>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Only created, never stored (reviews).
    pub virtual_only: bool,
    /// Only read.
    pub computed: bool,
    /// `status` and `scale`, where served.
    pub subresources: Vec<Subresource>,
    /// Its schema: `generator.subschema_for::<T>()`.
    pub schema: SchemaOf,
}

impl From<&KindRef> for KindDoc {
    fn from(kind: &KindRef) -> KindDoc {
        let (names, this) = (kind.names().clone(), kind.clone());
        KindDoc {
            group: names.group,
            version: names.version,
            kind: names.kind,
            list_kind: names.list_kind,
            resource: names.resource,
            namespaced: kind.info.namespaced,
            virtual_only: kind.info.virtual_only,
            computed: kind.info.computed,
            subresources: kind.info.subresources.clone(),
            schema: Arc::new(move |generator| this.schema(generator)),
        }
    }
}

impl KindDoc {
    /// `api/v1` or `apis/apps/v1`: the key in the index, and the path without its first slash.
    fn root(&self) -> String {
        if self.group.is_empty() { format!("api/{}", self.version) } else { format!("apis/{}/{}", self.group, self.version) }
    }
}

/// A document, compressed.
#[derive(Clone, Debug)]
pub struct Document {
    /// Hash of the uncompressed content, in hexadecimal, for `ETag` and for the index.
    pub hash: String,
    /// The content, with `Content-Encoding: gzip`.
    pub gzip: Bytes,
}

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// `/openapi/v2` as JSON.
    V2Json,
    /// `/openapi/v2` as protobuf.
    V2Protobuf,
    /// `/openapi/v3/` and this path, such as `apis/apps/v1`.
    V3(String),
}

/// A group version that another server serves: this one's kinds of it are not in the v2 document.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// `apis/GROUP/VERSION`.
    pub root: String,
    /// Its v2 document, where it is known.
    pub document: Option<Arc<documents::Document>>,
}

impl Elsewhere {
    /// Those of all remote APIServices, the most important first: that is whose names of definitions stay.
    pub fn of(mut remotes: Vec<RemoteVersion>) -> Vec<Elsewhere> {
        remotes.sort_by(|a, b| {
            let rank = |remote: &RemoteVersion| (Reverse(remote.group_priority), remote.group.clone(), Reverse(remote.version_priority));
            rank(a).cmp(&rank(b))
        });
        let one =
            |remote: RemoteVersion| Elsewhere { root: format!("apis/{}/{}", remote.group, remote.version), document: remote.document };
        remotes.into_iter().map(one).collect()
    }

    fn agrees(&self, other: &Elsewhere) -> bool {
        let documents = match (&self.document, &other.document) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one.agrees(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        documents && self.root == other.root
    }
}

/// All documents of a table of kinds.
pub struct Documents {
    kinds: Vec<KindDoc>,
    /// What `kinds` was made of, if anything.
    rows: Vec<KindRef>,
    /// What other servers serve, in the order in which it is merged into v2; v3 documents are had from where they are.
    elsewhere: Vec<Elsewhere>,
    /// What was asked for, compressed.
    made: Mutex<BTreeMap<Name, Document>>,
    /// Hashes of the documents of v3, for the index.
    hashes: Mutex<BTreeMap<String, String>>,
}

/// The documents of the kinds that a registry serves now.
pub struct Live {
    registry: Registry,
    present: Mutex<Arc<Documents>>,
}

impl Live {
    /// None made yet.
    pub fn new(registry: Registry) -> Live {
        Live { registry, present: Mutex::new(Arc::new(Documents::of(Vec::new()))) }
    }

    /// The documents of now; with what is served elsewhere, where that matters.
    fn now(&self, elsewhere: Option<Vec<Elsewhere>>) -> Arc<Documents> {
        let kinds = self.registry.kinds();
        let mut present = self.present.lock();
        let elsewhere = elsewhere.unwrap_or_else(|| present.elsewhere.clone());
        let same = |(one, other): (&Elsewhere, &Elsewhere)| one.agrees(other);
        let settled = present.elsewhere.len() == elsewhere.len() && present.elsewhere.iter().zip(&elsewhere).all(same);
        if !settled || !same_kinds(&present.rows, &kinds) {
            *present = Arc::new(Documents { elsewhere, ..present.changed(&kinds) });
        }
        present.clone()
    }

    /// `/openapi/v2` as JSON, with what is served elsewhere.
    pub fn v2_json(&self, elsewhere: Vec<Elsewhere>) -> Bytes {
        self.now(Some(elsewhere)).v2_json()
    }

    /// The same as gnostic protobuf.
    pub fn v2_protobuf(&self, elsewhere: Vec<Elsewhere>) -> Bytes {
        self.now(Some(elsewhere)).v2_protobuf()
    }

    /// `/openapi/v3`.
    pub fn v3_index(&self) -> Bytes {
        self.now(None).v3_index()
    }

    /// `/openapi/v3/PATH`, where PATH is such as `apis/apps/v1`.
    pub fn v3(&self, group_version_path: &str) -> Option<Bytes> {
        self.now(None).v3(group_version_path)
    }
}

impl Documents {
    /// The documents of these kinds.
    pub fn new(kinds: &[KindRef]) -> Documents {
        // What is measured is no row of the table, and stands after those that are.
        Documents { rows: kinds.to_vec(), ..Documents::of(kinds.iter().map(KindDoc::from).chain(super::usage::schema::kinds()).collect()) }
    }

    /// The documents of other kinds, with those of this that are the same.
    fn changed(&self, kinds: &[KindRef]) -> Documents {
        let fresh = Documents::new(kinds);
        let rows = |documents: &Documents, root: &str| -> Vec<KindRef> {
            let there = documents.kinds.iter().zip(&documents.rows).filter(|(kind, _)| kind.root() == root);
            there.map(|(_, row)| row.clone()).collect()
        };
        let same = |root: &String| same_kinds(&rows(self, root), &rows(&fresh, root));
        let hashes = self.hashes.lock().clone().into_iter().filter(|(root, _)| same(root)).collect();
        let made = self.made.lock().clone().into_iter().filter(|(name, _)| matches!(name, Name::V3(root) if same(root))).collect();
        Documents { made: Mutex::new(made), hashes: Mutex::new(hashes), ..fresh }
    }

    /// The documents of these kinds.
    pub fn of(kinds: Vec<KindDoc>) -> Documents {
        Documents { kinds, rows: Vec::new(), elsewhere: Vec::new(), made: Mutex::default(), hashes: Mutex::default() }
    }

    /// `/openapi/v2` as JSON.
    pub fn v2_json(&self) -> Bytes {
        self.plain(&Name::V2Json).expect("the v2 document always exists")
    }

    /// `/openapi/v2` as gnostic protobuf (`openapi.v2.Document`).
    pub fn v2_protobuf(&self) -> Bytes {
        self.plain(&Name::V2Protobuf).expect("the v2 document always exists")
    }

    /// `/openapi/v3`: the paths of all documents, with hashes.
    pub fn v3_index(&self) -> Bytes {
        self.make_index()
    }

    /// `/openapi/v3/PATH`, such as `apis/apps/v1`. `None` when no kind is served there.
    pub fn v3(&self, path: &str) -> Option<Bytes> {
        self.plain(&Name::V3(path.into()))
    }

    /// A document in compressed form. `None` when there is no such one.
    pub fn document(&self, name: &Name) -> Option<Document> {
        if let Some(made) = self.made.lock().get(name) {
            return Some(made.clone());
        }
        // Made without the lock: two who ask at once both do the work, and nobody waits for another's document.
        let document = compress(&self.make(name)?);
        Some(self.made.lock().entry(name.clone()).or_insert(document).clone())
    }

    fn plain(&self, name: &Name) -> Option<Bytes> {
        let document = self.document(name)?;
        let mut plain = Vec::new();
        GzDecoder::new(&document.gzip[..]).read_to_end(&mut plain).expect("what was compressed here decompresses");
        Some(plain.into())
    }

    fn make(&self, name: &Name) -> Option<Vec<u8>> {
        match name {
            Name::V2Json => Some(encode(&self.make_v2())),
            Name::V2Protobuf => Some(gnostic::encode(&self.make_v2())),
            Name::V3(path) => {
                let kinds: Vec<KindDoc> = self.kinds.iter().filter(|kind| kind.root() == *path).cloned().collect();
                (!kinds.is_empty()).then(|| encode(&v3::document(&kinds)))
            }
        }
    }

    fn make_v2(&self) -> serde_json::Value {
        let is_here = |kind: &&KindDoc| self.elsewhere.iter().all(|elsewhere| elsewhere.root != kind.root());
        let kinds: Vec<KindDoc> = self.kinds.iter().filter(is_here).cloned().collect();
        let mut whole = swagger::document(&kinds);
        self.elsewhere.iter().filter_map(|elsewhere| elsewhere.document.as_ref()).for_each(|document| document.merge_into(&mut whole));
        whole
    }

    fn make_index(&self) -> Bytes {
        let roots: BTreeSet<String> = self.kinds.iter().map(KindDoc::root).collect();
        let paths: serde_json::Map<_, _> = roots
            .into_iter()
            .filter_map(|root| {
                let known = self.hashes.lock().get(&root).cloned();
                let hash = match known {
                    Some(hash) => hash,
                    None => hash(&self.make(&Name::V3(root.clone()))?),
                };
                let url = format!("/openapi/v3/{root}?hash={hash}");
                self.hashes.lock().insert(root.clone(), hash);
                Some((root, serde_json::json!({ "serverRelativeURL": url })))
            })
            .collect();
        encode(&serde_json::json!({ "paths": paths })).into()
    }
}

fn encode(value: &serde_json::Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON tree has string keys only, so it always encodes")
}

/// Upper case, as upstream's.
fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02X}")).collect()
}

fn compress(content: &[u8]) -> Document {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let gzip = encoder.write_all(content).and_then(|()| encoder.finish()).expect("writing to memory can't fail");
    Document { hash: hash(content), gzip: gzip.into() }
}

#[cfg(test)]
#[path = "openapi/tests.rs"]
mod tests;
