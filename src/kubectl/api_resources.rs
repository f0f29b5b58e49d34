//! `api-resources` and `api-versions`: what the server serves.

use std::collections::BTreeSet;

use clap::Args;

use super::error::{Error, Result};
use super::session::Session;
use super::tabs;
use super::verb::Verb;

/// Flags of `api-resources`.
#[derive(Args, Clone, Debug, Default)]
pub struct ApiResources {
    /// Output: wide or name
    #[arg(short = 'o', long)]
    pub output: Option<String>,
    /// Only those that live in namespaces, or only the others
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub namespaced: Option<bool>,
    /// Only of this group
    #[arg(long)]
    pub api_group: Option<String>,
    /// Only with these verbs
    #[arg(long, value_delimiter = ',')]
    pub verbs: Vec<String>,
    /// Only of these categories
    #[arg(long, value_delimiter = ',')]
    pub categories: Vec<String>,
    /// Leave the column names out
    #[arg(long)]
    pub no_headers: bool,
}

impl Verb for ApiResources {
    const NAME: &'static str = "api-resources";
    const ABOUT: &'static str = "Print the supported API resources on the server";

    async fn run(self, session: &Session) -> Result<i32> {
        let wide = match self.output.as_deref() {
            None | Some("") => false,
            Some("wide") => true,
            Some("name") => false,
            Some(other) => return Error::usage(format!("--output {other} is not available in kubectl api-resources")),
        };
        let by_name = self.output.as_deref() == Some("name");
        let mut seen = BTreeSet::new();
        let catalog = session.catalog().await?;
        let mut shown: Vec<_> =
            catalog.resources.iter().filter(|resource| !resource.verbs.is_empty() && seen.insert(resource.qualified())).collect();
        shown.retain(|resource| {
            self.namespaced.is_none_or(|namespaced| resource.namespaced == namespaced)
                && self.api_group.as_ref().is_none_or(|group| resource.group == *group)
                && self.verbs.iter().all(|verb| resource.can(verb))
                && self.categories.iter().all(|category| resource.categories.contains(category))
        });
        shown.sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
        if by_name {
            let names: String = shown.iter().map(|resource| format!("{}\n", resource.qualified())).collect();
            session.print(&names)?;
            return Ok(0);
        }
        let mut text = String::new();
        if !self.no_headers {
            text.push_str("NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND");
            text.push_str(if wide { "\tVERBS\tCATEGORIES\n" } else { "\n" });
        }
        for resource in shown {
            let (short, version) = (resource.short_names.join(","), resource.api_version());
            text.push_str(&format!("{}\t{short}\t{version}\t{}\t{}", resource.name, resource.namespaced, resource.kind));
            if wide {
                text.push_str(&format!("\t{}\t{}", resource.verbs.join(","), resource.categories.join(",")));
            }
            text.push('\n');
        }
        session.print(&tabs::align(&text, 6, 3))?;
        Ok(0)
    }
}

/// `api-versions`, which has no flags.
#[derive(Args, Clone, Debug, Default)]
pub struct ApiVersions {}

impl Verb for ApiVersions {
    const NAME: &'static str = "api-versions";
    const ABOUT: &'static str = "Print the supported API versions on the server, in the form of \"group/version\"";

    async fn run(self, session: &Session) -> Result<i32> {
        let versions: BTreeSet<String> = session.catalog().await?.resources.iter().map(|resource| resource.api_version()).collect();
        for version in versions {
            session.line(&version)?;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    #[tokio::test]
    async fn lists() {
        let (session, record) = support::session(&[]);
        ApiResources { api_group: Some("apps".into()), ..Default::default() }.run(&session).await.unwrap();
        ApiVersions {}.run(&session).await.unwrap();
        session.flush();
        let expected = "NAME          SHORTNAMES   APIVERSION   NAMESPACED   KIND\n\
                        daemonsets    ds           apps/v1      true         DaemonSet\n\
                        deployments   deploy       apps/v1      true         Deployment\n\
                        replicasets   rs           apps/v1      true         ReplicaSet\n\
                        apps/v1\ncertificates.k8s.io/v1\nevents.k8s.io/v1\nv1\n";
        assert_eq!(record.output(), expected);
    }
}
