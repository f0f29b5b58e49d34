//! `taint`: keeps pods that do not tolerate something away from nodes.
//!
//! Follows `kubectl/pkg/cmd/taint`, its oddities included: what is printed depends on how many taints there were before and after.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::{Change, DryRun};
use super::objects::Found;
use super::output;
use super::session::{JSON, Session, with_query};
use super::verb::Verb;
use crate::api::{names, selector::LabelSelector};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Flags of `taint`.
#[derive(Args, Clone, Debug)]
pub struct Taints {
    /// node NAME..., then KEY[=VALUE]:EFFECT to add and KEY[:EFFECT]- to remove
    #[arg(value_name = "WORD", allow_hyphen_values = false)]
    pub words: Vec<String>,
    /// Label selector of nodes
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// All nodes
    #[arg(long)]
    pub all: bool,
    /// Replace taints that are there
    #[arg(long)]
    pub overwrite: bool,
    /// Whether fields that are not known are errors: what a taint is, is known
    #[arg(long, num_args = 0..=1, default_missing_value = "strict", require_equals = true, hide = true)]
    pub validate: Option<String>,
    #[command(flatten)]
    pub change: Change,
}

/// A taint as the command line and nodes have it; when one is removed, no effect means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Taint {
    key: String,
    value: String,
    effect: String,
}

impl Taint {
    fn is_like(&self, other: &Taint) -> bool {
        (&self.key, &self.effect) == (&other.key, &other.effect)
    }

    fn is_meant(&self, removed: &Taint) -> bool {
        self.key == removed.key && (removed.effect.is_empty() || self.effect == removed.effect)
    }

    /// As upstream names what is to be removed.
    fn shown(&self) -> String {
        if self.effect.is_empty() { self.key.clone() } else { format!("{}:{}", self.key, self.effect) }
    }
}

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    resources: Vec<String>,
    added: Vec<Taint>,
    removed: Vec<Taint>,
}

impl Verb for Taints {
    const NAME: &'static str = "taint";
    const ABOUT: &'static str = "Update the taints on one or more nodes";

    async fn run(self, session: &Session) -> Result<i32> {
        let asked = asked(&self.words)?;
        let kind = asked.resources[0].to_lowercase();
        if session.catalog().await?.resolve(&kind)?.kind != "Node" {
            return Error::usage(format!("invalid resource type {kind}, only node types are supported"));
        }
        self.check(&asked)?;
        // Upstream does not tell a dry run from one that is none.
        let told = Change { dry_run: DryRun::None, ..self.change.clone() };
        let mut errors = Vec::new();
        for found in self.nodes(session, &asked, &mut errors).await? {
            match self.change(session, &found, &asked).await {
                Ok((object, done)) => output::report(session, &told, &found.title(), &object, done)?,
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(0) } else { Err(Error::all(errors)) }
    }
}

impl Taints {
    fn check(&self, asked: &Asked) -> Result<()> {
        let both = asked.added.iter().flat_map(|added| asked.removed.iter().filter(|removed| added.is_meant(removed)));
        let both: Vec<String> = both.map(|removed| format!("{}={}", removed.key, removed.effect)).collect();
        if !both.is_empty() {
            let both = both.join(", ");
            return Error::usage(format!("can not both modify and remove the following taint(s) in the same command: {both}"));
        }
        match (self.all, self.selector.as_deref().unwrap_or_default().is_empty(), asked.resources.len()) {
            (true, false, _) => Error::usage("setting 'all' parameter with a non empty selector is prohibited"),
            (false, true, 0 | 1) => Error::usage("at least one resource name must be specified since 'all' parameter is not set"),
            _ => Ok(()),
        }
    }

    /// The nodes; those that can't be had are errors, and the others are changed all the same.
    async fn nodes(&self, session: &Session, asked: &Asked, errors: &mut Vec<Error>) -> Result<Vec<Found>> {
        let nodes = session.catalog().await?.resolve("nodes")?;
        let selector = self.selector.as_deref().unwrap_or_default();
        let mut found = Vec::new();
        if self.all || !selector.is_empty() {
            LabelSelector::parse(selector)?;
            let mut list = session.list(&nodes.path(None, None), &[("labelSelector", selector)]).await?;
            let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            found.extend(items.into_iter().map(|item| Found::new(nodes, item)));
            return Ok(found);
        }
        for name in &asked.resources[1..] {
            match session.get(&nodes.path(None, Some(name)), JSON).await {
                Ok(node) => found.push(Found::new(nodes, node)),
                Err(error) if error.status().is_some() => errors.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn change(&self, session: &Session, found: &Found, asked: &Asked) -> Result<(Value, &'static str)> {
        let old = taints(&found.object);
        if !self.overwrite {
            let there = asked.added.iter().flat_map(|added| old.iter().filter(|old| old.is_like(added)));
            let there: Vec<&str> = there.map(|taint| taint.key.as_str()).collect();
            if !there.is_empty() {
                let (name, there) = (&found.name, there.join(","));
                return Error::usage(format!("node {name} already has {there} taint(s) with same effect(s) and --overwrite is false"));
            }
        }
        let (new, done) = reorganized(&old, asked, self.overwrite)?;
        let list: Vec<Value> = new.iter().map(|taint| written(taint, &found.object)).collect();
        let list = if list.is_empty() { Value::Null } else { Value::Array(list) };
        if self.change.dry_run == DryRun::Client {
            let mut object = found.object.clone();
            object["spec"]["taints"] = list;
            return Ok((object, done));
        }
        let patch = if new == old { json!({}) } else { json!({"spec": {"taints": list}}) };
        let path = with_query(&found.path(), &self.change.query_as("kubectl-taint"));
        let object = session.change_as(Method::PATCH, &path, "application/strategic-merge-patch+json", &patch).await?;
        Ok((object, done))
    }
}

/// The taints of a node.
fn taints(node: &Value) -> Vec<Taint> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let taint = |taint: &Value| Taint { key: text(&taint["key"]), value: text(&taint["value"]), effect: text(&taint["effect"]) };
    node["spec"]["taints"].as_array().into_iter().flatten().map(taint).collect()
}

/// A taint as nodes have it: as it was, with its time, if it was there.
fn written(taint: &Taint, node: &Value) -> Value {
    let old = node["spec"]["taints"].as_array().into_iter().flatten();
    let mut same = old.filter(|old| taints(&json!({"spec": {"taints": [old]}})).contains(taint));
    if let Some(old) = same.next() {
        return old.clone();
    }
    let mut object = json!({"key": taint.key, "effect": taint.effect});
    if !taint.value.is_empty() {
        object["value"] = taint.value.as_str().into();
    }
    object
}

/// The taints that a node has afterwards, and the word for what was done.
fn reorganized(old: &[Taint], asked: &Asked, overwrite: bool) -> Result<(Vec<Taint>, &'static str)> {
    let mut new = asked.added.clone();
    for taint in old {
        if !new.iter().any(|other| other.is_like(taint)) {
            new.push(taint.clone());
        }
    }
    let added = new.len() != old.len();
    let (mut removed, mut errors) = (false, Vec::new());
    for taint in &asked.removed {
        let before = new.len();
        new.retain(|other| !other.is_meant(taint));
        removed = new.len() != before;
        if !removed {
            errors.push(Error::Usage(format!("taint {:?} not found", taint.shown())));
        }
    }
    if !errors.is_empty() {
        return Err(Error::all(errors));
    }
    let done = match (added, removed || overwrite) {
        (true, true) => "modified",
        _ if overwrite => "modified",
        (true, false) => "tainted",
        (false, _) => "untainted",
    };
    Ok((new, done))
}

fn asked(words: &[String]) -> Result<Asked> {
    let is_taint = |word: &String| word.contains(['=', ':']) || word.ends_with('-');
    let cut = words.iter().position(is_taint).unwrap_or(words.len());
    let (resources, changes) = words.split_at(cut);
    if let Some(word) = changes.iter().find(|word| !is_taint(word)) {
        return Error::usage(format!("all resources must be specified before taint changes: {word}"));
    }
    if resources.is_empty() {
        return Error::usage("one or more resources must be specified as <resource> <name>");
    }
    if changes.is_empty() {
        return Error::usage("at least one taint update is required");
    }
    let mut asked = Asked { resources: resources.to_vec(), ..Asked::default() };
    for word in changes {
        let read = parse(word.strip_suffix('-').unwrap_or(word)).and_then(|taint| match taint {
            taint if word.ends_with('-') => {
                asked.removed.push(Taint { value: String::new(), ..taint });
                Ok(())
            }
            taint if taint.effect.is_empty() => Err(format!("invalid taint spec: {word}")),
            taint if asked.added.iter().any(|other| other.is_like(&taint)) => {
                let Taint { key, value, effect } = taint;
                Err(format!("duplicated taints with the same key and effect: {{{key} {value} {effect} <nil>}}"))
            }
            taint => {
                asked.added.push(taint);
                Ok(())
            }
        });
        if let Err(why) = read {
            return Error::usage_of(Taints::NAME, &why);
        }
    }
    Ok(asked)
}

/// `KEY=VALUE:EFFECT`, `KEY:EFFECT` or `KEY`.
fn parse(text: &str) -> Result<Taint, String> {
    let invalid = |why: &str| format!("invalid taint spec: {text}{why}");
    let (pair, effect) = text.split_once(':').unwrap_or((text, ""));
    if effect.contains(':') {
        return Err(invalid(""));
    }
    let has_effect = text.contains(':');
    if has_effect && !EFFECTS.contains(&effect) {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    // Without an effect all of it is the key.
    let (key, value) = if has_effect { pair.split_once('=').unwrap_or((pair, "")) } else { (pair, "") };
    if value.contains('=') {
        return Err(invalid(""));
    }
    names::label_value(value).map_err(|why| invalid(&format!(", {why}")))?;
    names::qualified(key).map_err(|why| invalid(&format!(", {why}")))?;
    Ok(Taint { key: key.into(), value: value.into(), effect: effect.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn words_and_changes() {
        let taint = |key: &str, value: &str, effect: &str| Taint { key: key.into(), value: value.into(), effect: effect.into() };
        let read = asked(&words("nodes a b k=v:NoSchedule x.io/k:NoExecute gone- k:PreferNoSchedule-")).unwrap();
        let want = Asked {
            resources: words("nodes a b"),
            added: vec![taint("k", "v", "NoSchedule"), taint("x.io/k", "", "NoExecute")],
            removed: vec![taint("gone", "", ""), taint("k", "", "PreferNoSchedule")],
        };
        assert_eq!(read, want);
        let help = "\nSee 'kubectl taint -h' for help and examples";
        for (line, want) in [
            ("k=v:NoSchedule", "error: one or more resources must be specified as <resource> <name>".to_owned()),
            ("node a", "error: at least one taint update is required".into()),
            ("node k:NoSchedule a", "error: all resources must be specified before taint changes: a".into()),
            (
                "node a k=v",
                format!(
                    "error: invalid taint spec: k=v, name part {}{help}",
                    names::qualified("k=v").unwrap_err().trim_start_matches("name part ")
                ),
            ),
            ("node a k=v:Never", format!("error: invalid taint effect: Never, unsupported taint effect{help}")),
            ("node a k=v=w:NoSchedule", format!("error: invalid taint spec: k=v=w:NoSchedule{help}")),
            ("node a k:NoSchedule:x", format!("error: invalid taint spec: k:NoSchedule:x{help}")),
            ("node a k:", format!("error: invalid taint effect: , unsupported taint effect{help}")),
            (
                "node a k=1:NoSchedule k=2:NoSchedule",
                format!("error: duplicated taints with the same key and effect: {{k 2 NoSchedule <nil>}}{help}"),
            ),
        ] {
            assert_eq!(asked(&words(line)).unwrap_err().to_string(), want, "{line}");
        }
    }

    const NODES: &[(&str, &str)] = &[
        ("GET /api/v1/nodes/plain", "{kind: Node, metadata: {name: plain}}"),
        (
            "GET /api/v1/nodes/old",
            "{kind: Node, metadata: {name: old}, spec: {taints: [{key: k, value: v, effect: NoSchedule}, {key: t, effect: NoExecute, timeAdded: now}]}}",
        ),
        ("GET /api/v1/nodes", "{kind: NodeList, items: [{metadata: {name: plain}}]}"),
        ("PATCH /api/v1/nodes/plain", "{kind: Node, metadata: {name: plain}}"),
        ("PATCH /api/v1/nodes/old", "{kind: Node, metadata: {name: old}}"),
    ];

    async fn run(line: &str) -> (Result<i32>, String, Vec<String>) {
        use clap::FromArgMatches;
        let (session, record) = support::session(NODES);
        let matches =
            <Taints as Args>::augment_args(clap::Command::new("taint")).get_matches_from(std::iter::once("taint").chain(line.split(' ')));
        let result = Taints::from_arg_matches(&matches).unwrap().run(&session).await;
        let bodies = record.requests().into_iter().filter_map(|request| request.strip_prefix("PATCH ").map(|rest| rest.to_owned()));
        let bodies = bodies.filter_map(|request| request.split_once(' ').map(|(_, body)| body.to_owned())).collect();
        (result, record.output(), bodies)
    }

    #[tokio::test]
    async fn nodes_are_tainted() {
        let kept = r#"{"effect":"NoExecute","key":"t","timeAdded":"now"}"#;
        let had = r#"{"effect":"NoSchedule","key":"k","value":"v"}"#;
        let patch = |list: &[&str]| vec![format!("{{\"spec\":{{\"taints\":[{}]}}}}", list.join(","))];
        let new = r#"{"effect":"NoSchedule","key":"n"}"#;
        for (line, out, sent) in [
            ("nodes plain n:NoSchedule", "node/plain tainted\n", patch(&[new])),
            ("no --all n:NoSchedule", "node/plain tainted\n", patch(&[new])),
            ("node -l a=b n:NoSchedule", "node/plain tainted\n", patch(&[new])),
            ("node old n:NoSchedule", "node/old tainted\n", patch(&[new, had, kept])),
            ("node old n:NoSchedule k-", "node/old modified\n", patch(&[new, kept])),
            (
                "node old k=w:NoSchedule --overwrite",
                "node/old modified\n",
                patch(&[r#"{"effect":"NoSchedule","key":"k","value":"w"}"#, kept]),
            ),
            ("node old k:NoSchedule-", "node/old untainted\n", patch(&[kept])),
            ("node old k- t-", "node/old untainted\n", vec![r#"{"spec":{"taints":null}}"#.into()]),
            ("node old k- --dry-run=client", "node/old untainted\n", vec![]),
            ("node old k- -o name", "node/old\n", patch(&[kept])),
        ] {
            let (code, printed, bodies) = run(line).await;
            assert_eq!((code.unwrap(), printed.as_str(), bodies), (0, out, sent), "{line}");
        }
    }

    #[tokio::test]
    async fn taints_that_make_no_sense() {
        for (line, want) in [
            ("pods a k:NoSchedule", "error: invalid resource type pods, only node types are supported"),
            ("node k:NoSchedule", "error: at least one resource name must be specified since 'all' parameter is not set"),
            ("node --all -l a=b k:NoSchedule", "error: setting 'all' parameter with a non empty selector is prohibited"),
            ("node old k:NoSchedule k-", "error: can not both modify and remove the following taint(s) in the same command: k="),
            ("node old k=w:NoSchedule", "error: node old already has k taint(s) with same effect(s) and --overwrite is false"),
            ("node plain k:NoSchedule-", "error: taint \"k:NoSchedule\" not found"),
            ("node plain k- l-", "taint \"k\" not found\ntaint \"l\" not found"),
            ("node nope k:NoSchedule", "Error from server (NotFound): nodes \"nope\" not found"),
        ] {
            assert_eq!(run(line).await.0.unwrap_err().to_string(), want, "{line}");
        }
    }
}
