//! The APIServices of what this server serves itself: of every built-in group version, and of every served version of a definition.
//!
//! Follows upstream's `kube-aggregator/pkg/controllers/autoregister` and `crdregistration`: built-in ones are made at the start
//! (`automanaged: onstart`) and left alone where somebody took them over; those of definitions (`automanaged: true`) come and go with them.
//! That of what is measured ([`usage`]) is like a built-in one, but whoever applies the manifest of a metrics server over it keeps that one.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};

use super::{available, options, write};
use crate::api::{Key, Scope, Status, usage};
use crate::server::registry::{DeleteOptions, Part, Registry};
use crate::server::store::{Entry, Snapshot};

const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const ON_START: &str = "onstart";
const BY_DEFINITION: &str = "true";

const AGGREGATION: &str = "apiregistration.k8s.io";

/// Of groups of definitions.
const DEFINED: (i32, i32) = (1000, 100);

/// Group priorities as upstream's (`controlplane/apiserver/aggregator.go`).
const GROUPS: &[(&str, i32)] = &[
    // It has no APIService: upstream's aggregator serves its own group beside what it aggregates, before all others.
    (AGGREGATION, 20000),
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("internal.apiserver.k8s.io", 16000),
    ("resource.k8s.io", 15900),
    ("storagemigration.k8s.io", 15800),
    // As metrics-server's own manifest says.
    (usage::GROUP, 100),
];

/// The priorities of a built-in group version: `groupPriorityMinimum` and `versionPriority`.
fn builtin_priority(group: &str, version: &str) -> (i32, i32) {
    let in_group = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        (usage::GROUP, _) => 100,
        ("flowcontrol.apiserver.k8s.io", "v1") => 21,
        (_, version) if version.contains("alpha") => 1,
        (_, version) if version.ends_with("beta2") => 13,
        (_, version) if version.contains("beta") => 12,
        _ => 15,
    };
    (group_priority(group).unwrap_or(15000), in_group)
}

/// The priority of a built-in group.
pub fn group_priority(group: &str) -> Option<i32> {
    GROUPS.iter().find(|(name, _)| *name == group).map(|(_, priority)| *priority)
}

/// By which a group that this server serves stands among others: the higher, the earlier.
pub fn priority(group: &str) -> i32 {
    group_priority(group).unwrap_or(DEFINED.0)
}

/// What an automanaged APIService is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    group: String,
    version: String,
    priority: (i32, i32),
    managed: &'static str,
    /// Whether somebody's own server may take the place, so that an APIService that names one is left alone.
    replaceable: bool,
}

impl Wanted {
    fn spec(&self) -> APIServiceSpec {
        APIServiceSpec {
            group: Some(self.group.clone()),
            version: Some(self.version.clone()),
            group_priority_minimum: self.priority.0,
            version_priority: self.priority.1,
            ..APIServiceSpec::default()
        }
    }

    fn object(&self, name: &str) -> APIService {
        let mut service = APIService { spec: Some(self.spec()), ..APIService::default() };
        service.metadata.name = Some(name.into());
        service.metadata.labels = Some(BTreeMap::from([(AUTOMANAGED.to_owned(), self.managed.to_owned())]));
        service
    }
}

/// All that should be there, by name.
fn wanted(registry: &Registry) -> BTreeMap<String, Wanted> {
    let mut wanted = BTreeMap::new();
    let builtin = registry.builtin().len();
    for (index, kind) in registry.kinds().iter().enumerate() {
        let (group, version) = (kind.group(), kind.version());
        if group == AGGREGATION {
            continue;
        }
        let (priority, managed) = if index < builtin { (builtin_priority(group, version), ON_START) } else { (DEFINED, BY_DEFINITION) };
        let one = Wanted { group: group.into(), version: version.into(), priority, managed, replaceable: false };
        wanted.entry(format!("{version}.{group}")).or_insert(one);
    }
    let (group, version) = (usage::GROUP, usage::VERSION);
    let priority = builtin_priority(group, version);
    let measured = Wanted { group: group.into(), version: version.into(), priority, managed: ON_START, replaceable: true };
    wanted.insert(format!("{version}.{group}"), measured);
    wanted
}

/// Makes, mends and removes local APIServices, and says of each that it is available. Built-in ones are made at the start only.
pub(super) async fn keep(registry: &Registry, state: &Snapshot, at_start: bool) {
    let wanted = wanted(registry);
    for (name, one) in &wanted {
        let present = state.get(&Key::of::<APIService>("", name));
        if let Err(status) = settle(registry, name, one, present, at_start).await {
            tracing::warn!(name, %status, "a local APIService was not written");
        }
    }
    let scope = Scope::of::<APIService>();
    let present: Vec<Arc<Entry>> = state.range(&scope).cloned().collect();
    for entry in &present {
        let name = entry.key.name();
        let orphaned = label(entry) == Some(BY_DEFINITION) && !wanted.contains_key(name);
        let outcome = match entry.typed::<APIService>() {
            _ if orphaned => remove(registry, name, entry).await,
            Ok(service) if is_local(&service) && !available::is_true(&service) => write(registry, name, &available::Verdict::local()).await,
            _ => Ok(()),
        };
        if let Err(status) = outcome {
            tracing::warn!(name, %status, "a local APIService was not kept");
        }
    }
}

fn is_local(service: &APIService) -> bool {
    service.spec.as_ref().is_none_or(|spec| spec.service.is_none())
}

fn label(entry: &Entry) -> Option<&str> {
    entry.meta().labels.as_ref().and_then(|labels| labels.get(AUTOMANAGED)).map(String::as_str)
}

async fn settle(registry: &Registry, name: &str, wanted: &Wanted, present: Option<&Arc<Entry>>, at_start: bool) -> Result<(), Status> {
    let Some(entry) = present else {
        if wanted.managed == ON_START && !at_start {
            return Ok(());
        }
        return match registry.create_object(Box::new(wanted.object(name)), &options()).await {
            Err(status) if status.reason == "AlreadyExists" => Ok(()),
            Err(status) => Err(status),
            Ok(_) => write(registry, name, &available::Verdict::local()).await,
        };
    };
    // What nobody manages any more belongs to whoever took the label off.
    let managed = label(entry).is_some_and(|managed| managed == wanted.managed);
    let due = wanted.managed == BY_DEFINITION || at_start;
    let service = entry.typed::<APIService>().map_err(Status::internal)?;
    let replaced = wanted.replaceable && !is_local(&service);
    if !managed || !due || replaced || service.spec.as_ref() == Some(&wanted.spec()) {
        return Ok(());
    }
    let mut object = (*service).clone();
    object.spec = Some(wanted.spec());
    match registry.update_object(Box::new(object), Part::Main, &options()).await {
        // Somebody changed it meanwhile: the change brings it up again.
        Err(status) if status.code == 409 || status.code == 404 => Ok(()),
        done => done.map(drop),
    }
}

async fn remove(registry: &Registry, name: &str, entry: &Entry) -> Result<(), Status> {
    let Some(kind) = registry.kind_of_key(&entry.key) else { return Ok(()) };
    let delete = DeleteOptions { uid: entry.meta().uid.clone(), ..DeleteOptions::default() };
    match registry.delete(&kind, "", name, &delete, &options()).await {
        Err(status) if status.code == 404 || status.code == 409 => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities() {
        for (group, version, want) in [
            ("", "v1", (18000, 1)),
            ("apps", "v1", (17800, 15)),
            ("autoscaling", "v2", (17500, 30)),
            ("resource.k8s.io", "v1beta1", (15900, 12)),
            ("new.k8s.io", "v1alpha1", (15000, 1)),
            ("metrics.k8s.io", "v1beta1", (100, 100)),
        ] {
            assert_eq!(builtin_priority(group, version), want, "{group}/{version}");
        }
    }
}
