//! `expose`: a service for the pods of a workload, a pod or another service.

use clap::Args;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::flags::Change;
use super::session::{JSON, Session};
use super::target;
use super::verb::Verb;

/// Flags of `expose`.
#[derive(Args, Clone, Debug)]
pub struct Expose {
    /// TYPE NAME or TYPE/NAME
    #[arg(required = true)]
    pub words: Vec<String>,
    /// Port of the service
    #[arg(long)]
    pub port: Option<u16>,
    /// Port of the pods: number or name
    #[arg(long)]
    pub target_port: Option<String>,
    /// TCP, UDP or SCTP
    #[arg(long, default_value = "TCP")]
    pub protocol: String,
    /// Name of the service
    #[arg(long)]
    pub name: Option<String>,
    /// ClusterIP, NodePort or LoadBalancer
    #[arg(long = "type")]
    pub kind: Option<String>,
    /// The address, or None for a headless service
    #[arg(long)]
    pub cluster_ip: Option<String>,
    /// Labels of the pods, as a=b,c=d
    #[arg(long, value_delimiter = ',')]
    pub selector: Vec<String>,
    #[command(flatten)]
    pub change: Change,
}

impl Verb for Expose {
    const NAME: &'static str = "expose";
    const ABOUT: &'static str = "Make a service for a deployment, replica set, pod or service";

    async fn run(self, session: &Session) -> Result<i32> {
        let target = target::single(session, &self.words, "").await?;
        let object = session.get(&target.path(), JSON).await?;
        let service = self.service(&object)?;
        super::create::post(session, &self.change, service).await?;
        Ok(0)
    }
}

impl Expose {
    fn service(&self, object: &Value) -> Result<Value> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let own = match kind {
            "Pod" => &object["metadata"]["labels"],
            "Service" | "ReplicationController" => &object["spec"]["selector"],
            "Deployment" | "ReplicaSet" => {
                if object["spec"]["selector"]["matchExpressions"].as_array().is_some_and(|list| !list.is_empty()) {
                    return Error::usage("couldn't convert expressions to the map-based selector of a service: use --selector");
                }
                &object["spec"]["selector"]["matchLabels"]
            }
            other => return Error::usage(format!("cannot expose a {other}")),
        };
        let mut selector = own.clone();
        if !self.selector.is_empty() {
            selector = json!({});
            for pair in &self.selector {
                let Some((key, value)) = pair.split_once('=') else { return Error::usage(format!("unexpected selector: {pair}")) };
                selector[key] = value.into();
            }
        }
        if selector.as_object().is_none_or(serde_json::Map::is_empty) {
            return Error::usage("couldn't retrieve selectors via --selector flag or introspection: the object has none");
        }
        let target = |port: Value| match self.target_port.as_deref() {
            Some(name) => name.parse::<u16>().map(Value::from).unwrap_or_else(|_| name.into()),
            None => port,
        };
        let ports: Vec<Value> = match self.port {
            Some(port) => vec![json!({"port": port, "protocol": self.protocol, "targetPort": target(port.into())})],
            None => found_ports(object)
                .into_iter()
                .map(|port| json!({"port": port, "protocol": self.protocol, "targetPort": target(port.into())}))
                .collect(),
        };
        let mut ports = ports;
        if ports.is_empty() {
            return Error::usage("couldn't find port via --port flag or introspection");
        }
        if ports.len() > 1 {
            for (at, port) in ports.iter_mut().enumerate() {
                port["name"] = format!("port-{}", at + 1).into();
            }
        }
        let name = self.name.as_deref().or(object["metadata"]["name"].as_str()).unwrap_or_default();
        let mut service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": selector, "ports": ports}});
        if object["metadata"]["labels"].is_object() {
            service["metadata"]["labels"] = object["metadata"]["labels"].clone();
        }
        for (field, value) in [("type", &self.kind), ("clusterIP", &self.cluster_ip)] {
            if let Some(value) = value {
                service["spec"][field] = value.as_str().into();
            }
        }
        Ok(service)
    }
}

/// The ports that the object itself names.
fn found_ports(object: &Value) -> Vec<u64> {
    let spec = if object["spec"]["template"].is_object() { &object["spec"]["template"]["spec"] } else { &object["spec"] };
    let of_containers =
        spec["containers"].as_array().into_iter().flatten().flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let of_service = spec["ports"].as_array().into_iter().flatten();
    of_containers.filter_map(|port| port["containerPort"].as_u64()).chain(of_service.filter_map(|port| port["port"].as_u64())).collect()
}
