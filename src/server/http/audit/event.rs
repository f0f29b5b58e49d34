//! One line of the audit log: an `Event` of `audit.k8s.io/v1`.
//!
//! Field for field upstream's `apiserver/pkg/apis/audit/v1/types.go`. Encoded by the log's own thread: objects of bodies are parsed there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::policy::{Level, Stage};
use crate::api::yaml;
use crate::server::registry::User;

/// A body as it went over the wire.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its pieces.
    pub parts: Vec<Bytes>,
    /// YAML rather than JSON.
    pub yaml: bool,
}

impl Object {
    /// Its size.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// The tree, without managed fields if they are to be omitted. What can't be read is left out, as upstream does.
    fn value(&self, omit_managed: bool) -> Option<Value> {
        let bytes = if let [one] = self.parts.as_slice() { one.clone() } else { self.parts.concat().into() };
        let mut value: Value = if self.yaml { yaml::read(&bytes, &mut Vec::new()).ok()? } else { serde_json::from_slice(&bytes).ok()? };
        if omit_managed {
            forget_managed(&mut value);
            for field in ["items", "rows"] {
                let Some(items) = value.get_mut(field).and_then(Value::as_array_mut) else { continue };
                for item in items {
                    match item.get_mut("object") {
                        Some(object) => forget_managed(object),
                        None => forget_managed(item),
                    }
                }
            }
        }
        Some(value)
    }
}

fn forget_managed(value: &mut Value) {
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}

/// Somebody.
#[derive(Clone, Debug, Serialize)]
struct UserInfo<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

impl UserInfo<'_> {
    fn of(user: &User) -> UserInfo<'_> {
        UserInfo { username: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra }
    }
}

/// What a request is about.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// What stays the same through all stages of a request.
#[derive(Debug)]
pub struct Request {
    pub level: Level,
    pub omit_managed: bool,
    pub id: String,
    pub uri: String,
    pub verb: &'static str,
    pub user: Option<Arc<User>>,
    pub addresses: Vec<String>,
    pub agent: String,
    pub object: Option<ObjectRef>,
    pub received: jiff::Timestamp,
}

/// One event, before it is encoded.
#[derive(Debug)]
pub struct Event {
    pub request: Arc<Request>,
    pub stage: Stage,
    pub at: jiff::Timestamp,
    pub impersonated: Option<Arc<User>>,
    /// Code and, of a `Status`, its JSON.
    pub status: Option<(u16, Option<Bytes>)>,
    /// In place of what a `Status` says.
    pub message: Option<String>,
    pub sent: Option<Object>,
    pub answered: Option<Object>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    kind: &'static str,
    api_version: &'static str,
    level: &'static str,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: &'static str,
    #[serde(rename = "requestURI")]
    request_uri: &'a str,
    verb: &'a str,
    user: UserInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<UserInfo<'a>>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "<[String]>::is_empty")]
    source_ips: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<&'a ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

fn micro(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

impl Event {
    /// Bytes of bodies that it holds.
    pub fn weight(&self) -> usize {
        self.sent.as_ref().map_or(0, Object::len) + self.answered.as_ref().map_or(0, Object::len)
    }

    /// Its line, with the line's end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let request = &*self.request;
        let nobody = User::default();
        let sent = self.sent.as_ref().and_then(|object| object.value(request.omit_managed));
        let reference = request.object.clone().map(|reference| completed(reference, sent.as_ref()));
        let line = Line {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: request.level.as_str(),
            audit_id: &request.id,
            stage: self.stage.as_str(),
            request_uri: &request.uri,
            verb: request.verb,
            user: UserInfo::of(request.user.as_deref().unwrap_or(&nobody)),
            impersonated_user: self.impersonated.as_deref().map(UserInfo::of),
            source_ips: &request.addresses,
            user_agent: &request.agent,
            object_ref: reference.as_ref(),
            response_status: self.response_status(),
            request_object: sent.filter(|_| request.level >= Level::Request),
            response_object: self.answered.as_ref().and_then(|object| object.value(request.omit_managed)),
            request_received_timestamp: micro(request.received),
            stage_timestamp: micro(self.at),
            annotations: &self.annotations,
        };
        // Strings and trees always encode.
        if serde_json::to_writer(&mut *out, &line).is_ok() {
            out.push(b'\n');
        }
    }

    /// The bounded fields of a `Status`, as upstream copies them.
    fn response_status(&self) -> Option<Value> {
        let (code, body) = self.status.as_ref()?;
        let mut status = serde_json::json!({"metadata": {}});
        if let Some(Ok(Value::Object(body))) = body.as_ref().map(|body| serde_json::from_slice(body)) {
            for field in ["status", "message", "reason", "details"] {
                if let Some(value) = body.get(field) {
                    status[field] = value.clone();
                }
            }
        }
        if let Some(message) = &self.message {
            status["message"] = message.as_str().into();
        }
        status["code"] = (*code).into();
        Some(status)
    }
}

/// What the path does not say of an object, its body may.
fn completed(mut reference: ObjectRef, sent: Option<&Value>) -> ObjectRef {
    let Some(meta) = sent.and_then(|sent| sent.get("metadata")) else { return reference };
    let fields: [(&str, &mut String); 4] = [
        ("namespace", &mut reference.namespace),
        ("name", &mut reference.name),
        ("uid", &mut reference.uid),
        ("resourceVersion", &mut reference.resource_version),
    ];
    for (name, field) in fields {
        if field.is_empty()
            && let Some(text) = meta.get(name).and_then(Value::as_str)
        {
            *field = text.to_owned();
        }
    }
    reference
}
