//! Nobody gives away what they don't have: roles and bindings are checked against the writer's own rights.
//!
//! Words: to *escalate* is to write a role with more rights than one's own, to *bind* is to hand out a role; both are verbs that can be
//! granted. Follows upstream's `pkg/registry/rbac/{escalation_check.go,*/policybased}`.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::authz::Attributes;
use super::super::lookup::Lookup;
use super::{Index, rule};
use crate::api::{Kind, Object, Status};
use crate::server::registry::User;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Who writes, over which state.
pub struct Writer<'a, L> {
    /// The state.
    pub state: &'a L,
    /// Its roles and bindings.
    pub index: &'a Index,
    /// Who.
    pub user: &'a User,
    /// Whether an answer of the whole chain of authorisers is yes.
    pub may: &'a dyn Fn(&Attributes) -> bool,
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// Whether two states of an object differ in nothing but what garbage collection touches.
fn only_collection_changed<T: Kind + Clone + PartialEq>(object: &T, old: &T, meta: fn(&mut T) -> &mut ObjectMeta) -> bool {
    let (mut object, mut old) = (object.clone(), old.clone());
    for side in [&mut object, &mut old] {
        let meta = meta(side);
        (meta.owner_references, meta.finalizers, meta.managed_fields, meta.resource_version) = (None, None, None, None);
    }
    object == old
}

impl<L: Lookup> Writer<'_, L> {
    /// The check, for whatever `object` is.
    pub fn check(&self, object: &dyn Object, old: Option<&dyn Object>) -> Result<(), Status> {
        let new = object.as_any();
        if let Some(role) = new.downcast_ref::<Role>() {
            return self.role(role, of::<Role>(old));
        }
        if let Some(role) = new.downcast_ref::<ClusterRole>() {
            return self.cluster_role(role, of::<ClusterRole>(old));
        }
        if let Some(binding) = new.downcast_ref::<RoleBinding>() {
            let settled = of(old).is_some_and(|old| only_collection_changed(binding, old, |b| &mut b.metadata));
            return if settled { Ok(()) } else { self.binding("rolebindings", &binding.metadata, &binding.role_ref) };
        }
        if let Some(binding) = new.downcast_ref::<ClusterRoleBinding>() {
            let settled = of(old).is_some_and(|old| only_collection_changed(binding, old, |b| &mut b.metadata));
            return if settled { Ok(()) } else { self.binding("clusterrolebindings", &binding.metadata, &binding.role_ref) };
        }
        Ok(())
    }

    fn role(&self, role: &Role, old: Option<&Role>) -> Result<(), Status> {
        let settled = old.is_some_and(|old| only_collection_changed(role, old, |r| &mut r.metadata));
        if settled || self.may_escalate("roles", &role.metadata, old.is_some()) {
            return Ok(());
        }
        self.holds("roles", &role.metadata, role.rules.as_deref().unwrap_or_default())
    }

    fn cluster_role(&self, role: &ClusterRole, old: Option<&ClusterRole>) -> Result<(), Status> {
        let settled = old.is_some_and(|old| only_collection_changed(role, old, |r| &mut r.metadata));
        if settled || self.may_escalate("clusterroles", &role.metadata, old.is_some()) {
            return Ok(());
        }
        self.holds("clusterroles", &role.metadata, role.rules.as_deref().unwrap_or_default())?;
        let aggregates = role.aggregation_rule.is_some() || old.is_some_and(|old| old.aggregation_rule.is_some());
        if aggregates && !self.missing("", &everything()).is_empty() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(Status::forbidden(GROUP, "clusterroles", text(&role.metadata.name), why));
        }
        Ok(())
    }

    /// Of a role that is being made the request names none, so that `escalate` on named roles does not reach it; as upstream.
    fn may_escalate(&self, resource: &str, meta: &ObjectMeta, named: bool) -> bool {
        (self.may)(&Attributes {
            verb: "escalate".into(),
            group: GROUP.into(),
            version: "*".into(),
            resource: resource.into(),
            namespace: text(&meta.namespace).into(),
            name: if named { text(&meta.name).into() } else { String::new() },
            ..Attributes::default()
        })
    }

    fn binding(&self, resource: &str, meta: &ObjectMeta, role: &RoleRef) -> Result<(), Status> {
        let namespace = text(&meta.namespace);
        let roles = match role.kind.as_str() {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // Validation refuses any other.
            _ => return Ok(()),
        };
        let bind = Attributes {
            verb: "bind".into(),
            group: text(&role.api_group).into(),
            version: "*".into(),
            resource: roles.into(),
            namespace: namespace.into(),
            name: role.name.clone(),
            ..Attributes::default()
        };
        if (self.may)(&bind) {
            return Ok(());
        }
        let rules = match roles {
            "clusterroles" => self.state.get::<ClusterRole>("", &role.name).map(|found| found.rules.clone()),
            _ => self.state.get::<Role>(namespace, &role.name).map(|found| found.rules.clone()),
        };
        let rules = rules.ok_or_else(|| Status::not_found(GROUP, roles, &role.name))?;
        self.holds(resource, meta, rules.as_deref().unwrap_or_default())
    }

    fn missing(&self, namespace: &str, wanted: &[PolicyRule]) -> Vec<PolicyRule> {
        let grants = self.index.granted(self.state, self.user, namespace);
        let held: Vec<&PolicyRule> = grants.iter().flat_map(|grant| grant.rules()).collect();
        rule::missing(&held, wanted)
    }

    fn holds(&self, resource: &str, meta: &ObjectMeta, wanted: &[PolicyRule]) -> Result<(), Status> {
        let missing = self.missing(text(&meta.namespace), wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let (name, groups) = (&self.user.name, rule::quoted(&self.user.groups));
        let why = format!(
            "user {name:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
            rule::listing(&missing)
        );
        Err(Status::forbidden(GROUP, resource, text(&meta.name), why))
    }
}

fn of<T: 'static>(object: Option<&dyn Object>) -> Option<&T> {
    object.and_then(|object| object.as_any().downcast_ref())
}

fn everything() -> [PolicyRule; 2] {
    let all = || Some(vec!["*".to_owned()]);
    let verbs = vec!["*".to_owned()];
    [
        PolicyRule { api_groups: all(), resources: all(), verbs: verbs.clone(), ..PolicyRule::default() },
        PolicyRule { non_resource_urls: all(), verbs, ..PolicyRule::default() },
    ]
}
