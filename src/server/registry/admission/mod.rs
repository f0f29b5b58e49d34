//! Admission: checks that look beyond the one object, and what they add to it. One file per check, one slice [`ADMISSION`].
//!
//! Words, as upstream's: *mutating* admission may complete the object and runs before validation; *validating* admission may only refuse,
//! and runs on what will be stored. A step is *sync* when the snapshot is all that it needs, *async* when it may call out (webhooks).
//!
//! Upstream's plug-ins of the same names. Every step must be harmless when it runs twice on one object, for a write is decided again
//! after a lost race. Subresources are admitted too; most checks look at the object itself only ([`Check::handles`]).
//!
//! Never: refuses what the server itself is repairing.

mod certificate_requests;
mod certificates;
mod claim_resize;
mod connect;
mod default_class;
mod escalation;
mod limit_ranger;
mod limits;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod pod_security;
mod policies;
mod priority;
mod quota_ledger;
mod resource_quota;
mod rounds;
mod runtime_class;
mod service;
mod service_account;
mod service_allocation;
mod storage_protection;
mod taint_nodes;
mod toleration_seconds;
mod topology_labels;
mod webhooks;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashSet;

use futures::future::BoxFuture;

use super::access::Authorizer;
use super::{DeleteOptions, KindDef, Parts, Registry, User, WriteOptions};
use crate::api::{Key, Object, Status};
use crate::server::store::{Index, Snapshot};

pub use connect::{Admitted, ConnectOptions};
pub(super) use policies::Policies;
pub(super) use quota_ledger::Ledger;
use rounds::Rounds;
pub use service_allocation::RegistryConfig;
pub(super) use service_allocation::Reservations;
use service_allocation::TAKEN;
pub(super) use webhooks::Configured;

/// What the store of a registry must keep, for allocation to find what is taken.
pub const INDEXES: &[Index] = &[TAKEN];

/// Stands for the name of a step that upstream has in the storage of a kind, and which nobody can leave out.
const STORAGE: &str = "";

/// All steps with their plug-ins' names, in the order in which they run in each phase (upstream's `pkg/kubeapiserver/options/plugins.go`).
static ADMISSION: &[(&str, Step)] = &[
    ("NamespaceLifecycle", Step::Sync(&namespace_lifecycle::NamespaceLifecycle)),
    ("LimitRanger", Step::Sync(&limit_ranger::LimitRanger)),
    ("ServiceAccount", Step::Sync(&service_account::ServiceAccounts)),
    ("NodeRestriction", Step::Sync(&node_restriction::NodeRestriction)),
    ("TaintNodesByCondition", Step::Sync(&taint_nodes::TaintNodesByCondition)),
    ("PodSecurity", Step::Sync(&pod_security::PodSecurity)),
    ("Priority", Step::Sync(&priority::Priority)),
    ("DefaultTolerationSeconds", Step::Sync(&toleration_seconds::DefaultTolerationSeconds)),
    ("DefaultStorageClass", Step::Sync(&default_class::DefaultStorageClass)),
    ("StorageObjectInUseProtection", Step::Sync(&storage_protection::StorageObjectInUseProtection)),
    ("PersistentVolumeClaimResize", Step::Sync(&claim_resize::PersistentVolumeClaimResize)),
    ("RuntimeClass", Step::Sync(&runtime_class::RuntimeClasses)),
    ("CertificateApproval", Step::Sync(&certificates::CertificateApproval)),
    ("CertificateSigning", Step::Sync(&certificates::CertificateSigning)),
    ("ClusterTrustBundleAttest", Step::Sync(&certificates::ClusterTrustBundleAttest)),
    ("CertificateSubjectRestriction", Step::Sync(&certificates::CertificateSubjectRestriction)),
    ("DefaultIngressClass", Step::Sync(&default_class::DefaultIngressClass)),
    ("PodTopologyLabels", Step::Sync(&topology_labels::PodTopologyLabels)),
    (STORAGE, Step::Sync(&service::Services)),
    (STORAGE, Step::Sync(&certificate_requests::CertificateRequests)),
    (STORAGE, Step::Sync(&escalation::Escalation)),
    ("MutatingAdmissionPolicy", Step::Async(&policies::Mutating)),
    ("MutatingAdmissionWebhook", Step::Async(&webhooks::Mutating)),
    ("ValidatingAdmissionPolicy", Step::Async(&policies::Validating)),
    ("ValidatingAdmissionWebhook", Step::Async(&webhooks::Validating)),
    // Whatever else may refuse, comes before: what is charged is written.
    ("ResourceQuota", Step::Sync(&resource_quota::ResourceQuotas)),
];

/// The plug-ins that do not run. All do unless they are disabled; to enable one is to say that it must be known.
///
/// `Err`: upstream's words for a name that is unknown or in both lists (apiserver `pkg/server/options/admission.go`).
pub fn plugins_without(enabled: &[String], disabled: &[String]) -> Result<HashSet<&'static str>, String> {
    let known = |name: &str| ADMISSION.iter().map(|(plugin, _)| *plugin).find(|plugin| *plugin == name && *plugin != STORAGE);
    for (flag, names) in [("enable", enabled), ("disable", disabled)] {
        if let Some(name) = names.iter().find(|name| known(name).is_none()) {
            return Err(format!("{flag}-admission-plugins plugin {name:?} is unknown"));
        }
    }
    if let Some(name) = enabled.iter().find(|name| disabled.contains(name)) {
        return Err(format!("[{name}] in enable-admission-plugins and disable-admission-plugins overlapped"));
    }
    Ok(disabled.iter().filter_map(|name| known(name)).collect())
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A new object.
    Create,
    /// A change of the main resource or of a subresource.
    Update,
    /// A deletion; the object may not be changed.
    Delete,
    /// A connection to it (exec, attach, portforward, proxy); the object is the options of the connection.
    Connect,
}

/// One step of [`ADMISSION`].
enum Step {
    Sync(&'static dyn Check),
    Async(&'static dyn AsyncCheck),
}

/// A check that needs the snapshot only.
trait Check: Sync {
    /// Whether it looks at such a request at all. Most checks mind creations and changes of the object itself.
    fn handles(&self, request: &Request<'_>) -> bool {
        request.subresource().is_empty() && matches!(request.operation, Operation::Create | Operation::Update)
    }
    /// Mutating: completes the object, or refuses.
    fn mutate(&self, _request: &mut Request<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// Sets aside what the object needs of a shared resource, now that its name is known and before it is validated (upstream's
    /// `BeginCreate` and `BeginUpdate` of a kind's storage).
    fn reserve(&self, _request: &mut Request<'_>) -> Result<(), Status> {
        Ok(())
    }
    /// Validating: refuses, or warns. Must not change the object.
    fn validate(&self, _request: &mut Request<'_>) -> Result<(), Status> {
        Ok(())
    }
}

/// A check that may call out.
trait AsyncCheck: Sync {
    /// Whether there is anything to do: asked first, so that a cluster without such hooks pays nothing for them.
    fn handles(&self, request: &Request<'_>) -> bool;
    /// Mutating: completes the object, or refuses.
    fn mutate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>>;
    /// Validating: refuses, or warns. Must not change the object.
    fn validate<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<(), Status>>;
}

/// What a check sees.
pub(super) struct Request<'a> {
    /// The state that the write is decided on.
    snapshot: Snapshot,
    /// The newest state, for decisions that must not be taken on an older one.
    latest: &'a (dyn Fn() -> Snapshot + Sync),
    registry: &'a Registry,
    parts: &'a Parts,
    reservations: &'a Reservations,
    ledger: &'a Ledger,
    hooks: &'a Configured,
    policies: &'a Policies,
    kind: &'a KindDef,
    operation: Operation,
    options: &'a WriteOptions,
    /// Of a deletion, how it is to be done.
    deletion: Option<&'a DeleteOptions>,
    /// The new state; for a deletion, the present one.
    object: &'a mut Box<dyn Object>,
    old: Option<&'a dyn Object>,
    findings: &'a mut Findings,
    /// Whom to ask who may what.
    authorizer: &'a dyn Authorizer,
    awaiting: Option<Key>,
    rounds: Rounds,
}

/// What admission has to say besides yes: to be handed from phase to phase of one write.
#[derive(Default)]
pub(super) struct Findings {
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
    /// For the audit log, by key (`pod-security.kubernetes.io/enforce-policy`).
    pub annotations: Vec<(String, String)>,
    /// Addresses, ports and the like, set aside; to be kept until the commit is visible.
    pub held: Vec<Box<dyn Any + Send + Sync>>,
}

/// The three moments at which admission is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the kind prepares the object.
    Mutate,
    /// The name is known, validation follows.
    Reserve,
    /// What will be stored.
    Validate,
}

/// Who asks for what: the same in all phases of one write.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub kind: &'a KindDef,
    pub operation: Operation,
    pub old: Option<&'a dyn Object>,
    pub options: &'a WriteOptions,
    /// Of a deletion, how it is to be done.
    pub deletion: Option<&'a DeleteOptions>,
}

impl Request<'_> {
    fn name(&self) -> String {
        self.object.meta().name.clone().unwrap_or_default()
    }

    fn namespace(&self) -> String {
        self.object.meta().namespace.clone().unwrap_or_default()
    }

    /// The name that the request has for what it is about; empty while it is still to be generated.
    fn name_asked(&self) -> String {
        self.name()
    }

    /// The namespace of the request: of a Namespace, as upstream has it, its own name.
    fn namespace_asked(&self) -> String {
        let of_namespaces = self.kind.group().is_empty() && self.kind.resource() == "namespaces";
        if of_namespaces { self.name() } else { self.namespace() }
    }

    /// The subresource that is written; empty for the object itself.
    fn subresource(&self) -> &str {
        &self.options.subresource
    }

    /// Who asks.
    fn user(&self) -> &User {
        &self.options.user
    }

    /// 403, as upstream's `admission.NewForbidden`.
    fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        let meta = self.object.meta();
        let named = [&meta.name, &meta.generate_name].into_iter().flatten().find(|name| !name.is_empty());
        Status::forbidden(self.kind.group(), self.kind.resource(), named.map_or("Unknown", String::as_str), why)
    }

    /// The object as a `T`, if it is one.
    fn object<T: 'static>(&mut self) -> Option<&mut T> {
        self.object.as_any_mut().downcast_mut()
    }

    /// The old object as a `T`, if there is one.
    fn old<T: 'static>(&self) -> Option<&T> {
        self.old.and_then(|old| old.as_any().downcast_ref())
    }
}

/// A write that may not be.
pub(super) struct Refusal {
    pub status: Status,
    /// If this object appeared soon, the write would pass.
    pub awaiting: Option<Key>,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        refusal.status
    }
}

impl Registry {
    /// Runs one phase of all steps.
    pub(super) async fn admit(
        &self,
        phase: Phase,
        asked: Asked<'_>,
        object: &mut Box<dyn Object>,
        findings: &mut Findings,
    ) -> Result<(), Refusal> {
        let Asked { kind, operation, old, options, deletion } = asked;
        let mut request = Request {
            snapshot: self.store().snapshot(),
            latest: &|| self.store().snapshot(),
            registry: self,
            parts: &self.inner.parts,
            reservations: &self.inner.reservations,
            ledger: &self.inner.ledger,
            hooks: &self.inner.hooks,
            policies: &self.inner.policies,
            kind,
            operation,
            options,
            deletion,
            object,
            old,
            findings,
            authorizer: self.authorizer(),
            awaiting: None,
            rounds: Rounds::default(),
        };
        loop {
            if let Err(status) = pass(phase, &mut request).await {
                return Err(Refusal { status, awaiting: request.awaiting });
            }
            if !request.rounds.next() {
                return Ok(());
            }
        }
    }
}

/// One phase of all steps, once.
async fn pass(phase: Phase, request: &mut Request<'_>) -> Result<(), Status> {
    for (plugin, step) in ADMISSION {
        if request.parts.without.contains(plugin) {
            continue;
        }
        match (step, phase) {
            (Step::Sync(check), _) if !check.handles(request) => {}
            (Step::Sync(check), Phase::Mutate) => check.mutate(request)?,
            (Step::Sync(check), Phase::Reserve) => check.reserve(request)?,
            (Step::Sync(check), Phase::Validate) => check.validate(request)?,
            (Step::Async(_), Phase::Reserve) => {}
            (Step::Async(check), _) if !check.handles(request) => {}
            (Step::Async(check), Phase::Mutate) => check.mutate(request).await?,
            (Step::Async(check), Phase::Validate) => check.validate(request).await?,
        }
    }
    Ok(())
}

/// An object that admission needs can't be read.
fn unreadable(error: crate::server::store::DecodeError) -> Status {
    Status::internal(error)
}
