//! What authentication and authorisation read: typed objects of one snapshot.

use std::sync::Arc;

use crate::api::{Key, Kind, Scope};
use crate::server::store::{Entry, Snapshot};

/// Typed reads of one consistent state.
pub trait Lookup {
    /// One object; `namespace` is empty for cluster-scoped kinds.
    fn get<T: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<T>>;
    /// All objects of a kind, or those of one namespace.
    fn list<T: Kind>(&self, namespace: Option<&str>) -> Vec<Arc<T>>;
}

/// An object that does not decode grants nothing; the log says which one.
fn decoded<T: Kind>(entry: &Arc<Entry>) -> Option<Arc<T>> {
    entry.typed::<T>().map_err(|error| tracing::error!(%error, "an object that authorisation needs is unreadable; it grants nothing")).ok()
}

impl Lookup for Snapshot {
    fn get<T: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        // A name with a slash names nothing, and no key may be made of it.
        if namespace.contains('/') || name.contains('/') {
            return None;
        }
        Snapshot::get(self, &Key::of::<T>(namespace, name)).and_then(decoded)
    }

    fn list<T: Kind>(&self, namespace: Option<&str>) -> Vec<Arc<T>> {
        let scope = match namespace {
            Some(namespace) if namespace.contains('/') => return Vec::new(),
            Some(namespace) => Scope::of_namespace::<T>(namespace),
            None => Scope::of::<T>(),
        };
        self.range(&scope).filter_map(decoded).collect()
    }
}

#[cfg(test)]
pub(crate) mod memory {
    //! A state made of YAML, for tests.
    use super::*;
    use crate::api::Object;

    /// Objects by their decoded form.
    #[derive(Default)]
    pub(crate) struct Memory(Vec<Arc<dyn Object>>);

    impl Memory {
        /// Adds every document of `yaml` as a `T`.
        pub(crate) fn with<T: Kind>(mut self, yaml: &str) -> Memory {
            for document in serde_yaml::Deserializer::from_str(yaml) {
                self.0.push(Arc::new(T::deserialize(document).unwrap()));
            }
            self
        }
    }

    impl Lookup for Memory {
        fn get<T: Kind>(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
            self.list::<T>(Some(namespace)).into_iter().find(|o| o.meta().name.as_deref() == Some(name))
        }
        fn list<T: Kind>(&self, namespace: Option<&str>) -> Vec<Arc<T>> {
            let all = self.0.iter().filter_map(|object| object.clone().into_any().downcast::<T>().ok());
            all.filter(|o| namespace.is_none_or(|n| o.meta().namespace.as_deref().unwrap_or_default() == n)).collect()
        }
    }
}
