//! Documents as clients write them, by hand and by chance.

use proptest::prelude::*;
use serde_json::json;

use super::schema::schema;
use super::*;

/// A document of hand-written raw bytes.
fn document(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let mut writer = Writer { schema: schema(), out: &mut out };
    writer.type_meta(api_version, kind);
    writer.bytes(RAW, raw);
    out
}

fn read(kind: (&str, &str), raw: &[u8]) -> Result<Value, String> {
    decode(&document(kind.0, kind.1, raw), None).map_err(|error| error.to_string())
}

#[test]
fn the_envelope_is_upstreams() {
    let config_map = encode(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}"#).unwrap();
    let want = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v\x1a\0\x22\0";
    assert_eq!(config_map, want);
    // The type may stand anywhere.
    let late = encode(br#"{"metadata":{"name":"a"},"data":{"k":"v"},"kind":"ConfigMap","apiVersion":"v1"}"#).unwrap();
    assert_eq!(late, want);
    for (document, why) in [
        (&b""[..], "empty data"),
        (b"{}", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"),
        (b"k8s\0", "empty body"),
        (b"k8s\0\x12\x00", "no kind \"\" is registered for version \"\""),
        (b"k8s\0\x12\x7f", "unexpected EOF"),
        (b"k8s\0\x10\x01", "proto: wrong wireType for field 2 of Unknown"),
    ] {
        assert_eq!(decode(document, None).unwrap_err().to_string(), why, "{document:?}");
    }
    assert_eq!(decode(b"k8s\0\x12\x00", Some(("v1", "Pod"))).unwrap(), json!({"apiVersion": "v1", "kind": "Pod"}));
}

#[test]
fn zeros_mean_what_they_mean_in_go() {
    // spec { replicas: 0, minReadySeconds: 0, paused: false }, status {}: as client-go writes a deployment scaled to nothing.
    let deployment = read(("apps/v1", "Deployment"), b"\x12\x06\x08\x00\x28\x00\x38\x00\x1a\x00").unwrap();
    assert_eq!(deployment, json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0}, "status": {}}));
    // An empty storage class is not the default one; an empty creation time is none.
    let claim = read(("v1", "PersistentVolumeClaim"), b"\x0a\x02\x42\x00\x12\x02\x2a\x00").unwrap();
    assert_eq!((&claim["metadata"], &claim["spec"]), (&json!({}), &json!({"storageClassName": ""})));
}

#[test]
fn the_last_value_counts_and_messages_merge() {
    // metadata { name: "a", name: "b" } and again metadata { namespace: "n" }; then a field nobody knows, as a group.
    let pod = read(("v1", "Pod"), b"\x0a\x06\x0a\x01a\x0a\x01b\x0a\x03\x1a\x01n\xfb\x3f\x08\x01\xfc\x3f").unwrap();
    assert_eq!(pod["metadata"], json!({"name": "b", "namespace": "n"}));
}

#[test]
fn packed_numbers_are_numbers() {
    // podAffinity aside, lists of numbers are rare: supplementalGroups is one, here packed and unpacked.
    let pod = read(("v1", "Pod"), b"\x12\x08\x72\x06\x22\x02\x01\x02\x20\x03").unwrap();
    assert_eq!(pod["spec"]["securityContext"]["supplementalGroups"], json!([1, 2, 3]));
}

#[test]
fn what_does_not_fit_is_refused() {
    for (kind, raw, why) in [
        (("v1", "Pod"), &b"\x08\x01"[..], "proto: wrong wireType for field metadata"),
        (("v1", "Pod"), b"\x0a\x03\x0a\x01\xff", "proto: field name contains invalid UTF-8"),
        (("v1", "Pod"), b"\x0a\x7f", "unexpected EOF"),
        (("apps/v1", "ControllerRevision"), b"\x12\x04\x0a\x02{]", "proto: field data: "),
        (("v1", "Pod"), b"\x0a\x0e\x42\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10\x00", "proto: field creationTimestamp: "),
    ] {
        let error = read(kind, raw).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
}

/// What nests without end, in each of the ways that messages and JSON can, is refused before the stack or the store minds.
#[test]
fn depth_is_bounded() {
    // JSONSchemaProps.not within itself, below spec.versions[].schema.openAPIV3Schema.
    let nested = |levels: usize| {
        let mut raw = Vec::new();
        for _ in 0..levels {
            let mut outer = vec![0xe2, 0x01];
            wire::put_varint(&mut outer, raw.len() as u64);
            outer.extend_from_slice(&raw);
            raw = outer;
        }
        for tag in [0x0a, 0x22, 0x3a, 0x12] {
            let mut outer = vec![tag];
            wire::put_varint(&mut outer, raw.len() as u64);
            outer.extend_from_slice(&raw);
            raw = outer;
        }
        read(("apiextensions.k8s.io/v1", "CustomResourceDefinition"), &raw)
    };
    let shallow = nested(100).unwrap();
    assert!(serde_json::from_str::<Value>(&shallow.to_string()).is_ok());
    assert_eq!(nested(130).unwrap_err(), "exceeded max depth");
    assert_eq!(nested(20_000).unwrap_err(), "exceeded max depth");
    let json = |levels: usize| {
        let text = "[".repeat(levels) + &"]".repeat(levels);
        let mut data = vec![0x0a];
        wire::put_varint(&mut data, text.len() as u64);
        data.extend_from_slice(text.as_bytes());
        let mut raw = vec![0x12];
        wire::put_varint(&mut raw, data.len() as u64);
        raw.extend_from_slice(&data);
        read(("apps/v1", "ControllerRevision"), &raw)
    };
    assert!(serde_json::from_str::<Value>(&json(110).unwrap().to_string()).is_ok());
    assert!(json(125).is_err() && json(100_000).is_err());
    // A document within a document within ...
    let mut inner = document("v1", "Pod", b"");
    for _ in 0..1_000 {
        let mut raw = Vec::new();
        let mut writer = Writer { schema: schema(), out: &mut raw };
        let start = writer.begin(2);
        writer.bytes(1, &inner);
        writer.end(start);
        inner = document("apps/v1", "ControllerRevision", &raw);
    }
    assert_eq!(decode(&inner, None).unwrap_err().to_string(), "exceeded max depth");
}

#[test]
fn frames_of_a_watch() {
    let frame = watch_frame("ADDED", b"k8s\0x");
    assert_eq!(&frame[..], b"\0\0\0\x10\x0a\x05ADDED\x12\x07\x0a\x05k8s\0x");
}

/// The numbers that upstream's published files do not confirm are few, and all of them are of new fields.
#[test]
fn unconfirmed_numbers_are_known() {
    let fields = schema().messages.iter().flat_map(|message| message.all_fields());
    assert_eq!(fields.filter(|field| field.unconfirmed).count(), 88);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0usize..2000) {
        let message = &schema().messages[kind % schema().messages.len()];
        let mut object = Map::new();
        let _ = Decoder { schema: schema() }.message(message, &bytes, 0, &mut object);
    }

    #[test]
    fn damaged_documents_are_read_or_refused(at in 0usize..4000, byte in any::<u8>()) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:00:00Z",
            "managedFields": [{"fieldsV1": {"f:a": {}}}]}, "spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "b"}],
            "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 80}}}], "volumes": [{"name": "v", "emptyDir": {}}]}});
        let mut bytes = encode(pod.to_string().as_bytes()).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(tree) = decode(&bytes, None) {
            prop_assert!(serde_json::from_str::<Value>(&tree.to_string()).is_ok());
        }
    }
}
