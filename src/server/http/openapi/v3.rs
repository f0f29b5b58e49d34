//! The OpenAPI 3.0 document of one group and version.

use serde_json::{Map, Value, json};

use super::KindDoc;
use super::operations::{Parameter, Path, Payload, Verb, description, operation_id, paths};
use super::schemas::{DELETE_OPTIONS, PATCH, SCALE, STATUS, Schemas, list_name, reference};
use crate::api::protobuf;

/// Media types of answers, in upstream's order.
const ANSWERS: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];
/// Media types of answers that may be watches.
const STREAMS: &[&str] =
    &["application/json", "application/yaml", protobuf::MEDIA_TYPE, "application/json;stream=watch", protobuf::WATCH_MEDIA_TYPE];

/// Media types of the answers to a verb of a kind. Custom resources have no messages.
pub(super) fn answers(kind: &KindDoc, verb: &Verb) -> Vec<&'static str> {
    let all = if ["list", "watch", "watchlist"].contains(&verb.action) { STREAMS } else { ANSWERS };
    let messages = protobuf::knows(&api_version(&kind.group, &kind.version), &kind.kind);
    all.iter().copied().filter(|media| messages || !media.starts_with(protobuf::MEDIA_TYPE)).collect()
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

/// Media types of patches.
pub(super) const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// The document of kinds that share a group and version.
pub(super) fn document(kinds: &[KindDoc]) -> Value {
    let schemas = Schemas::of(kinds);
    let mut documented = Map::new();
    for (kind, name) in kinds.iter().zip(&schemas.kinds) {
        for path in paths(kind) {
            let mut item = Map::new();
            item.insert("parameters".into(), path.parameters.iter().map(parameter).collect());
            for verb in path.verbs {
                item.insert(verb.method.into(), operation(kind, name, &path, verb));
            }
            documented.insert(path.path, item.into());
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": VERSION },
        "paths": documented,
        "components": { "schemas": schemas.all },
    })
}

/// The API's version.
pub(super) const VERSION: &str = "v1.37.0";

fn parameter(parameter: &Parameter) -> Value {
    let mut value = json!({
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": { "type": parameter.kind, "uniqueItems": true },
    });
    if parameter.place == "path" {
        value["required"] = true.into();
    }
    value
}

/// Schema name of what goes in or comes out.
pub(super) fn payload(payload: Payload, kind: &KindDoc, name: &str, path: &Path) -> Option<String> {
    match payload {
        Payload::None => None,
        Payload::Object if path.scale => Some(SCALE.into()),
        Payload::Object => Some(name.into()),
        Payload::List => Some(list_name(kind, name)),
        Payload::Patch => Some(PATCH.into()),
        Payload::DeleteOptions => Some(DELETE_OPTIONS.into()),
        Payload::Status => Some(STATUS.into()),
    }
}

/// Group, version and kind that an operation is about.
pub(super) fn identity(kind: &KindDoc, path: &Path) -> Value {
    match path.scale {
        true => json!({ "group": "autoscaling", "kind": "Scale", "version": "v1" }),
        false => json!({ "group": kind.group, "kind": kind.kind, "version": kind.version }),
    }
}

/// `apps_v1`, by which documentation groups operations.
pub(super) fn tag(kind: &KindDoc) -> String {
    let group = kind.group.strip_suffix(".k8s.io").unwrap_or(&kind.group).replace('.', "");
    format!("{}_{}", if group.is_empty() { "core" } else { &group }, kind.version)
}

/// The words for a status code.
pub(super) fn meaning(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        401 => "Unauthorized",
        _ => "OK",
    }
}

fn content(media: &[&str], name: &str) -> Value {
    media.iter().map(|media| ((*media).to_owned(), json!({ "schema": { "$ref": reference(name) } }))).collect::<Map<_, _>>().into()
}

fn operation(kind: &KindDoc, name: &str, path: &Path, verb: &Verb) -> Value {
    let mut responses = Map::new();
    for code in verb.codes {
        let answer = payload(verb.answer, kind, name, path).map(|name| content(&answers(kind, verb), &name));
        responses.insert(code.to_string(), json!({ "description": meaning(*code), "content": answer }));
    }
    responses.insert("401".into(), json!({ "description": meaning(401) }));
    let mut value = json!({
        "description": description(kind, path, verb),
        "operationId": operation_id(kind, path, verb),
        "tags": [tag(kind)],
        "responses": responses,
        "x-kubernetes-action": verb.action,
        "x-kubernetes-group-version-kind": identity(kind, path),
    });
    if !verb.parameters.is_empty() {
        value["parameters"] = verb.parameters.iter().map(parameter).collect();
    }
    if let Some(body) = payload(verb.body, kind, name, path) {
        let media = if verb.body == Payload::Patch { PATCHES } else { &["*/*"] };
        let mut body = json!({ "content": content(media, &body) });
        if verb.body != Payload::DeleteOptions {
            body["required"] = true.into();
        }
        value["requestBody"] = body;
    }
    value
}
