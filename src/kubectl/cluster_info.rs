//! `cluster-info`: where the control plane and its services are.

use clap::Args;
use serde_json::Value;

use super::error::Result;
use super::session::Session;
use super::verb::Verb;

/// `cluster-info`, which has no flags of its own.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterInfo {}

impl Verb for ClusterInfo {
    const NAME: &'static str = "cluster-info";
    const ABOUT: &'static str = "Display addresses of the control plane and its services";

    async fn run(self, session: &Session) -> Result<i32> {
        let services = session.catalog().await?.resolve("services")?.clone();
        let path = services.path(Some("kube-system"), None);
        let list = session.list(&path, &[("labelSelector", "kubernetes.io/cluster-service=true")]).await?;
        let server = format!("https://{}", session.connection().await?.server);
        session.line(&format!("Kubernetes control plane is running at {server}"))?;
        for service in list["items"].as_array().into_iter().flatten() {
            let name = service["metadata"]["name"].as_str().unwrap_or_default();
            let shown = service["metadata"]["labels"]["kubernetes.io/name"].as_str().unwrap_or(name);
            let port = service["spec"]["ports"][0]["name"].as_str().map(|name| format!(":{name}")).unwrap_or_default();
            let address = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
            let address = match (address, &service["spec"]["ports"][0]["port"]) {
                (Some(ip), Value::Number(number)) => format!("http://{ip}:{number}"),
                _ => format!("{server}/api/v1/namespaces/kube-system/services/{name}{port}/proxy"),
            };
            session.line(&format!("{shown} is running at {address}"))?;
        }
        session.line("\nTo further debug and diagnose cluster problems, use 'kubectl get events -A'.")?;
        Ok(0)
    }
}
