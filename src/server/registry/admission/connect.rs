//! Connections (exec, attach, portforward, proxy) and subresources that speak a kind of their own, admitted without being stored.
//!
//! Upstream's `rest.Connecter` and `NamedCreater` handlers: mutating admission, then validating admission, of the options or the object.

use std::any::Any;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Asked, Findings, Operation, Phase};
use crate::api::{Object, Status};
use crate::server::registry::{KindDef, Registry, WriteOptions};

/// The options of a connection, such as a `PodExecOptions`: an object without metadata of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectOptions {
    /// Name and namespace of what is connected to.
    meta: ObjectMeta,
    tree: Value,
}

impl ConnectOptions {
    /// Options of core/v1 `kind` with these fields, for a connection to `namespace/name`.
    pub fn new(kind: &str, namespace: &str, name: &str, mut fields: Value) -> ConnectOptions {
        fields["kind"] = kind.into();
        fields["apiVersion"] = "v1".into();
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let meta = ObjectMeta { namespace: filled(namespace), name: filled(name), ..ObjectMeta::default() };
        ConnectOptions { meta, tree: fields }
    }

    pub(super) fn from_tree(tree: Value, meta: &ObjectMeta) -> ConnectOptions {
        ConnectOptions { meta: meta.clone(), tree }
    }

    /// The options as they are now.
    pub fn tree(&self) -> &Value {
        &self.tree
    }
}

impl Object for ConnectOptions {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
    fn to_json(&self) -> Vec<u8> {
        self.tree.to_string().into_bytes()
    }
    fn to_value(&self) -> Value {
        self.tree.clone()
    }
    fn is_same(&self, other: &dyn Object) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }
    fn clone_object(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// What admission made of something that is not stored.
pub struct Admitted {
    /// The object, perhaps changed.
    pub object: Box<dyn Object>,
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub annotations: Vec<(String, String)>,
}

impl Registry {
    /// Admits a connection to an object of `kind`. `options.subresource` says which.
    pub async fn admit_connection(&self, kind: &KindDef, connect: ConnectOptions, options: &WriteOptions) -> Result<Admitted, Status> {
        self.admit_unstored(kind, Operation::Connect, Box::new(connect), options).await
    }

    /// Admits what is created below an object of `kind` (`pods/NAME/eviction` and the like), or instead of one (reviews). Its name and
    /// namespace are those of the URL.
    pub async fn admit_creation(&self, kind: &KindDef, object: Box<dyn Object>, options: &WriteOptions) -> Result<Admitted, Status> {
        self.admit_unstored(kind, Operation::Create, object, options).await
    }

    async fn admit_unstored(
        &self,
        kind: &KindDef,
        operation: Operation,
        mut object: Box<dyn Object>,
        options: &WriteOptions,
    ) -> Result<Admitted, Status> {
        let asked = Asked { kind, operation, old: None, options, deletion: None };
        let mut findings = Findings::default();
        self.admit(Phase::Mutate, asked, &mut object, &mut findings).await?;
        self.admit(Phase::Validate, asked, &mut object, &mut findings).await?;
        Ok(Admitted { object, warnings: findings.warnings, annotations: findings.annotations })
    }
}
