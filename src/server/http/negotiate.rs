//! Content types: what a client accepts, and what it sends.
//!
//! Words: the *encoding* is JSON or YAML; the *shape* is the object itself, a Table of it, or only its metadata.
//!
//! Protobuf is neither written nor read yet: a client that also accepts JSON (all do) gets JSON, any other a 406; bodies get a 415.
//! Follows upstream's `endpoints/handlers/negotiation/negotiate.go`.

use crate::api::Status;

/// How bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
}

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The object, or the list.
    #[default]
    Whole,
    /// A `meta.k8s.io/v1` Table.
    Table,
    /// `PartialObjectMetadata`, or a list of them.
    Metadata,
}

/// The chosen form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// How.
    pub encoding: Encoding,
    /// What.
    pub shape: Shape,
}

/// One clause of an `Accept` header.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause<'a> {
    /// `application/json`, lower case.
    pub media: String,
    /// Parameters, in order.
    pub params: Vec<(&'a str, &'a str)>,
    /// Weight.
    pub quality: f32,
}

impl Clause<'_> {
    /// The value of a parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(k, _)| *k == name).map(|(_, v)| *v)
    }
}

/// The clauses of an `Accept` header, best first; an empty header accepts anything.
pub fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let accept = if accept.trim().is_empty() { "*/*" } else { accept };
    let mut clauses: Vec<Clause<'_>> = accept
        .split(',')
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let params: Vec<_> = parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim().trim_matches('"'))).collect();
            let quality = params.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok()).unwrap_or(1.0);
            Clause { media, params, quality }
        })
        .filter(|clause| clause.quality > 0.0)
        .collect();
    // Stable: equal weights keep the client's order.
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

fn encoding(media: &str) -> Option<Encoding> {
    match media {
        "application/json" | "application/*" | "*/*" => Some(Encoding::Json),
        "application/yaml" => Some(Encoding::Yaml),
        _ => None,
    }
}

fn shape(clause: &Clause<'_>) -> Option<Shape> {
    let Some(wanted) = clause.param("as") else { return Some(Shape::Whole) };
    let ours = clause.param("g").is_none_or(|g| g == "meta.k8s.io") && clause.param("v").is_none_or(|v| v == "v1");
    match wanted {
        "Table" if ours => Some(Shape::Table),
        "PartialObjectMetadata" | "PartialObjectMetadataList" if ours => Some(Shape::Metadata),
        _ => None,
    }
}

/// The form for an object, a list or a watch.
pub fn negotiate(accept: &str) -> Result<Form, Status> {
    let found = clauses(accept).iter().find_map(|c| Some(Form { encoding: encoding(&c.media)?, shape: shape(c)? }));
    found.ok_or_else(not_acceptable)
}

/// The encoding for what has one shape only (discovery, errors, scale).
pub fn negotiate_plain(accept: &str) -> Result<Encoding, Status> {
    clauses(accept).iter().filter(|c| c.param("as").is_none()).find_map(|c| encoding(&c.media)).ok_or_else(not_acceptable)
}

fn not_acceptable() -> Status {
    Status::not_acceptable("only the following media types are accepted: application/json, application/yaml")
}

fn media(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a body of this type is YAML (else JSON).
pub fn body_is_yaml(content_type: &str) -> Result<bool, Status> {
    match media(content_type).as_str() {
        "" | "application/json" => Ok(false),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(true),
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: application/json, application/yaml"
        ))),
    }
}

/// The kind of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Strategic merge.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// Which patch a body of this type is.
pub fn patch_type(content_type: &str) -> Result<PatchType, Status> {
    match media(content_type).as_str() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
             application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        use {Encoding::*, Shape::*};
        for (accept, want) in [
            ("", Some((Json, Whole))),
            ("*/*", Some((Json, Whole))),
            ("application/json", Some((Json, Whole))),
            ("application/yaml", Some((Yaml, Whole))),
            ("application/vnd.kubernetes.protobuf, application/json", Some((Json, Whole))),
            ("application/vnd.kubernetes.protobuf,*/*", Some((Json, Whole))),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/html", None),
            (kubectl, Some((Json, Table))),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Some((Json, Whole))),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", None),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some((Json, Metadata))),
            ("application/json;q=0.5,application/yaml", Some((Yaml, Whole))),
            ("application/json;q=0", None),
        ] {
            let got = negotiate(accept).ok().map(|form| (form.encoding, form.shape));
            assert_eq!(got, want, "{accept:?}");
        }
    }

    #[test]
    fn content_types() {
        assert_eq!(body_is_yaml(""), Ok(false));
        assert_eq!(body_is_yaml("application/json; charset=utf-8"), Ok(false));
        assert_eq!(body_is_yaml("application/yaml"), Ok(true));
        assert_eq!(body_is_yaml("application/vnd.kubernetes.protobuf").map_err(|s| s.code), Err(415));
        assert_eq!(patch_type("application/merge-patch+json"), Ok(PatchType::Merge));
        assert_eq!(patch_type("application/json").map_err(|s| s.code), Err(415));
    }
}
