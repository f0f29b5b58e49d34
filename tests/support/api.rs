//! The API as a program uses it: raw requests with the administrator's certificate, answers as JSON.

use std::path::Path;
use std::time::Duration;

use kube::Client;
use kube::client::Body;
use serde_json::Value;

use super::eventually;

/// A client of one server.
pub struct Api {
    /// Where its connections run; made in the host's network.
    pub runtime: tokio::runtime::Runtime,
    /// For what is not covered here.
    pub client: Client,
}

impl Api {
    /// From a kubeconfig, on the thread that entered the host.
    pub fn new(kubeconfig: &Path) -> Result<Api, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|e| e.to_string())?;
        let client = runtime.block_on(client(kubeconfig))?;
        Ok(Api { runtime, client })
    }

    /// Any request: the code and the body, null where there is none.
    pub fn call(&self, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Result<(u16, Value), String> {
        let (code, text) = self.runtime.block_on(call(&self.client, method, path, content_type, body))?;
        Ok((code, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// What is there.
    pub fn try_get(&self, path: &str) -> Result<Value, String> {
        match self.call("GET", path, "application/json", Vec::new())? {
            (200, value) => Ok(value),
            (code, value) => Err(format!("GET {path}: {code} {value}")),
        }
    }

    /// What must be there.
    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap()
    }

    /// Waits until what is at `path` is as wanted.
    pub fn until(&self, limit: Duration, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(limit, what, || {
            let value = self.try_get(path)?;
            if wanted(&value) { Ok(value) } else { Err(brief(&value)) }
        })
    }

    /// The phase of each container of a pod must get `wanted` from the pod.
    pub fn pod(&self, limit: Duration, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until(limit, &format!("pod {name} {what}"), &pod_path(name), wanted)
    }

    /// Waits for a pod to be ready.
    pub fn ready(&self, limit: Duration, name: &str) -> Value {
        self.pod(limit, name, "is ready", is_ready)
    }

    /// Waits for the end of a pod, and returns its phase.
    pub fn finished(&self, limit: Duration, name: &str) -> String {
        let ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let pod = self.pod(limit, name, "ends", ended);
        pod["status"]["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for an event about an object whose reason and message contain these.
    pub fn event(&self, limit: Duration, about: &str, reason: &str, message: &str) -> String {
        eventually(limit, &format!("an event {reason} about {about}: {message:?}"), || {
            let list = self.try_get("/api/v1/namespaces/default/events")?;
            let events: Vec<&Value> =
                list["items"].as_array().into_iter().flatten().filter(|e| e["involvedObject"]["name"] == about).collect();
            let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
            let found = events.iter().find(|event| text(event, "reason") == reason && text(event, "message").contains(message));
            let all = || events.iter().map(|e| format!("{}: {}", text(e, "reason"), text(e, "message"))).collect::<Vec<_>>().join(" | ");
            found.map(|event| text(event, "message")).ok_or_else(all)
        })
    }
}

/// A client of its own.
pub async fn client(kubeconfig: &Path) -> Result<Client, String> {
    // Fails only if one is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = kube::config::Kubeconfig::read_from(kubeconfig).map_err(|e| e.to_string())?;
    let config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await;
    let mut config = config.map_err(|e| e.to_string())?;
    // What the server answers is what is wanted, also if it is 503.
    config.default_retry = false;
    Client::try_from(config).map_err(|e| e.to_string())
}

/// One request with a deadline.
pub async fn call(client: &Client, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Result<(u16, String), String> {
    let request = http::Request::builder().method(method).uri(path).header("Content-Type", content_type);
    let request = request.header("Accept", "application/json").body(Body::from(body)).map_err(|e| e.to_string())?;
    let exchange = async {
        let response = client.send(request).await.map_err(|e| format!("{e:?}"))?;
        let code = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.map_err(|e| format!("{e:?}"))?;
        Ok((code, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, exchange).await.map_err(|_| format!("{method} {path}: no answer within {limit:?}"))?
}

/// Where a pod of the namespace default is.
pub fn pod_path(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{name}")
}

/// Whether a condition is True.
pub fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == "True"))
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready")
}

/// What a failure is explained with: the status alone is most of it.
fn brief(value: &Value) -> String {
    let text = if value["status"].is_object() { value["status"].to_string() } else { value.to_string() };
    text.chars().take(2000).collect()
}
