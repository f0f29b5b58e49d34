//! `port-forward`: local ports that lead into a pod.
//!
//! Follows `kubectl/pkg/cmd/portforward/portforward.go`. Each connection has a WebSocket of its own: one that breaks takes no other with it.

use std::time::Duration;

use clap::Args;
use futures::future::{try_join_all, try_select};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use super::error::{Error, Result};
use super::flags::duration;
use super::pods;
use super::session::{JSON, Session};
use super::target;
use super::verb::Verb;

/// Flags of `port-forward`.
#[derive(Args, Clone, Debug)]
pub struct PortForward {
    /// TYPE/NAME, then [LOCAL:]REMOTE ports
    #[arg(required = true)]
    pub words: Vec<String>,
    /// Local addresses to listen on
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    pub address: Vec<String>,
    /// How long to wait for a pod
    #[arg(long, default_value = "1m", value_parser = duration)]
    pub pod_running_timeout: Duration,
}

/// A local port, and what it leads to: a number, or a name that pod or service gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    local: Option<u16>,
    remote: String,
}

impl Mapping {
    /// Reads `80`, `8080:80`, `:80` (any local port), `8080:web`.
    fn parse(text: &str) -> Result<Mapping> {
        let invalid = || Error::Usage(format!("invalid port format '{text}'"));
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        if remote.is_empty() || remote == "0" || remote.contains(':') {
            return Err(invalid());
        }
        let local = match local {
            "" | "0" => Some(0),
            number => match number.parse() {
                Ok(number) => Some(number),
                // A name alone is known when it has been looked up.
                Err(_) if !text.contains(':') => None,
                Err(_) => return Err(invalid()),
            },
        };
        Ok(Mapping { local, remote: remote.to_string() })
    }
}

/// The pod's port behind a name or number of a service or of the pod itself.
fn resolve(remote: &str, object: &Value, pod: &Value) -> Result<u16> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let by_name = |name: &str| {
        let mut ports = containers.clone().flat_map(|container| container["ports"].as_array().into_iter().flatten());
        ports.find(|port| port["name"] == name).and_then(|port| port["containerPort"].as_u64()).and_then(|port| u16::try_from(port).ok())
    };
    let missing = || Error::Usage(format!("pod {:?} has no port {remote:?}", pods::place(pod).1));
    if object["kind"] != "Service" {
        return remote.parse().ok().or_else(|| by_name(remote)).ok_or_else(missing);
    }
    let number = remote.parse::<u64>().ok();
    let mut ports = object["spec"]["ports"].as_array().into_iter().flatten();
    let Some(port) = ports.find(|port| port["name"] == remote || (number.is_some() && port["port"].as_u64() == number)) else {
        return Error::usage(format!("Service {:?} does not have a service port {remote}", pods::place(object).1));
    };
    match &port["targetPort"] {
        Value::String(name) => by_name(name).ok_or_else(missing),
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()).ok_or_else(missing),
        _ => port["port"].as_u64().and_then(|number| u16::try_from(number).ok()).ok_or_else(missing),
    }
}

impl Verb for PortForward {
    const NAME: &'static str = "port-forward";
    const ABOUT: &'static str = "Forward one or more local ports to a pod";

    async fn run(self, session: &Session) -> Result<i32> {
        let (name, ports) = self.words.split_first().expect("clap requires one word");
        if ports.is_empty() {
            return Error::usage("TYPE/NAME and list of ports are required for port-forward");
        }
        let mappings = ports.iter().map(|text| Mapping::parse(text)).collect::<Result<Vec<_>>>()?;
        let target = target::single(session, std::slice::from_ref(name), "pods").await?;
        let object = session.get(&target.path(), JSON).await?;
        let found = pods::of(session, &target).await?;
        let Some(pod) = found.into_iter().find(|pod| pod["status"]["phase"] == "Running") else {
            return Error::usage(format!("unable to forward port because pod is not running: {name}"));
        };
        let (namespace, pod_name) = pods::place(&pod);
        let api: Api<Pod> = Api::namespaced(session.client().await?, namespace);
        let mut listeners = Vec::new();
        for mapping in &mappings {
            let port = resolve(&mapping.remote, &object, &pod)?;
            for address in &self.address {
                for listener in listen(address, mapping.local.unwrap_or(port)).await? {
                    let local = listener.local_addr().map_err(Error::Output)?;
                    session.line(&format!("Forwarding from {local} -> {port}"))?;
                    listeners.push((listener, port));
                }
            }
        }
        let serving = try_join_all(listeners.into_iter().map(|(listener, port)| serve(session, &api, pod_name, listener, port)));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Output)?;
        let stopped = Box::pin(async { interrupt.recv().await.ok_or(Error::Exit(130)) });
        match try_select(serving, stopped).await {
            Ok(_) => Ok(0),
            Err(error) => Err(error.factor_first().0),
        }
    }
}

/// `localhost` is both families; one that this host has not is left out.
async fn listen(address: &str, port: u16) -> Result<Vec<TcpListener>> {
    let addresses: &[&str] = if address == "localhost" { &["127.0.0.1", "::1"] } else { &[address] };
    let (mut found, mut port, mut last) = (Vec::new(), port, None);
    for address in addresses {
        match TcpListener::bind((*address, port)).await {
            Ok(listener) => {
                port = listener.local_addr().map_err(Error::Output)?.port();
                found.push(listener);
            }
            Err(error) => last = Some(error),
        }
    }
    match (found.is_empty(), last) {
        (true, Some(error)) => Error::usage(format!("unable to listen on port {port}: {error}")),
        _ => Ok(found),
    }
}

async fn serve(session: &Session, api: &Api<Pod>, pod: &str, listener: TcpListener, port: u16) -> Result<()> {
    loop {
        let (connection, _) = listener.accept().await.map_err(Error::Output)?;
        let local = connection.local_addr().map_or(port, |address| address.port());
        session.line(&format!("Handling connection for {local}"))?;
        let (api, pod) = (api.clone(), pod.to_string());
        tokio::spawn(async move {
            if let Err(text) = forward(&api, &pod, connection, port).await {
                eprintln!("error: forwarding {local} -> {port}: {text}");
            }
        });
    }
}

async fn forward(api: &Api<Pod>, pod: &str, mut connection: TcpStream, port: u16) -> Result<(), String> {
    let mut forwarder = api.portforward(pod, &[port]).await.map_err(|error| error.to_string())?;
    let mut stream = forwarder.take_stream(port).ok_or("the stream was taken already")?;
    let failed = forwarder.take_error(port);
    let copied = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
    drop(stream);
    // What the node says explains more than how the copying ended.
    if let Some(failed) = failed {
        let told = tokio::time::timeout(Duration::from_secs(1), failed).await;
        if let Ok(Some(text)) = told {
            return Err(text);
        }
    }
    forwarder.abort();
    match copied {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset && error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error.to_string())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, local, remote) in [
            ("80", Some(80), "80"),
            ("8080:80", Some(8080), "80"),
            (":80", Some(0), "80"),
            ("8080:web", Some(8080), "web"),
            ("web", None, "web"),
        ] {
            assert_eq!(Mapping::parse(text).unwrap(), Mapping { local, remote: remote.into() }, "{text}");
        }
        for bad in ["", "x:80", "80:", "1:2:3", "0"] {
            assert!(Mapping::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_behind_names() {
        let value = |yaml: &str| serde_yaml::from_str::<Value>(yaml).unwrap();
        let pod = value("{kind: Pod, metadata: {name: p}, spec: {containers: [{ports: [{name: web, containerPort: 8080}]}]}}");
        let service = value(
            "{kind: Service, metadata: {name: s}, spec: {ports: [{port: 80, targetPort: web}, {name: other, port: 81, targetPort: 9}, {port: 82}]}}",
        );
        for (remote, object, expected) in [
            ("80", &pod, Some(80)),
            ("web", &pod, Some(8080)),
            ("x", &pod, None),
            ("80", &service, Some(8080)),
            ("other", &service, Some(9)),
            ("82", &service, Some(82)),
            ("7", &service, None),
        ] {
            assert_eq!(resolve(remote, object, &pod).ok(), expected, "{remote}");
        }
    }
}
