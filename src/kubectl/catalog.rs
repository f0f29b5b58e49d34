//! What the server serves: discovery, and how a word on the command line names a resource.
//!
//! Aggregated discovery (two requests) when the server offers it, else one request per group version. Groups stand in the server's order,
//! the core group first, which decides when a word fits several. Follows client-go `discovery` and `restmapper/shortcut.go`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::{Error, Result};
use super::session::{JSON, Session, escape};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// One resource of one group version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Plural, as in addresses.
    pub name: String,
    /// Singular.
    pub singular: String,
    /// As in objects.
    pub kind: String,
    /// Such as `po`.
    pub short_names: Vec<String>,
    /// Such as `all`.
    pub categories: Vec<String>,
    /// Such as `list`.
    pub verbs: Vec<String>,
    /// Such as `scale`.
    pub subresources: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployments.apps`, or `pods` for the core group.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.name.clone() } else { format!("{}.{}", self.name, self.group) }
    }

    /// `deployment.apps/x`, as result lines name an object.
    pub fn named(&self, name: &str) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{}/{name}", self.group) }
    }

    /// The address of all objects, or of one.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(&escape(namespace));
        }
        path.push('/');
        path.push_str(&self.name);
        if let Some(name) = name {
            path.push('/');
            path.push_str(&escape(name));
        }
        path
    }

    /// Whether the server offers this verb for it.
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    fn is_called(&self, word: &str) -> bool {
        let lower = word.to_lowercase();
        self.name == lower || self.singular == lower || self.kind.to_lowercase() == lower || self.short_names.contains(&lower)
    }
}

/// Everything that the server serves.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// In the order of preference: of groups, then of versions.
    pub resources: Vec<Resource>,
}

impl Catalog {
    /// Asks the server.
    pub async fn discover(session: &Session) -> Result<Catalog> {
        let mut resources = Vec::new();
        for root in ["/api", "/apis"] {
            let answer = session.get(root, AGGREGATED).await?;
            match answer["kind"].as_str() {
                Some("APIGroupDiscoveryList") => resources.extend(aggregated(&answer)),
                _ => {
                    for group_version in group_versions(&answer) {
                        let list = session.get(&format!("{root}/{group_version}"), JSON).await?;
                        resources.extend(legacy(&group_version, &list));
                    }
                }
            }
        }
        Ok(Catalog { resources })
    }

    /// The resource that a word names: `po`, `Pod`, `deploy.apps`, `deployments.v1.apps`.
    pub fn resolve(&self, word: &str) -> Result<&Resource> {
        let fits = |resource: &&Resource| {
            if resource.is_called(word) {
                return true;
            }
            let Some((name, rest)) = word.split_once('.') else { return false };
            let versioned = format!("{}.{}", resource.version, resource.group);
            resource.is_called(name) && (rest == resource.group || rest == versioned || rest == versioned.trim_end_matches('.'))
        };
        self.resources.iter().find(fits).ok_or_else(|| Error::Usage(format!("the server doesn't have a resource type {word:?}")))
    }

    /// The resources of a word, which may be a category such as `all`.
    pub fn expand(&self, word: &str) -> Result<Vec<&Resource>> {
        let mut seen = BTreeSet::new();
        let of_category = self.resources.iter().filter(|resource| resource.categories.iter().any(|category| category == word));
        let found: Vec<_> = of_category.filter(|resource| resource.can("list") && seen.insert(resource.qualified())).collect();
        if found.is_empty() { Ok(vec![self.resolve(word)?]) } else { Ok(found) }
    }

    /// The resource of an object.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }

    /// The resource of an object's own words.
    pub fn of_object(&self, object: &Value, source: &str) -> Result<&Resource> {
        let (api_version, kind) = (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
        if kind.is_empty() {
            return Error::usage(format!("unable to decode {source:?}: Object 'Kind' is missing in '{}'", short(object)));
        }
        if api_version.is_empty() {
            return Error::usage(format!("unable to decode {source:?}: Object 'apiVersion' is missing in '{}'", short(object)));
        }
        self.of_kind(api_version, kind).ok_or_else(|| {
            Error::Usage(format!(
                "resource mapping not found for name: {:?} namespace: {:?} from {source:?}: no matches for kind {kind:?} in version {api_version:?}\n\
                 ensure CRDs are installed first",
                object["metadata"]["name"].as_str().unwrap_or_default(),
                object["metadata"]["namespace"].as_str().unwrap_or_default(),
            ))
        })
    }
}

fn short(object: &Value) -> String {
    object.to_string().chars().take(200).collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// Resources of an `APIGroupDiscoveryList`.
fn aggregated(list: &Value) -> Vec<Resource> {
    let mut found = Vec::new();
    for group in list["items"].as_array().into_iter().flatten() {
        for version in group["versions"].as_array().into_iter().flatten() {
            for resource in version["resources"].as_array().into_iter().flatten() {
                let subresources = resource["subresources"].as_array().into_iter().flatten();
                found.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    name: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    kind: text(&resource["responseKind"]["kind"]),
                    short_names: strings(&resource["shortNames"]),
                    categories: strings(&resource["categories"]),
                    verbs: strings(&resource["verbs"]),
                    subresources: subresources.map(|sub| text(&sub["subresource"])).collect(),
                    namespaced: resource["scope"] == "Namespaced",
                });
            }
        }
    }
    found
}

/// The group versions of an `APIVersions` or `APIGroupList`, the preferred one of each group first.
fn group_versions(answer: &Value) -> Vec<String> {
    let mut found = strings(&answer["versions"]);
    for group in answer["groups"].as_array().into_iter().flatten() {
        let preferred = text(&group["preferredVersion"]["groupVersion"]);
        let all: Vec<_> = group["versions"].as_array().into_iter().flatten().map(|version| text(&version["groupVersion"])).collect();
        found.extend(Some(preferred.clone()).filter(|version| !version.is_empty()));
        found.extend(all.into_iter().filter(|version| *version != preferred));
    }
    found
}

/// Resources of an `APIResourceList`.
fn legacy(group_version: &str, list: &Value) -> Vec<Resource> {
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let mut found: Vec<Resource> = Vec::new();
    let all: Vec<&Value> = list["resources"].as_array().into_iter().flatten().collect();
    for resource in all.iter().filter(|resource| !text(&resource["name"]).contains('/')) {
        let name = text(&resource["name"]);
        let below = format!("{name}/");
        found.push(Resource {
            group: group.into(),
            version: version.into(),
            singular: text(&resource["singularName"]),
            kind: text(&resource["kind"]),
            short_names: strings(&resource["shortNames"]),
            categories: strings(&resource["categories"]),
            verbs: strings(&resource["verbs"]),
            subresources: all.iter().filter_map(|other| other["name"].as_str()?.strip_prefix(&below).map(str::to_string)).collect(),
            namespaced: resource["namespaced"] == true,
            name,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;

    #[test]
    fn words_name_resources() {
        let catalog = support::catalog();
        for (word, expected) in [
            ("po", "pods"),
            ("Pod", "pods"),
            ("pods.v1", "pods"),
            ("deploy.apps", "deployments.apps"),
            ("deployments.v1.apps", "deployments.apps"),
            ("Deployment", "deployments.apps"),
            ("events", "events"),
            ("events.events.k8s.io", "events.events.k8s.io"),
        ] {
            assert_eq!(catalog.resolve(word).unwrap().qualified(), expected, "{word}");
        }
        assert_eq!(catalog.resolve("nope").unwrap_err().to_string(), "error: the server doesn't have a resource type \"nope\"");
        let all: Vec<_> = catalog.expand("all").unwrap().iter().map(|resource| resource.qualified()).collect();
        assert_eq!(all, ["pods", "services", "deployments.apps", "replicasets.apps"]);
    }

    #[test]
    fn addresses() {
        let catalog = support::catalog();
        let path = |word: &str, namespace, name| catalog.resolve(word).unwrap().path(namespace, name);
        assert_eq!(path("po", Some("n"), Some("x")), "/api/v1/namespaces/n/pods/x");
        assert_eq!(path("deploy", None, None), "/apis/apps/v1/deployments");
        assert_eq!(path("no", Some("ignored"), Some("system:x")), "/api/v1/nodes/system%3Ax");
    }

    #[test]
    fn both_forms_of_discovery() {
        let old: Value = serde_yaml::from_str(
            "resources: [{name: deployments, singularName: deployment, kind: Deployment, namespaced: true, verbs: [get], shortNames: [deploy]}, \
             {name: deployments/scale, kind: Scale, namespaced: true, verbs: [get]}]",
        )
        .unwrap();
        let new: Value = serde_yaml::from_str(
            "items: [{metadata: {name: apps}, versions: [{version: v1, resources: [{resource: deployments, singularResource: deployment, \
             scope: Namespaced, verbs: [get], shortNames: [deploy], responseKind: {kind: Deployment}, subresources: [{subresource: scale}]}]}]}]",
        )
        .unwrap();
        assert_eq!(legacy("apps/v1", &old), aggregated(&new));
        let groups: Value = serde_yaml::from_str(
            "groups: [{preferredVersion: {groupVersion: a/v2}, versions: [{groupVersion: a/v1}, {groupVersion: a/v2}]}]",
        )
        .unwrap();
        assert_eq!(group_versions(&groups), ["a/v2", "a/v1"]);
    }
}
