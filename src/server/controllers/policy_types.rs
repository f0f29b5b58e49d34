//! Type checks of ValidatingAdmissionPolicies: what would be wrong with their expressions if objects were what their kinds say they are.
//!
//! The policy is enforced all the same; the findings are warnings in its status.
//!
//! Follows upstream's `pkg/controller/validatingadmissionpolicystatus` and apiserver `plugin/policy/validating/typechecking.go`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::admissionregistration::v1::{
    ExpressionWarning, NamedRuleWithOperations, TypeChecking, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec,
};

use crate::api::Key;
use crate::api::cel::Type;
use crate::api::policy::{ObjectTypes, Sources, type_check};
use crate::server::reconcile::{Controller, Op, Outcome, Trigger, View};

/// Most kinds that one policy is checked for.
const MAX_KINDS: usize = 10;

/// What the checks must know of the served kinds, as they are now.
pub trait KindTypes: Send + Sync {
    /// The name of the kind behind a resource.
    fn kind(&self, group: &str, version: &str, resource: &str) -> Option<String>;
    /// The type of its objects.
    fn object(&self, group: &str, version: &str, kind: &str) -> Option<Type>;
}

/// Checks policies once for each generation.
pub struct PolicyTypes {
    /// The served kinds.
    pub kinds: Box<dyn KindTypes>,
}

/// Group, version, kind: in the order of upstream's messages.
type Gvk = (String, String, String);

impl Controller for PolicyTypes {
    fn name(&self) -> &'static str {
        "validatingadmissionpolicy-status-controller"
    }

    fn triggers(&self) -> Vec<Trigger> {
        vec![Trigger::of::<ValidatingAdmissionPolicy>()]
    }

    fn reconcile(&self, key: &Key, view: &View) -> Outcome {
        let Some(policy) = view.get::<ValidatingAdmissionPolicy>("", key.name()) else { return Outcome::default() };
        let generation = policy.metadata.generation.unwrap_or_default();
        let observed = policy.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default();
        if generation <= observed {
            return Outcome::default();
        }
        let warnings = self.warnings(policy.spec.as_ref().unwrap_or(&ValidatingAdmissionPolicySpec::default()));
        let mut checked = (*policy).clone();
        let status = checked.status.get_or_insert_default();
        status.observed_generation = Some(generation);
        status.type_checking = Some(TypeChecking { expression_warnings: Some(warnings).filter(|warnings| !warnings.is_empty()) });
        vec![Op::UpdateStatus(Box::new(checked))].into()
    }
}

impl PolicyTypes {
    fn warnings(&self, spec: &ValidatingAdmissionPolicySpec) -> Vec<ExpressionWarning> {
        let sources = Sources::validating(spec);
        let params = spec.param_kind.as_ref().and_then(|kind| {
            let api_version = kind.api_version.as_deref().unwrap_or_default();
            let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
            self.kinds.object(group, version, kind.kind.as_deref().unwrap_or_default())
        });
        // By validation, so that what several kinds complain of is one warning.
        let mut found: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
        for (group, version, kind) in self.kinds_of(spec) {
            let Some(object) = self.kinds.object(&group, &version, &kind) else { continue };
            let types = ObjectTypes { object: Some(object), params: params.clone() };
            let group_version = if group.is_empty() { format!("/{version}") } else { format!("{group}/{version}") };
            for (index, (field, complaint)) in type_check(&sources, &types).into_iter().enumerate() {
                let place = place(&field).unwrap_or(index);
                found.entry((place, field)).or_default().push(format!("{group_version}, Kind={kind}: {complaint}\n"));
            }
        }
        let warning = |((_, field), complaints): ((usize, String), Vec<String>)| ExpressionWarning {
            field_ref: format!("spec.{field}"),
            warning: complaints.join("\n"),
        };
        found.into_iter().map(warning).collect()
    }

    /// The kinds that the policy's rules name without wildcards.
    fn kinds_of(&self, spec: &ValidatingAdmissionPolicySpec) -> Vec<Gvk> {
        let mut kinds: BTreeSet<Gvk> = BTreeSet::new();
        for rule in spec.match_constraints.iter().flat_map(|constraints| constraints.resource_rules.iter().flatten()) {
            for (group, version, resource) in named(rule) {
                if let Some(kind) = self.kinds.kind(group, version, resource) {
                    kinds.insert((group.into(), version.into(), kind));
                }
                if kinds.len() >= MAX_KINDS {
                    return kinds.into_iter().collect();
                }
            }
        }
        kinds.into_iter().collect()
    }
}

/// The number in `validations[3].expression`.
fn place(field: &str) -> Option<usize> {
    field.split_once('[')?.1.split_once(']')?.0.parse().ok()
}

/// Groups, versions and resources of a rule; none if groups or versions have wildcards. Subresources are left out.
fn named(rule: &NamedRuleWithOperations) -> Vec<(&str, &str, &str)> {
    let (groups, versions) = (rule.api_groups.as_deref().unwrap_or_default(), rule.api_versions.as_deref().unwrap_or_default());
    if groups.iter().chain(versions).any(|name| name.contains('*')) {
        return Vec::new();
    }
    let resources = rule.resources.iter().flatten().filter(|resource| !resource.contains(['*', '/']));
    let all = |resource| groups.iter().flat_map(move |group| versions.iter().map(move |version| (&**group, &**version, resource)));
    resources.flat_map(|resource| all(resource.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cel::DeclType;
    use crate::server::reconcile::testing::World;
    use serde_json::json;

    struct Deployments;

    impl KindTypes for Deployments {
        fn kind(&self, _: &str, _: &str, resource: &str) -> Option<String> {
            (resource == "deployments").then(|| "Deployment".into())
        }
        fn object(&self, _: &str, _: &str, kind: &str) -> Option<Type> {
            let schema =
                json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}});
            (kind == "Deployment").then(|| DeclType::from_schema("Deployment", &schema, true).unwrap().ty)
        }
    }

    fn checked(validations: &str, rule: &str) -> Vec<(String, String)> {
        let mut world = World::of(&format!(
            "kind: ValidatingAdmissionPolicy
apiVersion: admissionregistration.k8s.io/v1
metadata: {{name: p, generation: 1}}
spec: {{matchConstraints: {{resourceRules: [{{{rule}}}]}}, validations: [{validations}]}}"
        ));
        world.settle(&PolicyTypes { kinds: Box::new(Deployments) }, &Key::of::<ValidatingAdmissionPolicy>("", "p"));
        let status = world.one::<ValidatingAdmissionPolicy>("p").status.unwrap();
        assert_eq!(status.observed_generation, Some(1));
        let warnings = status.type_checking.expect("type checking is done").expression_warnings.unwrap_or_default();
        warnings.into_iter().map(|warning| (warning.field_ref, warning.warning)).collect()
    }

    #[test]
    fn confusions_are_found() {
        let rule = "apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]";
        assert!(checked("{expression: 'object.spec.replicas > 1'}", rule).is_empty());
        let warnings = checked("{expression: \"object.spec.replicas > '1'\", messageExpression: \"'got ' + object.spec.replicas\"}", rule);
        assert_eq!(warnings.len(), 2);
        assert_eq!(warnings[0].0, "spec.validations[0].expression");
        let text = "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'";
        assert!(warnings[0].1.starts_with(text), "{}", warnings[0].1);
        assert_eq!(warnings[1].0, "spec.validations[0].messageExpression");
        let wild = "apiGroups: ['*'], apiVersions: [v1], operations: [CREATE], resources: [deployments]";
        assert!(checked("{expression: \"object.nope == 1\"}", wild).is_empty());
        assert_eq!(checked("{expression: \"object.nope == 1\"}", rule).len(), 1);
    }
}
