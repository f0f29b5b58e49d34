//! `top`: what nodes and pods use.
//!
//! Follows `kubectl/pkg/cmd/top` and `kubectl/pkg/metricsutil/metrics_printer.go`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::error::{Error, Result};
use super::session::{JSON, Session, escape, with_query};
use super::tabs::align;
use super::verb::Verb;
use crate::api::quantity::Quantity;

const API: &str = "/apis/metrics.k8s.io/v1beta1";

/// Flags of `top`.
#[derive(Args, Clone, Debug)]
pub struct Top {
    #[command(subcommand)]
    pub what: What,
}

/// Of what.
#[derive(Subcommand, Clone, Debug)]
pub enum What {
    /// Display resource (CPU/memory) usage of nodes
    #[command(visible_aliases = ["nodes", "no"])]
    Node(Nodes),
    /// Display resource (CPU/memory) usage of pods
    #[command(visible_aliases = ["pods", "po"])]
    Pod(Pods),
}

/// What is sorted by.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The one that uses most CPU first.
    Cpu,
    /// The one that uses most memory first.
    Memory,
}

/// Flags of `top node`.
#[derive(Args, Clone, Debug)]
pub struct Nodes {
    /// One node
    pub name: Option<String>,
    /// Nodes with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// cpu or memory
    #[arg(long, value_enum)]
    pub sort_by: Option<By>,
    /// Without the line of titles
    #[arg(long)]
    pub no_headers: bool,
    /// Of what the node has, not of what pods may have
    #[arg(long)]
    pub show_capacity: bool,
}

/// Flags of `top pod`.
#[derive(Args, Clone, Debug)]
pub struct Pods {
    /// One pod
    pub name: Option<String>,
    /// Pods with these labels
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Pods with these fields
    #[arg(long)]
    pub field_selector: Option<String>,
    /// Pods of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Each container of a pod
    #[arg(long)]
    pub containers: bool,
    /// cpu or memory
    #[arg(long, value_enum)]
    pub sort_by: Option<By>,
    /// Without the line of titles
    #[arg(long)]
    pub no_headers: bool,
    /// With a line for all together
    #[arg(long)]
    pub sum: bool,
}

impl Verb for Top {
    const NAME: &'static str = "top";
    const ABOUT: &'static str = "Display resource (CPU/memory) usage";

    async fn run(self, session: &Session) -> Result<i32> {
        let rows = match &self.what {
            What::Node(nodes) => nodes.rows(session).await?,
            What::Pod(pods) => pods.rows(session).await?,
        };
        if let Some(rows) = rows {
            session.print(&layout(&rows))?;
        }
        Ok(0)
    }
}

/// CPU in thousandths of a core, and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cpu: Quantity,
    memory: Quantity,
}

impl Used {
    fn of(usage: &Value) -> Used {
        let amount = |name: &str| usage[name].as_str().and_then(|text| Quantity::parse(text).ok()).unwrap_or_default();
        Used { cpu: amount("cpu"), memory: amount("memory") }
    }

    fn add(mut self, other: Used) -> Used {
        self.cpu += other.cpu;
        self.memory += other.memory;
        self
    }

    fn key(&self, by: By) -> std::cmp::Reverse<i64> {
        std::cmp::Reverse(if by == By::Cpu { self.cpu.milli() } else { self.memory.value() })
    }

    fn cells(&self) -> [String; 2] {
        [format!("{}m", self.cpu.milli()), format!("{}Mi", self.memory.value() / (1 << 20))]
    }
}

fn of_pod(pod: &Value) -> Used {
    let containers = pod["containers"].as_array().into_iter().flatten();
    containers.fold(Used::default(), |sum, container| sum.add(Used::of(&container["usage"])))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// One object or a list of them; whoever does not serve the group is told of as upstream does.
async fn fetch(session: &Session, path: &str, name: Option<&String>, query: &[(&str, &str)]) -> Result<Vec<Value>> {
    let found = match name {
        Some(name) => session.get(&format!("{path}/{}", escape(name)), JSON).await.map(|object| vec![object]),
        None => session.get(&with_query(path, query), JSON).await.map(|list| list["items"].as_array().cloned().unwrap_or_default()),
    };
    match found {
        Err(Error::Api(status)) if status.code == Some(404) && status.details.as_ref().is_none_or(|details| details.name.is_none()) => {
            Error::usage("Metrics API not available")
        }
        Err(Error::Api(status)) if status.code == Some(503) => Error::usage("Metrics API not available"),
        other => other,
    }
}

fn query<'a>(labels: &'a Option<String>, fields: &'a Option<String>) -> Vec<(&'a str, &'a str)> {
    let labels = labels.iter().map(|labels| ("labelSelector", labels.as_str()));
    labels.chain(fields.iter().map(|fields| ("fieldSelector", fields.as_str()))).collect()
}

impl Nodes {
    async fn rows(&self, session: &Session) -> Result<Option<Vec<Vec<String>>>> {
        if self.name.is_some() && self.selector.is_some() {
            return Error::usage("only one of NAME or --selector can be provided");
        }
        let query = query(&self.selector, &None);
        let mut measured = fetch(session, &format!("{API}/nodes"), self.name.as_ref(), &query).await?;
        if measured.is_empty() {
            return Error::usage("metrics not available yet");
        }
        let nodes = fetch(session, "/api/v1/nodes", self.name.as_ref(), &query).await?;
        let mut missing = BTreeMap::new();
        let of = if self.show_capacity { "capacity" } else { "allocatable" };
        for node in &nodes {
            missing.insert(text(node, "name").to_owned(), Used::of(&node["status"][of]));
        }
        measured.sort_by_key(|node| text(node, "name").to_owned());
        if let Some(by) = self.sort_by {
            measured.sort_by_key(|node| Used::of(&node["usage"]).key(by));
        }
        let title = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
        let mut rows = if self.no_headers { Vec::new() } else { vec![title.map(str::to_owned).to_vec()] };
        for node in &measured {
            let used = Used::of(&node["usage"]);
            let has = missing.remove(text(node, "name")).unwrap_or_default();
            let share =
                |used: i64, has: i64| if has > 0 { format!("{}%", i128::from(used) * 100 / i128::from(has)) } else { "<unknown>".into() };
            let [cpu, memory] = used.cells();
            let shares = [share(used.cpu.milli(), has.cpu.milli()), share(used.memory.value(), has.memory.value())];
            let [cpu_share, memory_share] = shares;
            rows.push(vec![text(node, "name").into(), cpu, cpu_share, memory, memory_share]);
        }
        // Nodes that are there and were not heard.
        for name in missing.keys() {
            rows.push([name.as_str(), "<unknown>", "<unknown>", "<unknown>", "<unknown>"].map(str::to_owned).to_vec());
        }
        Ok(Some(rows))
    }
}

impl Pods {
    async fn rows(&self, session: &Session) -> Result<Option<Vec<Vec<String>>>> {
        if self.name.is_some() && (self.selector.is_some() || self.field_selector.is_some()) {
            return Error::usage("only one of NAME or selector can be provided");
        }
        let namespace = session.namespace().await?;
        let path = match self.all_namespaces && self.name.is_none() {
            true => format!("{API}/pods"),
            false => format!("{API}/namespaces/{}/pods", escape(&namespace)),
        };
        let mut measured = fetch(session, &path, self.name.as_ref(), &query(&self.selector, &self.field_selector)).await?;
        if measured.is_empty() {
            session.note(&match self.all_namespaces {
                true => "No resources found".to_owned(),
                false => format!("No resources found in {namespace} namespace."),
            });
            return Ok(None);
        }
        measured.sort_by_key(|pod| (text(pod, "namespace").to_owned(), text(pod, "name").to_owned()));
        if let Some(by) = self.sort_by {
            measured.sort_by_key(|pod| of_pod(pod).key(by));
        }
        Ok(Some(self.layout(&measured)))
    }

    fn layout(&self, measured: &[Value]) -> Vec<Vec<String>> {
        let columns =
            [(self.all_namespaces, "NAMESPACE"), (self.containers, "POD"), (true, "NAME"), (true, "CPU(cores)"), (true, "MEMORY(bytes)")];
        let title = columns.into_iter().filter(|(shown, _)| *shown).map(|(_, title)| title.to_owned());
        let mut rows = if self.no_headers { Vec::new() } else { vec![title.collect()] };
        let mut sum = Used::default();
        let row = |pod: &Value, container: Option<&str>, used: Used| {
            let namespace = self.all_namespaces.then(|| text(pod, "namespace").to_owned());
            let mut row: Vec<String> = namespace.into_iter().chain([text(pod, "name").to_owned()]).collect();
            row.extend(container.map(str::to_owned));
            row.extend(used.cells());
            row
        };
        for pod in measured {
            sum = sum.add(of_pod(pod));
            if !self.containers {
                rows.push(row(pod, None, of_pod(pod)));
                continue;
            }
            let mut containers: Vec<&Value> = pod["containers"].as_array().into_iter().flatten().collect();
            containers.sort_by_key(|container| container["name"].as_str().unwrap_or_default().to_owned());
            if let Some(by) = self.sort_by {
                containers.sort_by_key(|container| Used::of(&container["usage"]).key(by));
            }
            rows.extend(containers.into_iter().map(|one| row(pod, one["name"].as_str(), Used::of(&one["usage"]))));
        }
        if self.sum {
            let before = usize::from(self.all_namespaces) + usize::from(self.containers);
            let empty = vec![String::new(); before];
            let line = |last: [&str; 3]| empty.iter().cloned().chain(last.map(str::to_owned)).collect::<Vec<_>>();
            let [cpu, memory] = sum.cells();
            rows.push(line(["", "________", "________"]));
            rows.push(line(["", &cpu, &memory]));
        }
        rows
    }
}

/// Columns as kubectl's tables have them.
fn layout(rows: &[Vec<String>]) -> String {
    let lines = rows.iter().map(|row| row.iter().fold(String::new(), |line, cell| line + cell + "\t") + "\n");
    align(&lines.collect::<String>(), 6, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;
    use clap::{Command, FromArgMatches};

    const PODS: &str = "{items: [
        {metadata: {name: b, namespace: n}, containers: [{name: x, usage: {cpu: 1500u, memory: 3Mi}}, {name: a, usage: {cpu: 2m, memory: 2Mi}}]},
        {metadata: {name: a, namespace: n}, containers: [{name: c, usage: {cpu: 1m, memory: 9Mi}}]}]}";

    async fn printed(line: &str, answers: &[(&str, &str)]) -> String {
        let (session, record) = support::session(answers);
        let words = std::iter::once("top").chain(line.split(' '));
        let matches = Top::augment_args(Command::new("top")).try_get_matches_from(words).unwrap();
        let top = Top::from_arg_matches(&matches).unwrap();
        match top.run(&session).await {
            Ok(_) => record.output(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn pods() {
        let namespaced = [("GET /apis/metrics.k8s.io/v1beta1/namespaces/default/pods", PODS)];
        let all = [("GET /apis/metrics.k8s.io/v1beta1/pods", PODS)];
        for (line, answers, want) in [
            (
                "pods",
                &namespaced,
                "NAME   CPU(cores)   MEMORY(bytes)   \na      1m           9Mi             \nb      4m           5Mi             \n",
            ),
            ("pod --no-headers --sort-by=cpu", &namespaced, "b     4m    5Mi   \na     1m    9Mi   \n"),
            ("po --containers --no-headers", &namespaced, "a     c     1m    9Mi   \nb     a     2m    2Mi   \nb     x     2m    3Mi   \n"),
            (
                "pods -A --sum",
                &all,
                "NAMESPACE   NAME   CPU(cores)   MEMORY(bytes)   \nn           a      1m           9Mi             \n\
                 n           b      4m           5Mi             \n                   ________     ________        \n\
                 \x20                  5m           14Mi            \n",
            ),
        ] {
            assert_eq!(printed(line, answers).await, want, "{line}");
        }
        assert_eq!(printed("pods", &[]).await, "error: Metrics API not available");
    }

    #[tokio::test]
    async fn nodes() {
        let answers = [
            ("GET /apis/metrics.k8s.io/v1beta1/nodes", "{items: [{metadata: {name: b}, usage: {cpu: 500m, memory: 512Mi}}]}"),
            (
                "GET /api/v1/nodes",
                "{items: [{metadata: {name: a}, status: {allocatable: {cpu: '1', memory: 1Gi}}},
                          {metadata: {name: b}, status: {allocatable: {cpu: '2', memory: 1Gi}}}]}",
            ),
        ];
        let want = "NAME   CPU(cores)   CPU(%)      MEMORY(bytes)   MEMORY(%)   \nb      500m         25%         512Mi           50%         \n\
                    a      <unknown>    <unknown>   <unknown>       <unknown>   \n";
        assert_eq!(printed("nodes", &answers).await, want);
    }
}
