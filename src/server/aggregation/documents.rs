//! OpenAPI 2.0 documents of remote servers: fetched, cut to what they are asked for, and merged into this server's own.
//!
//! Words: a document is *cut* when it holds only the paths of one group version and the definitions that these need. Definitions of two
//! servers *agree* when they are equal but for the kinds that they say they stand for.
//!
//! Follows `kube-aggregator/pkg/controllers/openapi/aggregator` and kube-openapi's `pkg/aggregator`, which cuts to a group where this cuts
//! to a version: another server may have the rest. Parameters that a document shares are put where they are used, as this server's own
//! document has them. Never: trusts a document further than that it is JSON of bounded size; what does not fit is left out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{StatusCode, header};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde_json::{Map, Value, json};

use super::{peer, remote};
use crate::server::outbound::Outbound;

const PATH: &str = "/openapi/v2";
const DEFINITION: &str = "#/definitions/";
const PARAMETER: &str = "#/parameters/";
const KINDS: &str = "x-kubernetes-group-version-kind";

/// A remote server's document, cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// By which the server is asked whether it changed, if it gave one.
    etag: Option<String>,
    /// `paths` and `definitions`, as JSON; compact, since it is kept for long and rarely read.
    content: Bytes,
}

impl Document {
    /// Whether both say the same.
    pub fn agrees(&self, other: &Document) -> bool {
        self.content == other.content
    }

    /// Puts it into another document.
    pub fn merge_into(&self, whole: &mut Value) {
        if let Ok(cut) = serde_json::from_slice(&self.content) {
            merge(whole, cut);
        }
    }
}

/// What asking for a document came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is this now.
    New(Document),
    /// There is none.
    Missing,
    /// It is as before, or can't be had now: what was known stays.
    Unchanged,
}

/// Asks the server behind `service` for its document, of which `before` is known.
pub(super) async fn fetch(outbound: &Outbound, service: &APIService, before: Option<&Document>) -> Answer {
    let spec = service.spec.clone().unwrap_or_default();
    let (group, version) = (spec.group.unwrap_or_default(), spec.version.unwrap_or_default());
    let Ok(at) = peer(service, PATH) else { return Answer::Unchanged };
    let known = before.and_then(|before| before.etag.as_deref());
    let answer = match remote::fetch_unless(outbound, &at, "application/json", known).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(group, version, %error, "an extension server's OpenAPI document was not fetched");
            return Answer::Unchanged;
        }
    };
    match answer.status() {
        StatusCode::NOT_FOUND => Answer::Missing,
        StatusCode::OK => {
            let etag = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let cut = serde_json::from_slice(answer.body()).ok().and_then(|document| cut(document, &group, &version));
            cut.map_or(Answer::Missing, |cut| Answer::New(Document { etag, content: cut.to_string().into() }))
        }
        _ => Answer::Unchanged,
    }
}

/// Only the paths of this group version, and what they need. `None` when there are no such paths.
fn cut(document: Value, group: &str, version: &str) -> Option<Value> {
    let root = format!("/apis/{group}/{version}/");
    let Value::Object(mut document) = document else { return None };
    let parameters = document.remove("parameters").unwrap_or_default();
    let Some(Value::Object(mut paths)) = document.remove("paths") else { return None };
    paths.retain(|path, item| path.starts_with(&root) && item.is_object());
    if paths.is_empty() {
        return None;
    }
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        put_parameters(item, &parameters);
        item.values_mut().filter_map(Value::as_object_mut).for_each(|operation| put_parameters(operation, &parameters));
    }
    let mut paths = Value::Object(paths);
    let mut definitions = match document.remove("definitions") {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    };
    let used = used(&mut paths, &mut definitions);
    definitions.retain(|name, _| used.contains(name));
    Some(json!({"paths": paths, "definitions": definitions}))
}

/// Puts shared parameters in the place of what refers to them; a reference to none is left out.
fn put_parameters(owner: &mut Map<String, Value>, shared: &Value) {
    let Some(parameters) = owner.get_mut("parameters").and_then(Value::as_array_mut) else { return };
    parameters.retain_mut(|parameter| {
        let Some(reference) = parameter.get("$ref").and_then(Value::as_str) else { return true };
        let Some(found) = reference.strip_prefix(PARAMETER).and_then(|name| shared.get(name)) else { return false };
        *parameter = found.clone();
        true
    });
}

/// Names of the definitions that these paths need, directly or not.
fn used(paths: &mut Value, definitions: &mut Map<String, Value>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut fresh = Vec::new();
    references(paths, &mut |name| fresh.push(name.to_owned()));
    while let Some(name) = fresh.pop() {
        let Some(definition) = definitions.get_mut(&name) else { continue };
        if used.insert(name) {
            references(definition, &mut |name| fresh.push(name.to_owned()));
        }
    }
    used
}

/// Shows the name in each reference to a definition to `see`, which may change it.
fn references(value: &mut Value, see: &mut impl FnMut(&mut String)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| references(item, see)),
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if key == "$ref" => {
                        if let Some(mut name) = text.strip_prefix(DEFINITION).map(str::to_owned) {
                            see(&mut name);
                            *text = format!("{DEFINITION}{name}");
                        }
                    }
                    member => references(member, see),
                }
            }
        }
        _ => {}
    }
}

/// Puts a cut document into a whole one. Paths that are there stay; a definition that does not agree with the one of its name gets
/// another name.
fn merge(whole: &mut Value, cut: Value) {
    let Value::Object(mut cut) = cut else { return };
    let mut take = |field: &str| match cut.remove(field) {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let (mut paths, mut definitions) = (take("paths"), take("definitions"));
    let Some(present) = whole["paths"].as_object() else { return };
    paths.retain(|path, _| !present.contains_key(path));
    let mut paths = Value::Object(paths);
    let used = used(&mut paths, &mut definitions);
    definitions.retain(|name, _| used.contains(name));
    let Some(known) = whole["definitions"].as_object() else { return };
    let renames = renames(known, &definitions);
    let mut rename = |name: &mut String| {
        if let Some(new) = renames.get(name) {
            name.clone_from(new);
        }
    };
    references(&mut paths, &mut rename);
    definitions.values_mut().for_each(|definition| references(definition, &mut rename));
    if let (Some(into), Value::Object(paths)) = (whole["paths"].as_object_mut(), paths) {
        into.extend(paths);
    }
    let Some(into) = whole["definitions"].as_object_mut() else { return };
    for (mut name, definition) in definitions {
        rename(&mut name);
        match into.get_mut(&name) {
            Some(present) => join_kinds(present, &definition),
            None => drop(into.insert(name, definition)),
        }
    }
}

/// New names for those that have another meaning already: the first of `NAME_v2`, `NAME_v3`, ... that is free, or agrees.
fn renames(known: &Map<String, Value>, definitions: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut renames: BTreeMap<String, String> = BTreeMap::new();
    for (name, definition) in definitions {
        let means_another = |name: &str| known.get(name).is_some_and(|present| !agree(present, definition));
        if !means_another(name) {
            continue;
        }
        let is_taken = |new: &String| means_another(new) || definitions.contains_key(new);
        // Endless, while what is taken is not.
        let new = (2u64..).map(|number| format!("{name}_v{number}")).find(|new| !is_taken(new));
        renames.extend(new.map(|new| (name.clone(), new)));
    }
    renames
}

fn agree(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let rest = |of: &Map<String, Value>| of.keys().filter(|key| *key != KINDS).count();
    rest(one) == rest(other) && one.iter().all(|(key, value)| key == KINDS || other.get(key) == Some(value))
}

/// Adds the kinds that a definition stands for elsewhere.
fn join_kinds(present: &mut Value, other: &Value) {
    let (Some(present), Some(more)) = (present.as_object_mut(), other.get(KINDS).and_then(Value::as_array)) else { return };
    if let Some(kinds) = present.entry(KINDS).or_insert_with(|| json!([])).as_array_mut() {
        let fresh: Vec<Value> = more.iter().filter(|kind| !kinds.contains(kind)).cloned().collect();
        kinds.extend(fresh);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refer(name: &str) -> Value {
        json!({"$ref": format!("#/definitions/{name}")})
    }

    #[test]
    fn only_what_is_asked_for_is_kept() {
        let get = |name: &str| {
            json!({"get": {"parameters": [{"$ref": "#/parameters/p"}, {"$ref": "#/parameters/lost"}],
            "responses": {"200": {"schema": refer(name)}}}, "parameters": [{"name": "own"}]})
        };
        let document = json!({
            "paths": {"/apis/a.io/v1/things": get("Thing"), "/apis/a.io/v10/things": get("Other"), "/apis/a.io/": get("Group"), "/version/": {}},
            "parameters": {"p": {"name": "pretty", "in": "query"}},
            "definitions": {
                "Thing": {"properties": {"spec": refer("Spec"), "missing": refer("Missing")}},
                "Spec": {"items": refer("Thing"), "description": "#/definitions/Group"},
                "Other": {}, "Group": {},
            },
        });
        let cut = cut(document.clone(), "a.io", "v1").unwrap();
        assert_eq!(cut["paths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/apis/a.io/v1/things"]);
        let item = &cut["paths"]["/apis/a.io/v1/things"];
        assert_eq!(item["get"]["parameters"], json!([{"name": "pretty", "in": "query"}]));
        assert_eq!(item["parameters"], json!([{"name": "own"}]));
        let mut names: Vec<_> = cut["definitions"].as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["Spec", "Thing"]);
        for (document, group) in [(document, "b.io"), (json!([]), "a.io"), (json!({"paths": 1}), "a.io"), (Value::Null, "a.io")] {
            assert_eq!(super::cut(document, group, "v1"), None);
        }
        let alone = json!({"paths": {"/apis/a.io/v1/": {"get": 1, "parameters": "x"}}, "definitions": 7});
        assert_eq!(super::cut(alone.clone(), "a.io", "v1"), Some(json!({"paths": alone["paths"], "definitions": {}})));
    }

    #[test]
    fn documents_are_merged() {
        let own = json!({
            "swagger": "2.0",
            "paths": {"/apis/own/v1/": {"get": 1}},
            "definitions": {
                "Same": {"type": "object", "x-kubernetes-group-version-kind": [{"kind": "A"}]},
                "Meta": {"type": "object"},
                "Meta_v2": {"type": "string"},
                "Twice": {"type": "a"},
                "Twice_v2": {"type": "b"},
            },
        });
        let theirs = json!({
            "paths": {"/apis/own/v1/": {"get": 2, "x": refer("Unused")}, "/apis/a.io/v1/": {"get": [refer("Same"), refer("Thing")]}},
            "definitions": {
                "Same": {"type": "object", "x-kubernetes-group-version-kind": [{"kind": "A"}, {"kind": "B"}]},
                "Meta": {"type": "array", "items": refer("Twice")},
                "Meta_v3": {"type": "another"},
                "Twice": {"type": "b"},
                "Thing": {"properties": {"meta": refer("Meta"), "more": refer("Meta_v3")}},
                "Unused": {},
            },
        });
        let mut merged = own.clone();
        merge(&mut merged, theirs.clone());
        assert_eq!(merged["paths"], json!({"/apis/own/v1/": {"get": 1}, "/apis/a.io/v1/": {"get": [refer("Same"), refer("Thing")]}}));
        let mut want = own["definitions"].clone();
        want["Same"]["x-kubernetes-group-version-kind"] = json!([{"kind": "A"}, {"kind": "B"}]);
        want["Meta_v3"] = json!({"type": "another"});
        // `_v2` means something else, `_v3` is a name of theirs.
        want["Meta_v4"] = json!({"type": "array", "items": refer("Twice_v2")});
        want["Thing"] = json!({"properties": {"meta": refer("Meta_v4"), "more": refer("Meta_v3")}});
        assert_eq!(merged["definitions"], want);
        // Once more changes nothing: its paths are there.
        let again = merged.clone();
        merge(&mut merged, theirs);
        assert_eq!(merged, again);
    }
}
