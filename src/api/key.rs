//! Keys, scopes and revisions: how objects are named and versioned.
//!
//! A key is `GROUP/RESOURCE/NAMESPACE/NAME` with an empty group for core and an empty namespace for cluster-scoped objects,
//! so that a scope (all of a resource, or one namespace of it) is a prefix and a list is one range scan.
//! None of the four parts contains `/`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::Resource;
use serde::{Deserialize, Serialize};

/// The store's version. Grows by one with each write; what clients see as `resourceVersion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rev(pub u64);

impl Rev {
    /// Parses a `resourceVersion`. `None` when it is not a decimal number.
    pub fn parse(text: &str) -> Option<Rev> {
        text.parse().ok().map(Rev)
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one object in the store: `GROUP/RESOURCE/NAMESPACE/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// A key from its parts; `namespace` is empty for cluster-scoped objects.
    ///
    /// Total: parts may come from text that nobody validated, such as an owner reference. A `/` in one is written `%2F`, which
    /// no legal name has in it, so that such a key names nothing.
    pub fn new(group: &str, resource: &str, namespace: &str, name: &str) -> Key {
        let [group, resource, namespace, name] = [group, resource, namespace, name].map(|part| match part.contains('/') {
            true => Cow::Owned(part.replace('/', "%2F")),
            false => Cow::Borrowed(part),
        });
        Key(format!("{group}/{resource}/{namespace}/{name}").into())
    }

    /// The key of a `T` called `name`; `namespace` is empty for cluster-scoped kinds.
    pub fn of<T: Resource>(namespace: &str, name: &str) -> Key {
        Key::new(T::GROUP, T::URL_PATH_SEGMENT, namespace, name)
    }

    /// Reads a key written by [`Key::as_str`]. `None` unless it has exactly four parts.
    pub fn parse(text: &str) -> Option<Key> {
        (text.bytes().filter(|b| *b == b'/').count() == 3).then(|| Key(text.into()))
    }

    /// The whole key, as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn part(&self, index: usize) -> &str {
        self.0.split('/').nth(index).expect("a key has four parts")
    }

    /// API group, empty for core.
    pub fn group(&self) -> &str {
        self.part(0)
    }

    /// Plural resource name, such as `pods`.
    pub fn resource(&self) -> &str {
        self.part(1)
    }

    /// Namespace, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.part(2)
    }

    /// Object name.
    pub fn name(&self) -> &str {
        self.part(3)
    }

    /// Whether this names an object of kind `T`.
    pub fn is<T: Resource>(&self) -> bool {
        self.group() == T::GROUP && self.resource() == T::URL_PATH_SEGMENT
    }

    /// The scope of all objects of this key's resource.
    pub fn resource_scope(&self) -> Scope {
        Scope::resource(self.group(), self.resource())
    }
}

/// Lets maps be searched by prefix; a key orders as its text does.
impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of keys: everything, one resource, one namespace of a resource, or one object. Always a key prefix
/// (the one-object form is a whole key).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Every object of the store.
    pub fn all() -> Scope {
        Scope("".into())
    }

    /// Every object of one resource, in all namespaces.
    pub fn resource(group: &str, resource: &str) -> Scope {
        Scope(format!("{group}/{resource}/").into())
    }

    /// Every object of one resource in one namespace (empty: cluster-scoped ones).
    pub fn namespace(group: &str, resource: &str, namespace: &str) -> Scope {
        Scope(format!("{group}/{resource}/{namespace}/").into())
    }

    /// What no key of this scope sorts before. It names no object, unless the scope is that of one.
    pub fn first(&self) -> Key {
        Key(self.0.clone())
    }

    /// Every `T`.
    pub fn of<T: Resource>() -> Scope {
        Scope::resource(T::GROUP, T::URL_PATH_SEGMENT)
    }

    /// Every `T` in one namespace.
    pub fn of_namespace<T: Resource>(namespace: &str) -> Scope {
        Scope::namespace(T::GROUP, T::URL_PATH_SEGMENT, namespace)
    }

    /// Exactly one object.
    pub fn object(key: &Key) -> Scope {
        Scope(key.0.clone())
    }

    /// The prefix that all keys of this scope share.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// Whether `key` is in this scope.
    pub fn contains(&self, key: &Key) -> bool {
        // Only a whole key does not end with a slash, for names are not empty.
        key.0.starts_with(&*self.0) && (key.0.len() == self.0.len() || self.0.is_empty() || self.0.ends_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Node, Pod};

    #[test]
    fn keys_and_scopes() {
        let pod = Key::of::<Pod>("default", "a");
        assert_eq!(pod.as_str(), "/pods/default/a");
        assert_eq!((pod.group(), pod.resource(), pod.namespace(), pod.name()), ("", "pods", "default", "a"));
        assert_eq!(Key::parse(pod.as_str()), Some(pod.clone()));
        assert_eq!(Key::parse("/pods/default"), None);
        let foreign = Key::of::<Pod>("default", "../a/b");
        assert_eq!((foreign.as_str(), foreign.name()), ("/pods/default/..%2Fa%2Fb", "..%2Fa%2Fb"));
        assert!(Scope::of::<Pod>().contains(&pod));
        assert!(Scope::of_namespace::<Pod>("default").contains(&pod));
        assert!(!Scope::of_namespace::<Pod>("default-2").contains(&pod));
        assert!(!Scope::of::<Node>().contains(&pod));
        assert!(Scope::object(&pod).contains(&pod));
        assert!(!Scope::object(&pod).contains(&Key::of::<Pod>("default", "ab")));
        assert!(Scope::all().contains(&pod));
    }
}
