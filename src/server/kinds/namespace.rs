//! Namespace: removed only once its `spec.finalizers` are gone, which the namespace controller sees to.

use k8s_openapi::api::core::v1::Namespace;

use super::support::path::{Errors, Path};
use super::support::{print, rules};
use crate::api::{FieldError, names};
use crate::server::registry::strategy::Subresource;

/// The label by which selectors find a namespace by name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

kind!(Namespace: CLUSTER { singular: "namespace", short: &["ns"], generation: false, subresources: &[Subresource::Status] }
    const FIELDS: &'static [&'static str] = &["status.phase"];
    fn field(&self, path: &str) -> Option<String> {
        (path == "status.phase").then(|| rules::part(&self.status).phase.clone().unwrap_or_default())
    }
    fn apply_defaults(&mut self) {
        if let Some(name) = self.metadata.name.clone().filter(|name| !name.is_empty()) {
            self.metadata.labels.get_or_insert_default().insert(NAME_LABEL.into(), name);
        }
    }
    fn prepare_create(&mut self) {
        // With generateName the name is known only by now.
        self.apply_defaults();
        self.status.insert(Default::default()).phase = Some("Active".into());
        let finalizers = self.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
    }
    fn prepare_update(&mut self, old: &Self) {
        // Finalizers go, by the namespace controller, once the namespace is on its way out; they never come.
        let kept = self.spec.take().and_then(|spec| spec.finalizers).filter(|_| old.metadata.deletion_timestamp.is_some());
        self.spec = old.spec.clone();
        if let (Some(kept), Some(spec)) = (kept, &mut self.spec) {
            spec.finalizers.iter_mut().for_each(|all| all.retain(|one| kept.contains(one)));
        }
        self.status = old.status.clone();
    }
    fn prepare_status(&mut self, old: &Self) { self.spec = old.spec.clone(); }
    fn validate_name(name: &str) -> Result<(), String> { names::label(name) }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        for (index, finalizer) in self.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).enumerate() {
            rules::syntax(&mut errors, &Path::new("spec").at("finalizers").index(index), finalizer, names::qualified);
        }
        errors
    }
    fn validate_status(&self, _old: &Self) -> Errors {
        let phase = rules::part(&self.status).phase.clone().unwrap_or_default();
        let (wanted, when) = match &self.metadata.deletion_timestamp {
            None => ("Active", "empty"),
            Some(_) => ("Terminating", "not empty"),
        };
        let why = format!("may only be '{wanted}' if `deletionTimestamp` is {when}");
        // Upstream's name for it.
        if phase == wanted { Errors::new() } else { vec![FieldError::invalid("status.Phase", phase, why)] }
    }
    columns!(Namespace;
        "Status" string: "Active or Terminating." => |namespace, _| print::opt(&rules::part(&namespace.status).phase),
        "Age" string: "Time since creation." => print::age);
);
