//! `apply`: makes the server have what files state.
//!
//! Client-side by default: a three-way patch against the manifest that the last apply left in an annotation. With `--server-side` the server
//! merges. Follows `kubectl/pkg/cmd/apply/apply.go` and `patcher.go`.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Change, DryRun, Files};
use super::objects::{Found, located};
use super::output;
use super::session::{JSON, Session, with_query};
use super::three_way::{self, LAST_APPLIED};
use super::verb::Verb;

/// How often a patch is made anew when someone else was faster.
const MAX_CONFLICTS: usize = 5;

/// Flags of `apply`.
#[derive(Args, Clone, Debug, Default)]
pub struct Apply {
    #[command(flatten)]
    pub files: Files,
    #[command(flatten)]
    pub change: Change,
    /// Let the server merge
    #[arg(long)]
    pub server_side: bool,
    /// With --server-side: take fields over from others
    #[arg(long)]
    pub force_conflicts: bool,
    /// How the server treats unknown fields: strict, warn, ignore
    #[arg(long, default_value = "strict", num_args = 0..=1, default_missing_value = "strict")]
    pub validate: String,
    /// Only apply objects with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Delete what is no longer stated (not supported)
    #[arg(long)]
    pub prune: bool,
    /// Write the manifest into the annotation (always so)
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub overwrite: Option<bool>,
}

impl Verb for Apply {
    const NAME: &'static str = "apply";
    const ABOUT: &'static str = "Apply a configuration to a resource by file name or standard input";

    async fn run(self, session: &Session) -> Result<i32> {
        if self.prune {
            return Error::usage("--prune is not supported: delete what is no longer stated with `kubectl delete -f` or by label");
        }
        if self.files.filename.is_empty() && self.files.kustomize.is_none() {
            return Error::usage("must specify one of -f and -k");
        }
        if self.server_side && self.change.dry_run == DryRun::Client {
            return Error::usage("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)");
        }
        if self.force_conflicts && !self.server_side {
            return Error::usage("--force-conflicts only works with --server-side");
        }
        let selector = self.selector.as_deref().map(crate::api::selector::LabelSelector::parse).transpose()?;
        let mut failed = false;
        for stated in located(session, &self.files).await? {
            let labels = serde_json::from_value(stated.object["metadata"]["labels"].clone()).unwrap_or_default();
            if selector.as_ref().is_some_and(|selector| !selector.matches(Some(&labels))) {
                continue;
            }
            match self.one(session, &stated).await {
                Ok(()) => {}
                Err(error) if error.status().is_some() => {
                    session.note(&error.to_string());
                    failed = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(i32::from(failed))
    }
}

impl Apply {
    fn validation(&self) -> &'static str {
        match self.validate.as_str() {
            "ignore" | "false" => "Ignore",
            "warn" => "Warn",
            _ => "Strict",
        }
    }

    fn query(&self) -> Vec<(&str, &str)> {
        let manager = if self.server_side { "kubectl" } else { "kubectl-client-side-apply" };
        let mut query = self.change.query_as(manager);
        query.push(("fieldValidation", self.validation()));
        query
    }

    async fn one(&self, session: &Session, stated: &Found) -> Result<()> {
        if stated.name.is_empty() {
            return match stated.object["metadata"]["generateName"].as_str() {
                Some(prefix) => Error::usage(format!("from {prefix}: cannot use generate name with apply")),
                None => Error::usage("resource name may not be empty"),
            };
        }
        if self.server_side {
            let mut query = self.query();
            if self.force_conflicts {
                query.push(("force", "true"));
            }
            let path = with_query(&stated.path(), &query);
            let sent = session.change_as(Method::PATCH, &path, "application/apply-patch+yaml", &stated.object).await;
            let object = sent.map_err(explain_conflict)?;
            return output::report(session, &self.change, &stated.title(), &object, "serverside-applied");
        }
        let modified = annotated(&stated.object)?;
        match session.get(&stated.path(), JSON).await {
            Ok(current) => self.update(session, stated, &modified, current).await,
            Err(error) if error.is_not_found() => {
                let object = match self.change.dry_run {
                    DryRun::Client => modified,
                    _ => {
                        let all = with_query(&stated.resource.path(stated.namespace.as_deref(), None), &self.query());
                        session.change(Method::POST, &all, &modified).await?
                    }
                };
                output::report(session, &self.change, &stated.title(), &object, "created")
            }
            Err(error) => Err(error),
        }
    }

    async fn update(&self, session: &Session, stated: &Found, modified: &Value, mut current: Value) -> Result<()> {
        let of = three_way::built_in(&stated.resource.api_version(), &stated.resource.kind);
        let content_type = if of.is_some() { "application/strategic-merge-patch+json" } else { "application/merge-patch+json" };
        let mut attempt = 0;
        loop {
            let original = last_applied(&current)?;
            if original.is_none() && !self.server_side {
                session.note(&format!(
                    "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. kubectl apply should \
                     only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing \
                     annotation will be patched automatically.",
                    stated.resource.name, stated.name
                ));
            }
            let patch = three_way::patch(original.as_ref(), modified, &current, of);
            if patch.as_object().is_some_and(serde_json::Map::is_empty) {
                return output::report(session, &self.change, &stated.title(), &current, "unchanged");
            }
            if self.change.dry_run == DryRun::Client {
                let object = match of {
                    Some(of) => crate::api::patch::strategic(current, patch.to_string().as_bytes(), of.name)?,
                    None => crate::api::patch::merge(current, patch.to_string().as_bytes())?,
                };
                return output::report(session, &self.change, &stated.title(), &object, "configured");
            }
            let path = with_query(&stated.path(), &self.query());
            match session.change_as(Method::PATCH, &path, content_type, &patch).await {
                Ok(object) => {
                    let same = object["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"]
                        && self.change.dry_run == DryRun::None;
                    return output::report(session, &self.change, &stated.title(), &object, if same { "unchanged" } else { "configured" });
                }
                Err(error) if error.is_conflict() && attempt < MAX_CONFLICTS => {
                    attempt += 1;
                    current = session.get(&stated.path(), JSON).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The manifest with itself in the annotation, as the next apply will find it.
pub fn annotated(stated: &Value) -> Result<Value> {
    let mut bare = stated.clone();
    let Some(meta) = bare.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Error::usage("an object must have metadata");
    };
    let annotations = meta.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    let Some(annotations) = annotations.as_object_mut() else { return Error::usage("metadata.annotations must be a map") };
    annotations.remove(LAST_APPLIED);
    let text = format!("{bare}\n");
    bare["metadata"]["annotations"][LAST_APPLIED] = text.into();
    Ok(bare)
}

/// What to do about fields that others own, as upstream says it (kubectl `pkg/cmd/apply/apply.go`).
fn explain_conflict(error: Error) -> Error {
    let Error::Api(status) = &error else { return error };
    if status.code != Some(409) {
        return error;
    }
    Error::Usage(format!(
        "{}\nPlease review the fields above--they currently have other managers. Here\n\
         are the ways you can resolve this warning:\n\
         * If you intend to manage all of these fields, please re-run the apply\n  command with the `--force-conflicts` flag.\n\
         * If you do not intend to manage all of the fields, please edit your\n  \
         manifest to remove references to the fields that should keep their\n  current managers.\n\
         * You may co-own fields by updating your manifest to match the existing\n  \
         value; in this case, you'll become the manager if the other manager(s)\n  \
         stop managing the field (remove it from their configuration).\n\
         See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
        status.message.as_deref().unwrap_or_default()
    ))
}

/// What the last apply stated; `None` if nothing was ever applied.
fn last_applied(current: &Value) -> Result<Option<Value>> {
    let Some(text) = current["metadata"]["annotations"][LAST_APPLIED].as_str() else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|source| Error::Json { what: "the last-applied-configuration annotation", source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    async fn run(yaml: &str, flags: Apply, answers: &[(&str, &str)]) -> (Result<i32>, String, Vec<String>) {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let (session, record) = support::session(answers);
        let files = Files { filename: vec![file.path().display().to_string()], ..Files::default() };
        let result = Apply { files, validate: "strict".into(), ..flags }.run(&session).await;
        session.flush();
        (result, record.output(), record.requests())
    }

    const MAP: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: new}}";
    const PATH: &str = "/api/v1/namespaces/default/configmaps";

    #[tokio::test]
    async fn a_new_object_is_created_with_its_manifest() {
        let (code, out, requests) = run(MAP, Apply::default(), &[("POST /api/v1/namespaces/default/configmaps", MAP)]).await;
        assert_eq!((code.unwrap(), out.as_str()), (0, "configmap/a created\n"));
        assert_eq!(requests[0], format!("GET {PATH}/a"));
        assert!(
            requests[1].starts_with(&format!("POST {PATH}?fieldManager=kubectl-client-side-apply&fieldValidation=Strict ")),
            "{requests:?}"
        );
        assert!(requests[1].contains(LAST_APPLIED));
    }

    #[tokio::test]
    async fn a_known_object_is_patched() {
        let now = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: default, resourceVersion: '1', annotations: {{{LAST_APPLIED}: \
             '{{\"data\":{{\"k\":\"old\",\"gone\":\"x\"}}}}'}}}}, data: {{k: old, gone: x, other: y}}}}"
        );
        let get = "GET /api/v1/namespaces/default/configmaps/a";
        let answers = [(get, now.as_str()), ("PATCH /api/v1/namespaces/default/configmaps/a", MAP)];
        let (code, out, requests) = run(MAP, Apply::default(), &answers).await;
        assert_eq!((code.unwrap(), out.as_str()), (0, "configmap/a configured\n"));
        assert!(requests[1].contains(r#""data":{"gone":null,"k":"new"}"#), "{requests:?}");
        // Nothing is sent in a dry run of the client.
        let dry = Apply { change: Change { dry_run: DryRun::Client, ..Change::default() }, ..Apply::default() };
        let (_, out, requests) = run(MAP, dry, &answers).await;
        assert_eq!((out.as_str(), requests.len()), ("configmap/a configured (dry run)\n", 1));
    }

    #[test]
    fn conflicts_are_explained() {
        let refused = |code| {
            let message = Some("Apply failed with 1 conflict: conflict with \"a\": .data.k".into());
            let status = k8s_openapi::apimachinery::pkg::apis::meta::v1::Status { code: Some(code), message, ..Default::default() };
            explain_conflict(Error::Api(Box::new(status))).to_string()
        };
        assert!(refused(409).starts_with("error: Apply failed with 1 conflict: conflict with \"a\": .data.k\nPlease review the fields"));
        assert!(!refused(422).contains("Please review"));
    }

    #[tokio::test]
    async fn refusals() {
        for (flags, part) in [
            (Apply { prune: true, ..Apply::default() }, "--prune is not supported"),
            (Apply { force_conflicts: true, ..Apply::default() }, "only works with --server-side"),
        ] {
            let (code, _, requests) = run(MAP, flags, &[]).await;
            assert!(code.unwrap_err().to_string().contains(part));
            assert!(requests.is_empty());
        }
        let unknown = "{apiVersion: x/v1, kind: Z, metadata: {name: a}}";
        let (code, _, _) = run(unknown, Apply::default(), &[]).await;
        assert!(code.unwrap_err().to_string().contains("no matches for kind \"Z\" in version \"x/v1\""));
    }
}
