//! `cluster-info`: where the control plane and its services are; `cluster-info dump`: what helps to find out what is wrong.
//!
//! Follows `kubectl/pkg/cmd/clusterinfo`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::error::{Error, Result};
use super::output::{json, yaml};
use super::session::{JSON, Session, with_query};
use super::verb::Verb;

/// Where the control plane's own pods and services are.
const SYSTEM: &str = "kube-system";

/// Flags of `cluster-info`.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterInfo {
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What else there is.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Dump information for debugging and diagnosis
    Dump(Dump),
}

/// Flags of `cluster-info dump`.
#[derive(Args, Clone, Debug, Default)]
pub struct Dump {
    /// Folder for the output; none, or `-`: standard output
    #[arg(long, value_name = "FOLDER")]
    pub output_directory: Option<String>,
    /// Namespaces to dump
    #[arg(long, value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// json or yaml
    #[arg(short = 'o', long, default_value = "json")]
    pub output: String,
}

impl Verb for ClusterInfo {
    const NAME: &'static str = "cluster-info";
    const ABOUT: &'static str = "Display addresses of the control plane and its services";

    async fn run(self, session: &Session) -> Result<i32> {
        match self.action {
            Some(Action::Dump(dump)) => dump.run(session).await,
            None => addresses(session).await,
        }
    }
}

async fn addresses(session: &Session) -> Result<i32> {
    let services = session.catalog().await?.resolve("services")?.clone();
    let path = services.path(Some(session.global.namespace.as_deref().unwrap_or(SYSTEM)), None);
    let list = session.list(&path, &[("labelSelector", "kubernetes.io/cluster-service=true")]).await?;
    let server = format!("https://{}", session.connection().await?.server);
    session.line(&format!("Kubernetes control plane is running at {server}"))?;
    for service in list["items"].as_array().into_iter().flatten() {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        let shown = service["metadata"]["labels"]["kubernetes.io/name"].as_str().unwrap_or(name);
        session.line(&format!("{shown} is running at {}", address(service, &server)))?;
    }
    session.line("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.")?;
    Ok(0)
}

/// Where a service is reached: at its load balancer, or through the API server.
fn address(service: &Value, server: &str) -> String {
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let point = &service["status"]["loadBalancer"]["ingress"][0];
    if let Some(host) = point["ip"].as_str().or(point["hostname"].as_str()) {
        return ports.iter().map(|port| format!("http://{host}:{} ", port["port"])).collect();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&service["metadata"]["namespace"]), text(&service["metadata"]["name"]));
    let name = match ports.first() {
        None => name,
        Some(port) => {
            let of = text(&port["name"]);
            match (of == "https" || port["port"] == 443, of.is_empty()) {
                (true, _) => format!("https:{name}:{of}"),
                (false, true) => name,
                (false, false) => format!("{name}:{of}"),
            }
        }
    };
    format!("{server}/api/v1/namespaces/{namespace}/services/{name}/proxy")
}

/// What is dumped of each namespace, and the files' names.
const LISTS: &[(&str, &str)] = &[
    ("events", "events"),
    ("replicationcontrollers", "replication-controllers"),
    ("services", "services"),
    ("daemonsets.apps", "daemonsets"),
    ("deployments.apps", "deployments"),
    ("replicasets.apps", "replicasets"),
    ("pods", "pods"),
];

impl Dump {
    async fn run(&self, session: &Session) -> Result<i32> {
        let folder = self.output_directory.as_deref().filter(|folder| !folder.is_empty() && *folder != "-").map(PathBuf::from);
        let nodes = session.list(&session.catalog().await?.resolve("nodes")?.path(None, None), &[]).await?;
        self.put(session, folder.as_deref(), "nodes", &nodes)?;
        for namespace in self.chosen(session).await? {
            for (word, file) in LISTS {
                let list = session.list(&session.catalog().await?.resolve(word)?.path(Some(&namespace), None), &[]).await?;
                self.put(session, folder.as_deref(), &format!("{namespace}/{file}"), &list)?;
                if *word == "pods" {
                    self.logs(session, folder.as_deref(), &list).await?;
                }
            }
        }
        if let Some(folder) = folder {
            session.line(&format!("Cluster info dumped to {}", folder.display()))?;
        }
        Ok(0)
    }

    async fn chosen(&self, session: &Session) -> Result<Vec<String>> {
        if self.all_namespaces {
            let all = session.list(&session.catalog().await?.resolve("namespaces")?.path(None, None), &[]).await?;
            let names = all["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str());
            return Ok(names.map(str::to_owned).collect());
        }
        if self.namespaces.is_empty() {
            return Ok(vec![SYSTEM.into(), session.namespace().await?]);
        }
        Ok(self.namespaces.clone())
    }

    fn put(&self, session: &Session, folder: Option<&Path>, name: &str, list: &Value) -> Result<()> {
        let (text, end) = match self.output.as_str() {
            "json" => (json(list)?, "json"),
            "yaml" => (yaml(list), "yaml"),
            other => {
                return Error::usage(format!(
                    "unable to match a printer suitable for the output format {other:?}, allowed formats are: json,yaml"
                ));
            }
        };
        write(session, folder, &format!("{name}.{end}"), &text)
    }

    /// The logs of all containers of these pods; why one can't be had is said in its place.
    async fn logs(&self, session: &Session, folder: Option<&Path>, pods: &Value) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            let mut all = String::new();
            let containers =
                ["initContainers", "containers"].into_iter().flat_map(|field| pod["spec"][field].as_array().into_iter().flatten());
            for container in containers.map(|container| text(&container["name"])) {
                let path = with_query(&format!("/api/v1/namespaces/{namespace}/pods/{name}/log"), &[("container", container.as_str())]);
                let log = match session.text(&path, JSON).await {
                    Ok(log) => log,
                    Err(error) if error.status().is_some() => format!("Request log error: {}\n", error.plain()),
                    Err(error) => return Err(error),
                };
                let of = format!("logs for container {container} of pod {namespace}/{name}");
                all.push_str(&format!("==== START {of} ====\n{log}==== END {of} ====\n"));
            }
            write(session, folder, &format!("{namespace}/{name}/logs.txt"), &all)?;
        }
        Ok(())
    }
}

fn write(session: &Session, folder: Option<&Path>, name: &str, text: &str) -> Result<()> {
    let Some(folder) = folder else { return session.print(text) };
    let path = folder.join(name);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
    made.map_err(|source| Error::File { action: "write", path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    #[test]
    fn addresses_of_services() {
        let table = [
            ("{metadata: {namespace: n, name: a}}", "https://s/api/v1/namespaces/n/services/a/proxy"),
            ("{metadata: {namespace: n, name: a}, spec: {ports: [{port: 80}]}}", "https://s/api/v1/namespaces/n/services/a/proxy"),
            (
                "{metadata: {namespace: n, name: a}, spec: {ports: [{port: 53, name: dns}]}}",
                "https://s/api/v1/namespaces/n/services/a:dns/proxy",
            ),
            ("{metadata: {namespace: n, name: a}, spec: {ports: [{port: 443}]}}", "https://s/api/v1/namespaces/n/services/https:a:/proxy"),
            (
                "{metadata: {name: a}, spec: {ports: [{port: 1}, {port: 2}]}, status: {loadBalancer: {ingress: [{ip: 10.0.0.1}]}}}",
                "http://10.0.0.1:1 http://10.0.0.1:2 ",
            ),
        ];
        for (service, want) in table {
            assert_eq!(address(&serde_yaml::from_str(service).unwrap(), "https://s"), want, "{service}");
        }
    }

    #[tokio::test]
    async fn all_is_dumped() {
        let pods = "{kind: PodList, items: [{metadata: {namespace: kube-system, name: p}, spec: {containers: [{name: c}, {name: d}]}}]}";
        let empty = "{kind: List, items: []}";
        let lists: Vec<String> = ["kube-system", "default"]
            .iter()
            .flat_map(|namespace| {
                let core = ["events", "replicationcontrollers", "services", "pods"]
                    .map(|list| format!("GET /api/v1/namespaces/{namespace}/{list}"));
                let apps =
                    ["daemonsets", "deployments", "replicasets"].map(|list| format!("GET /apis/apps/v1/namespaces/{namespace}/{list}"));
                core.into_iter().chain(apps)
            })
            .collect();
        let mut answers: Vec<(&str, &str)> = lists.iter().map(|path| (path.as_str(), empty)).collect();
        answers.push(("GET /api/v1/nodes", "{kind: NodeList, items: []}"));
        answers.push(("GET /api/v1/namespaces/kube-system/pods", pods));
        answers.push(("GET /api/v1/namespaces/kube-system/pods/p/log", "hello"));
        let dump = |output_directory: Option<String>| Dump { output_directory, output: "json".into(), ..Dump::default() };
        let (session, record) = support::session(&answers);
        assert_eq!(dump(None).run(&session).await.unwrap(), 0);
        let out = record.output();
        let log =
            "==== START logs for container d of pod kube-system/p ====\n\"hello\"==== END logs for container d of pod kube-system/p ====\n";
        assert!(out.starts_with("{\n    \"items\": [],\n    \"kind\": \"NodeList\"\n}\n") && out.contains(log), "{out}");
        assert_eq!(out.matches("\"kind\": \"List\"").count(), 13);
        let folder = tempfile::tempdir().unwrap();
        let (session, record) = support::session(&answers);
        dump(Some(folder.path().display().to_string())).run(&session).await.unwrap();
        assert_eq!(record.output(), format!("Cluster info dumped to {}\n", folder.path().display()));
        for file in ["nodes.json", "default/replication-controllers.json", "kube-system/pods.json", "kube-system/p/logs.txt"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
    }
}
