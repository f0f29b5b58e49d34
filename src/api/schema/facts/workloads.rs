//! Facts of the groups apps, autoscaling, batch, discovery, events, networking and policy; see [`super`].

use super::{Type, atomic_type, items, leaf, one, ty};

pub(super) const TYPES: &[Type] = &[
    ty("io.k8s.api.apps.v1.ControllerRevision", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.apps.v1.DaemonSet",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.apps.v1.DaemonSetSpec"),
            one("status", "io.k8s.api.apps.v1.DaemonSetStatus"),
        ],
    ),
    ty(
        "io.k8s.api.apps.v1.DaemonSetSpec",
        &[one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"), one("template", "io.k8s.api.core.v1.PodTemplateSpec")],
    ),
    ty("io.k8s.api.apps.v1.DaemonSetStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.apps.v1.Deployment",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.apps.v1.DeploymentSpec"),
            one("status", "io.k8s.api.apps.v1.DeploymentStatus"),
        ],
    ),
    ty(
        "io.k8s.api.apps.v1.DeploymentSpec",
        &[
            one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            leaf("strategy").retain_keys(),
            one("template", "io.k8s.api.core.v1.PodTemplateSpec"),
        ],
    ),
    ty("io.k8s.api.apps.v1.DeploymentStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.apps.v1.ReplicaSet",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.apps.v1.ReplicaSetSpec"),
            one("status", "io.k8s.api.apps.v1.ReplicaSetStatus"),
        ],
    ),
    ty(
        "io.k8s.api.apps.v1.ReplicaSetSpec",
        &[one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"), one("template", "io.k8s.api.core.v1.PodTemplateSpec")],
    ),
    ty("io.k8s.api.apps.v1.ReplicaSetStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty(
        "io.k8s.api.apps.v1.StatefulSet",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.apps.v1.StatefulSetSpec"),
            one("status", "io.k8s.api.apps.v1.StatefulSetStatus"),
        ],
    ),
    ty(
        "io.k8s.api.apps.v1.StatefulSetSpec",
        &[
            one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("template", "io.k8s.api.core.v1.PodTemplateSpec"),
            items("volumeClaimTemplates", "io.k8s.api.core.v1.PersistentVolumeClaim"),
        ],
    ),
    ty("io.k8s.api.apps.v1.StatefulSetStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    atomic_type("io.k8s.api.autoscaling.v1.CrossVersionObjectReference", &[]),
    ty(
        "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.autoscaling.v1.HorizontalPodAutoscalerSpec"),
        ],
    ),
    ty(
        "io.k8s.api.autoscaling.v1.HorizontalPodAutoscalerSpec",
        &[one("scaleTargetRef", "io.k8s.api.autoscaling.v1.CrossVersionObjectReference")],
    ),
    ty("io.k8s.api.autoscaling.v1.Scale", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.autoscaling.v2.ExternalMetricSource", &[one("metric", "io.k8s.api.autoscaling.v2.MetricIdentifier")]),
    ty("io.k8s.api.autoscaling.v2.ExternalMetricStatus", &[one("metric", "io.k8s.api.autoscaling.v2.MetricIdentifier")]),
    ty(
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec"),
            one("status", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus"),
        ],
    ),
    ty("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", &[items("metrics", "io.k8s.api.autoscaling.v2.MetricSpec")]),
    ty(
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus",
        &[leaf("conditions").keys(&["type"]).merge("type"), items("currentMetrics", "io.k8s.api.autoscaling.v2.MetricStatus")],
    ),
    ty("io.k8s.api.autoscaling.v2.MetricIdentifier", &[one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")]),
    ty(
        "io.k8s.api.autoscaling.v2.MetricSpec",
        &[
            one("external", "io.k8s.api.autoscaling.v2.ExternalMetricSource"),
            one("object", "io.k8s.api.autoscaling.v2.ObjectMetricSource"),
            one("pods", "io.k8s.api.autoscaling.v2.PodsMetricSource"),
        ],
    ),
    ty(
        "io.k8s.api.autoscaling.v2.MetricStatus",
        &[
            one("external", "io.k8s.api.autoscaling.v2.ExternalMetricStatus"),
            one("object", "io.k8s.api.autoscaling.v2.ObjectMetricStatus"),
            one("pods", "io.k8s.api.autoscaling.v2.PodsMetricStatus"),
        ],
    ),
    ty("io.k8s.api.autoscaling.v2.ObjectMetricSource", &[one("metric", "io.k8s.api.autoscaling.v2.MetricIdentifier")]),
    ty("io.k8s.api.autoscaling.v2.ObjectMetricStatus", &[one("metric", "io.k8s.api.autoscaling.v2.MetricIdentifier")]),
    ty("io.k8s.api.autoscaling.v2.PodsMetricSource", &[one("metric", "io.k8s.api.autoscaling.v2.MetricIdentifier")]),
    ty("io.k8s.api.autoscaling.v2.PodsMetricStatus", &[one("metric", "io.k8s.api.autoscaling.v2.MetricIdentifier")]),
    ty(
        "io.k8s.api.batch.v1.CronJob",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.batch.v1.CronJobSpec"),
            one("status", "io.k8s.api.batch.v1.CronJobStatus"),
        ],
    ),
    ty("io.k8s.api.batch.v1.CronJobSpec", &[one("jobTemplate", "io.k8s.api.batch.v1.JobTemplateSpec")]),
    ty("io.k8s.api.batch.v1.CronJobStatus", &[items("active", "io.k8s.api.core.v1.ObjectReference")]),
    ty(
        "io.k8s.api.batch.v1.Job",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.batch.v1.JobSpec"),
            one("status", "io.k8s.api.batch.v1.JobStatus"),
        ],
    ),
    ty("io.k8s.api.batch.v1.JobSchedulingConfiguration", &[leaf("resourceClaims").keys(&["name"]).merge("name").retain_keys()]),
    ty(
        "io.k8s.api.batch.v1.JobSpec",
        &[
            one("podFailurePolicy", "io.k8s.api.batch.v1.PodFailurePolicy"),
            one("scheduling", "io.k8s.api.batch.v1.JobSchedulingConfiguration"),
            one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("template", "io.k8s.api.core.v1.PodTemplateSpec"),
        ],
    ),
    ty(
        "io.k8s.api.batch.v1.JobStatus",
        &[leaf("conditions").merge("type"), one("uncountedTerminatedPods", "io.k8s.api.batch.v1.UncountedTerminatedPods")],
    ),
    ty(
        "io.k8s.api.batch.v1.JobTemplateSpec",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.batch.v1.JobSpec")],
    ),
    ty("io.k8s.api.batch.v1.PodFailurePolicy", &[items("rules", "io.k8s.api.batch.v1.PodFailurePolicyRule")]),
    ty("io.k8s.api.batch.v1.PodFailurePolicyOnExitCodesRequirement", &[leaf("values").set()]),
    ty("io.k8s.api.batch.v1.PodFailurePolicyRule", &[one("onExitCodes", "io.k8s.api.batch.v1.PodFailurePolicyOnExitCodesRequirement")]),
    ty("io.k8s.api.batch.v1.UncountedTerminatedPods", &[leaf("failed").set(), leaf("succeeded").set()]),
    ty("io.k8s.api.discovery.v1.Endpoint", &[leaf("addresses").set(), one("targetRef", "io.k8s.api.core.v1.ObjectReference")]),
    atomic_type("io.k8s.api.discovery.v1.EndpointPort", &[]),
    ty(
        "io.k8s.api.discovery.v1.EndpointSlice",
        &[
            items("endpoints", "io.k8s.api.discovery.v1.Endpoint"),
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            items("ports", "io.k8s.api.discovery.v1.EndpointPort"),
        ],
    ),
    ty(
        "io.k8s.api.events.v1.Event",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("regarding", "io.k8s.api.core.v1.ObjectReference"),
            one("related", "io.k8s.api.core.v1.ObjectReference"),
        ],
    ),
    ty("io.k8s.api.networking.v1.HTTPIngressPath", &[one("backend", "io.k8s.api.networking.v1.IngressBackend")]),
    ty("io.k8s.api.networking.v1.HTTPIngressRuleValue", &[items("paths", "io.k8s.api.networking.v1.HTTPIngressPath")]),
    ty("io.k8s.api.networking.v1.IPAddress", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.networking.v1.Ingress",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.networking.v1.IngressSpec")],
    ),
    ty(
        "io.k8s.api.networking.v1.IngressBackend",
        &[
            one("resource", "io.k8s.api.core.v1.TypedLocalObjectReference"),
            one("service", "io.k8s.api.networking.v1.IngressServiceBackend"),
        ],
    ),
    ty("io.k8s.api.networking.v1.IngressClass", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty("io.k8s.api.networking.v1.IngressRule", &[one("http", "io.k8s.api.networking.v1.HTTPIngressRuleValue")]),
    ty("io.k8s.api.networking.v1.IngressServiceBackend", &[one("port", "io.k8s.api.networking.v1.ServiceBackendPort")]),
    ty(
        "io.k8s.api.networking.v1.IngressSpec",
        &[one("defaultBackend", "io.k8s.api.networking.v1.IngressBackend"), items("rules", "io.k8s.api.networking.v1.IngressRule")],
    ),
    ty(
        "io.k8s.api.networking.v1.NetworkPolicy",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("spec", "io.k8s.api.networking.v1.NetworkPolicySpec")],
    ),
    ty("io.k8s.api.networking.v1.NetworkPolicyEgressRule", &[items("to", "io.k8s.api.networking.v1.NetworkPolicyPeer")]),
    ty("io.k8s.api.networking.v1.NetworkPolicyIngressRule", &[items("from", "io.k8s.api.networking.v1.NetworkPolicyPeer")]),
    ty(
        "io.k8s.api.networking.v1.NetworkPolicyPeer",
        &[
            one("namespaceSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
            one("podSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
        ],
    ),
    ty(
        "io.k8s.api.networking.v1.NetworkPolicySpec",
        &[
            items("egress", "io.k8s.api.networking.v1.NetworkPolicyEgressRule"),
            items("ingress", "io.k8s.api.networking.v1.NetworkPolicyIngressRule"),
            one("podSelector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"),
        ],
    ),
    atomic_type("io.k8s.api.networking.v1.ServiceBackendPort", &[]),
    ty(
        "io.k8s.api.networking.v1.ServiceCIDR",
        &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), one("status", "io.k8s.api.networking.v1.ServiceCIDRStatus")],
    ),
    ty("io.k8s.api.networking.v1.ServiceCIDRStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
    ty("io.k8s.api.policy.v1.Eviction", &[one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]),
    ty(
        "io.k8s.api.policy.v1.PodDisruptionBudget",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.api.policy.v1.PodDisruptionBudgetSpec"),
            one("status", "io.k8s.api.policy.v1.PodDisruptionBudgetStatus"),
        ],
    ),
    ty("io.k8s.api.policy.v1.PodDisruptionBudgetSpec", &[one("selector", "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").replace()]),
    ty("io.k8s.api.policy.v1.PodDisruptionBudgetStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
];
