//! Every built-in kind of the API.
//!
//! [`KINDS`] is the table that discovery, the verbs, OpenAPI and the tests walk; one file per kind holds its
//! [`Strategy`](crate::server::registry::strategy::Strategy): facts, defaults, rules, columns. All of it is pure.
//! A kind with several versions is stored in one; the others are rows of their own with a conversion.
//!
//! Never: I/O, clocks, other objects than the one at hand (what needs those is admission).

#[macro_use]
mod support;

mod admission;
mod autoscaling;
mod autoscaling_rules;
mod certificates;
mod configmap;
mod coordination;
mod cron_rules;
mod cronjob;
mod daemonset;
mod definition;
mod deployment;
mod endpoints;
mod event;
mod extension;
mod flowcontrol;
mod flowcontrol_rules;
mod ingress;
mod job;
mod job_rules;
mod job_status_rules;
mod limits;
mod misc;
mod namespace;
mod networking;
mod networkpolicy;
mod node;
mod pod;
mod policies;
mod policy;
mod rbac;
mod replicaset;
mod replicationcontroller;
mod resource;
mod reviews;
#[cfg(test)]
mod rules_tests;
mod scheduling;
mod secret;
mod service;
mod service_rules;
mod serviceaccount;
mod statefulset;
mod storage;
#[cfg(test)]
mod tests;
mod volume;
mod volume_rules;
mod workload;

pub use definition::{Approval, CLEANUP, approval_of};
pub use support::duration;

use k8s_openapi::api::{
    admissionregistration, apps, authentication, authorization, autoscaling as hpa, batch, certificates as certs, coordination as coord,
    core, discovery, events, flowcontrol as flow, networking as net, node as runtime, policy as pdb, rbac as roles, resource as dra,
    scheduling as sched, storage as disk, storagemigration,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use std::convert::identity;
use std::sync::LazyLock;

use crate::server::registry::{KindDef, KindRef};

/// A second served version of a stored kind, with the functions that reshape it, if any.
macro_rules! second {
    ($served:ty => $stored:ty) => {
        second!($served => $stored, identity, identity)
    };
    ($served:ty => $stored:ty, $to:path, $from:path) => {
        second!($served => $stored, $to, $from, &[], |_, _| Vec::new())
    };
    ($served:ty => $stored:ty, $to:path, $from:path, $fields:expr, $stricter:expr) => {
        KindDef::version_of::<$served, $stored>($to, $from, $fields, $stricter)
    };
}

/// All built-in kinds.
pub static KINDS: LazyLock<Vec<KindRef>> = LazyLock::new(|| {
    vec![
        // core
        KindDef::of::<core::v1::Pod>(),
        KindDef::of::<core::v1::Node>(),
        KindDef::of::<core::v1::Namespace>(),
        KindDef::of::<core::v1::Service>(),
        KindDef::of::<core::v1::Endpoints>(),
        KindDef::of::<core::v1::ConfigMap>(),
        KindDef::of::<core::v1::Secret>(),
        KindDef::of::<core::v1::ServiceAccount>(),
        KindDef::of::<core::v1::Event>(),
        KindDef::of::<core::v1::PersistentVolume>(),
        KindDef::of::<core::v1::PersistentVolumeClaim>(),
        KindDef::of::<core::v1::ReplicationController>(),
        KindDef::of::<core::v1::PodTemplate>(),
        KindDef::of::<core::v1::LimitRange>(),
        KindDef::of::<core::v1::ResourceQuota>(),
        KindDef::of::<core::v1::ComponentStatus>(),
        // apps, batch, autoscaling, policy
        KindDef::of::<apps::v1::Deployment>(),
        KindDef::of::<apps::v1::ReplicaSet>(),
        KindDef::of::<apps::v1::DaemonSet>(),
        KindDef::of::<apps::v1::StatefulSet>(),
        KindDef::of::<apps::v1::ControllerRevision>(),
        KindDef::of::<batch::v1::Job>(),
        KindDef::of::<batch::v1::CronJob>(),
        KindDef::of::<hpa::v2::HorizontalPodAutoscaler>(),
        second!(hpa::v1::HorizontalPodAutoscaler => hpa::v2::HorizontalPodAutoscaler, autoscaling::to_v2, autoscaling::from_v2),
        KindDef::of::<pdb::v1::PodDisruptionBudget>(),
        // networking, discovery, events
        KindDef::of::<net::v1::Ingress>(),
        KindDef::of::<net::v1::IngressClass>(),
        KindDef::of::<net::v1::NetworkPolicy>(),
        KindDef::of::<net::v1::ServiceCIDR>(),
        KindDef::of::<net::v1::IPAddress>(),
        KindDef::of::<discovery::v1::EndpointSlice>(),
        second!(events::v1::Event => core::v1::Event, event::to_core, event::from_core, event::FIELD_NAMES, event::check_new),
        // rbac, authentication, authorization, certificates
        KindDef::of::<roles::v1::Role>(),
        KindDef::of::<roles::v1::RoleBinding>(),
        KindDef::of::<roles::v1::ClusterRole>(),
        KindDef::of::<roles::v1::ClusterRoleBinding>(),
        KindDef::of::<authentication::v1::TokenReview>(),
        KindDef::of::<authentication::v1::SelfSubjectReview>(),
        KindDef::of::<authorization::v1::SubjectAccessReview>(),
        KindDef::of::<authorization::v1::LocalSubjectAccessReview>(),
        KindDef::of::<authorization::v1::SelfSubjectAccessReview>(),
        KindDef::of::<authorization::v1::SelfSubjectRulesReview>(),
        KindDef::of::<certs::v1::CertificateSigningRequest>(),
        KindDef::of::<certs::v1::ClusterTrustBundle>(),
        KindDef::of::<certs::v1::PodCertificateRequest>(),
        second!(certs::v1beta1::ClusterTrustBundle => certs::v1::ClusterTrustBundle),
        second!(certs::v1beta1::PodCertificateRequest => certs::v1::PodCertificateRequest),
        // storage, scheduling, node, coordination
        KindDef::of::<disk::v1::StorageClass>(),
        KindDef::of::<disk::v1::VolumeAttachment>(),
        KindDef::of::<disk::v1::CSIDriver>(),
        KindDef::of::<disk::v1::CSINode>(),
        KindDef::of::<disk::v1::CSIStorageCapacity>(),
        KindDef::of::<disk::v1::VolumeAttributesClass>(),
        KindDef::of::<sched::v1::PriorityClass>(),
        KindDef::of::<sched::v1beta1::PodGroup>(),
        KindDef::of::<sched::v1beta1::Workload>(),
        KindDef::of::<runtime::v1::RuntimeClass>(),
        KindDef::of::<coord::v1::Lease>(),
        KindDef::of::<coord::v1beta1::LeaseCandidate>(),
        // admissionregistration, flowcontrol
        KindDef::of::<admissionregistration::v1::ValidatingWebhookConfiguration>(),
        KindDef::of::<admissionregistration::v1::MutatingWebhookConfiguration>(),
        KindDef::of::<admissionregistration::v1::ValidatingAdmissionPolicy>(),
        KindDef::of::<admissionregistration::v1::ValidatingAdmissionPolicyBinding>(),
        KindDef::of::<admissionregistration::v1::MutatingAdmissionPolicy>(),
        KindDef::of::<admissionregistration::v1::MutatingAdmissionPolicyBinding>(),
        second!(admissionregistration::v1beta1::MutatingAdmissionPolicy => admissionregistration::v1::MutatingAdmissionPolicy),
        second!(admissionregistration::v1beta1::MutatingAdmissionPolicyBinding => admissionregistration::v1::MutatingAdmissionPolicyBinding),
        KindDef::of::<flow::v1::FlowSchema>(),
        KindDef::of::<flow::v1::PriorityLevelConfiguration>(),
        // resource
        KindDef::of::<dra::v1::DeviceClass>(),
        KindDef::of::<dra::v1::DeviceTaintRule>(),
        KindDef::of::<dra::v1::ResourceClaim>(),
        KindDef::of::<dra::v1::ResourceClaimTemplate>(),
        KindDef::of::<dra::v1::ResourceSlice>(),
        second!(dra::v1beta2::DeviceClass => dra::v1::DeviceClass),
        second!(dra::v1beta2::DeviceTaintRule => dra::v1::DeviceTaintRule),
        second!(dra::v1beta2::ResourceClaim => dra::v1::ResourceClaim),
        second!(dra::v1beta2::ResourceClaimTemplate => dra::v1::ResourceClaimTemplate),
        second!(dra::v1beta2::ResourceSlice => dra::v1::ResourceSlice),
        second!(dra::v1beta1::DeviceClass => dra::v1::DeviceClass),
        second!(dra::v1beta1::ResourceClaim => dra::v1::ResourceClaim, resource::claim_to_v1, resource::claim_from_v1),
        second!(dra::v1beta1::ResourceClaimTemplate => dra::v1::ResourceClaimTemplate, resource::claim_to_v1, resource::claim_from_v1),
        second!(dra::v1beta1::ResourceSlice => dra::v1::ResourceSlice, resource::slice_to_v1, resource::slice_from_v1),
        // what extends the API
        KindDef::of::<apiextensions::v1::CustomResourceDefinition>(),
        KindDef::of::<apiregistration::v1::APIService>(),
        KindDef::of::<storagemigration::v1::StorageVersionMigration>(),
        second!(storagemigration::v1beta1::StorageVersionMigration => storagemigration::v1::StorageVersionMigration),
    ]
});
