//! Protobuf documents of every kind: what can be read is written, read and written again alike; then the same as `json` and `yaml`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orch::api::protobuf;
use orch_fuzz::border::{self, kind};
use orch_fuzz::objects::{Form, HEAD, send};
use orch_fuzz::seeds;

fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (number, _, objects) in seeds::objects() {
        for (mode, object) in objects.iter().enumerate() {
            let Ok(document) = protobuf::encode(object.to_string().as_bytes()) else { continue };
            inputs.push([&[number, u8::from(mode == 0)], &document[..]].concat());
        }
    }
    inputs
}

fuzz_target!(init: { seeds::plant(inputs, seeds::names); border::prepare() }, |data: &[u8]| {
    let Some((head, document)) = data.split_at_checked(HEAD) else { return };
    let kind = kind(head[0]);
    let (version, name) = (kind.api_version(), kind.kind());
    if let Ok(tree) = protobuf::decode(document, Some((&version, name)))
        && tree["apiVersion"] == *version
        && tree["kind"] == *name
        && let Ok(object) = kind.decode(tree, &mut |_| {})
    {
        let typed = object.to_value();
        // A second version of a kind is worked on as it is stored; its messages are the first one's.
        if typed["apiVersion"] != *version {
            return send(data, Form::Protobuf);
        }
        let written = protobuf::encode(typed.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}: {typed}"));
        let read = protobuf::decode(&written, None).unwrap_or_else(|error| panic!("{error}: {typed}"));
        let back = kind.decode(read, &mut |field| panic!("{field} of {typed}")).unwrap_or_else(|fault| panic!("{fault:?}: {typed}"));
        assert_eq!(back.to_value(), typed);
        assert_eq!(protobuf::encode(back.to_value().to_string().as_bytes()).unwrap(), written, "{typed}");
    }
    send(data, Form::Protobuf);
});
