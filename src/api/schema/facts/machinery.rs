//! Facts of the API machinery, CustomResourceDefinitions and APIServices; see [`super`].

use super::{Type, atomic_type, items, leaf, one, ty, values};

pub(super) const TYPES: &[Type] = &[
    ty(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("spec", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec"),
            one("status", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus"),
        ],
    ),
    ty(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec",
        &[items("versions", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion")],
    ),
    ty("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus", &[leaf("conditions").keys(&["type"])]),
    ty(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion",
        &[one("schema", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceValidation")],
    ),
    ty(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceValidation",
        &[one("openAPIV3Schema", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")],
    ),
    ty(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        &[
            items("allOf", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            items("anyOf", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            values("definitions", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            one("not", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            items("oneOf", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            values("patternProperties", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            values("properties", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"),
            leaf("x-kubernetes-validations").keys(&["rule"]),
        ],
    ),
    atomic_type("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", &[]),
    ty(
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        &[
            leaf("finalizers").set().merge(""),
            items("ownerReferences", "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference").keys(&["uid"]).merge("uid"),
        ],
    ),
    atomic_type("io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", &[]),
    ty(
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        &[
            one("metadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
            one("status", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus"),
        ],
    ),
    ty("io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus", &[leaf("conditions").keys(&["type"]).merge("type")]),
];
