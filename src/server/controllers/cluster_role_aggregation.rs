//! Aggregated ClusterRoles: their rules are those of all roles that they select.
//!
//! Follows upstream's `pkg/controller/clusterroleaggregation`.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use crate::api::{Key, Scope};
use crate::server::auth::rbac::selects;
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

/// Fills the rules of aggregated roles.
pub struct Aggregation;

/// All aggregated roles hang together, so that one key stands for them: which of them a change concerns is found by looking at all.
const ALL: &str = "aggregated";

impl Controller for Aggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }
    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger { scope: Scope::of::<ClusterRole>, map: |_| vec![Key::of::<ClusterRole>("", ALL)] }]
    }
    fn reconcile(&self, _: &Key, view: &View) -> Outcome {
        let roles: Vec<_> = view.list::<ClusterRole>(None).collect();
        let update = |role: &ClusterRole| {
            let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_ref()?;
            let mut rules: Vec<PolicyRule> = Vec::new();
            let empty = BTreeMap::new();
            for other in &roles {
                let labels = other.metadata.labels.as_ref().unwrap_or(&empty);
                let selected = other.metadata.name != role.metadata.name && selectors.iter().any(|s| selects(s, labels));
                if selected {
                    let new: Vec<_> = other.rules.iter().flatten().filter(|rule| !rules.contains(rule)).cloned().collect();
                    rules.extend(new);
                }
            }
            (role.rules.as_deref().unwrap_or_default() != rules).then(|| ClusterRole { rules: Some(rules), ..role.clone() })
        };
        roles.iter().filter_map(|role| update(role)).map(|role| Op::Update(Box::new(role))).collect::<Vec<_>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::reconcile::testing::World;

    #[test]
    fn rules_are_gathered_through_several_levels() {
        let mut world = World::of(
            "
kind: ClusterRole
metadata: {name: admin}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: admin}}]}
---
kind: ClusterRole
metadata: {name: edit, labels: {to: admin}}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: edit}}]}
rules: [{apiGroups: [''], resources: [old], verbs: [get]}]
---
kind: ClusterRole
metadata: {name: pods, labels: {to: edit}}
rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]
",
        );
        world.settle(&Aggregation, &Key::of::<ClusterRole>("", ALL));
        for name in ["admin", "edit"] {
            let rules = world.one::<ClusterRole>(name).rules.unwrap();
            assert_eq!(rules.len(), 1, "{name}");
            assert_eq!(rules[0].resources, Some(vec!["pods".to_owned()]));
        }
    }
}
