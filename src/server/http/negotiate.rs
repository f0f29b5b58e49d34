//! Content types: what a client accepts, and what it sends.
//!
//! Words: the *encoding* is JSON, YAML or protobuf; the *shape* is the object itself, a Table of it, or only its metadata.
//!
//! Not everything has a protobuf form: Tables have none, custom resources only their metadata and their errors. A clause that asks for
//! such a thing is passed over, so that a client that accepts JSON too gets JSON.
//! Follows upstream's `endpoints/handlers/negotiation/negotiate.go`, and `AllowsMediaTypeTransform` in `endpoints/handlers/rest.go`.

use crate::api::{Status, protobuf};
use crate::server::registry::{Format, KindDef};

/// How bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
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
        protobuf::MEDIA_TYPE => Some(Encoding::Protobuf),
        _ => None,
    }
}

/// Whether a clause asks for a stream that its encoding does not have.
fn no_such_stream(clause: &Clause<'_>, encoding: Encoding) -> bool {
    clause.param("stream").is_some_and(|stream| !stream.is_empty() && (stream != "watch" || encoding == Encoding::Yaml))
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

/// Whether objects of this kind can be messages.
pub fn has_protobuf(kind: &KindDef) -> bool {
    protobuf::knows(&kind.api_version(), kind.kind())
}

/// The form for an object, a list or a watch of a kind that [`has_protobuf`], or has not.
pub fn negotiate(accept: &str, protobuf: bool) -> Result<Form, Status> {
    let form = |clause: &Clause<'_>| {
        let form = Form { encoding: encoding(&clause.media)?, shape: shape(clause)? };
        let has = match (form.encoding, form.shape) {
            (Encoding::Protobuf, Shape::Table) => false,
            (Encoding::Protobuf, Shape::Whole) => protobuf,
            _ => true,
        };
        (has && !no_such_stream(clause, form.encoding)).then_some(form)
    };
    clauses(accept).iter().find_map(form).ok_or_else(not_acceptable)
}

/// The encoding for what has one shape only (discovery, errors, scale).
pub fn negotiate_plain(accept: &str) -> Result<Encoding, Status> {
    let plain = |clause: &Clause<'_>| encoding(&clause.media).filter(|encoding| !no_such_stream(clause, *encoding));
    clauses(accept).iter().filter(|c| c.param("as").is_none()).find_map(plain).ok_or_else(not_acceptable)
}

/// The encoding for documents that are no API objects (OpenAPI): they have no protobuf form of this kind.
pub fn negotiate_document(accept: &str) -> Result<Encoding, Status> {
    let text = |clause: &Clause<'_>| encoding(&clause.media).filter(|encoding| *encoding != Encoding::Protobuf);
    clauses(accept).iter().find_map(text).ok_or_else(not_acceptable)
}

/// The encoding of an error: JSON where the client accepts nothing that we write.
pub fn negotiate_error(accept: &str) -> Encoding {
    negotiate_plain(accept).unwrap_or_default()
}

fn not_acceptable() -> Status {
    Status::not_acceptable(
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    )
}

fn media(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// How a body of this type is written; `protobuf` as for [`negotiate`].
pub fn body_format(content_type: &str, protobuf: bool) -> Result<Format, Status> {
    match media(content_type).as_str() {
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Format::Yaml),
        protobuf::MEDIA_TYPE if protobuf => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml{}",
            if protobuf { ", application/vnd.kubernetes.protobuf" } else { "" }
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
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        // What is accepted, and the form where the kind has messages and where it has none.
        for (accept, want, custom) in [
            ("application/vnd.kubernetes.protobuf, application/json", Some((Protobuf, Whole)), Some((Json, Whole))),
            ("application/vnd.kubernetes.protobuf,*/*", Some((Protobuf, Whole)), Some((Json, Whole))),
            ("application/vnd.kubernetes.protobuf", Some((Protobuf, Whole)), None),
            ("application/vnd.kubernetes.protobuf;stream=watch", Some((Protobuf, Whole)), None),
            ("application/vnd.kubernetes.protobuf;stream=other,application/yaml", Some((Yaml, Whole)), Some((Yaml, Whole))),
            ("application/yaml;stream=watch,application/json;stream=watch", Some((Json, Whole)), Some((Json, Whole))),
            ("application/json,application/vnd.kubernetes.protobuf", Some((Json, Whole)), Some((Json, Whole))),
            ("application/json;q=0.5,application/vnd.kubernetes.protobuf", Some((Protobuf, Whole)), Some((Json, Whole))),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", None, None),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Json, Whole)), Some((Json, Whole))),
            (metadata, Some((Protobuf, Metadata)), Some((Protobuf, Metadata))),
        ] {
            let got = |protobuf| negotiate(accept, protobuf).ok().map(|form| (form.encoding, form.shape));
            assert_eq!((got(true), got(false)), (want, custom), "{accept:?}");
        }
        for (accept, want) in [
            ("", Some((Json, Whole))),
            ("*/*", Some((Json, Whole))),
            ("application/json", Some((Json, Whole))),
            ("application/yaml", Some((Yaml, Whole))),
            ("text/html", None),
            (kubectl, Some((Json, Table))),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Some((Json, Whole))),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", None),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some((Json, Metadata))),
            ("application/json;q=0.5,application/yaml", Some((Yaml, Whole))),
            ("application/json;q=0", None),
        ] {
            let got = negotiate(accept, true).ok().map(|form| (form.encoding, form.shape));
            assert_eq!(got, want, "{accept:?}");
        }
    }

    #[test]
    fn content_types() {
        assert_eq!(body_format("", true), Ok(Format::Json));
        assert_eq!(body_format("application/json; charset=utf-8", true), Ok(Format::Json));
        assert_eq!(body_format("application/yaml", true), Ok(Format::Yaml));
        assert_eq!(body_format("application/vnd.kubernetes.protobuf", true), Ok(Format::Protobuf));
        assert_eq!(body_format("application/vnd.kubernetes.protobuf", false).map_err(|s| s.code), Err(415));
        assert_eq!(body_format("text/html", true).map_err(|s| s.code), Err(415));
        assert_eq!(negotiate_error("application/vnd.kubernetes.protobuf;as=Table,application/yaml"), Encoding::Yaml);
        assert_eq!(negotiate_error("image/png"), Encoding::Json);
        assert_eq!(patch_type("application/merge-patch+json"), Ok(PatchType::Merge));
        assert_eq!(patch_type("application/json").map_err(|s| s.code), Err(415));
    }
}
