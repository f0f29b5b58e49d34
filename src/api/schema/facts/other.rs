//! Facts of the remaining groups; see [`super`].

use super::{Type, atomic_type, items, leaf, one, ty};

pub(super) const TYPES: &[Type] = &[
    atomic_type(
        "io.k8s.api.admissionregistration.v1.MatchResources",
        &[
            items("excludeResourceRules", "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations"),
            one("namespaceSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("objectSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            items("resourceRules", "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBindingSpec"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBindingSpec",
        &[
            one("matchResources", "io.k8s.api.admissionregistration.v1.MatchResources"),
            one("paramRef", "io.k8s.api.admissionregistration.v1.ParamRef"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec",
        &[
            leaf("matchConditions").keys(&["name"]).merge("name"),
            one("matchConstraints", "io.k8s.api.admissionregistration.v1.MatchResources"),
            one("paramKind", "io.k8s.api.admissionregistration.v1.ParamKind"),
            items("variables", "io.k8s.api.admissionregistration.v1.Variable"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.MutatingWebhook",
        &[
            leaf("matchConditions").keys(&["name"]).merge("name"),
            one("namespaceSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("objectSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            items("webhooks", "io.k8s.api.admissionregistration.v1.MutatingWebhook").keys(&["name"]).merge("name"),
        ],
    ),
    atomic_type("io.k8s.api.admissionregistration.v1.NamedRuleWithOperations", &[]),
    atomic_type("io.k8s.api.admissionregistration.v1.ParamKind", &[]),
    atomic_type("io.k8s.api.admissionregistration.v1.ParamRef", &[one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")]),
    ty(
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec"),
            one("status", "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyStatus"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        &[
            one("matchResources", "io.k8s.api.admissionregistration.v1.MatchResources"),
            one("paramRef", "io.k8s.api.admissionregistration.v1.ParamRef"),
            leaf("validationActions").set(),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec",
        &[
            leaf("matchConditions").keys(&["name"]).merge("name"),
            one("matchConstraints", "io.k8s.api.admissionregistration.v1.MatchResources"),
            one("paramKind", "io.k8s.api.admissionregistration.v1.ParamKind"),
            items("variables", "io.k8s.api.admissionregistration.v1.Variable").keys(&["name"]).merge("name"),
        ],
    ),
    ty("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyStatus", &[leaf("conditions").keys(&["type"])]),
    ty(
        "io.k8s.api.admissionregistration.v1.ValidatingWebhook",
        &[
            leaf("matchConditions").keys(&["name"]).merge("name"),
            one("namespaceSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("objectSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            items("webhooks", "io.k8s.api.admissionregistration.v1.ValidatingWebhook").keys(&["name"]).merge("name"),
        ],
    ),
    atomic_type("io.k8s.api.admissionregistration.v1.Variable", &[]),
    atomic_type(
        "io.k8s.api.admissionregistration.v1alpha1.MatchResources",
        &[
            items("excludeResourceRules", "io.k8s.api.admissionregistration.v1alpha1.NamedRuleWithOperations"),
            one("namespaceSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("objectSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            items("resourceRules", "io.k8s.api.admissionregistration.v1alpha1.NamedRuleWithOperations"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1alpha1.MutatingAdmissionPolicy",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.admissionregistration.v1alpha1.MutatingAdmissionPolicySpec"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1alpha1.MutatingAdmissionPolicyBinding",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.admissionregistration.v1alpha1.MutatingAdmissionPolicyBindingSpec"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1alpha1.MutatingAdmissionPolicyBindingSpec",
        &[
            one("matchResources", "io.k8s.api.admissionregistration.v1alpha1.MatchResources"),
            one("paramRef", "io.k8s.api.admissionregistration.v1alpha1.ParamRef"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1alpha1.MutatingAdmissionPolicySpec",
        &[
            leaf("matchConditions").keys(&["name"]).merge("name"),
            one("matchConstraints", "io.k8s.api.admissionregistration.v1alpha1.MatchResources"),
            one("paramKind", "io.k8s.api.admissionregistration.v1alpha1.ParamKind"),
        ],
    ),
    atomic_type("io.k8s.api.admissionregistration.v1alpha1.NamedRuleWithOperations", &[]),
    atomic_type("io.k8s.api.admissionregistration.v1alpha1.ParamKind", &[]),
    atomic_type(
        "io.k8s.api.admissionregistration.v1alpha1.ParamRef",
        &[one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")],
    ),
    atomic_type(
        "io.k8s.api.admissionregistration.v1beta1.MatchResources",
        &[
            items("excludeResourceRules", "io.k8s.api.admissionregistration.v1beta1.NamedRuleWithOperations"),
            one("namespaceSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("objectSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            items("resourceRules", "io.k8s.api.admissionregistration.v1beta1.NamedRuleWithOperations"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicy",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicySpec"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicyBinding",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicyBindingSpec"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicyBindingSpec",
        &[
            one("matchResources", "io.k8s.api.admissionregistration.v1beta1.MatchResources"),
            one("paramRef", "io.k8s.api.admissionregistration.v1beta1.ParamRef"),
        ],
    ),
    ty(
        "io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicySpec",
        &[
            leaf("matchConditions").keys(&["name"]).merge("name"),
            one("matchConstraints", "io.k8s.api.admissionregistration.v1beta1.MatchResources"),
            one("paramKind", "io.k8s.api.admissionregistration.v1beta1.ParamKind"),
            items("variables", "io.k8s.api.admissionregistration.v1beta1.Variable"),
        ],
    ),
    atomic_type("io.k8s.api.admissionregistration.v1beta1.NamedRuleWithOperations", &[]),
    atomic_type("io.k8s.api.admissionregistration.v1beta1.ParamKind", &[]),
    atomic_type(
        "io.k8s.api.admissionregistration.v1beta1.ParamRef",
        &[one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")],
    ),
    atomic_type("io.k8s.api.admissionregistration.v1beta1.Variable", &[]),
    ty("io.k8s.api.apiserverinternal.v1alpha1.ServerStorageVersion", &[leaf("decodableVersions").set(), leaf("servedVersions").set()]),
    ty(
        "io.k8s.api.apiserverinternal.v1alpha1.StorageVersion",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.apiserverinternal.v1alpha1.StorageVersionStatus"),
        ],
    ),
    ty(
        "io.k8s.api.apiserverinternal.v1alpha1.StorageVersionStatus",
        &[
            leaf("conditions").keys(&["type"]),
            items("storageVersions", "io.k8s.api.apiserverinternal.v1alpha1.ServerStorageVersion").keys(&["apiServerID"]),
        ],
    ),
    ty("io.k8s.api.authentication.v1.SelfSubjectReview", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.authentication.v1.TokenRequest", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.authentication.v1.TokenReview", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.authorization.v1.LocalSubjectAccessReview", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.authorization.v1.SelfSubjectAccessReview", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.authorization.v1.SelfSubjectRulesReview", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.authorization.v1.SubjectAccessReview", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.certificates.v1.CertificateSigningRequest",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.certificates.v1.CertificateSigningRequestStatus"),
        ],
    ),
    ty("io.k8s.api.certificates.v1.CertificateSigningRequestStatus", &[leaf("conditions").keys(&["type"])]),
    ty("io.k8s.api.certificates.v1.ClusterTrustBundle", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.certificates.v1.PodCertificateRequest",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.certificates.v1.PodCertificateRequestStatus"),
        ],
    ),
    ty("io.k8s.api.certificates.v1.PodCertificateRequestStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty("io.k8s.api.certificates.v1beta1.ClusterTrustBundle", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.certificates.v1beta1.PodCertificateRequest",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.certificates.v1beta1.PodCertificateRequestStatus"),
        ],
    ),
    ty("io.k8s.api.certificates.v1beta1.PodCertificateRequestStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty("io.k8s.api.coordination.v1.Lease", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.coordination.v1alpha2.LeaseCandidate", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.coordination.v1beta1.LeaseCandidate", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.flowcontrol.v1.FlowSchema",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.flowcontrol.v1.FlowSchemaSpec"),
            one("status", "io.k8s.api.flowcontrol.v1.FlowSchemaStatus"),
        ],
    ),
    ty("io.k8s.api.flowcontrol.v1.FlowSchemaSpec", &[items("rules", "io.k8s.api.flowcontrol.v1.PolicyRulesWithSubjects")]),
    ty("io.k8s.api.flowcontrol.v1.FlowSchemaStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty("io.k8s.api.flowcontrol.v1.NonResourcePolicyRule", &[leaf("nonResourceURLs").set(), leaf("verbs").set()]),
    ty(
        "io.k8s.api.flowcontrol.v1.PolicyRulesWithSubjects",
        &[
            items("nonResourceRules", "io.k8s.api.flowcontrol.v1.NonResourcePolicyRule"),
            items("resourceRules", "io.k8s.api.flowcontrol.v1.ResourcePolicyRule"),
        ],
    ),
    ty(
        "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus"),
        ],
    ),
    ty("io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.flowcontrol.v1.ResourcePolicyRule",
        &[leaf("apiGroups").set(), leaf("namespaces").set(), leaf("resources").set(), leaf("verbs").set()],
    ),
    ty(
        "io.k8s.api.lifecycle.v1alpha1.Eviction",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.lifecycle.v1alpha1.EvictionStatus"),
        ],
    ),
    ty(
        "io.k8s.api.lifecycle.v1alpha1.EvictionRequest",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.lifecycle.v1alpha1.EvictionRequestStatus"),
        ],
    ),
    ty("io.k8s.api.lifecycle.v1alpha1.EvictionRequestStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.lifecycle.v1alpha1.EvictionStatus",
        &[
            leaf("conditions").keys(&["type"]).merge("type"),
            leaf("requesters").keys(&["name"]),
            leaf("responders").keys(&["name"]),
            leaf("targetResponders").keys(&["name"]),
        ],
    ),
    ty(
        "io.k8s.api.node.v1.RuntimeClass",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("scheduling", "io.k8s.api.node.v1.Scheduling")],
    ),
    ty("io.k8s.api.node.v1.Scheduling", &[leaf("nodeSelector").atomic()]),
    ty("io.k8s.api.rbac.v1.AggregationRule", &[items("clusterRoleSelectors", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")]),
    ty(
        "io.k8s.api.rbac.v1.ClusterRole",
        &[one("aggregationRule", "io.k8s.api.rbac.v1.AggregationRule"), one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")],
    ),
    ty(
        "io.k8s.api.rbac.v1.ClusterRoleBinding",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("roleRef", "io.k8s.api.rbac.v1.RoleRef"),
            items("subjects", "io.k8s.api.rbac.v1.Subject"),
        ],
    ),
    ty("io.k8s.api.rbac.v1.Role", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.rbac.v1.RoleBinding",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("roleRef", "io.k8s.api.rbac.v1.RoleRef"),
            items("subjects", "io.k8s.api.rbac.v1.Subject"),
        ],
    ),
    atomic_type("io.k8s.api.rbac.v1.RoleRef", &[]),
    atomic_type("io.k8s.api.rbac.v1.Subject", &[]),
    ty(
        "io.k8s.api.storage.v1.CSIDriver",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.storage.v1.CSIDriverSpec")],
    ),
    ty("io.k8s.api.storage.v1.CSIDriverSpec", &[leaf("volumeLifecycleModes").set()]),
    ty(
        "io.k8s.api.storage.v1.CSINode",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.storage.v1.CSINodeSpec"),
            one("status", "io.k8s.api.storage.v1.CSINodeStatus"),
        ],
    ),
    ty("io.k8s.api.storage.v1.CSINodeSpec", &[leaf("drivers").keys(&["name"]).merge("name")]),
    ty("io.k8s.api.storage.v1.CSINodeStatus", &[leaf("storageHealth").keys(&["name"])]),
    ty(
        "io.k8s.api.storage.v1.CSIStorageCapacity",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("nodeTopology", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
        ],
    ),
    ty(
        "io.k8s.api.storage.v1.StorageClass",
        &[
            items("allowedTopologies", "io.k8s.api.core.v1.TopologySelectorTerm"),
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
        ],
    ),
    ty(
        "io.k8s.api.storage.v1.VolumeAttachment",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.storage.v1.VolumeAttachmentSpec")],
    ),
    ty("io.k8s.api.storage.v1.VolumeAttachmentSource", &[one("inlineVolumeSpec", "io.k8s.api.core.v1.PersistentVolumeSpec")]),
    ty("io.k8s.api.storage.v1.VolumeAttachmentSpec", &[one("source", "io.k8s.api.storage.v1.VolumeAttachmentSource")]),
    ty("io.k8s.api.storage.v1.VolumeAttributesClass", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.storagemigration.v1.StorageVersionMigration",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.storagemigration.v1.StorageVersionMigrationStatus"),
        ],
    ),
    ty("io.k8s.api.storagemigration.v1.StorageVersionMigrationStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.storagemigration.v1beta1.StorageVersionMigration",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.storagemigration.v1beta1.StorageVersionMigrationStatus"),
        ],
    ),
    ty("io.k8s.api.storagemigration.v1beta1.StorageVersionMigrationStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
];
