//! Bodies that are objects: sent to be created or updated, then sent again as they were answered.
//!
//! An input is two bytes and the body: the number of a kind, and how it is sent.

use orch::api::protobuf;
use orch::server::registry::KindRef;
use serde_json::Value;

use crate::border::{Border, all, border, judge, kind, one};

/// Bytes before the body.
pub const HEAD: usize = 2;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Yaml,
    Protobuf,
}

impl Form {
    fn media_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Yaml => "application/yaml",
            Form::Protobuf => protobuf::MEDIA_TYPE,
        }
    }
}

/// How the second byte says that it is sent.
struct Way {
    method: &'static str,
    uri: String,
}

impl Way {
    fn new(kind: &KindRef, mode: u8, border: &Border) -> Way {
        let validation = ["Strict", "Warn", "Ignore"][usize::from(mode >> 2) % 3];
        let (method, place) = match (mode & 3, border.stored(kind)) {
            (1, Some(stored)) => ("PUT", one(kind, stored)),
            (2, Some(stored)) => ("PUT", format!("{}/status", one(kind, stored))),
            _ => ("POST", all(kind)),
        };
        Way { method, uri: format!("{place}?dryRun=All&fieldManager=fuzz&fieldValidation={validation}") }
    }
}

/// Sends one input.
pub fn send(data: &[u8], form: Form) {
    let Some((head, body)) = data.split_at_checked(HEAD) else { return };
    // Without a body there is nothing to read.
    if body.is_empty() {
        return;
    }
    let kind = kind(head[0]);
    border(|border| {
        let way = Way::new(kind, head[1], border);
        let headers = [("content-type", form.media_type())];
        let Some(answer) = border.ask(way.method, &way.uri, &headers, body) else { return };
        let asked = || format!("{} {} {}", way.method, way.uri, String::from_utf8_lossy(body));
        if !judge(&answer, &asked) {
            let causes = answer.body["details"]["causes"].as_array().map_or(0, Vec::len);
            assert!(answer.code != 422 || causes > 0, "an invalid object names its fields: {}: {}", asked(), answer.body);
        } else if !kind.info.virtual_only {
            again(border, kind, &way, answer.body, &asked);
        }
    });
}

/// What was answered may be sent, and is answered alike.
fn again(border: &Border, kind: &KindRef, way: &Way, mut first: Value, asked: &dyn Fn() -> String) {
    assert_eq!(first["kind"], kind.kind(), "{}", asked());
    settle(&mut first);
    let answer = border.ask(way.method, &way.uri, &[("content-type", "application/json")], first.to_string().as_bytes());
    let mut second = answer.filter(|answer| judge(answer, asked)).unwrap_or_else(|| panic!("{}: refused: {first}", asked())).body;
    settle(&mut second);
    assert_eq!(first, second, "{}", asked());
}

/// Takes away what every write makes anew.
fn settle(object: &mut Value) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    for field in ["creationTimestamp", "managedFields", "resourceVersion", "uid", "generation"] {
        metadata.remove(field);
    }
}
