//! Facts of the groups resource.k8s.io and scheduling.k8s.io; see [`super`].

use super::{Type, items, leaf, one, ty};

pub(super) const TYPES: &[Type] = &[
    ty("io.k8s.api.resource.v1.AllocatedDeviceStatus", &[leaf("conditions").keys(&["type"])]),
    ty(
        "io.k8s.api.resource.v1.AllocationResult",
        &[one("devices", "io.k8s.api.resource.v1.DeviceAllocationResult"), one("nodeSelector", "io.k8s.api.core.v1.NodeSelector")],
    ),
    ty("io.k8s.api.resource.v1.Device", &[one("nodeSelector", "io.k8s.api.core.v1.NodeSelector")]),
    ty("io.k8s.api.resource.v1.DeviceAllocationResult", &[items("results", "io.k8s.api.resource.v1.DeviceRequestAllocationResult")]),
    ty("io.k8s.api.resource.v1.DeviceClass", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.resource.v1.DeviceRequestAllocationResult", &[leaf("skipNodeOperations").set()]),
    ty(
        "io.k8s.api.resource.v1.DeviceTaintRule",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.resource.v1.DeviceTaintRuleStatus"),
        ],
    ),
    ty("io.k8s.api.resource.v1.DeviceTaintRuleStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.resource.v1.ResourceClaim",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("status", "io.k8s.api.resource.v1.ResourceClaimStatus")],
    ),
    ty(
        "io.k8s.api.resource.v1.ResourceClaimStatus",
        &[
            one("allocation", "io.k8s.api.resource.v1.AllocationResult"),
            items("devices", "io.k8s.api.resource.v1.AllocatedDeviceStatus").keys(&["driver", "device", "pool", "shareID"]),
            leaf("reservedFor").keys(&["uid"]).merge("uid"),
        ],
    ),
    ty(
        "io.k8s.api.resource.v1.ResourceClaimTemplate",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.resource.v1.ResourceClaimTemplateSpec"),
        ],
    ),
    ty("io.k8s.api.resource.v1.ResourceClaimTemplateSpec", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.resource.v1.ResourceSlice",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.resource.v1.ResourceSliceSpec")],
    ),
    ty(
        "io.k8s.api.resource.v1.ResourceSliceSpec",
        &[
            items("devices", "io.k8s.api.resource.v1.Device"),
            one("nodeSelector", "io.k8s.api.core.v1.NodeSelector"),
            leaf("skipNodeOperations").set(),
        ],
    ),
    ty(
        "io.k8s.api.resource.v1alpha3.DeviceTaintRule",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.resource.v1alpha3.DeviceTaintRuleStatus"),
        ],
    ),
    ty("io.k8s.api.resource.v1alpha3.DeviceTaintRuleStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.resource.v1alpha3.ResourcePoolStatusRequest",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.resource.v1alpha3.ResourcePoolStatusRequestStatus"),
        ],
    ),
    ty("io.k8s.api.resource.v1alpha3.ResourcePoolStatusRequestStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty("io.k8s.api.resource.v1beta1.AllocatedDeviceStatus", &[leaf("conditions").keys(&["type"])]),
    ty(
        "io.k8s.api.resource.v1beta1.AllocationResult",
        &[one("devices", "io.k8s.api.resource.v1beta1.DeviceAllocationResult"), one("nodeSelector", "io.k8s.api.core.v1.NodeSelector")],
    ),
    ty("io.k8s.api.resource.v1beta1.BasicDevice", &[one("nodeSelector", "io.k8s.api.core.v1.NodeSelector")]),
    ty("io.k8s.api.resource.v1beta1.Device", &[one("basic", "io.k8s.api.resource.v1beta1.BasicDevice")]),
    ty(
        "io.k8s.api.resource.v1beta1.DeviceAllocationResult",
        &[items("results", "io.k8s.api.resource.v1beta1.DeviceRequestAllocationResult")],
    ),
    ty("io.k8s.api.resource.v1beta1.DeviceClass", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.resource.v1beta1.DeviceRequestAllocationResult", &[leaf("skipNodeOperations").set()]),
    ty(
        "io.k8s.api.resource.v1beta1.ResourceClaim",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.resource.v1beta1.ResourceClaimStatus"),
        ],
    ),
    ty(
        "io.k8s.api.resource.v1beta1.ResourceClaimStatus",
        &[
            one("allocation", "io.k8s.api.resource.v1beta1.AllocationResult"),
            items("devices", "io.k8s.api.resource.v1beta1.AllocatedDeviceStatus").keys(&["driver", "device", "pool", "shareID"]),
            leaf("reservedFor").keys(&["uid"]).merge("uid"),
        ],
    ),
    ty(
        "io.k8s.api.resource.v1beta1.ResourceClaimTemplate",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.resource.v1beta1.ResourceClaimTemplateSpec"),
        ],
    ),
    ty("io.k8s.api.resource.v1beta1.ResourceClaimTemplateSpec", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.resource.v1beta1.ResourceSlice",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.resource.v1beta1.ResourceSliceSpec")],
    ),
    ty(
        "io.k8s.api.resource.v1beta1.ResourceSliceSpec",
        &[
            items("devices", "io.k8s.api.resource.v1beta1.Device"),
            one("nodeSelector", "io.k8s.api.core.v1.NodeSelector"),
            leaf("skipNodeOperations").set(),
        ],
    ),
    ty("io.k8s.api.resource.v1beta2.AllocatedDeviceStatus", &[leaf("conditions").keys(&["type"])]),
    ty(
        "io.k8s.api.resource.v1beta2.AllocationResult",
        &[one("devices", "io.k8s.api.resource.v1beta2.DeviceAllocationResult"), one("nodeSelector", "io.k8s.api.core.v1.NodeSelector")],
    ),
    ty("io.k8s.api.resource.v1beta2.Device", &[one("nodeSelector", "io.k8s.api.core.v1.NodeSelector")]),
    ty(
        "io.k8s.api.resource.v1beta2.DeviceAllocationResult",
        &[items("results", "io.k8s.api.resource.v1beta2.DeviceRequestAllocationResult")],
    ),
    ty("io.k8s.api.resource.v1beta2.DeviceClass", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.resource.v1beta2.DeviceRequestAllocationResult", &[leaf("skipNodeOperations").set()]),
    ty(
        "io.k8s.api.resource.v1beta2.DeviceTaintRule",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.resource.v1beta2.DeviceTaintRuleStatus"),
        ],
    ),
    ty("io.k8s.api.resource.v1beta2.DeviceTaintRuleStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.resource.v1beta2.ResourceClaim",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.resource.v1beta2.ResourceClaimStatus"),
        ],
    ),
    ty(
        "io.k8s.api.resource.v1beta2.ResourceClaimStatus",
        &[
            one("allocation", "io.k8s.api.resource.v1beta2.AllocationResult"),
            items("devices", "io.k8s.api.resource.v1beta2.AllocatedDeviceStatus").keys(&["driver", "device", "pool", "shareID"]),
            leaf("reservedFor").keys(&["uid"]).merge("uid"),
        ],
    ),
    ty(
        "io.k8s.api.resource.v1beta2.ResourceClaimTemplate",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.resource.v1beta2.ResourceClaimTemplateSpec"),
        ],
    ),
    ty("io.k8s.api.resource.v1beta2.ResourceClaimTemplateSpec", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.resource.v1beta2.ResourceSlice",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.resource.v1beta2.ResourceSliceSpec")],
    ),
    ty(
        "io.k8s.api.resource.v1beta2.ResourceSliceSpec",
        &[
            items("devices", "io.k8s.api.resource.v1beta2.Device"),
            one("nodeSelector", "io.k8s.api.core.v1.NodeSelector"),
            leaf("skipNodeOperations").set(),
        ],
    ),
    ty("io.k8s.api.scheduling.v1.PriorityClass", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.scheduling.v1alpha3.CompositePodGroup",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.api.scheduling.v1alpha3.CompositePodGroupStatus"),
        ],
    ),
    ty("io.k8s.api.scheduling.v1alpha3.CompositePodGroupStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.scheduling.v1alpha3.CompositePodGroupTemplate",
        &[
            items("compositePodGroupTemplates", "io.k8s.api.scheduling.v1alpha3.CompositePodGroupTemplate").keys(&["name"]),
            items("podGroupTemplates", "io.k8s.api.scheduling.v1alpha3.PodGroupTemplate").keys(&["name"]),
        ],
    ),
    ty(
        "io.k8s.api.scheduling.v1alpha3.PodGroup",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.scheduling.v1alpha3.PodGroupSpec"),
            one("status", "io.k8s.api.scheduling.v1alpha3.PodGroupStatus"),
        ],
    ),
    ty("io.k8s.api.scheduling.v1alpha3.PodGroupSpec", &[leaf("resourceClaims").keys(&["name"]).merge("name").retain_keys()]),
    ty(
        "io.k8s.api.scheduling.v1alpha3.PodGroupStatus",
        &[leaf("conditions").keys(&["type"]).merge("type"), leaf("resourceClaimStatuses").keys(&["name"])],
    ),
    ty("io.k8s.api.scheduling.v1alpha3.PodGroupTemplate", &[leaf("resourceClaims").keys(&["name"]).merge("name").retain_keys()]),
    ty(
        "io.k8s.api.scheduling.v1alpha3.Workload",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.scheduling.v1alpha3.WorkloadSpec")],
    ),
    ty(
        "io.k8s.api.scheduling.v1alpha3.WorkloadSpec",
        &[
            items("compositePodGroupTemplates", "io.k8s.api.scheduling.v1alpha3.CompositePodGroupTemplate").keys(&["name"]),
            items("podGroupTemplates", "io.k8s.api.scheduling.v1alpha3.PodGroupTemplate").keys(&["name"]),
        ],
    ),
    ty(
        "io.k8s.api.scheduling.v1beta1.CompositePodGroupTemplate",
        &[
            items("compositePodGroupTemplates", "io.k8s.api.scheduling.v1beta1.CompositePodGroupTemplate").keys(&["name"]),
            items("podGroupTemplates", "io.k8s.api.scheduling.v1beta1.PodGroupTemplate").keys(&["name"]),
        ],
    ),
    ty(
        "io.k8s.api.scheduling.v1beta1.PodGroup",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.scheduling.v1beta1.PodGroupSpec"),
            one("status", "io.k8s.api.scheduling.v1beta1.PodGroupStatus"),
        ],
    ),
    ty("io.k8s.api.scheduling.v1beta1.PodGroupSpec", &[leaf("resourceClaims").keys(&["name"]).merge("name").retain_keys()]),
    ty(
        "io.k8s.api.scheduling.v1beta1.PodGroupStatus",
        &[leaf("conditions").keys(&["type"]).merge("type"), leaf("resourceClaimStatuses").keys(&["name"])],
    ),
    ty("io.k8s.api.scheduling.v1beta1.PodGroupTemplate", &[leaf("resourceClaims").keys(&["name"]).merge("name").retain_keys()]),
    ty(
        "io.k8s.api.scheduling.v1beta1.Workload",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.scheduling.v1beta1.WorkloadSpec")],
    ),
    ty(
        "io.k8s.api.scheduling.v1beta1.WorkloadSpec",
        &[
            items("compositePodGroupTemplates", "io.k8s.api.scheduling.v1beta1.CompositePodGroupTemplate").keys(&["name"]),
            items("podGroupTemplates", "io.k8s.api.scheduling.v1beta1.PodGroupTemplate").keys(&["name"]),
        ],
    ),
];
