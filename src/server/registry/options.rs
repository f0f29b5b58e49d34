//! What goes into the verbs and what comes out: options, pages, events. Plain data, no behaviour.
use std::sync::Arc;

use bytes::Bytes;

use crate::api::selector::{FieldSelector, LabelSelector};
use crate::api::{Rev, Status};
use crate::server::store::Entry;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Such as `system:node:n1`.
    pub name: String,
    /// Uid, if the authenticator knows one.
    pub uid: String,
    /// Such as `system:masters`.
    pub groups: Vec<String>,
    /// Further facts (pod name of a bound token, ...).
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

impl User {
    /// The node whose agent this is, if it is one (kubernetes `pkg/auth/nodeidentifier`).
    pub fn node(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
        self.groups.iter().any(|group| group == "system:nodes").then_some(name)
    }
}

/// How unknown and duplicate fields are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Silently dropped.
    Ignore,
    /// Dropped, with a warning header (the default, as upstream).
    #[default]
    Warn,
    /// Refused.
    Strict,
}

impl FieldValidation {
    /// As clients write it.
    pub fn as_str(self) -> &'static str {
        match self {
            FieldValidation::Ignore => "Ignore",
            FieldValidation::Warn => "Warn",
            FieldValidation::Strict => "Strict",
        }
    }
}

/// What a write carries beside its object.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Who.
    pub user: Arc<User>,
    /// Do all but the commit.
    pub dry_run: bool,
    /// For managedFields.
    pub field_manager: String,
    /// Unknown fields.
    pub field_validation: FieldValidation,
    /// The subresource that is written, such as `status` or `binding`; empty for the object itself.
    pub subresource: std::borrow::Cow<'static, str>,
}

/// The result of a write, with the warnings to send along.
pub struct Written {
    /// The entry as stored (or as it would be, for a dry run).
    pub entry: Arc<Entry>,
    /// Whether it was created (201) or existed (200).
    pub created: bool,
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
    /// What admission adds to the audit log, by key.
    pub annotations: Vec<(String, String)>,
}

/// Which part of an object a request addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object.
    Main,
    /// `/status`.
    Status,
    /// What the subresource named by the options changes of it (`ephemeralcontainers`, `resize`).
    Subresource,
}

/// A patch body with its type.
pub enum Patch {
    /// RFC 6902.
    Json(Bytes),
    /// RFC 7386.
    Merge(Bytes),
    /// Strategic merge.
    Strategic(Bytes),
    /// Server-side apply (JSON or YAML), with force.
    Apply {
        /// The applied configuration.
        body: Bytes,
        /// Take over fields that others own.
        force: bool,
    },
}

/// `DeleteOptions`, decoded.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds; `None`: the kind's default.
    pub grace: Option<i64>,
    /// `Background`, `Foreground`, `Orphan`; `None`: background.
    pub propagation: Option<String>,
    /// Precondition.
    pub uid: Option<String>,
    /// Precondition.
    pub rev: Option<Rev>,
}

/// How a request body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
    /// A document of [`crate::api::protobuf`].
    Protobuf,
}

/// A request body as it came.
#[derive(Clone, Debug)]
pub struct Body {
    /// The bytes.
    pub bytes: Bytes,
    /// How they are to be read.
    pub format: Format,
}

/// `ListOptions` of a list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Label selector.
    pub labels: LabelSelector,
    /// Field selector.
    pub fields: FieldSelector,
    /// Page size; 0: all.
    pub limit: usize,
    /// Token of the previous page.
    pub continue_token: Option<String>,
    /// `resourceVersion`, if given.
    pub rev: Option<Rev>,
    /// `resourceVersionMatch`, if given (`Exact`, `NotOlderThan`).
    pub rev_match: Option<String>,
}

/// One page of a list.
pub struct List {
    /// The snapshot's revision.
    pub rev: Rev,
    /// In key order.
    pub items: Vec<Arc<Entry>>,
    /// For the next page.
    pub continue_token: Option<String>,
    /// How many are left, where known.
    pub remaining: Option<usize>,
}

/// One watch event after selectors: an object entering the selection is ADDED, leaving it is DELETED.
pub enum WatchEvent {
    /// `ADDED`.
    Added(Arc<Entry>),
    /// `MODIFIED`.
    Modified(Arc<Entry>),
    /// `DELETED`.
    Deleted(Arc<Entry>),
    /// `BOOKMARK`: everything up to this revision was sent. `initial_end`: end of `sendInitialEvents`.
    Bookmark {
        /// How far.
        rev: Rev,
        /// Whether this ends the initial events.
        initial_end: bool,
    },
    /// `ERROR` 410: list again. The stream ends.
    Expired(Status),
    /// The server is closing. The stream ends.
    Closed,
}

/// `ListOptions` of a watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Label selector.
    pub labels: LabelSelector,
    /// Field selector.
    pub fields: FieldSelector,
    /// Start after this revision; `None` or 0: send the present state as ADDED first.
    pub rev: Option<Rev>,
    /// Bookmarks wanted (one a minute, and after initial events).
    pub bookmarks: bool,
    /// `sendInitialEvents`.
    pub initial_events: bool,
}

/// What became of a deletion.
pub enum Deleted {
    /// Gone; the last state.
    Gone(Arc<Entry>),
    /// Marked (finalizers or grace period pending); the present state.
    Pending(Arc<Entry>),
}
