//! AdmissionReview: what a webhook is asked, and what it may answer.
//!
//! Follows upstream's `apiserver/pkg/admission/plugin/webhook/request` (v1 and v1beta1 differ in what of the answer is checked).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::server::registry::User;

/// A version of the review that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// The first of a webhook's versions that this server speaks.
    pub(super) fn choose(versions: &[String]) -> Option<Version> {
        versions.iter().find_map(|version| match version.as_str() {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1beta1),
            _ => None,
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "admission.k8s.io/v1",
            Version::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// Group, version and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::server::registry::admission) struct Gvk {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// Group, version and resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::server::registry::admission) struct Gvr {
    pub group: String,
    pub version: String,
    pub resource: String,
}

/// All of a question but the objects.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::server::registry::admission) struct Question<'a> {
    pub uid: &'a str,
    pub kind: &'a Gvk,
    pub resource: &'a Gvr,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub sub_resource: &'a str,
    pub request_kind: &'a Gvk,
    pub request_resource: &'a Gvr,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub namespace: &'a str,
    pub operation: &'a str,
    pub user_info: UserInfo<'a>,
    pub dry_run: bool,
    pub options: &'a Value,
}

/// Who asks, as reviews show it.
#[derive(Serialize)]
pub(in crate::server::registry::admission) struct UserInfo<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> From<&'a User> for UserInfo<'a> {
    fn from(user: &'a User) -> UserInfo<'a> {
        UserInfo { username: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra }
    }
}

/// The body of a review. The objects are JSON already, and copied as they are.
pub(super) fn encode(version: Version, question: &Question<'_>, object: Option<&[u8]>, old: Option<&[u8]>) -> Bytes {
    let head = format!("{{\"kind\":\"AdmissionReview\",\"apiVersion\":\"{}\",\"request\":", version.api_version());
    let asked = serde_json::to_vec(question).expect("a question has string keys only, so it always encodes");
    let [object, old] = [object, old].map(|json| json.unwrap_or(b"null"));
    let open = asked.strip_suffix(b"}").unwrap_or(&asked);
    [head.as_bytes(), open, b",\"object\":", object, b",\"oldObject\":", old, b"}}"].concat().into()
}

/// What a webhook said, checked.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub allowed: bool,
    /// A `Status`, for a refusal.
    pub status: Value,
    /// A JSON patch and its type; empty for none.
    pub patch: Vec<u8>,
    pub patch_type: String,
    pub annotations: BTreeMap<String, String>,
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    allowed: bool,
    #[serde(default)]
    status: Value,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// Why an answer does not count.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is no review at all.
    Undecodable(String),
    /// It is one that breaks the rules.
    Invalid(String),
}

/// Reads an answer. Only the answer to a mutating webhook may have a patch.
pub(super) fn decode(version: Version, uid: &str, mutating: bool, answer: &[u8]) -> Result<Verdict, Unusable> {
    let review: Review = serde_json::from_slice(answer).map_err(|error| Unusable::Undecodable(error.to_string()))?;
    let invalid = |why: String| Err(Unusable::Invalid(why));
    let Some(response) = review.response else { return invalid("webhook response was absent".into()) };
    let decoded = response.patch.as_deref().map(|patch| STANDARD.decode(patch)).transpose();
    let patch =
        decoded.map_err(|error| Unusable::Undecodable(format!("illegal base64 data in response.patch: {error}")))?.unwrap_or_default();
    let mut verdict = Verdict {
        allowed: response.allowed,
        status: response.status,
        annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
        ..Verdict::default()
    };
    if version == Version::V1beta1 {
        // Neither uid nor type nor patch type were checked then; the only patch type there ever was is assumed.
        if mutating && !patch.is_empty() {
            verdict.patch_type = "JSONPatch".into();
            verdict.patch = patch;
        }
        return Ok(verdict);
    }
    if response.uid != uid {
        return invalid(format!("expected response.uid={uid:?}, got {:?}", response.uid));
    }
    if (review.api_version.as_str(), review.kind.as_str()) != (version.api_version(), "AdmissionReview") {
        let group_version = if review.api_version.is_empty() { "/" } else { &review.api_version };
        return invalid(format!(
            "expected webhook response of {}, Kind=AdmissionReview, got {group_version}, Kind={}",
            version.api_version(),
            review.kind
        ));
    }
    match (mutating, patch.is_empty(), response.patch_type) {
        (false, false, _) => invalid("validating webhook may not return response.patch".into()),
        (false, true, Some(_)) => invalid("validating webhook may not return response.patchType".into()),
        (true, false, None) => invalid("webhook returned response.patch but not response.patchType".into()),
        (true, true, Some(_)) => invalid("webhook returned response.patchType but not response.patch".into()),
        (true, false, Some(empty)) if empty.is_empty() => invalid("webhook returned invalid response.patchType of \"\"".into()),
        (_, _, patch_type) => {
            verdict.patch = patch;
            verdict.patch_type = patch_type.unwrap_or_default();
            Ok(verdict)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let (gvk, gvr) = (
            Gvk { kind: "Pod".into(), version: "v1".into(), ..Gvk::default() },
            Gvr { resource: "pods".into(), version: "v1".into(), ..Gvr::default() },
        );
        let user = User { name: "ann".into(), groups: vec!["g".into()], ..User::default() };
        let question = Question {
            uid: "u",
            kind: &gvk,
            resource: &gvr,
            sub_resource: "",
            request_kind: &gvk,
            request_resource: &gvr,
            request_sub_resource: "",
            name: "p",
            namespace: "n",
            operation: "DELETE",
            user_info: UserInfo::from(&user),
            dry_run: false,
            options: &Value::Null,
        };
        let body = encode(Version::V1, &question, None, Some(br#"{"a":1}"#));
        let tree: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&tree["apiVersion"], &tree["kind"]), (&"admission.k8s.io/v1".into(), &"AdmissionReview".into()));
        let request = &tree["request"];
        assert_eq!(request["object"], Value::Null);
        assert_eq!(request["oldObject"]["a"], 1);
        assert_eq!(request["userInfo"], serde_json::json!({"username": "ann", "groups": ["g"]}));
        assert_eq!(request["requestResource"]["resource"], "pods");
        assert_eq!(request["dryRun"], false);
        assert!(request.get("subResource").is_none());
    }

    #[test]
    fn answers() {
        let v1 = |response: &str| format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{response}}}"#);
        for (mutating, answer, want) in [
            (true, v1(r#"{"uid":"u","allowed":true}"#), Ok(())),
            (true, v1(r#"{"uid":"u","allowed":true,"patch":"W10=","patchType":"JSONPatch"}"#), Ok(())),
            (true, v1("null"), Err("webhook response was absent")),
            (true, v1(r#"{"uid":"x"}"#), Err("expected response.uid=\"u\", got \"x\"")),
            (true, v1(r#"{"uid":"u","patch":"W10="}"#), Err("webhook returned response.patch but not response.patchType")),
            (true, v1(r#"{"uid":"u","patchType":"JSONPatch"}"#), Err("webhook returned response.patchType but not response.patch")),
            (false, v1(r#"{"uid":"u","patch":"W10="}"#), Err("validating webhook may not return response.patch")),
            (false, v1(r#"{"uid":"u","patchType":"JSONPatch"}"#), Err("validating webhook may not return response.patchType")),
            (
                true,
                r#"{"response":{"uid":"u"}}"#.into(),
                Err("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="),
            ),
        ] {
            let got = decode(Version::V1, "u", mutating, answer.as_bytes()).map(drop);
            assert_eq!(got, want.map_err(|why| Unusable::Invalid(why.into())), "{answer}");
        }
        assert!(matches!(decode(Version::V1, "u", true, b"no"), Err(Unusable::Undecodable(_))));
        let old = decode(Version::V1beta1, "u", true, br#"{"response":{"allowed":true,"patch":"W10="}}"#).unwrap();
        assert_eq!((old.allowed, old.patch.as_slice(), old.patch_type.as_str()), (true, &b"[]"[..], "JSONPatch"));
        assert_eq!(Version::choose(&["v2".into(), "v1beta1".into(), "v1".into()]), Some(Version::V1beta1));
        assert_eq!(Version::choose(&["v2".into()]), None);
    }
}
