//! The objects that a changing verb works on, from files or from words and selectors.

use clap::Args;
use serde_json::Value;

use super::catalog::Resource;
use super::error::{Error, Result};
use super::flags::Files;
use super::manifest;
use super::session::{JSON, Session};
use super::target;

/// How a verb is told its objects.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// TYPE NAME..., TYPE/NAME..., or TYPE with a selector
    #[arg(value_name = "TYPE/NAME")]
    pub words: Vec<String>,
    #[command(flatten)]
    pub files: Files,
    /// Label selector
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// All objects of the type
    #[arg(long)]
    pub all: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Field selector
    #[arg(long)]
    pub field_selector: Option<String>,
}

/// One object as the server has it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its resource.
    pub resource: Resource,
    /// Its namespace; `None` if it lives in none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The object itself.
    pub object: Value,
}

impl Found {
    /// Its address.
    pub fn path(&self) -> String {
        self.resource.path(self.namespace.as_deref(), Some(&self.name))
    }

    /// `deployment.apps/x`.
    pub fn title(&self) -> String {
        self.resource.named(&self.name)
    }

    /// From an object of a list, or of its own.
    pub fn new(resource: &Resource, mut object: Value) -> Found {
        // Items of lists leave out what they are.
        if let Some(map) = object.as_object_mut() {
            map.entry("apiVersion").or_insert_with(|| resource.api_version().into());
            map.entry("kind").or_insert_with(|| resource.kind.clone().into());
        }
        let text = |field: &str| object["metadata"][field].as_str().map(str::to_string);
        Found {
            resource: resource.clone(),
            namespace: text("namespace").filter(|_| resource.namespaced),
            name: text("name").unwrap_or_default(),
            object,
        }
    }
}

impl Selection {
    /// Query parameters of the selectors, checked before anything is sent.
    pub fn query(&self) -> Result<Vec<(&str, &str)>> {
        let mut query = Vec::new();
        if let Some(labels) = &self.selector {
            crate::api::selector::LabelSelector::parse(labels)?;
            query.push(("labelSelector", labels.as_str()));
        }
        if let Some(fields) = &self.field_selector {
            crate::api::selector::FieldSelector::parse(fields)?;
            query.push(("fieldSelector", fields.as_str()));
        }
        Ok(query)
    }

    fn selects(&self) -> bool {
        self.all || self.selector.is_some() || self.field_selector.is_some() || self.all_namespaces
    }

    /// Fetches the objects. A type without names, selector or `--all` is refused.
    pub async fn fetch(&self, session: &Session) -> Result<Vec<Found>> {
        if !self.files.filename.is_empty() || self.files.kustomize.is_some() {
            if !self.words.is_empty() {
                return Error::usage("when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well");
            }
            return self.fetch_files(session).await;
        }
        let query = self.query()?;
        let mut found = Vec::new();
        for target in target::resolve(session, &self.words, self.all_namespaces).await? {
            if target.name.is_some() {
                if self.selects() {
                    return Error::usage("name cannot be provided when a selector is specified");
                }
                found.push(Found::new(&target.resource, session.get(&target.path(), JSON).await?));
            } else if !self.selects() {
                return Error::usage("resource(s) were provided, but no name was specified");
            } else {
                let mut list = session.list(&target.path(), &query).await?;
                let items = list.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
                found.extend(items.into_iter().map(|item| Found::new(&target.resource, item)));
            }
        }
        Ok(found)
    }

    async fn fetch_files(&self, session: &Session) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for stated in located(session, &self.files).await? {
            found.push(Found::new(&stated.resource, session.get(&stated.path(), JSON).await?));
        }
        Ok(found)
    }
}

/// The objects of `-f` as the files state them, with resource and namespace.
pub async fn located(session: &Session, files: &Files) -> Result<Vec<Found>> {
    let manifests = manifest::read(files)?;
    let catalog = session.catalog().await?;
    let namespace = session.namespace().await?;
    let mut found = Vec::new();
    for manifest in manifests {
        let resource = catalog.of_object(&manifest.object, &manifest.source)?;
        found.push(place(resource, manifest.object, &namespace, session.global.namespace.as_deref())?);
    }
    Ok(found)
}

/// Puts an object into the command's namespace, unless it states one; then `--namespace` must agree.
pub fn place(resource: &Resource, mut object: Value, namespace: &str, flag: Option<&str>) -> Result<Found> {
    if !resource.namespaced {
        return Ok(Found::new(resource, object));
    }
    let stated = object["metadata"]["namespace"].as_str().unwrap_or_default().to_string();
    match flag.filter(|flag| !stated.is_empty() && stated != **flag) {
        Some(flag) => Error::usage(format!(
            "the namespace from the provided object {stated:?} does not match the namespace {flag:?}. You must pass '--namespace={stated}' to perform this operation."
        )),
        None => {
            if stated.is_empty() {
                let Some(map) = object.as_object_mut() else { return Error::usage("an object must be a map") };
                let meta = map.entry("metadata").or_insert_with(|| serde_json::json!({}));
                let Some(meta) = meta.as_object_mut() else { return Error::usage("metadata must be a map") };
                meta.insert("namespace".into(), namespace.into());
            }
            Ok(Found::new(resource, object))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    #[test]
    fn namespaces_of_files() {
        let catalog = support::catalog();
        let (pod, node) = (catalog.resolve("po").unwrap(), catalog.resolve("no").unwrap());
        let object = |yaml: &str| serde_yaml::from_str::<Value>(yaml).unwrap();
        assert_eq!(place(pod, object("{metadata: {name: a}}"), "n", None).unwrap().path(), "/api/v1/namespaces/n/pods/a");
        assert_eq!(place(pod, object("{metadata: {name: a, namespace: o}}"), "n", None).unwrap().path(), "/api/v1/namespaces/o/pods/a");
        assert_eq!(place(node, object("{metadata: {name: a}}"), "n", Some("n")).unwrap().path(), "/api/v1/nodes/a");
        assert!(place(pod, object("{metadata: {name: a, namespace: o}}"), "n", Some("n")).is_err());
    }
}
