//! Kinds that CustomResourceDefinitions define.
//!
//! Words: a *definition* is a CustomResourceDefinition in the store; *compiled*, it is one [`KindDef`](crate::server::registry::KindDef)
//! for each of its versions. An object of a custom kind is a [`Dynamic`]: its metadata is typed, all else is a tree.
//!
//! A kind exists in the moment in which its definition is in a snapshot with accepted names: looking one up is one `get`, since a
//! definition's name is `RESOURCE.GROUP`. What was compiled is kept until the definition's spec or accepted names change.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/customresource_handler.go` and `pkg/registry/customresource`.
//!
//! Never: writes, or admits; the registry does, as for any kind.

mod behaviour;
mod columns;
mod convert;
mod dynamic;
mod paths;
mod publish;
mod version;
mod webhook;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, CustomResourceDefinitionNames};
use parking_lot::Mutex;

use crate::api::{Key, Rev, Scope};
use crate::server::outbound::Outbound;
use crate::server::registry::{Extensions, KindRef};
use crate::server::store::{Entry, Snapshot};

pub use dynamic::Dynamic;
use version::Definition;

/// A definition, compiled.
struct Compiled {
    crd: Arc<CustomResourceDefinition>,
    rev: Rev,
    /// Each version's kind, with whether it is served, in the definition's order.
    versions: Vec<(KindRef, bool)>,
    /// Which of them objects are stored in.
    storage: usize,
}

/// The kinds of all definitions. Cheap to clone.
#[derive(Clone)]
pub struct CustomKinds {
    outbound: Outbound,
    compiled: Arc<Mutex<HashMap<Key, Arc<Compiled>>>>,
}

impl CustomKinds {
    /// None yet; conversion webhooks are called through `outbound`.
    pub fn new(outbound: Outbound) -> CustomKinds {
        CustomKinds { outbound, compiled: Arc::default() }
    }

    /// The definition of a group's resource, if it may be served.
    fn find(&self, state: &Snapshot, group: &str, resource: &str) -> Option<Arc<Compiled>> {
        if group.is_empty() || group.contains('/') || resource.contains('/') {
            return None;
        }
        let entry = state.get(&Key::of::<CustomResourceDefinition>("", &format!("{resource}.{group}")))?;
        self.compile(entry)
    }

    fn compile(&self, entry: &Entry) -> Option<Arc<Compiled>> {
        let kept = self.compiled.lock().get(&entry.key).cloned();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.rev == entry.rev) {
            return is_accepted(&kept.crd).then(|| kept.clone());
        }
        let crd = entry.typed::<CustomResourceDefinition>().ok()?;
        let same = kept.filter(|kept| serves_alike(&kept.crd, &crd));
        let compiled = match same {
            Some(kept) => Compiled { crd, rev: entry.rev, versions: kept.versions.clone(), storage: kept.storage },
            None => self.build(entry, crd)?,
        };
        let compiled = Arc::new(compiled);
        let mut all = self.compiled.lock();
        // An older snapshot may ask; it does not replace what is newer.
        if all.get(&entry.key).is_none_or(|kept| kept.rev < entry.rev) {
            all.insert(entry.key.clone(), compiled.clone());
        }
        is_accepted(&compiled.crd).then_some(compiled)
    }

    fn build(&self, entry: &Entry, crd: Arc<CustomResourceDefinition>) -> Option<Compiled> {
        let storage = crd.spec.versions.iter().position(|version| version.storage)?;
        let definition = Arc::new(Definition::new(entry.key.clone(), entry.rev, crd.clone(), self.outbound.clone()));
        let versions = (0..crd.spec.versions.len()).map(|index| (Definition::kind(&definition, index), crd.spec.versions[index].served));
        Some(Compiled { versions: versions.collect(), crd, rev: entry.rev, storage })
    }

    /// Forgets what was compiled of definitions that are gone.
    fn forget_gone(&self, state: &Snapshot) {
        self.compiled.lock().retain(|key, compiled| compiled.rev > state.rev() || state.get(key).is_some());
    }
}

impl Extensions for CustomKinds {
    fn kind(&self, state: &Snapshot, group: &str, version: &str, resource: &str) -> Option<KindRef> {
        let compiled = self.find(state, group, resource)?;
        compiled.versions.iter().find(|(kind, served)| *served && kind.version() == version).map(|(kind, _)| kind.clone())
    }

    fn stored(&self, state: &Snapshot, group: &str, resource: &str) -> Option<KindRef> {
        let compiled = self.find(state, group, resource)?;
        compiled.versions.get(compiled.storage).map(|(kind, _)| kind.clone())
    }

    fn kinds(&self, state: &Snapshot) -> Vec<KindRef> {
        let entries: Vec<_> = state.range(&Scope::of::<CustomResourceDefinition>()).collect();
        if self.compiled.lock().len() > entries.len() {
            self.forget_gone(state);
        }
        let established = entries.into_iter().filter_map(|entry| self.compile(entry)).filter(|compiled| has(&compiled.crd, "Established"));
        let served = |compiled: Arc<Compiled>| {
            compiled.versions.iter().filter(|(_, served)| *served).map(|(kind, _)| kind.clone()).collect::<Vec<_>>()
        };
        established.flat_map(served).collect()
    }
}

/// Whether a condition of the definition is true.
pub(crate) fn has(crd: &CustomResourceDefinition, condition: &str) -> bool {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == condition && one.status == "True")
}

/// Whether objects are served. Accepted names are enough: establishing follows at once.
fn is_accepted(crd: &CustomResourceDefinition) -> bool {
    has(crd, "NamesAccepted") || has(crd, "Established")
}

fn accepted(crd: &CustomResourceDefinition) -> CustomResourceDefinitionNames {
    crd.status.as_ref().and_then(|status| status.accepted_names.clone()).unwrap_or_default()
}

/// Whether two states of a definition serve the same kinds in the same way.
fn serves_alike(one: &CustomResourceDefinition, other: &CustomResourceDefinition) -> bool {
    one.spec == other.spec
        && accepted(one) == accepted(other)
        && has(one, "Terminating") == has(other, "Terminating")
        && one.metadata.uid == other.metadata.uid
}
