//! Conversion by webhook: ConversionReview, v1 and v1beta1.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/conversion/webhook_converter.go`; its texts reach clients.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::WebhookConversion;
use serde_json::{Map, Value, json};

use super::Dynamic;
use crate::api::{Object, Status, names};
use crate::server::outbound::{Outbound, Peer};

/// As upstream's client.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer; a list of many large objects is converted in one.
const LIMIT: usize = 256 << 20;
const GROUP: &str = "apiextensions.k8s.io";

/// `objects`, each in `api_version`, in the same order.
pub(super) async fn convert(
    outbound: &Outbound,
    hook: &WebhookConversion,
    objects: &[&Dynamic],
    api_version: &str,
) -> Result<Vec<Dynamic>, Status> {
    let Some(first) = objects.first() else { return Ok(Vec::new()) };
    let shown = shown_kind(first);
    let failed = |why: &dyn std::fmt::Display| Status::new(500, "", format!("conversion webhook for {shown} failed: {why}"));
    let review = hook.conversion_review_versions.iter().find(|version| ["v1", "v1beta1"].contains(&version.as_str()));
    let review = format!("{GROUP}/{}", review.ok_or_else(|| failed(&"no ConversionReview version that this server knows"))?);
    let uid = uuid::Uuid::new_v4().to_string();
    let trees: Vec<Value> = objects.iter().map(|object| object.to_value()).collect();
    let request = json!({
        "kind": "ConversionReview", "apiVersion": review,
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": trees},
    });
    let client = hook.client_config.as_ref().ok_or_else(|| failed(&"no client configuration"))?;
    let service =
        client.service.as_ref().map(|service| (service.namespace.as_str(), service.name.as_str(), service.path.as_deref(), service.port));
    let bundle = client.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
    let peer = Peer::webhook(client.url.as_deref(), service, bundle).map_err(|error| failed(&error))?;
    let answer = outbound.post(&peer, "timeout=30s", request.to_string().into(), TIMEOUT, LIMIT).await.map_err(|error| failed(&error))?;
    let converted = answered(&answer, &review, &uid).map_err(|why| failed(&why))?;
    if converted.len() != objects.len() {
        let why = format!("conversion webhook for {shown} returned {} objects, expected {}", converted.len(), objects.len());
        return Err(Status::new(500, "", why));
    }
    let checked = objects.iter().zip(converted).enumerate().map(|(index, (original, converted))| {
        restored(original, converted, api_version).map_err(|refused| {
            let what = if refused.metadata { "metadata in object" } else { "converted object" };
            Status::new(500, "", format!("conversion webhook for {shown} returned invalid {what} at index {index}: {}", refused.why))
        })
    });
    checked.collect()
}

/// `GROUP/VERSION, Kind=KIND`.
fn shown_kind(object: &Dynamic) -> String {
    format!("{}, Kind={}", object.text("apiVersion"), object.text("kind"))
}

/// The objects of an answer.
fn answered(answer: &[u8], review: &str, uid: &str) -> Result<Vec<Value>, String> {
    let mut answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&answer, "apiVersion"), text(&answer, "kind"));
    if api_version != review || kind != "ConversionReview" {
        let slashed = if api_version.contains('/') { api_version } else { format!("/{api_version}") };
        return Err(format!("expected webhook response of {review}, Kind=ConversionReview, got {slashed}, Kind={kind}"));
    }
    let response = answer.get_mut("response").filter(|response| !response.is_null()).ok_or("no response provided")?;
    let given = text(response, "uid");
    if given != uid {
        return Err(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let result = response.get("result").cloned().unwrap_or_default();
    let status = text(&result, "status");
    if status != "Success" {
        let message = text(&result, "message");
        return Err(if message.is_empty() { format!("response.result.status was '{status}', not 'Success'") } else { message });
    }
    Ok(match response.get_mut("convertedObjects").map(Value::take) {
        Some(Value::Array(objects)) => objects,
        _ => Vec::new(),
    })
}

/// Why an object is not the conversion of another.
struct Refused {
    metadata: bool,
    why: String,
}

/// The converted object with the original's metadata; of that a webhook may change labels and annotations only.
fn restored(original: &Dynamic, mut converted: Value, api_version: &str) -> Result<Dynamic, Refused> {
    let object = |why: String| Refused { metadata: false, why };
    let metadata = |why: String| Refused { metadata: true, why };
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let given = text(&converted, "apiVersion");
    if given != api_version {
        return Err(object(format!("invalid groupVersion (expected {api_version}, received {given})")));
    }
    let answer = converted.as_object_mut().ok_or_else(|| object("it is not an object".into()))?;
    let meta = answer.remove("metadata").ok_or_else(|| metadata("missing metadata in converted object".into()))?;
    let old = &original.meta;
    let same = |what: &str, before: &str, after: &str| match before == after {
        true => Ok(()),
        false => Err(object(format!("must have the same {what}: {before} != {after}"))),
    };
    same("kind", original.text("kind"), &text(&converted, "kind"))?;
    for (what, field, before) in [("name", "name", &old.name), ("namespace", "namespace", &old.namespace), ("UID", "uid", &old.uid)] {
        same(what, before.as_deref().unwrap_or_default(), &text(&meta, field))?;
    }
    let meta = meta.as_object().ok_or_else(|| metadata("invalid metadata in converted object".into()))?;
    let mut kept = old.clone();
    kept.labels = texts(meta, "labels").map_err(metadata)?;
    kept.annotations = texts(meta, "annotations").map_err(metadata)?;
    if kept.labels != old.labels {
        for (key, value) in kept.labels.iter().flatten() {
            names::qualified(key)
                .and_then(|()| names::label_value(value))
                .map_err(|why| metadata(format!("metadata.labels: Invalid value: {key:?}: {why}")))?;
        }
    }
    if kept.annotations != old.annotations {
        for (key, _) in kept.annotations.iter().flatten() {
            names::qualified(&key.to_lowercase())
                .map_err(|why| metadata(format!("metadata.annotations: Invalid value: {key:?}: {why}")))?;
        }
    }
    Ok(Dynamic { meta: kept, content: converted })
}

type Texts = std::collections::BTreeMap<String, String>;

fn texts(meta: &Map<String, Value>, field: &str) -> Result<Option<Texts>, String> {
    let map = match meta.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
    };
    let text = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) => Ok((key.clone(), text.to_owned())),
        None => Err(format!("metadata.{field}[{key}] must be a string in converted object")),
    };
    map.iter().map(text).collect::<Result<Texts, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dynamic(tree: Value) -> Dynamic {
        Dynamic::parse(tree).unwrap()
    }

    #[test]
    fn answers_are_checked() {
        let review = "apiextensions.k8s.io/v1";
        for (answer, wanted) in [
            (
                json!({"kind": "ConversionReview", "apiVersion": "v1"}),
                Err("expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /v1, Kind=ConversionReview"),
            ),
            (json!({"kind": "ConversionReview", "apiVersion": review}), Err("no response provided")),
            (
                json!({"kind": "ConversionReview", "apiVersion": review, "response": {"uid": "x"}}),
                Err("expected response.uid=\"u\", got \"x\""),
            ),
            (
                json!({"kind": "ConversionReview", "apiVersion": review, "response": {"uid": "u", "result": {"status": "Failed"}}}),
                Err("response.result.status was 'Failed', not 'Success'"),
            ),
            (
                json!({"kind": "ConversionReview", "apiVersion": review, "response": {"uid": "u", "result": {"status": "Failed", "message": "no"}}}),
                Err("no"),
            ),
            (
                json!({"kind": "ConversionReview", "apiVersion": review, "response": {"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}}),
                Ok(1),
            ),
        ] {
            let found = answered(answer.to_string().as_bytes(), review, "u").map(|objects| objects.len());
            assert_eq!(found, wanted.map_err(str::to_owned), "{answer}");
        }
    }

    #[test]
    fn metadata_is_the_originals() {
        let original = dynamic(json!({"kind": "A", "apiVersion": "g/v1", "metadata": {"name": "n", "uid": "u", "labels": {"a": "b"}}}));
        let good = json!({"kind": "A", "apiVersion": "g/v2", "metadata": {"name": "n", "uid": "u", "labels": {"c": "d"}, "finalizers": ["x/y"]}, "x": 1});
        let kept = restored(&original, good.clone(), "g/v2").map_err(|refused| refused.why).unwrap();
        assert_eq!(
            kept.to_value(),
            json!({"kind": "A", "apiVersion": "g/v2", "metadata": {"name": "n", "uid": "u", "labels": {"c": "d"}}, "x": 1})
        );
        for (pointer, value, why) in [
            ("/metadata/name", json!("m"), "must have the same name: n != m"),
            ("/metadata/uid", json!("m"), "must have the same UID: u != m"),
            ("/kind", json!("B"), "must have the same kind: A != B"),
            ("/apiVersion", json!("g/v3"), "invalid groupVersion (expected g/v2, received g/v3)"),
            ("/metadata/labels", json!({"c": 1}), "metadata.labels[c] must be a string in converted object"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            assert_eq!(restored(&original, bad, "g/v2").map_err(|refused| refused.why).err().as_deref(), Some(why));
        }
    }
}
