//! One object of every stored kind, out of `kinds.yaml`, and where the API keeps it. The fuzz targets start from these, too.

use orch::server::kinds::KINDS;
use orch::server::registry::KindRef;
use serde::Deserialize;
use serde_json::{Value, json};

const OBJECTS: &str = include_str!("kinds.yaml");

/// A certificate and a signing request, for the kinds that hold one: as PEM, and as base64 of PEM.
fn certificates() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key).unwrap().pem();
    let request = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap().serialize_request(&key).unwrap();
    use base64::Engine;
    (pem, base64::engine::general_purpose::STANDARD.encode(request.pem().unwrap()))
}

/// The objects of the file.
pub fn objects() -> Vec<Value> {
    let (pem, request) = certificates();
    let text = OBJECTS.replace("\"@PEM@\"", &json!(pem).to_string()).replace("@CSR@", &request);
    serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The row of the table that an object belongs to.
pub fn row(object: &Value) -> &'static KindRef {
    let same = |kind: &&KindRef| kind.api_version() == text(&object["apiVersion"]) && kind.kind() == text(&object["kind"]);
    KINDS.iter().find(same).unwrap_or_else(|| panic!("no kind {} {}", object["apiVersion"], object["kind"]))
}

/// `/api/v1/namespaces/default/pods`.
pub fn collection(kind: &KindRef) -> String {
    let root = if kind.group().is_empty() { "/api/v1".into() } else { format!("/apis/{}", kind.api_version()) };
    let place = if kind.info.namespaced { "/namespaces/default" } else { "" };
    format!("{root}{place}/{}", kind.resource())
}

/// The same object under another name, where the kind allows only certain ones.
pub fn twin(object: &Value) -> Value {
    let mut other = object.clone();
    let name = text(&object["metadata"]["name"]);
    other["metadata"]["name"] = match text(&object["kind"]) {
        "IPAddress" => "10.44.0.8".into(),
        "APIService" => {
            other["spec"]["group"] = "other.example.com".into();
            "v1.other.example.com".into()
        }
        "CustomResourceDefinition" => {
            other["spec"]["names"] = json!({"plural": "jobtabs", "singular": "jobtab", "kind": "JobTab", "listKind": "JobTabList"});
            "jobtabs.example.com".into()
        }
        _ => name.replace("one", "two").into(),
    };
    other
}
