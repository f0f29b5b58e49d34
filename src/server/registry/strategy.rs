//! What a resource kind tells the registry about itself.

use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{FieldError, Kind};

/// A printed cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Int(i64),
    /// A yes or no.
    Bool(bool),
    /// A number that is no integer.
    Number(f64),
    /// Nothing.
    Null,
}

/// One column of the server-side Table, as upstream's printers (`pkg/printers/internalversion/printers.go`).
pub struct Column<T> {
    /// Heading, such as `Ready`.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// OpenAPI format: `name` for the name column, else empty.
    pub format: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
    /// For `kubectl explain`-minded readers.
    pub description: &'static str,
    /// The cell, given the object and the present time (for ages).
    pub cell: fn(&T, jiff::Timestamp) -> Cell,
}

/// A subresource that a kind serves generically. Others (log, exec, binding, eviction, token, ...) are routes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// `/status`: writes change `status` (and metadata's labels, annotations as upstream) only.
    Status,
    /// `/scale`: an autoscaling/v1 Scale.
    Scale,
}

/// Facts of one resource kind.
pub struct Info {
    /// Singular name, such as `pod`.
    pub singular: &'static str,
    /// Short names, such as `po`.
    pub short: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Generic subresources.
    pub subresources: &'static [Subresource],
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Create only (`tokenreviews` and the like): nothing is stored.
    pub virtual_only: bool,
    /// Made when it is asked for (`componentstatuses`): read only, nothing is stored.
    pub computed: bool,
    /// Whether a PUT of a name that is not there creates it (upstream's `AllowCreateOnUpdate`).
    pub update_may_create: bool,
    /// Whether a deletion that is done at once answers with the object rather than with a Status (upstream's `ReturnDeletedObject`).
    pub returns_deleted: bool,
    /// Whether finalizers need no domain.
    pub plain_finalizers: bool,
}

impl Info {
    /// A namespaced kind with a status and a generation; change what differs with `..`.
    pub const NAMESPACED: Info = Info {
        singular: "",
        short: &[],
        categories: &[],
        namespaced: true,
        subresources: &[],
        generation: true,
        virtual_only: false,
        computed: false,
        update_may_create: false,
        returns_deleted: false,
        plain_finalizers: false,
    };
    /// A cluster-scoped kind.
    pub const CLUSTER: Info = Info { namespaced: false, ..Info::NAMESPACED };
}

/// The desired and observed replicas of a scalable object, for `/scale`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// `spec.replicas`.
    pub replicas: i32,
    /// `status.replicas`.
    pub observed: i32,
    /// `status.selector`, in string form.
    pub selector: String,
}

/// How one kind is defaulted, prepared, validated, printed. All pure. Mirrors upstream's `rest.RESTCreateUpdateStrategy`.
pub trait Strategy: Kind {
    /// Its facts.
    const INFO: Info;

    /// Fills in upstream's defaults (`pkg/apis/*/v1/defaults.go`). Must be idempotent. Runs after each decode of client input.
    fn apply_defaults(&mut self) {}

    /// Before creation: clears what clients may not set (`status`).
    fn prepare_create(&mut self) {}

    /// Before an update of the main resource: keeps the old `status`.
    fn prepare_update(&mut self, _old: &Self) {}

    /// Before an update of `/status`: keeps everything but `status`, taking `old`'s spec.
    fn prepare_status(&mut self, _old: &Self) {}

    /// Before the first deletion is decided on: adds finalizers of the kind's own, and says in the status that it ends.
    fn prepare_delete(&mut self, _now: &Time) {}

    /// Every violated rule. `old` on update. Metadata is validated by the registry, not here.
    fn validate(&self, _old: Option<&Self>) -> Vec<FieldError> {
        Vec::new()
    }

    /// Every violated rule of a `/status` update.
    fn validate_status(&self, _old: &Self) -> Vec<FieldError> {
        Vec::new()
    }

    /// Before a change through another subresource, such as a pod's `resize`: takes back what that may not change.
    fn prepare_subresource(&mut self, _old: &Self, _name: &str) {}

    /// Every violated rule of such a change.
    fn validate_subresource(&self, _old: &Self, _name: &str) -> Vec<FieldError> {
        Vec::new()
    }

    /// Whether a name is legal; the default is a DNS-1123 subdomain. Returns what is wrong.
    fn validate_name(name: &str) -> Result<(), String> {
        crate::api::names::subdomain(name)
    }

    /// Columns after Name; the registry adds Name first, unless one of them is called `Name` (events show it last,
    /// storage classes mark the default in it; its format is then `name`). Age is the kind's own to list.
    fn columns() -> &'static [Column<Self>] {
        &[]
    }

    /// Value of a selectable field beyond `metadata.name` and `metadata.namespace`. `None`: not selectable.
    fn field(&self, _path: &str) -> Option<String> {
        None
    }

    /// Names of the fields that [`Strategy::field`] knows.
    const FIELDS: &'static [&'static str] = &[];

    /// For `/scale`.
    fn scale(&self) -> Option<Scale> {
        None
    }

    /// For `/scale`.
    fn set_scale(&mut self, _replicas: i32) {}

    /// Whether spec (all but metadata and status) differs: then `generation` grows. The default compares the JSON less those two.
    fn spec_changed(&self, old: &Self) -> bool {
        let strip = |object: &Self| {
            let mut value = object.to_value();
            if let Some(map) = value.as_object_mut() {
                map.remove("metadata");
                map.remove("status");
            }
            value
        };
        strip(self) != strip(old)
    }

    /// Grace period of a deletion: `None` removes at once. Only pods answer otherwise.
    fn grace(&self, _requested: Option<i64>) -> Option<i64> {
        None
    }
}

/// For tables of kinds.
pub struct Of<T>(PhantomData<T>);
