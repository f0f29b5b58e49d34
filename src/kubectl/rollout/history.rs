//! Former revisions: of a deployment its replica sets, of the other two their controller revisions.

use serde_json::{Value, json};

use crate::kubectl::error::{Error, Result};
use crate::kubectl::objects::Found;
use crate::kubectl::session::Session;
use crate::kubectl::{describe, output, tabs};

const REVISION: &str = "deployment.kubernetes.io/revision";
const CAUSE: &str = "kubernetes.io/change-cause";
const HASH: &str = "pod-template-hash";

/// One revision.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Grows with each.
    pub number: i64,
    /// The replica set or controller revision.
    pub object: Value,
}

/// All revisions that the object owns, oldest first.
pub async fn fetch(session: &Session, found: &Found) -> Result<Vec<Revision>> {
    let of = match found.resource.kind.as_str() {
        "Deployment" => "replicasets.apps",
        "DaemonSet" | "StatefulSet" => "controllerrevisions.apps",
        other => return Error::usage(format!("no history viewer has been implemented for {other}")),
    };
    let resource = session.catalog().await?.resolve(of)?.clone();
    let list = session.list(&resource.path(found.namespace.as_deref(), None), &[]).await?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(owned(items, found.object["metadata"]["uid"].as_str().unwrap_or_default()))
}

fn owned(items: Vec<Value>, uid: &str) -> Vec<Revision> {
    let is_owned = |item: &Value| {
        item["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["controller"] == true && owner["uid"] == uid)
    };
    let number = |item: &Value| match &item["revision"] {
        Value::Null => item["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse().ok()),
        number => number.as_i64(),
    };
    let revision = |item: Value| Some(Revision { number: number(&item)?, object: item });
    let mut found: Vec<Revision> = items.into_iter().filter(is_owned).filter_map(revision).collect();
    found.sort_by_key(|revision| revision.number);
    found
}

/// The revision to go back to: the one asked for, or the last but one.
pub fn target(revisions: &[Revision], to: i64) -> Result<&Revision> {
    if to > 0 {
        return revisions
            .iter()
            .find(|revision| revision.number == to)
            .ok_or_else(|| Error::Usage(format!("unable to find specified revision {to} in history")));
    }
    match revisions {
        [.., before, _] => Ok(before),
        _ => Error::usage("no rollout history found to go back to"),
    }
}

impl Revision {
    /// Its pod template, without the label that tells replica sets apart.
    pub fn template(&self) -> Value {
        let mut template = match &self.object["data"] {
            Value::Null => self.object["spec"]["template"].clone(),
            data => data["spec"]["template"].clone(),
        };
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        if let Some(template) = template.as_object_mut() {
            // A marker of the patch that the revision is stored as.
            template.remove("$patch");
        }
        template
    }

    /// Whether the object has this template now.
    pub fn is_current(&self, object: &Value) -> bool {
        let bare = |mut template: Value| {
            if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.retain(|key, value| !(value.is_null() || key == "creationTimestamp"));
            }
            template
        };
        bare(self.template()) == bare(object["spec"]["template"].clone())
    }

    /// The patch that brings it back, and its content type.
    pub fn patch(&self, object: &Value) -> (&'static str, Value) {
        if self.object["data"].is_object() {
            return ("application/strategic-merge-patch+json", self.object["data"].clone());
        }
        // The annotations of the revision come back with it, but for those that belong to the object alone.
        let kept = [
            "kubectl.kubernetes.io/last-applied-configuration",
            REVISION,
            "deployment.kubernetes.io/revision-history",
            "deployment.kubernetes.io/desired-replicas",
            "deployment.kubernetes.io/max-replicas",
        ];
        let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let mut annotations = map(&object["metadata"]["annotations"]);
        annotations.retain(|key, _| kept.contains(&key.as_str()));
        annotations.extend(map(&self.object["metadata"]["annotations"]).into_iter().filter(|(key, _)| !kept.contains(&key.as_str())));
        let patch = json!([
            {"op": "replace", "path": "/spec/template", "value": self.template()},
            {"op": "add", "path": "/metadata/annotations", "value": annotations},
        ]);
        ("application/json-patch+json", patch)
    }

    fn cause(&self) -> &str {
        self.object["metadata"]["annotations"][CAUSE].as_str().unwrap_or("<none>")
    }
}

/// What `rollout history` prints.
pub fn show(found: &Found, revisions: &[Revision], number: i64, form: Option<&str>) -> Result<String> {
    let title = found.title();
    if number > 0 {
        let Some(revision) = revisions.iter().find(|revision| revision.number == number) else {
            return Error::usage(format!("unable to find the specified revision {number}"));
        };
        if form.is_some() {
            let text = output::Output::parse(form)?.render(&revision.object, None)?;
            return Ok(text.unwrap_or_default());
        }
        // The hash is shown here: it is how the revision's pods are found.
        let template = match &revision.object["data"] {
            Value::Null => revision.object["spec"]["template"].clone(),
            _ => revision.template(),
        };
        return Ok(format!("{title} with revision #{number}\nPod Template:\n{}\n", describe::pod_template(&template, 1)));
    }
    if form.is_some() {
        let list: Vec<&Value> = revisions.iter().map(|revision| &revision.object).collect();
        let text = output::Output::parse(form)?.render(&json!({"apiVersion": "v1", "kind": "List", "items": list}), None)?;
        return Ok(text.unwrap_or_default());
    }
    let rows: String = revisions.iter().map(|revision| format!("{}\t{}\n", revision.number, revision.cause())).collect();
    Ok(format!("{title} \n{}\n", tabs::align(&format!("REVISION\tCHANGE-CAUSE\n{rows}"), 0, 2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    fn value(yaml: &str) -> Value {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn revisions() -> Vec<Revision> {
        let set = |number: i64, image: &str, uid: &str, cause: &str| {
            value(&format!(
                "{{metadata: {{annotations: {{deployment.kubernetes.io/revision: '{number}'{cause}}}, ownerReferences: [{{controller: true, uid: {uid}}}]}}, \
                 spec: {{template: {{metadata: {{labels: {{app: a, pod-template-hash: h{number}}}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}}}}}"
            ))
        };
        let sets = vec![set(10, "y", "u", ", kubernetes.io/change-cause: why"), set(2, "x", "u", ""), set(3, "z", "another", "")];
        owned(sets, "u")
    }

    #[test]
    fn the_way_back() {
        let revisions = revisions();
        assert_eq!(revisions.iter().map(|revision| revision.number).collect::<Vec<_>>(), [2, 10]);
        assert_eq!((target(&revisions, 0).unwrap().number, target(&revisions, 10).unwrap().number), (2, 10));
        assert!(target(&revisions, 5).is_err() && target(&revisions[..1], 0).is_err());
        let now = value(
            "{metadata: {annotations: {deployment.kubernetes.io/revision: '10', x: y}}, spec: {template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: y}]}}}}",
        );
        assert!(revisions[1].is_current(&now) && !revisions[0].is_current(&now));
        let (_, patch) = revisions[0].patch(&now);
        let back = crate::api::patch::json(&now, patch.to_string().as_bytes()).unwrap();
        assert!(revisions[0].is_current(&back), "{back}");
        assert_eq!(back["metadata"]["annotations"], value("{deployment.kubernetes.io/revision: '10'}"));
    }

    #[test]
    fn history() {
        let found = Found::new(support::catalog().resolve("deploy").unwrap(), value("{metadata: {name: d}}"));
        let text = show(&found, &revisions(), 0, None).unwrap();
        assert_eq!(text, "deployment.apps/d \nREVISION  CHANGE-CAUSE\n2         <none>\n10        why\n\n");
        let one = show(&found, &revisions(), 2, None).unwrap();
        assert!(one.starts_with("deployment.apps/d with revision #2\nPod Template:\n  Labels:  app=a\n"), "{one}");
        assert!(one.contains("pod-template-hash=h2") && one.contains("Image:"), "{one}");
        assert!(show(&found, &revisions(), 4, None).is_err());
    }
}
