//! `set image`: changes the images of a pod template.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Change, DryRun};
use super::objects::Selection;
use super::output;
use super::session::{Session, with_query};
use super::verb::Verb;

/// Flags of `set`.
#[derive(Args, Clone, Debug)]
pub struct Set {
    #[command(subcommand)]
    pub what: What,
}

/// What is set.
#[derive(Subcommand, Clone, Debug)]
pub enum What {
    /// Update the image of containers: CONTAINER=IMAGE, or *=IMAGE for all
    Image {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        change: Change,
    },
}

impl Verb for Set {
    const NAME: &'static str = "set";
    const ABOUT: &'static str = "Set specific features on objects";

    async fn run(self, session: &Session) -> Result<i32> {
        let What::Image { mut selection, change } = self.what;
        let (images, words): (Vec<String>, Vec<String>) = selection.words.iter().cloned().partition(|word| word.contains('='));
        if images.is_empty() {
            return Error::usage("at least one image update is required");
        }
        selection.words = words;
        let pairs: Vec<(&str, &str)> = images.iter().filter_map(|pair| pair.split_once('=')).collect();
        let found = selection.fetch(session).await?;
        for found in found {
            let (patch, template) = patch(&found.object, &pairs)?;
            let Some(patch) = patch else {
                continue;
            };
            let object = match change.dry_run {
                DryRun::Client => {
                    let mut object = found.object.clone();
                    json_patch::merge(&mut object, &template);
                    object
                }
                _ => {
                    let path = with_query(&found.path(), &change.query());
                    session.change_as(Method::PATCH, &path, "application/strategic-merge-patch+json", &patch).await?
                }
            };
            output::report(session, &change, &found.title(), &object, "image updated")?;
        }
        Ok(0)
    }
}

/// The path to the pod's spec in an object of this kind.
fn pod_spec(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["spec"],
        "CronJob" => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => &["spec", "template", "spec"],
    }
}

/// The strategic patch, `None` if nothing changes; and the same as a merge patch of whole lists.
fn patch(object: &Value, pairs: &[(&str, &str)]) -> Result<(Option<Value>, Value)> {
    let path = pod_spec(object["kind"].as_str().unwrap_or_default());
    let spec = path.iter().fold(object, |value, step| &value[*step]);
    let (mut strategic, mut merge) = (json!({}), json!({}));
    let mut matched = vec![false; pairs.len()];
    for list in ["containers", "initContainers"] {
        let mut changed = Vec::new();
        let mut whole = spec[list].as_array().cloned().unwrap_or_default();
        for container in &mut whole {
            let name = container["name"].as_str().unwrap_or_default().to_string();
            for (at, (wanted, image)) in pairs.iter().enumerate() {
                if *wanted != "*" && *wanted != name {
                    continue;
                }
                matched[at] = true;
                if container["image"] != *image {
                    container["image"] = (*image).into();
                    changed.push(json!({"name": name, "image": image}));
                }
            }
        }
        if !changed.is_empty() {
            strategic[list] = Value::Array(changed);
            merge[list] = Value::Array(whole);
        }
    }
    if let Some(at) = matched.iter().position(|matched| !matched) {
        return Error::usage(format!("unable to find container named {:?}", pairs[at].0));
    }
    let wrap = |inner: Value| path.iter().rev().fold(inner, |inner, step| json!({ *step: inner }));
    let nothing = strategic.as_object().is_none_or(serde_json::Map::is_empty);
    Ok((Some(wrap(strategic)).filter(|_| !nothing), wrap(merge)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let deployment: Value = serde_yaml::from_str(
            "{kind: Deployment, spec: {template: {spec: {containers: [{name: a, image: x}, {name: b, image: y}], initContainers: [{name: i, image: z}]}}}}",
        )
        .unwrap();
        let check = |pairs: &[(&str, &str)], expected: &str| {
            let (patch, _) = patch(&deployment, pairs).unwrap();
            assert_eq!(patch.unwrap_or_default(), serde_yaml::from_str::<Value>(expected).unwrap(), "{pairs:?}");
        };
        check(&[("a", "n")], "{spec: {template: {spec: {containers: [{name: a, image: n}]}}}}");
        check(
            &[("*", "n")],
            "{spec: {template: {spec: {containers: [{name: a, image: n}, {name: b, image: n}], initContainers: [{name: i, image: n}]}}}}",
        );
        check(&[("a", "x")], "null");
        assert_eq!(patch(&deployment, &[("q", "x")]).unwrap_err().to_string(), "error: unable to find container named \"q\"");
    }
}
