//! Which operations a kind offers, from tables; both versions of the documents are written from this.

use super::KindDoc;
use crate::server::registry::strategy::Subresource;

/// Where a parameter stands and what it means.
pub(super) struct Parameter {
    pub name: &'static str,
    /// `query` or `path`.
    pub place: &'static str,
    /// JSON type.
    pub kind: &'static str,
    pub description: &'static str,
}

macro_rules! parameters {
    ($($constant:ident = $name:literal $place:literal $kind:literal $description:literal;)*) => {
        $(const $constant: Parameter = Parameter { name: $name, place: $place, kind: $kind, description: $description };)*
    };
}

parameters! {
    NAME = "name" "path" "string" "name of the object";
    NAMESPACE = "namespace" "path" "string" "object name and auth scope, such as for teams and projects";
    PRETTY = "pretty" "query" "string" "If 'true', the output is indented for people to read.";
    DRY_RUN = "dryRun" "query" "string" "When 'All', every stage of the request is carried out but nothing is stored.";
    FIELD_MANAGER = "fieldManager" "query" "string" "Name of the actor that makes these changes, at most 128 printable characters.";
    FIELD_VALIDATION = "fieldValidation" "query" "string" "What becomes of unknown or duplicate fields: 'Ignore', 'Warn' or 'Strict'.";
    FORCE = "force" "query" "boolean" "Whether an apply takes over fields that others own. Only for apply patches.";
    GRACE = "gracePeriodSeconds" "query" "integer" "Seconds until the object is removed; zero: at once. The default depends on the kind.";
    ORPHAN = "orphanDependents" "query" "boolean" "Deprecated: use propagationPolicy. Whether dependents are orphaned.";
    PROPAGATION = "propagationPolicy" "query" "string" "What becomes of dependents: 'Orphan', 'Background' or 'Foreground'.";
    BOOKMARKS = "allowWatchBookmarks" "query" "boolean" "Whether a watch may send events of type BOOKMARK.";
    CONTINUE = "continue" "query" "string" "The token that the previous page of this list came with.";
    FIELD_SELECTOR = "fieldSelector" "query" "string" "Restricts the objects by their fields. Defaults to everything.";
    LABEL_SELECTOR = "labelSelector" "query" "string" "Restricts the objects by their labels. Defaults to everything.";
    LIMIT = "limit" "query" "integer" "Most objects to return in one page of a list.";
    RESOURCE_VERSION = "resourceVersion" "query" "string" "Which version of the collection to serve; a watch begins after it.";
    VERSION_MATCH = "resourceVersionMatch" "query" "string" "How resourceVersion applies to a list: 'Exact' or 'NotOlderThan'.";
    INITIAL_EVENTS = "sendInitialEvents" "query" "boolean" "Whether a watch begins with the present objects and a bookmark.";
    TIMEOUT = "timeoutSeconds" "query" "integer" "How long the call may last.";
    WATCH = "watch" "query" "boolean" "Whether to stream changes instead of listing.";
}

const CREATE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const UPDATE: &[Parameter] = CREATE;
const PATCH: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const DELETE: &[Parameter] = &[DRY_RUN, GRACE, ORPHAN, PROPAGATION];
const LIST: &[Parameter] =
    &[BOOKMARKS, CONTINUE, FIELD_SELECTOR, LABEL_SELECTOR, LIMIT, RESOURCE_VERSION, VERSION_MATCH, INITIAL_EVENTS, TIMEOUT, WATCH];
const DELETE_COLLECTION: &[Parameter] = &[
    CONTINUE,
    DRY_RUN,
    FIELD_SELECTOR,
    GRACE,
    LABEL_SELECTOR,
    LIMIT,
    ORPHAN,
    PROPAGATION,
    RESOURCE_VERSION,
    VERSION_MATCH,
    INITIAL_EVENTS,
    TIMEOUT,
];
const NAMED: &[Parameter] = &[NAME, PRETTY];
const NAMED_IN_NAMESPACE: &[Parameter] = &[NAME, NAMESPACE, PRETTY];
const IN_NAMESPACE: &[Parameter] = &[NAMESPACE, PRETTY];
const UNNAMED: &[Parameter] = &[PRETTY];

/// What goes in, or comes out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    None,
    /// The object of the kind, or of the subresource's kind.
    Object,
    /// A list of them.
    List,
    /// Any of the patch types.
    Patch,
    DeleteOptions,
    Status,
}

/// One verb.
pub(super) struct Verb {
    /// HTTP method, in lower case.
    pub method: &'static str,
    /// `x-kubernetes-action`.
    pub action: &'static str,
    /// First word of the operation's id.
    pub word: &'static str,
    pub parameters: &'static [Parameter],
    pub body: Payload,
    pub answer: Payload,
    /// Status codes of success.
    pub codes: &'static [u16],
}

const fn verb(method: &'static str, action: &'static str, word: &'static str) -> Verb {
    Verb { method, action, word, parameters: &[], body: Payload::None, answer: Payload::Object, codes: &[200] }
}

const GET_ONE: Verb = verb("get", "get", "read");
const PUT_ONE: Verb = Verb { parameters: UPDATE, body: Payload::Object, codes: &[200, 201], ..verb("put", "put", "replace") };
const PATCH_ONE: Verb = Verb { parameters: PATCH, body: Payload::Patch, codes: &[200, 201], ..verb("patch", "patch", "patch") };
const DELETE_ONE: Verb = Verb {
    parameters: DELETE,
    body: Payload::DeleteOptions,
    answer: Payload::Status,
    codes: &[200, 202],
    ..verb("delete", "delete", "delete")
};
const GET_ALL: Verb = Verb { parameters: LIST, answer: Payload::List, ..verb("get", "list", "list") };
const POST_ONE: Verb = Verb { parameters: CREATE, body: Payload::Object, codes: &[200, 201, 202], ..verb("post", "post", "create") };
const DELETE_ALL: Verb = Verb {
    parameters: DELETE_COLLECTION,
    body: Payload::DeleteOptions,
    answer: Payload::Status,
    ..verb("delete", "deletecollection", "deleteCollection")
};

const COLLECTION: &[Verb] = &[GET_ALL, POST_ONE, DELETE_ALL];
const REVIEWS: &[Verb] = &[POST_ONE];
const EVERYWHERE: &[Verb] = &[GET_ALL];
const READ: &[Verb] = &[GET_ONE];
const ITEM: &[Verb] = &[GET_ONE, PUT_ONE, PATCH_ONE, DELETE_ONE];
const SUBRESOURCE: &[Verb] = &[GET_ONE, PUT_ONE, PATCH_ONE];

/// One path with its operations.
pub(super) struct Path {
    pub path: String,
    /// Last word of the operations' ids.
    pub suffix: &'static str,
    pub parameters: &'static [Parameter],
    pub verbs: &'static [Verb],
    /// Whether objects are Scales instead of the kind's own.
    pub scale: bool,
}

/// All paths of a kind.
pub(super) fn paths(kind: &KindDoc) -> Vec<Path> {
    let root = format!("/{}", kind.root());
    let (collection, in_collection, in_item) = match kind.namespaced {
        true => (format!("{root}/namespaces/{{namespace}}/{}", kind.resource), IN_NAMESPACE, NAMED_IN_NAMESPACE),
        false => (format!("{root}/{}", kind.resource), UNNAMED, NAMED),
    };
    let path = |path: String, suffix, parameters, verbs| Path { path, suffix, parameters, verbs, scale: false };
    if kind.virtual_only {
        return vec![path(collection, "", in_collection, REVIEWS)];
    }
    let item = format!("{collection}/{{name}}");
    let (all, one) = if kind.computed { (EVERYWHERE, READ) } else { (COLLECTION, ITEM) };
    let mut paths = vec![path(collection, "", in_collection, all), path(item.clone(), "", in_item, one)];
    if kind.namespaced {
        paths.push(path(format!("{root}/{}", kind.resource), "ForAllNamespaces", UNNAMED, EVERYWHERE));
    }
    for subresource in &kind.subresources {
        paths.push(match subresource {
            Subresource::Status => path(format!("{item}/status"), "Status", in_item, SUBRESOURCE),
            Subresource::Scale => Path { scale: true, ..path(format!("{item}/scale"), "Scale", in_item, SUBRESOURCE) },
        });
    }
    paths
}

/// Upstream's operation id, such as `patchAppsV1NamespacedDeploymentStatus`.
pub(super) fn operation_id(kind: &KindDoc, path: &Path, verb: &Verb) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
    };
    let group = kind.group.strip_suffix(".k8s.io").unwrap_or(&kind.group);
    let group: String = if group.is_empty() { "Core".into() } else { group.split('.').map(capital).collect() };
    let scope = if kind.namespaced && path.suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
    let (word, collection) = match verb.word {
        "deleteCollection" => ("delete", "Collection"),
        word => (word, ""),
    };
    format!("{word}{group}{}{collection}{scope}{}{}", capital(&kind.version), kind.kind, path.suffix)
}

/// What an operation does, in words.
pub(super) fn description(kind: &KindDoc, path: &Path, verb: &Verb) -> String {
    let of = if path.suffix == "Status" || path.suffix == "Scale" {
        format!("{} of the specified", path.suffix.to_lowercase())
    } else {
        "the specified".into()
    };
    match verb.action {
        "list" => format!("list or watch objects of kind {}", kind.kind),
        "post" => format!("create {} {}", if "AEIOU".contains(&kind.kind[..1]) { "an" } else { "a" }, kind.kind),
        "deletecollection" => format!("delete collection of {}", kind.kind),
        "patch" => format!("partially update {of} {}", kind.kind),
        _ => format!("{} {of} {}", verb.word, kind.kind),
    }
}
