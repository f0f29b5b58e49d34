//! How many clients watch an object: what a write costs after its end.
//!
//! Follows upstream's `util/flowcontrol/watch_tracker.go`: a watch is of one object, one namespace, or all of a resource.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::RwLock;

/// Counts watches. Keyed by the hash of what is watched, so that looking does not allocate; a collision makes a write look dearer.
#[derive(Default)]
pub struct Watchers {
    counts: RwLock<HashMap<u64, u32>>,
    hasher: RandomState,
}

/// One watch; it is over when this is dropped.
pub struct Watching {
    watchers: Arc<Watchers>,
    key: u64,
}

impl Watchers {
    fn key(&self, group: &str, resource: &str, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((group, resource, namespace, name))
    }

    /// A watch begins: of one name or all (empty), in one namespace or all (empty).
    pub fn begin(self: &Arc<Watchers>, group: &str, resource: &str, namespace: &str, name: &str) -> Watching {
        let key = self.key(group, resource, namespace, name);
        *self.counts.write().entry(key).or_default() += 1;
        Watching { watchers: self.clone(), key }
    }

    /// How many watches see a change of this object.
    pub fn count(&self, group: &str, resource: &str, namespace: &str, name: &str) -> u32 {
        let counts = self.counts.read();
        let of = |namespace: &str, name: &str| counts.get(&self.key(group, resource, namespace, name)).copied().unwrap_or(0);
        let mut sum = of("", "");
        if !namespace.is_empty() {
            sum += of(namespace, "");
        }
        if !name.is_empty() {
            sum += of(namespace, name);
            sum += if namespace.is_empty() { 0 } else { of("", name) };
        }
        sum
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut counts = self.watchers.counts.write();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_are_counted_where_they_look() {
        let watchers = Arc::new(Watchers::default());
        let all = watchers.begin("", "pods", "", "");
        let _namespace = watchers.begin("", "pods", "ns", "");
        let _one = watchers.begin("", "pods", "ns", "a");
        for (namespace, name, want) in [("ns", "a", 3), ("ns", "b", 2), ("other", "a", 1), ("ns", "", 2)] {
            assert_eq!(watchers.count("", "pods", namespace, name), want, "{namespace}/{name}");
        }
        assert_eq!(watchers.count("apps", "pods", "ns", "a"), 0);
        drop(all);
        assert_eq!(watchers.count("", "pods", "other", "a"), 0);
    }
}
