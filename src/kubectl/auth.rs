//! `auth`: what the user may do, and who the user is.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::session::Session;
use super::tabs;
use super::verb::Verb;

/// Flags of `auth`.
#[derive(Args, Clone, Debug)]
pub struct Auth {
    #[command(subcommand)]
    pub action: Action,
}

/// What is asked.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Check whether an action is allowed
    CanI {
        /// VERB, then TYPE, TYPE/NAME or an address
        words: Vec<String>,
        /// Subresource, such as log
        #[arg(long)]
        subresource: Option<String>,
        /// In all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// List all that is allowed
        #[arg(long)]
        list: bool,
        /// Print nothing: only the exit code tells
        #[arg(short = 'q', long)]
        quiet: bool,
    },
    /// Show who the server says we are
    Whoami,
}

impl Verb for Auth {
    const NAME: &'static str = "auth";
    const ABOUT: &'static str = "Inspect authorization";

    async fn run(self, session: &Session) -> Result<i32> {
        match self.action {
            Action::Whoami => whoami(session).await,
            Action::CanI { list: true, .. } => list(session).await,
            Action::CanI { words, subresource, all_namespaces, quiet, .. } => {
                let attributes = attributes(session, &words, subresource.as_deref(), all_namespaces).await?;
                let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": attributes});
                let answer = session.change(Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await?;
                let allowed = answer["status"]["allowed"] == true;
                let mut text = if allowed { "yes".to_string() } else { "no".to_string() };
                for (field, format) in [("reason", " - "), ("evaluationError", " - ")] {
                    if let Some(why) = answer["status"][field].as_str().filter(|why| !why.is_empty() && !allowed) {
                        text.push_str(format);
                        text.push_str(why);
                    }
                }
                if !quiet {
                    session.line(&text)?;
                }
                Ok(i32::from(!allowed))
            }
        }
    }
}

async fn attributes(session: &Session, words: &[String], subresource: Option<&str>, all: bool) -> Result<Value> {
    let (verb, what, name) = match words {
        [verb, what] => (verb, what, None),
        [verb, what, name] => (verb, what, Some(name.clone())),
        _ => return Error::usage("you must specify two arguments: verb resource or verb resource/resourceName"),
    };
    if what.starts_with('/') {
        return Ok(json!({"nonResourceAttributes": {"verb": verb, "path": what}}));
    }
    let (what, name) = match what.split_once('/') {
        Some((what, name)) => (what, Some(name.to_string())),
        None => (what.as_str(), name),
    };
    let mut attributes = match session.catalog().await?.resolve(what) {
        Ok(resource) => {
            let mut attributes = json!({"verb": verb, "group": resource.group, "resource": resource.name});
            if resource.namespaced && !all {
                attributes["namespace"] = session.namespace().await?.into();
            } else if !resource.namespaced {
                session.note(&format!("Warning: resource '{}' is not namespace scoped", resource.name));
            }
            attributes
        }
        Err(_) if what == "*" => json!({"verb": verb, "group": "*", "resource": "*"}),
        Err(_) => {
            session.note(&format!("Warning: the server doesn't have a resource type '{what}'"));
            json!({"verb": verb, "group": "", "resource": what, "namespace": session.namespace().await?})
        }
    };
    for (field, value) in [("name", name.as_deref()), ("subresource", subresource)] {
        if let Some(value) = value {
            attributes[field] = value.into();
        }
    }
    Ok(json!({"resourceAttributes": attributes}))
}

async fn list(session: &Session) -> Result<i32> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": session.namespace().await?}});
    let answer = session.change(Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review).await?;
    let join = |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let mut text = String::from("Resources\tNon-Resource URLs\tResource Names\tVerbs\n");
    for rule in answer["status"]["resourceRules"].as_array().into_iter().flatten() {
        let groups: Vec<&str> = rule["apiGroups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for resource in rule["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            for group in &groups {
                let full = if group.is_empty() { resource.to_string() } else { format!("{resource}.{group}") };
                text.push_str(&format!("{full}\t[]\t[{}]\t[{}]\n", join(&rule["resourceNames"]), join(&rule["verbs"])));
            }
        }
    }
    for rule in answer["status"]["nonResourceRules"].as_array().into_iter().flatten() {
        text.push_str(&format!("\t[{}]\t[]\t[{}]\n", join(&rule["nonResourceURLs"]), join(&rule["verbs"])));
    }
    session.print(&tabs::align(&text, 6, 3))?;
    Ok(0)
}

async fn whoami(session: &Session) -> Result<i32> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = session.change(Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await?;
    let user = &answer["status"]["userInfo"];
    let groups: Vec<&str> = user["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let text = format!("ATTRIBUTE\tVALUE\nUsername\t{}\nGroups\t[{}]\n", user["username"].as_str().unwrap_or_default(), groups.join(" "));
    session.print(&tabs::align(&text, 6, 3))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    #[tokio::test]
    async fn questions() {
        for (line, expected) in [
            ("get po", "{resourceAttributes: {verb: get, group: '', resource: pods, namespace: default}}"),
            ("get deploy/x", "{resourceAttributes: {verb: get, group: apps, resource: deployments, namespace: default, name: x}}"),
            ("list nodes", "{resourceAttributes: {verb: list, group: '', resource: nodes}}"),
            ("get /healthz", "{nonResourceAttributes: {verb: get, path: /healthz}}"),
            ("* *", "{resourceAttributes: {verb: '*', group: '*', resource: '*'}}"),
        ] {
            let (session, _) = support::session(&[]);
            let words: Vec<String> = line.split(' ').map(str::to_string).collect();
            let got = attributes(&session, &words, None, false).await.unwrap();
            assert_eq!(got, serde_yaml::from_str::<Value>(expected).unwrap(), "{line}");
        }
    }
}
