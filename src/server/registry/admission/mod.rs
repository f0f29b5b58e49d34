//! Admission: checks that look beyond the one object, and what they add to it. One file per check, one slice [`ADMISSION`].
//!
//! Upstream's plug-ins of the same names. A check is pure apart from reading the snapshot and reserving addresses; every check must be
//! harmless when it runs twice on one object, for a write is decided again after a lost race.
//!
//! Never: runs for `/status`, or refuses what the server itself is repairing.

mod namespace_lifecycle;
mod priority;
mod service;
mod service_account;
mod service_allocation;
mod toleration_seconds;

#[cfg(test)]
mod tests;

use super::{KindDef, Registry, User};
use crate::api::{Key, Object, Status};
use crate::server::store::Snapshot;

pub use service_allocation::RegistryConfig;
pub(super) use service_allocation::{Held, Reservations};

/// All checks, in the order in which they run.
static ADMISSION: &[&dyn Check] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &service_account::ServiceAccounts,
    &toleration_seconds::DefaultTolerationSeconds,
    &priority::Priority,
    &service::Services,
];

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A new object.
    Create,
    /// A change of the main resource.
    Update,
    /// A deletion; the object may not be changed.
    Delete,
}

/// One check.
trait Check: Sync {
    /// Refuses, or completes the object.
    fn admit(&self, request: &mut Request<'_>) -> Result<(), Status>;
}

/// What a check sees.
struct Request<'a> {
    /// The state that the write is decided on.
    snapshot: &'a Snapshot,
    /// The newest state, for decisions that must not be taken on an older one.
    latest: &'a dyn Fn() -> Snapshot,
    config: &'a RegistryConfig,
    reservations: &'a Reservations,
    kind: &'a KindDef,
    operation: Operation,
    object: &'a mut dyn Object,
    old: Option<&'a dyn Object>,
    /// Who asks: for checks of what a user may do (none yet).
    #[expect(dead_code, reason = "part of the contract; the checks that restrict nodes will read it")]
    user: &'a User,
    warnings: Vec<String>,
    held: Vec<Held>,
    awaiting: Option<Key>,
}

impl Request<'_> {
    fn name(&self) -> String {
        self.object.meta().name.clone().unwrap_or_default()
    }

    fn namespace(&self) -> String {
        self.object.meta().namespace.clone().unwrap_or_default()
    }

    /// 403, as upstream's `admission.NewForbidden`.
    fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(self.kind.group, self.kind.resource, &self.name(), why)
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

/// A write that may go on.
pub(super) struct Admitted {
    pub warnings: Vec<String>,
    /// Addresses and ports set aside for it; to be kept until the commit is visible.
    pub held: Vec<Held>,
}

/// A write that may not.
pub(super) struct Refusal {
    pub status: Status,
    /// If this object appeared soon, the write would pass.
    pub awaiting: Option<Key>,
}

impl Registry {
    /// Runs all checks.
    pub(super) fn admit(
        &self,
        kind: &KindDef,
        operation: Operation,
        object: &mut dyn Object,
        old: Option<&dyn Object>,
        user: &User,
    ) -> Result<Admitted, Refusal> {
        let snapshot = self.store().snapshot();
        let mut request = Request {
            snapshot: &snapshot,
            latest: &|| self.store().snapshot(),
            config: &self.inner.config,
            reservations: &self.inner.reservations,
            kind,
            operation,
            object,
            old,
            user,
            warnings: Vec::new(),
            held: Vec::new(),
            awaiting: None,
        };
        for check in ADMISSION {
            if let Err(status) = check.admit(&mut request) {
                return Err(Refusal { status, awaiting: request.awaiting });
            }
        }
        Ok(Admitted { warnings: request.warnings, held: request.held })
    }
}

/// An object that admission needs can't be read.
fn unreadable(error: crate::server::store::DecodeError) -> Status {
    Status::internal(error)
}
