//! Objects as upstream's decoder starts them, and which fields a write of a subresource may own.
//!
//! In Go a struct that is no pointer, and a field without `omitempty`, is there before anything is set; so nobody adds it, and who owns
//! what is below it does not own it. The table has what is thus there, beside `metadata`, from the `types.go` of each group.
//! The other table is upstream's `GetResetFields` of each strategy (`pkg/registry/*/*/strategy.go`).

use serde_json::{Value, json};

use crate::api::apply::Filter;

const POD: &str = "{metadata: {}, spec: {containers: null}}";

/// Type (without `io.k8s.` or `api.`) and what is there, `POD` standing for a pod template.
const ZEROES: &[(&str, &str)] = &[
    ("core.v1.Pod", "{spec: {containers: null}, status: {}}"),
    (
        "core.v1.Node",
        "{spec: {}, status: {daemonEndpoints: {kubeletEndpoint: {Port: 0}}, nodeInfo: {machineID: '', systemUUID: '', bootID: '',
          kernelVersion: '', osImage: '', containerRuntimeVersion: '', kubeletVersion: '', kubeProxyVersion: '', operatingSystem: '',
          architecture: ''}}}",
    ),
    ("core.v1.Namespace", "{spec: {}, status: {}}"),
    ("core.v1.Service", "{spec: {}, status: {loadBalancer: {}}}"),
    (
        "core.v1.Event",
        "{involvedObject: {}, source: {}, firstTimestamp: null, lastTimestamp: null, eventTime: null, reportingComponent: '',
          reportingInstance: ''}",
    ),
    ("core.v1.PersistentVolume", "{spec: {}, status: {}}"),
    ("core.v1.PersistentVolumeClaim", "{spec: {resources: {}}, status: {}}"),
    ("core.v1.ReplicationController", "{spec: {}, status: {replicas: 0}}"),
    ("core.v1.PodTemplate", "{template: POD}"),
    ("core.v1.LimitRange", "{spec: {limits: null}}"),
    ("core.v1.ResourceQuota", "{spec: {}, status: {}}"),
    ("apps.v1.Deployment", "{spec: {selector: null, template: POD, strategy: {}}, status: {}}"),
    ("apps.v1.ReplicaSet", "{spec: {selector: null, template: POD}, status: {replicas: 0}}"),
    (
        "apps.v1.DaemonSet",
        "{spec: {selector: null, template: POD, updateStrategy: {}}, status: {currentNumberScheduled: 0, numberMisscheduled: 0,
          desiredNumberScheduled: 0, numberReady: 0}}",
    ),
    (
        "apps.v1.StatefulSet",
        "{spec: {selector: null, template: POD, serviceName: '', updateStrategy: {}}, status: {replicas: 0, availableReplicas: 0}}",
    ),
    ("apps.v1.ControllerRevision", "{data: null, revision: 0}"),
    ("batch.v1.Job", "{spec: {template: POD}, status: {}}"),
    ("batch.v1.CronJob", "{spec: {schedule: '', jobTemplate: {metadata: {}, spec: {template: POD}}}, status: {}}"),
    (
        "autoscaling.v1.HorizontalPodAutoscaler",
        "{spec: {scaleTargetRef: {kind: '', name: ''}, maxReplicas: 0}, status: {currentReplicas: 0, desiredReplicas: 0}}",
    ),
    (
        "autoscaling.v2.HorizontalPodAutoscaler",
        "{spec: {scaleTargetRef: {kind: '', name: ''}, maxReplicas: 0}, status: {desiredReplicas: 0, currentMetrics: null}}",
    ),
    ("autoscaling.v1.Scale", "{spec: {}, status: {replicas: 0}}"),
    ("policy.v1.PodDisruptionBudget", "{spec: {}, status: {disruptionsAllowed: 0, currentHealthy: 0, desiredHealthy: 0, expectedPods: 0}}"),
    ("networking.v1.Ingress", "{spec: {}, status: {loadBalancer: {}}}"),
    ("networking.v1.IngressClass", "{spec: {}}"),
    ("networking.v1.NetworkPolicy", "{spec: {podSelector: {}}}"),
    ("networking.v1.ServiceCIDR", "{spec: {}, status: {}}"),
    ("networking.v1.IPAddress", "{spec: {}}"),
    ("discovery.v1.EndpointSlice", "{addressType: '', endpoints: null, ports: null}"),
    (
        "events.v1.Event",
        "{eventTime: null, regarding: {}, deprecatedSource: {}, deprecatedFirstTimestamp: null, deprecatedLastTimestamp: null}",
    ),
    ("rbac.v1.Role", "{rules: null}"),
    ("rbac.v1.ClusterRole", "{rules: null}"),
    ("rbac.v1.RoleBinding", "{roleRef: {apiGroup: '', kind: '', name: ''}}"),
    ("rbac.v1.ClusterRoleBinding", "{roleRef: {apiGroup: '', kind: '', name: ''}}"),
    ("certificates.v1.CertificateSigningRequest", "{spec: {request: null, signerName: ''}, status: {}}"),
    ("certificates.v1.ClusterTrustBundle", "{spec: {trustBundle: ''}}"),
    ("certificates.v1.PodCertificateRequest", "{spec: {}, status: {}}"),
    ("storage.v1.StorageClass", "{provisioner: ''}"),
    ("storage.v1.VolumeAttachment", "{spec: {attacher: '', source: {}, nodeName: ''}, status: {attached: false}}"),
    ("storage.v1.CSIDriver", "{spec: {}}"),
    ("storage.v1.CSINode", "{spec: {drivers: null}}"),
    ("storage.v1.CSIStorageCapacity", "{storageClassName: ''}"),
    ("storage.v1.VolumeAttributesClass", "{driverName: ''}"),
    ("scheduling.v1.PriorityClass", "{value: 0}"),
    ("scheduling.v1beta1.PodGroup", "{spec: {}, status: {}}"),
    ("scheduling.v1beta1.Workload", "{spec: {}}"),
    ("node.v1.RuntimeClass", "{handler: ''}"),
    ("coordination.v1.Lease", "{spec: {}}"),
    ("coordination.v1beta1.LeaseCandidate", "{spec: {leaseName: '', binaryVersion: '', strategy: ''}}"),
    ("admissionregistration.v1.ValidatingAdmissionPolicy", "{spec: {}, status: {}}"),
    ("admissionregistration.v1.ValidatingAdmissionPolicyBinding", "{spec: {}}"),
    ("admissionregistration.v1.MutatingAdmissionPolicy", "{spec: {}}"),
    ("admissionregistration.v1.MutatingAdmissionPolicyBinding", "{spec: {}}"),
    ("flowcontrol.v1.FlowSchema", "{spec: {priorityLevelConfiguration: {name: ''}, matchingPrecedence: 0}, status: {}}"),
    ("flowcontrol.v1.PriorityLevelConfiguration", "{spec: {type: ''}, status: {}}"),
    ("resource.v1.DeviceClass", "{spec: {}}"),
    ("resource.v1.DeviceTaintRule", "{spec: {taint: {key: '', effect: ''}}, status: {}}"),
    ("resource.v1.ResourceClaim", "{spec: {devices: {}}, status: {}}"),
    ("resource.v1.ResourceClaimTemplate", "{spec: {metadata: {}, spec: {devices: {}}}}"),
    ("resource.v1.ResourceSlice", "{spec: {driver: '', pool: {name: '', generation: 0, resourceSliceCount: 0}}}"),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        "{spec: {group: '', names: {plural: '', kind: ''}, scope: '', versions: null}, status: {conditions: null, acceptedNames:
          {plural: '', kind: ''}, storedVersions: null}}",
    ),
    ("kube-aggregator.pkg.apis.apiregistration.v1.APIService", "{spec: {groupPriorityMinimum: 0, versionPriority: 0}, status: {}}"),
    ("storagemigration.v1.StorageVersionMigration", "{spec: {resource: {}}, status: {}}"),
];

/// Later versions of a group are as these, under the name of the first.
const ALIKE: &[(&str, &str)] = &[
    ("certificates.v1beta1.", "certificates.v1."),
    ("admissionregistration.v1beta1.", "admissionregistration.v1."),
    ("resource.v1beta1.", "resource.v1."),
    ("resource.v1beta2.", "resource.v1."),
    ("storagemigration.v1beta1.", "storagemigration.v1."),
];

/// An object of the type with this schema name before anything is set.
pub fn zero(name: &str) -> Value {
    let short = name.trim_start_matches("io.k8s.").trim_start_matches("api.");
    let short = match ALIKE.iter().find_map(|(version, first)| Some((first, short.strip_prefix(version)?))) {
        Some((first, kind)) => format!("{first}{kind}"),
        None => short.to_owned(),
    };
    let text = ZEROES.iter().find(|(known, _)| *known == short).map_or("{}", |(_, text)| text);
    let mut object = serde_yaml::from_str(&text.replace("POD", POD)).unwrap_or_else(|_| json!({}));
    fill(&mut object, &json!({"metadata": {}}));
    object
}

/// Adds to an object what is there before anything is set.
pub fn fill(object: &mut Value, zero: &Value) {
    let (Value::Object(object), Value::Object(zero)) = (object, zero) else { return };
    for (name, value) in zero {
        match object.get_mut(name) {
            Some(present) => fill(present, value),
            None => {
                object.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Whether an object has all of that already.
pub fn is_filled(object: &Value, zero: &Value) -> bool {
    let (Value::Object(object), Value::Object(zero)) = (object, zero) else { return true };
    zero.iter().all(|(name, value)| object.get(name).is_some_and(|present| is_filled(present, value)))
}

const METADATA_AND_SPEC: &[&[&str]] = &[&["metadata"], &["spec"]];

/// Group, resource, subresource, and what a write of it may own where that is not the rule.
const FILTERS: &[(&str, &str, &str, Filter)] = &[
    ("", "pods", "status", Filter::Except(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]])),
    ("", "pods", "ephemeralcontainers", Filter::Only(&[&["spec", "ephemeralContainers"]])),
    (
        "",
        "pods",
        "resize",
        Filter::Only(&[
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
            &["spec", "resources"],
        ]),
    ),
    ("apps", "deployments", "status", Filter::Except(&[&["spec"], &["metadata", "labels"]])),
    ("certificates.k8s.io", "certificatesigningrequests", "status", Filter::Except(&[&["spec"], &["status", "conditions"]])),
    ("certificates.k8s.io", "certificatesigningrequests", "approval", Filter::Except(&[&["spec"], &["status", "certificate"]])),
    ("certificates.k8s.io", "podcertificaterequests", "status", Filter::Except(&[&["spec"], &["status", "conditions"]])),
    ("apiextensions.k8s.io", "customresourcedefinitions", "status", Filter::Except(METADATA_AND_SPEC)),
    ("flowcontrol.apiserver.k8s.io", "flowschemas", "status", Filter::Except(METADATA_AND_SPEC)),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations", "status", Filter::Except(METADATA_AND_SPEC)),
    ("resource.k8s.io", "devicetaintrules", "status", Filter::Except(METADATA_AND_SPEC)),
    ("storage.k8s.io", "volumeattachments", "status", Filter::Except(METADATA_AND_SPEC)),
    ("storagemigration.k8s.io", "storageversionmigrations", "status", Filter::Except(METADATA_AND_SPEC)),
];

/// What a write of a subresource (empty: of the object) may own. `has_status`: whether the kind has a status of its own.
pub fn filter(group: &str, resource: &str, subresource: &str, has_status: bool) -> Filter {
    let stated = FILTERS.iter().find(|(g, r, s, _)| (*g, *r, *s) == (group, resource, subresource));
    match (stated, subresource) {
        (Some((.., filter)), _) => *filter,
        (None, "status") => Filter::Except(&[&["spec"]]),
        (None, "" | "finalize") if has_status => Filter::Except(&[&["status"]]),
        (None, _) => Filter::Except(&[]),
    }
}

/// Whether every zero is well written; for the tests of other modules.
#[cfg(test)]
pub fn all() -> impl Iterator<Item = (&'static str, serde_json::Map<String, Value>)> {
    let read = |text: &str| match serde_yaml::from_str(&text.replace("POD", POD)) {
        Ok(Value::Object(map)) => map,
        other => panic!("{text}: {other:?}"),
    };
    ZEROES.iter().map(move |(name, text)| (*name, read(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_are_well_written() {
        assert!(all().all(|(_, zero)| !zero.is_empty()));
        let deployment = zero("io.k8s.api.apps.v1.Deployment");
        assert_eq!(deployment.pointer("/spec/template/spec"), Some(&json!({"containers": null})));
        assert_eq!(zero("io.k8s.api.resource.v1beta1.DeviceClass"), json!({"metadata": {}, "spec": {}}));
        assert_eq!(zero("io.k8s.api.core.v1.ConfigMap"), json!({"metadata": {}}));
        let mut object = json!({"spec": {"strategy": {"type": "Recreate"}}, "status": null});
        fill(&mut object, &deployment);
        assert_eq!(object.pointer("/spec/strategy/type"), Some(&json!("Recreate")));
        assert!(object.pointer("/spec/template/metadata").is_some());
    }

    #[test]
    fn what_a_write_may_own() {
        assert_eq!(filter("", "configmaps", "", false), Filter::Except(&[]));
        assert_eq!(filter("", "services", "", true), Filter::Except(&[&["status"]]));
        assert_eq!(filter("example.com", "things", "status", true), Filter::Except(&[&["spec"]]));
        assert!(matches!(filter("", "pods", "resize", true), Filter::Only(_)));
    }
}
