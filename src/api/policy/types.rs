//! The types of the variables.

use std::sync::LazyLock;

use crate::api::cel::{DeclType, Env, ListKind, Type};

/// Which variables an expression may use besides those that are always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// `params`: the policy has a `paramKind`.
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: bool,
    /// `Object{}` and `JSONPatch{}`.
    pub patches: bool,
}

/// What is known of the types of objects; nothing, unless a policy is type checked for one kind.
#[derive(Clone, Debug, Default)]
pub struct ObjectTypes {
    /// Of `object` and `oldObject`.
    pub object: Option<Type>,
    /// Of `params`.
    pub params: Option<Type>,
}

fn object(name: &str, fields: &[(&str, DeclType)]) -> DeclType {
    DeclType::object(name, fields.iter().map(|(name, decl)| ((*name).into(), decl.clone())))
}

fn texts() -> DeclType {
    DeclType::list(DeclType::simple(Type::String), ListKind::Atomic, u64::MAX)
}

static REQUEST: LazyLock<DeclType> = LazyLock::new(|| {
    let text = DeclType::simple(Type::String);
    let named = |name: &str, third: &str| object(name, &[("group", text.clone()), ("version", text.clone()), (third, text.clone())]);
    let kind = named("kubernetes.GroupVersionKind", "kind");
    let resource = named("kubernetes.GroupVersionResource", "resource");
    let user = object(
        "kubernetes.UserInfo",
        &[("username", text.clone()), ("uid", text.clone()), ("groups", texts()), ("extra", DeclType::map(texts(), u64::MAX))],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text.clone()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text.clone()),
            ("name", text.clone()),
            ("namespace", text.clone()),
            ("operation", text),
            ("userInfo", user),
            ("dryRun", DeclType::simple(Type::Bool)),
            ("options", DeclType::dynamic()),
        ],
    )
});

static NAMESPACE: LazyLock<DeclType> = LazyLock::new(|| {
    let (text, time, number) = (DeclType::simple(Type::String), DeclType::simple(Type::Timestamp), DeclType::simple(Type::Int));
    let labels = || DeclType::map(DeclType::simple(Type::String), u64::MAX);
    let condition = object(
        "kubernetes.NamespaceCondition",
        &[
            ("status", text.clone()),
            ("type", text.clone()),
            ("lastTransitionTime", time.clone()),
            ("message", text.clone()),
            ("reason", text.clone()),
        ],
    );
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", text.clone()),
            ("generateName", text.clone()),
            ("namespace", text.clone()),
            ("labels", labels()),
            ("annotations", labels()),
            ("UID", text.clone()),
            ("creationTimestamp", time.clone()),
            ("deletionGracePeriodSeconds", number.clone()),
            ("deletionTimestamp", time),
            ("generation", number),
            ("resourceVersion", text.clone()),
            ("finalizers", texts()),
        ],
    );
    let conditions = DeclType::list(condition, ListKind::Atomic, u64::MAX);
    object(
        "kubernetes.Namespace",
        &[
            ("metadata", metadata),
            ("spec", object("kubernetes.NamespaceSpec", &[("finalizers", texts())])),
            ("status", object("kubernetes.NamespaceStatus", &[("conditions", conditions), ("phase", text)])),
        ],
    )
});

/// Of `request`.
pub fn request_type() -> &'static DeclType {
    &REQUEST
}

/// Of `namespaceObject`.
pub fn namespace_type() -> &'static DeclType {
    &NAMESPACE
}

/// An environment with these variables.
pub(super) fn env(scope: Scope, types: &ObjectTypes) -> Env {
    let of = |ty: &Option<Type>| ty.clone().unwrap_or(Type::Dyn);
    let mut env = Env::new()
        .with("object", of(&types.object))
        .with("oldObject", of(&types.object))
        .with("request", REQUEST.ty.clone())
        .with("namespaceObject", NAMESPACE.ty.clone());
    if scope.params {
        env = env.with("params", of(&types.params));
    }
    if scope.authorizer {
        env = env
            .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", Type::Opaque("kubernetes.authorization.ResourceCheck"));
    }
    if scope.patches { env.with_constructors() } else { env }
}
