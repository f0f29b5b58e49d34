//! Facts of the core group; see [`super`].

use super::{Type, atomic_type, items, leaf, one, ty};

pub(super) const TYPES: &[Type] = &[
    ty(
        "io.k8s.api.core.v1.Affinity",
        &[
            one("nodeAffinity", "io.k8s.api.core.v1.NodeAffinity"),
            one("podAffinity", "io.k8s.api.core.v1.PodAffinity"),
            one("podAntiAffinity", "io.k8s.api.core.v1.PodAntiAffinity"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.Binding",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("target", "io.k8s.api.core.v1.ObjectReference")],
    ),
    ty(
        "io.k8s.api.core.v1.CSIPersistentVolumeSource",
        &[
            one("controllerExpandSecretRef", "io.k8s.api.core.v1.SecretReference"),
            one("controllerPublishSecretRef", "io.k8s.api.core.v1.SecretReference"),
            one("nodeExpandSecretRef", "io.k8s.api.core.v1.SecretReference"),
            one("nodePublishSecretRef", "io.k8s.api.core.v1.SecretReference"),
            one("nodeStageSecretRef", "io.k8s.api.core.v1.SecretReference"),
        ],
    ),
    ty("io.k8s.api.core.v1.CSIVolumeSource", &[one("nodePublishSecretRef", "io.k8s.api.core.v1.LocalObjectReference")]),
    ty("io.k8s.api.core.v1.CephFSPersistentVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.SecretReference")]),
    ty("io.k8s.api.core.v1.CephFSVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.LocalObjectReference")]),
    ty("io.k8s.api.core.v1.CinderPersistentVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.SecretReference")]),
    ty("io.k8s.api.core.v1.CinderVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.LocalObjectReference")]),
    ty("io.k8s.api.core.v1.ClusterTrustBundleProjection", &[one("labelSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")]),
    ty(
        "io.k8s.api.core.v1.ComponentStatus",
        &[leaf("conditions").keys(&["type"]).merge("type"), one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")],
    ),
    ty("io.k8s.api.core.v1.ConfigMap", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    atomic_type("io.k8s.api.core.v1.ConfigMapKeySelector", &[]),
    ty(
        "io.k8s.api.core.v1.Container",
        &[
            items("env", "io.k8s.api.core.v1.EnvVar").keys(&["name"]).merge("name"),
            leaf("ports").keys(&["containerPort", "protocol"]).merge("containerPort"),
            one("resources", "io.k8s.api.core.v1.ResourceRequirements"),
            items("restartPolicyRules", "io.k8s.api.core.v1.ContainerRestartRule"),
            leaf("volumeDevices").keys(&["devicePath"]).merge("devicePath"),
            items("volumeMounts", "io.k8s.api.core.v1.VolumeMount").keys(&["mountPath"]).merge("mountPath"),
        ],
    ),
    ty("io.k8s.api.core.v1.ContainerRestartRule", &[one("exitCodes", "io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes")]),
    ty("io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes", &[leaf("values").set()]),
    ty(
        "io.k8s.api.core.v1.ContainerStatus",
        &[
            items("allocatedResourcesStatus", "io.k8s.api.core.v1.ResourceStatus").keys(&["name"]).merge("name"),
            one("resources", "io.k8s.api.core.v1.ResourceRequirements"),
            leaf("volumeMounts").keys(&["mountPath"]).merge("mountPath"),
        ],
    ),
    ty("io.k8s.api.core.v1.DownwardAPIProjection", &[items("items", "io.k8s.api.core.v1.DownwardAPIVolumeFile")]),
    ty(
        "io.k8s.api.core.v1.DownwardAPIVolumeFile",
        &[one("fieldRef", "io.k8s.api.core.v1.ObjectFieldSelector"), one("resourceFieldRef", "io.k8s.api.core.v1.ResourceFieldSelector")],
    ),
    ty("io.k8s.api.core.v1.DownwardAPIVolumeSource", &[items("items", "io.k8s.api.core.v1.DownwardAPIVolumeFile")]),
    atomic_type("io.k8s.api.core.v1.EndpointAddress", &[one("targetRef", "io.k8s.api.core.v1.ObjectReference")]),
    atomic_type("io.k8s.api.core.v1.EndpointPort", &[]),
    ty(
        "io.k8s.api.core.v1.EndpointSubset",
        &[
            items("addresses", "io.k8s.api.core.v1.EndpointAddress"),
            items("notReadyAddresses", "io.k8s.api.core.v1.EndpointAddress"),
            items("ports", "io.k8s.api.core.v1.EndpointPort"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.Endpoints",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), items("subsets", "io.k8s.api.core.v1.EndpointSubset")],
    ),
    ty("io.k8s.api.core.v1.EnvVar", &[one("valueFrom", "io.k8s.api.core.v1.EnvVarSource")]),
    ty(
        "io.k8s.api.core.v1.EnvVarSource",
        &[
            one("configMapKeyRef", "io.k8s.api.core.v1.ConfigMapKeySelector"),
            one("fieldRef", "io.k8s.api.core.v1.ObjectFieldSelector"),
            one("fileKeyRef", "io.k8s.api.core.v1.FileKeySelector"),
            one("resourceFieldRef", "io.k8s.api.core.v1.ResourceFieldSelector"),
            one("secretKeyRef", "io.k8s.api.core.v1.SecretKeySelector"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.EphemeralContainer",
        &[
            items("env", "io.k8s.api.core.v1.EnvVar").keys(&["name"]).merge("name"),
            leaf("ports").keys(&["containerPort", "protocol"]).merge("containerPort"),
            one("resources", "io.k8s.api.core.v1.ResourceRequirements"),
            items("restartPolicyRules", "io.k8s.api.core.v1.ContainerRestartRule"),
            leaf("volumeDevices").keys(&["devicePath"]).merge("devicePath"),
            items("volumeMounts", "io.k8s.api.core.v1.VolumeMount").keys(&["mountPath"]).merge("mountPath"),
        ],
    ),
    ty("io.k8s.api.core.v1.EphemeralVolumeSource", &[one("volumeClaimTemplate", "io.k8s.api.core.v1.PersistentVolumeClaimTemplate")]),
    ty(
        "io.k8s.api.core.v1.Event",
        &[
            one("involvedObject", "io.k8s.api.core.v1.ObjectReference"),
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("related", "io.k8s.api.core.v1.ObjectReference"),
        ],
    ),
    atomic_type("io.k8s.api.core.v1.FileKeySelector", &[]),
    ty("io.k8s.api.core.v1.FlexPersistentVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.SecretReference")]),
    ty("io.k8s.api.core.v1.FlexVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.LocalObjectReference")]),
    ty("io.k8s.api.core.v1.ISCSIPersistentVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.SecretReference")]),
    ty("io.k8s.api.core.v1.ISCSIVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.LocalObjectReference")]),
    ty("io.k8s.api.core.v1.LimitRange", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    atomic_type("io.k8s.api.core.v1.LocalObjectReference", &[]),
    ty(
        "io.k8s.api.core.v1.Namespace",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("status", "io.k8s.api.core.v1.NamespaceStatus")],
    ),
    ty("io.k8s.api.core.v1.NamespaceStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.core.v1.Node",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.core.v1.NodeSpec"),
            one("status", "io.k8s.api.core.v1.NodeStatus"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.NodeAffinity",
        &[
            items("preferredDuringSchedulingIgnoredDuringExecution", "io.k8s.api.core.v1.PreferredSchedulingTerm"),
            one("requiredDuringSchedulingIgnoredDuringExecution", "io.k8s.api.core.v1.NodeSelector"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
        &[leaf("containers").set(), leaf("mapping").keys(&["name"]), leaf("overhead").keys(&["name"])],
    ),
    ty("io.k8s.api.core.v1.NodePodPreemptionPolicy", &[leaf("disableResizePreemption").set()]),
    atomic_type("io.k8s.api.core.v1.NodeSelector", &[items("nodeSelectorTerms", "io.k8s.api.core.v1.NodeSelectorTerm")]),
    atomic_type("io.k8s.api.core.v1.NodeSelectorTerm", &[]),
    ty(
        "io.k8s.api.core.v1.NodeSpec",
        &[leaf("podCIDRs").set().merge(""), one("podPreemptionPolicy", "io.k8s.api.core.v1.NodePodPreemptionPolicy")],
    ),
    ty(
        "io.k8s.api.core.v1.NodeStatus",
        &[leaf("addresses").keys(&["type"]).merge("type"), leaf("conditions").keys(&["type"]).merge("type")],
    ),
    atomic_type("io.k8s.api.core.v1.ObjectFieldSelector", &[]),
    atomic_type("io.k8s.api.core.v1.ObjectReference", &[]),
    ty(
        "io.k8s.api.core.v1.PersistentVolume",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.core.v1.PersistentVolumeSpec")],
    ),
    ty(
        "io.k8s.api.core.v1.PersistentVolumeClaim",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.core.v1.PersistentVolumeClaimSpec"),
            one("status", "io.k8s.api.core.v1.PersistentVolumeClaimStatus"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
        &[
            one("dataSource", "io.k8s.api.core.v1.TypedLocalObjectReference"),
            one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
        &[leaf("conditions").keys(&["type"]).merge("type"), one("healthStatus", "io.k8s.api.core.v1.VolumeHealthStatus")],
    ),
    ty(
        "io.k8s.api.core.v1.PersistentVolumeClaimTemplate",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.core.v1.PersistentVolumeClaimSpec")],
    ),
    ty(
        "io.k8s.api.core.v1.PersistentVolumeSpec",
        &[
            one("cephfs", "io.k8s.api.core.v1.CephFSPersistentVolumeSource"),
            one("cinder", "io.k8s.api.core.v1.CinderPersistentVolumeSource"),
            one("claimRef", "io.k8s.api.core.v1.ObjectReference").granular(),
            one("csi", "io.k8s.api.core.v1.CSIPersistentVolumeSource"),
            one("flexVolume", "io.k8s.api.core.v1.FlexPersistentVolumeSource"),
            one("iscsi", "io.k8s.api.core.v1.ISCSIPersistentVolumeSource"),
            one("nodeAffinity", "io.k8s.api.core.v1.VolumeNodeAffinity"),
            one("rbd", "io.k8s.api.core.v1.RBDPersistentVolumeSource"),
            one("scaleIO", "io.k8s.api.core.v1.ScaleIOPersistentVolumeSource"),
            one("storageos", "io.k8s.api.core.v1.StorageOSPersistentVolumeSource"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.Pod",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.core.v1.PodSpec"),
            one("status", "io.k8s.api.core.v1.PodStatus"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.PodAffinity",
        &[
            items("preferredDuringSchedulingIgnoredDuringExecution", "io.k8s.api.core.v1.WeightedPodAffinityTerm"),
            items("requiredDuringSchedulingIgnoredDuringExecution", "io.k8s.api.core.v1.PodAffinityTerm"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.PodAffinityTerm",
        &[
            one("labelSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("namespaceSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.PodAntiAffinity",
        &[
            items("preferredDuringSchedulingIgnoredDuringExecution", "io.k8s.api.core.v1.WeightedPodAffinityTerm"),
            items("requiredDuringSchedulingIgnoredDuringExecution", "io.k8s.api.core.v1.PodAffinityTerm"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.PodSpec",
        &[
            one("affinity", "io.k8s.api.core.v1.Affinity"),
            items("containers", "io.k8s.api.core.v1.Container").keys(&["name"]).merge("name"),
            items("ephemeralContainers", "io.k8s.api.core.v1.EphemeralContainer").keys(&["name"]).merge("name"),
            leaf("evictionResponders").keys(&["name"]).merge("name"),
            leaf("hostAliases").keys(&["ip"]).merge("ip"),
            items("imagePullSecrets", "io.k8s.api.core.v1.LocalObjectReference").keys(&["name"]).merge("name"),
            items("initContainers", "io.k8s.api.core.v1.Container").keys(&["name"]).merge("name"),
            leaf("nodeSelector").atomic(),
            leaf("resourceClaims").keys(&["name"]).merge("name").retain_keys(),
            one("resources", "io.k8s.api.core.v1.ResourceRequirements"),
            leaf("schedulingGates").keys(&["name"]).merge("name"),
            items("topologySpreadConstraints", "io.k8s.api.core.v1.TopologySpreadConstraint")
                .keys(&["topologyKey", "whenUnsatisfiable"])
                .merge("topologyKey"),
            items("volumes", "io.k8s.api.core.v1.Volume").keys(&["name"]).merge("name").retain_keys(),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.PodStatus",
        &[
            leaf("conditions").keys(&["type"]).merge("type"),
            items("containerStatuses", "io.k8s.api.core.v1.ContainerStatus"),
            items("ephemeralContainerStatuses", "io.k8s.api.core.v1.ContainerStatus"),
            leaf("hostIPs").merge("ip"),
            items("initContainerStatuses", "io.k8s.api.core.v1.ContainerStatus"),
            items("nodeAllocatableResourceClaimStatuses", "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus")
                .keys(&["resourceClaimName"]),
            leaf("podIPs").keys(&["ip"]).merge("ip"),
            leaf("resourceClaimStatuses").keys(&["name"]).merge("name").retain_keys(),
            one("resources", "io.k8s.api.core.v1.ResourceRequirements"),
            items("volumeHealth", "io.k8s.api.core.v1.PodVolumeHealth").keys(&["name"]),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.PodTemplate",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("template", "io.k8s.api.core.v1.PodTemplateSpec")],
    ),
    ty(
        "io.k8s.api.core.v1.PodTemplateSpec",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.core.v1.PodSpec")],
    ),
    ty("io.k8s.api.core.v1.PodVolumeHealth", &[leaf("healthConditions").keys(&["status"])]),
    ty("io.k8s.api.core.v1.PreferredSchedulingTerm", &[one("preference", "io.k8s.api.core.v1.NodeSelectorTerm")]),
    ty("io.k8s.api.core.v1.ProjectedVolumeSource", &[items("sources", "io.k8s.api.core.v1.VolumeProjection")]),
    ty("io.k8s.api.core.v1.RBDPersistentVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.SecretReference")]),
    ty("io.k8s.api.core.v1.RBDVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.LocalObjectReference")]),
    ty(
        "io.k8s.api.core.v1.ReplicationController",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.core.v1.ReplicationControllerSpec"),
            one("status", "io.k8s.api.core.v1.ReplicationControllerStatus"),
        ],
    ),
    ty("io.k8s.api.core.v1.ReplicationControllerSpec", &[leaf("selector").atomic(), one("template", "io.k8s.api.core.v1.PodTemplateSpec")]),
    ty("io.k8s.api.core.v1.ReplicationControllerStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    atomic_type("io.k8s.api.core.v1.ResourceFieldSelector", &[]),
    ty(
        "io.k8s.api.core.v1.ResourceQuota",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.core.v1.ResourceQuotaSpec")],
    ),
    ty("io.k8s.api.core.v1.ResourceQuotaSpec", &[one("scopeSelector", "io.k8s.api.core.v1.ScopeSelector")]),
    ty("io.k8s.api.core.v1.ResourceRequirements", &[leaf("claims").keys(&["name"])]),
    ty("io.k8s.api.core.v1.ResourceStatus", &[leaf("resources").keys(&["resourceID"])]),
    ty("io.k8s.api.core.v1.ScaleIOPersistentVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.SecretReference")]),
    ty("io.k8s.api.core.v1.ScaleIOVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.LocalObjectReference")]),
    atomic_type("io.k8s.api.core.v1.ScopeSelector", &[]),
    ty("io.k8s.api.core.v1.Secret", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    atomic_type("io.k8s.api.core.v1.SecretKeySelector", &[]),
    atomic_type("io.k8s.api.core.v1.SecretReference", &[]),
    ty(
        "io.k8s.api.core.v1.Service",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.core.v1.ServiceSpec"),
            one("status", "io.k8s.api.core.v1.ServiceStatus"),
        ],
    ),
    ty(
        "io.k8s.api.core.v1.ServiceAccount",
        &[
            items("imagePullSecrets", "io.k8s.api.core.v1.LocalObjectReference"),
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            items("secrets", "io.k8s.api.core.v1.ObjectReference").keys(&["name"]).merge("name"),
        ],
    ),
    ty("io.k8s.api.core.v1.ServiceSpec", &[leaf("ports").keys(&["port", "protocol"]).merge("port"), leaf("selector").atomic()]),
    ty("io.k8s.api.core.v1.ServiceStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty("io.k8s.api.core.v1.StorageOSPersistentVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.ObjectReference")]),
    ty("io.k8s.api.core.v1.StorageOSVolumeSource", &[one("secretRef", "io.k8s.api.core.v1.LocalObjectReference")]),
    atomic_type("io.k8s.api.core.v1.TopologySelectorTerm", &[]),
    ty("io.k8s.api.core.v1.TopologySpreadConstraint", &[one("labelSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")]),
    atomic_type("io.k8s.api.core.v1.TypedLocalObjectReference", &[]),
    ty(
        "io.k8s.api.core.v1.Volume",
        &[
            one("cephfs", "io.k8s.api.core.v1.CephFSVolumeSource"),
            one("cinder", "io.k8s.api.core.v1.CinderVolumeSource"),
            one("csi", "io.k8s.api.core.v1.CSIVolumeSource"),
            one("downwardAPI", "io.k8s.api.core.v1.DownwardAPIVolumeSource"),
            one("ephemeral", "io.k8s.api.core.v1.EphemeralVolumeSource"),
            one("flexVolume", "io.k8s.api.core.v1.FlexVolumeSource"),
            one("iscsi", "io.k8s.api.core.v1.ISCSIVolumeSource"),
            one("projected", "io.k8s.api.core.v1.ProjectedVolumeSource"),
            one("rbd", "io.k8s.api.core.v1.RBDVolumeSource"),
            one("scaleIO", "io.k8s.api.core.v1.ScaleIOVolumeSource"),
            one("storageos", "io.k8s.api.core.v1.StorageOSVolumeSource"),
        ],
    ),
    ty("io.k8s.api.core.v1.VolumeHealthStatus", &[leaf("healthConditions").keys(&["status"])]),
    ty("io.k8s.api.core.v1.VolumeMount", &[leaf("bindMountOptions").set()]),
    ty("io.k8s.api.core.v1.VolumeNodeAffinity", &[one("required", "io.k8s.api.core.v1.NodeSelector")]),
    ty(
        "io.k8s.api.core.v1.VolumeProjection",
        &[
            one("clusterTrustBundle", "io.k8s.api.core.v1.ClusterTrustBundleProjection"),
            one("downwardAPI", "io.k8s.api.core.v1.DownwardAPIProjection"),
        ],
    ),
    ty("io.k8s.api.core.v1.WeightedPodAffinityTerm", &[one("podAffinityTerm", "io.k8s.api.core.v1.PodAffinityTerm")]),
];
