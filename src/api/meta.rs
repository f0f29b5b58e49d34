//! What all objects have in common.

use std::any::Any;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A decoded object of any kind, where the kind is known only at run time.
pub trait Object: Any + Send + Sync {
    /// Its metadata.
    fn meta(&self) -> &ObjectMeta;
    /// Its metadata, to change.
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// Its wire form, `apiVersion` and `kind` included.
    fn to_json(&self) -> Vec<u8>;
    /// Its wire form as a tree.
    fn to_value(&self) -> serde_json::Value;
    /// Whether both are of one type and equal.
    fn is_same(&self, other: &dyn Object) -> bool;
    /// A copy.
    fn clone_object(&self) -> Box<dyn Object>;
    /// For downcasting a borrow.
    fn as_any(&self) -> &dyn Any;
    /// For downcasting a mutable borrow.
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// For downcasting a shared pointer.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// A kind known at compile time: any top-level type of `k8s-openapi`.
pub trait Kind: Object + Resource + DeserializeOwned + Serialize + Clone + PartialEq + Default {}

impl<T> Kind for T where T: Object + Resource + DeserializeOwned + Serialize + Clone + PartialEq + Default {}

impl<T> Object for T
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + Clone + PartialEq + Send + Sync + 'static,
{
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("API types have string keys only, so they always encode")
    }
    fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("API types have string keys only, so they always encode")
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

/// The owner that manages this object (`controller: true`), if any.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether `meta` is managed by the object with this uid.
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// The reference that makes `owner` the managing owner of another object, as upstream's `NewControllerRef`.
pub fn controller_ref<T: Resource + Object>(owner: &T) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.into(),
        kind: T::KIND.into(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
