//! Objects made of flags: what `create TYPE`, `run` and `expose` send.
//!
//! Pure functions. Follows `kubectl/pkg/cmd/create/create_*.go`.

use std::path::Path;

use base64::Engine;
use serde_json::{Map, Value, json};

use super::error::{Error, Result};

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A service account.
pub fn service_account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
}

/// The sources of a configuration's keys.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Sources {
    /// key=value
    #[arg(long, value_name = "KEY=VALUE")]
    pub from_literal: Vec<String>,
    /// A file, KEY=FILE, or a folder of files
    #[arg(long, value_name = "[KEY=]PATH")]
    pub from_file: Vec<String>,
    /// A file of KEY=VALUE lines
    #[arg(long, value_name = "PATH")]
    pub from_env_file: Vec<String>,
}

impl Sources {
    /// All keys and their bytes, in order. A key twice is an error.
    fn read(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        for literal in &self.from_literal {
            let Some((key, value)) = literal.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Error::usage(format!("invalid literal source {literal}, expected key=value"));
            };
            found.push((key.into(), value.trim_matches(['\'', '"']).as_bytes().to_vec()));
        }
        for source in &self.from_file {
            let (key, path) = source.split_once('=').map_or((None, source.as_str()), |(key, path)| (Some(key), path));
            let path = Path::new(path);
            if path.is_dir() && key.is_some() {
                return Error::usage("cannot give a key name for a directory path");
            }
            for path in files(path)? {
                let own = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                found.push((key.unwrap_or(own).to_string(), bytes(&path)?));
            }
        }
        for path in &self.from_env_file {
            let text = String::from_utf8_lossy(&bytes(Path::new(path))?).into_owned();
            for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
                // A name alone takes its value from our own environment.
                let (key, value) = match line.split_once('=') {
                    Some((key, value)) => (key, value.to_string()),
                    None => (line, std::env::var(line).unwrap_or_default()),
                };
                found.push((key.to_string(), value.into_bytes()));
            }
        }
        for (at, (key, _)) in found.iter().enumerate() {
            let legal = key.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
            if key.is_empty() || !legal {
                return Error::usage(format!(
                    "{key:?} is not a valid key name: a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                ));
            }
            if found[..at].iter().any(|(other, _)| other == key) {
                return Error::usage(format!("cannot add key {key:?}, another key by that name already exists"));
            }
        }
        Ok(found)
    }
}

fn files(path: &Path) -> Result<Vec<std::path::PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let failed = |source| Error::File { action: "read folder", path: path.to_path_buf(), source };
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut found = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::File { action: "read", path: path.to_path_buf(), source })
}

fn base64(bytes: &[u8]) -> Value {
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

/// A config map; what is no UTF-8 goes to `binaryData`.
pub fn config_map(name: &str, sources: &Sources) -> Result<Value> {
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in sources.read()? {
        match String::from_utf8(bytes) {
            Ok(text) => drop(data.insert(key, text.into())),
            Err(error) => drop(binary.insert(key, base64(error.as_bytes()))),
        }
    }
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    for (field, map) in [("data", data), ("binaryData", binary)] {
        if !map.is_empty() {
            object[field] = Value::Object(map);
        }
    }
    Ok(object)
}

/// A secret of any type.
pub fn secret(name: &str, kind: Option<&str>, sources: &Sources) -> Result<Value> {
    let data: Map<String, Value> = sources.read()?.into_iter().map(|(key, bytes)| (key, base64(&bytes))).collect();
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    if !data.is_empty() {
        object["data"] = Value::Object(data);
    }
    if let Some(kind) = kind {
        object["type"] = kind.into();
    }
    Ok(object)
}

/// The name of a container that runs an image: the last part of its repository.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let name = last.split([':', '@']).next().unwrap_or_default();
    name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>().trim_matches('-').to_string()
}

/// A deployment of these images.
pub fn deployment(name: &str, images: &[String], replicas: i32, port: Option<u16>, command: &[String]) -> Result<Value> {
    if images.len() > 1 && !command.is_empty() {
        return Error::usage("cannot specify multiple --image options and command");
    }
    let labels = json!({"app": name});
    let mut containers: Vec<Value> = images.iter().map(|image| json!({"name": container_name(image), "image": image})).collect();
    let Some(first) = containers.first_mut() else { return Error::usage("required flag(s) \"image\" not set") };
    if let Some(port) = port {
        first["ports"] = json!([{"containerPort": port}]);
    }
    if !command.is_empty() {
        first["command"] = json!(command);
    }
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}},
    }))
}

/// Reads `80`, `80:8080` or `80:web`: the service's port and where it leads.
fn port(text: &str) -> Result<(u16, Value)> {
    let invalid = || Error::Usage(format!("{text} is not a valid port, expected PORT or PORT:TARGET"));
    let (port, target) = text.split_once(':').unwrap_or((text, text));
    let number: u16 = port.parse().map_err(|_| invalid())?;
    let target = target.parse::<u16>().map(Value::from).unwrap_or_else(|_| target.into());
    if number == 0 || target == "" { Err(invalid()) } else { Ok((number, target)) }
}

/// A service of a type whose pods are labelled `app=NAME`.
pub fn service(name: &str, kind: &str, ports: &[String], cluster_ip: Option<&str>, node_port: Option<u16>) -> Result<Value> {
    if ports.is_empty() && cluster_ip != Some("None") {
        return Error::usage("at least one tcp port specifier must be provided");
    }
    let mut list = Vec::new();
    for text in ports {
        let (number, target) = port(text)?;
        let mut port = json!({"name": text.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": target});
        if let Some(node_port) = node_port {
            port["nodePort"] = node_port.into();
        }
        list.push(port);
    }
    let labels = json!({"app": name});
    let mut object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": {"type": kind, "selector": labels}});
    if !list.is_empty() {
        object["spec"]["ports"] = Value::Array(list);
    }
    if let Some(address) = cluster_ip {
        object["spec"]["clusterIP"] = address.into();
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(yaml: &str) -> Value {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn objects() {
        let sources = Sources { from_literal: vec!["a=b".into(), "c='d'".into()], ..Sources::default() };
        let expected = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: b, c: d}}";
        assert_eq!(config_map("x", &sources).unwrap(), value(expected));
        let expected = "{apiVersion: v1, kind: Secret, metadata: {name: x}, data: {a: Yg==, c: ZA==}, type: t}";
        assert_eq!(secret("x", Some("t"), &sources).unwrap(), value(expected));
        let expected = "{apiVersion: v1, kind: Service, metadata: {name: s, labels: {app: s}}, spec: {type: ClusterIP, selector: {app: s}, \
             ports: [{name: 80-web, port: 80, protocol: TCP, targetPort: web}]}}";
        assert_eq!(service("s", "ClusterIP", &["80:web".into()], None, None).unwrap(), value(expected));
        let expected = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, labels: {app: d}}, spec: {replicas: 2, selector: {matchLabels: {app: d}}, \
             template: {metadata: {labels: {app: d}}, spec: {containers: [{name: nginx, image: 'r:5000/a/nginx:1', ports: [{containerPort: 80}]}]}}}}";
        assert_eq!(deployment("d", &["r:5000/a/nginx:1".into()], 2, Some(80), &[]).unwrap(), value(expected));
    }

    #[test]
    fn files_and_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), "t").unwrap();
        std::fs::write(folder.path().join("binary"), [0xff]).unwrap();
        std::fs::write(folder.path().join("env"), "# c\nA=1\n\nB=x=y\n").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let sources = Sources {
            from_file: vec![path("text"), format!("k={}", path("binary"))],
            from_env_file: vec![path("env")],
            ..Sources::default()
        };
        let map = config_map("x", &sources).unwrap();
        assert_eq!((&map["data"], &map["binaryData"]), (&value("{text: t, A: '1', B: x=y}"), &value("{k: /w==}")));
        for bad in ["novalue", "=x", "a b=c"] {
            assert!(config_map("x", &Sources { from_literal: vec![bad.into()], ..Sources::default() }).is_err(), "{bad}");
        }
        assert!(config_map("x", &Sources { from_literal: vec!["a=1".into(), "a=2".into()], ..Sources::default() }).is_err());
        for bad in ["0", "x", "80:", "70000"] {
            assert!(service("s", "ClusterIP", &[bad.into()], None, None).is_err(), "{bad}");
        }
    }
}
