//! Objects of custom kinds.

use std::any::Any;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::api::Object;
use crate::server::store::Entry;

/// An object whose metadata is typed and whose other fields are a tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dynamic {
    /// `metadata`.
    pub meta: ObjectMeta,
    /// All else, `apiVersion` and `kind` included. Always an object; never has `metadata`.
    pub content: Value,
}

const METADATA: &str = "metadata";

impl Dynamic {
    /// Of a whole tree. `Err`: it is no object, or its metadata is none.
    pub fn parse(mut tree: Value) -> Result<Dynamic, String> {
        let Some(map) = tree.as_object_mut() else { return Err("it is not an object".into()) };
        let meta = map.remove(METADATA).unwrap_or_else(|| Map::new().into());
        let meta = serde_json::from_value(meta).map_err(|error| error.to_string())?;
        Ok(Dynamic { meta, content: tree })
    }

    /// Of stored bytes; shared with other readers.
    pub fn of(entry: &Entry) -> Result<Arc<Dynamic>, String> {
        entry.decoded(|json| {
            let mut object = Dynamic::parse(serde_json::from_slice(json).map_err(|error| error.to_string())?)?;
            // As for every decoded object: who owns which field stays in the entry.
            object.meta.managed_fields = None;
            Ok(object)
        })
    }

    /// Its fields.
    pub fn map(&self) -> Option<&Map<String, Value>> {
        self.content.as_object()
    }

    /// Its fields, to change.
    pub fn map_mut(&mut self) -> &mut Map<String, Value> {
        if !self.content.is_object() {
            self.content = Map::new().into();
        }
        self.content.as_object_mut().expect("was just made an object")
    }

    /// A top-level text.
    pub fn text(&self, field: &str) -> &str {
        self.content.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Fields in the order of their names, as upstream's unstructured encoder writes them.
impl Serialize for Dynamic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        let mut fields = self.map().into_iter().flatten().peekable();
        while let Some((name, value)) = fields.next_if(|(name, _)| name.as_str() < METADATA) {
            out.serialize_entry(name, value)?;
        }
        out.serialize_entry(METADATA, &self.meta)?;
        for (name, value) in fields {
            out.serialize_entry(name, value)?;
        }
        out.end()
    }
}

impl Object for Dynamic {
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a tree and metadata have string keys only, so they always encode")
    }
    fn to_value(&self) -> Value {
        let mut value = self.content.clone();
        if let Some(map) = value.as_object_mut() {
            let meta = serde_json::to_value(&self.meta).expect("metadata has string keys only, so it always encodes");
            map.insert(METADATA.into(), meta);
        }
        value
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
