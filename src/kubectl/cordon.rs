//! `cordon` and `uncordon`: keep new pods away from nodes, and let them come again.
//!
//! Follows `kubectl/pkg/cmd/drain/drain.go`.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::DryRun;
use super::objects::Found;
use super::session::{JSON, Session, with_query};
use super::verb::Verb;
use crate::api::selector::LabelSelector;

/// Flags that `drain` has too: which nodes.
#[derive(Args, Clone, Debug, Default)]
pub struct Nodes {
    /// NODE, or node/NODE
    #[arg(value_name = "NODE")]
    pub words: Vec<String>,
    /// Label selector of nodes
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Only show what would be done (client), or have the server check without storing (server)
    #[arg(long, value_enum, default_value = "none", num_args = 0..=1, default_missing_value = "client", require_equals = true)]
    pub dry_run: DryRun,
}

/// `cordon`
#[derive(Args, Clone, Debug)]
pub struct Cordon {
    #[command(flatten)]
    pub nodes: Nodes,
}

/// `uncordon`
#[derive(Args, Clone, Debug)]
pub struct Uncordon {
    #[command(flatten)]
    pub nodes: Nodes,
}

impl Verb for Cordon {
    const NAME: &'static str = "cordon";
    const ABOUT: &'static str = "Mark node as unschedulable";

    async fn run(self, session: &Session) -> Result<i32> {
        let nodes = self.nodes.fetch(session, Self::NAME).await?;
        mark(session, &nodes, true, self.nodes.dry_run).await?;
        Ok(0)
    }
}

impl Verb for Uncordon {
    const NAME: &'static str = "uncordon";
    const ABOUT: &'static str = "Mark node as schedulable";

    async fn run(self, session: &Session) -> Result<i32> {
        let nodes = self.nodes.fetch(session, Self::NAME).await?;
        mark(session, &nodes, false, self.nodes.dry_run).await?;
        Ok(0)
    }
}

impl Nodes {
    /// The nodes as the server has them; the first that can't be had is the error.
    pub async fn fetch(&self, session: &Session, verb: &str) -> Result<Vec<Found>> {
        let selector = self.selector.as_deref().unwrap_or_default();
        match (self.words.is_empty(), self.selector.is_none(), selector.is_empty()) {
            (true, true, _) => return Error::usage_of(verb, &format!("USAGE: {verb} NODE [flags]")),
            (false, _, false) => return Error::usage_of(verb, "cannot specify both a node name and a --selector option"),
            _ => {}
        }
        let catalog = session.catalog().await?;
        let nodes = catalog.resolve("nodes")?;
        if self.words.is_empty() {
            LabelSelector::parse(selector)?;
            let mut list = session.list(&nodes.path(None, None), &[("labelSelector", selector)]).await?;
            let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            return Ok(items.into_iter().map(|item| Found::new(nodes, item)).collect());
        }
        let mut found = Vec::new();
        for word in &self.words {
            let (kind, name) = word.split_once('/').unwrap_or(("nodes", word));
            let resource = catalog.resolve(kind)?;
            if (resource.group.as_str(), resource.name.as_str()) != ("", "nodes") {
                let shown = format!("{}/{}, Resource={}", resource.group, resource.version, resource.name);
                return Error::usage(format!("expected resource of type node, got {shown:?}"));
            }
            found.push(Found::new(nodes, session.get(&nodes.path(None, Some(name)), JSON).await?));
        }
        Ok(found)
    }
}

/// Marks nodes. One that can't be marked is told, and is no error of the command, as upstream has it.
pub async fn mark(session: &Session, nodes: &[Found], unschedulable: bool, dry_run: DryRun) -> Result<()> {
    let verb = if unschedulable { "cordon" } else { "uncordon" };
    for node in nodes {
        let is = node.object["spec"]["unschedulable"] == true;
        if is != unschedulable && dry_run != DryRun::Client {
            let query: Vec<_> = dry_run.query().into_iter().collect();
            let wanted = if unschedulable { Value::Bool(true) } else { Value::Null };
            let patch = json!({"spec": {"unschedulable": wanted}});
            let path = with_query(&node.path(), &query);
            let answer = session.change_as(Method::PATCH, &path, "application/strategic-merge-patch+json", &patch).await;
            if let Err(error) = answer {
                session.note(&format!("error: unable to {verb} node {:?}: {}", node.name, error.plain()));
                continue;
            }
        }
        let already = if is == unschedulable { "already " } else { "" };
        session.line(&format!("{} {already}{verb}ed{}", node.title(), dry_run.suffix()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    const NODES: &[(&str, &str)] = &[
        ("GET /api/v1/nodes/a", "{kind: Node, metadata: {name: a}}"),
        ("GET /api/v1/nodes/b", "{kind: Node, metadata: {name: b}, spec: {unschedulable: true}}"),
        ("GET /api/v1/nodes", "{kind: NodeList, items: [{metadata: {name: a}}, {metadata: {name: b}, spec: {unschedulable: true}}]}"),
        ("PATCH /api/v1/nodes/a", "{kind: Node, metadata: {name: a}}"),
        ("PATCH /api/v1/nodes/b", "{kind: Node, metadata: {name: b}}"),
        ("GET /api/v1/namespaces/default/pods/a", "{kind: Pod, metadata: {name: a}}"),
    ];

    async fn run(cordon: bool, line: &str) -> (Result<i32>, String, Vec<String>) {
        let (session, record) = support::session(NODES);
        let words = std::iter::once("x").chain(line.split_whitespace());
        let matches = <Nodes as Args>::augment_args(clap::Command::new("x")).get_matches_from(words);
        let nodes = <Nodes as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        let result = if cordon { Cordon { nodes }.run(&session).await } else { Uncordon { nodes }.run(&session).await };
        let changes = record.requests().into_iter().filter(|request| request.starts_with("PATCH")).collect();
        (result, record.output(), changes)
    }

    #[tokio::test]
    async fn nodes_are_marked() {
        let on = "PATCH /api/v1/nodes/a {\"spec\":{\"unschedulable\":true}}";
        let off = "PATCH /api/v1/nodes/b {\"spec\":{\"unschedulable\":null}}";
        let tried = "PATCH /api/v1/nodes/a?dryRun=All {\"spec\":{\"unschedulable\":true}}";
        let table: &[(bool, &str, &str, &[&str])] = &[
            (true, "a", "node/a cordoned\n", &[on]),
            (true, "node/a b", "node/a cordoned\nnode/b already cordoned\n", &[on]),
            (true, "-l x=y", "node/a cordoned\nnode/b already cordoned\n", &[on]),
            (true, "a --dry-run=client", "node/a cordoned (dry run)\n", &[]),
            (true, "a --dry-run=server", "node/a cordoned (server dry run)\n", &[tried]),
            (false, "a b", "node/a already uncordoned\nnode/b uncordoned\n", &[off]),
        ];
        for (cordon, line, out, requests) in table {
            let (code, printed, sent) = run(*cordon, line).await;
            assert_eq!((code.unwrap(), printed.as_str(), sent), (0, *out, requests.iter().map(|one| one.to_string()).collect()), "{line}");
        }
    }

    #[tokio::test]
    async fn words_that_name_no_node() {
        for (line, want) in [
            ("", "error: USAGE: cordon NODE [flags]\nSee 'kubectl cordon -h' for help and examples"),
            ("a -l x=y", "error: cannot specify both a node name and a --selector option\nSee 'kubectl cordon -h' for help and examples"),
            ("a nope", "Error from server (NotFound): nodes \"nope\" not found"),
            ("pod/a", "error: expected resource of type node, got \"/v1, Resource=pods\""),
        ] {
            assert_eq!(run(true, line).await.0.unwrap_err().to_string(), want, "{line}");
        }
    }
}
