//! `patch`: changes fields of an object.

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;

use super::error::{Error, Result};
use super::flags::{Change, DryRun};
use super::objects::Selection;
use super::output;
use super::session::{Session, with_query};
use super::three_way;
use super::verb::Verb;

/// Which of the three ways.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Lists by key.
    Strategic,
}

/// Flags of `patch`.
#[derive(Args, Clone, Debug)]
pub struct Patch {
    #[command(flatten)]
    pub selection: Selection,
    /// The patch, as JSON or YAML
    #[arg(short = 'p', long)]
    pub patch: Option<String>,
    /// File with the patch
    #[arg(long)]
    pub patch_file: Option<String>,
    /// json, merge or strategic
    #[arg(long = "type", value_enum, default_value = "strategic")]
    pub kind: Kind,
    /// Patch this subresource
    #[arg(long)]
    pub subresource: Option<String>,
    #[command(flatten)]
    pub change: Change,
}

impl Verb for Patch {
    const NAME: &'static str = "patch";
    const ABOUT: &'static str = "Update fields of a resource";

    async fn run(self, session: &Session) -> Result<i32> {
        let text = match (&self.patch, &self.patch_file) {
            (Some(patch), None) => patch.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).map_err(|source| Error::File { action: "open", path: path.into(), source })?
            }
            _ => return Error::usage("must specify --patch or --patch-file containing the contents of the patch"),
        };
        let patch: Value = crate::api::yaml::read(text.as_bytes(), &mut Vec::new())
            .map_err(|source| Error::Manifest { name: "the patch".into(), source })?;
        for found in self.selection.fetch(session).await? {
            let content_type = match self.kind {
                Kind::Json => "application/json-patch+json",
                Kind::Merge => "application/merge-patch+json",
                Kind::Strategic => "application/strategic-merge-patch+json",
            };
            let object = if self.change.dry_run == DryRun::Client {
                let bytes = patch.to_string().into_bytes();
                match (self.kind, three_way::built_in(&found.resource.api_version(), &found.resource.kind)) {
                    (Kind::Json, _) => crate::api::patch::json(&found.object, &bytes)?,
                    (Kind::Merge, _) => crate::api::patch::merge(found.object.clone(), &bytes)?,
                    (Kind::Strategic, Some(of)) => crate::api::patch::strategic(found.object.clone(), &bytes, of.name)?,
                    (Kind::Strategic, None) => {
                        return Error::usage("strategic merge patch is not supported for custom resources: use --type=merge");
                    }
                }
            } else {
                let below = self.subresource.as_ref().map(|sub| format!("/{sub}")).unwrap_or_default();
                let path = with_query(&format!("{}{below}", found.path()), &self.change.query());
                session.change_as(Method::PATCH, &path, content_type, &patch).await?
            };
            let same =
                object["metadata"]["resourceVersion"] == found.object["metadata"]["resourceVersion"] && self.change.dry_run == DryRun::None;
            output::report(session, &self.change, &found.title(), &object, if same { "patched (no change)" } else { "patched" })?;
        }
        Ok(0)
    }
}
