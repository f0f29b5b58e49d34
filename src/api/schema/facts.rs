//! The table of facts, one file per family of groups, one row per type, and the words that the rows are written in.
//!
//! Taken from the tags in upstream's `staging/src/k8s.io/api/*/*/types.go`, `apimachinery/pkg/apis/meta/v1/types.go`,
//! `apiextensions-apiserver/pkg/apis/apiextensions/v1/types.go` and `kube-aggregator`. A test holds fields and edges against the schemas.

mod core;
mod machinery;
mod other;
mod resource;
mod workloads;

use super::{Field, ListType, PatchStrategy, Target, Type};

/// All rows.
pub(super) const TABLES: &[&[Type]] = &[core::TYPES, workloads::TYPES, resource::TYPES, other::TYPES, machinery::TYPES];

const fn ty(name: &'static str, fields: &'static [Field]) -> Type {
    Type { name, atomic: false, fields }
}

/// A type that apply replaces as a whole.
const fn atomic_type(name: &'static str, fields: &'static [Field]) -> Type {
    Type { name, atomic: true, fields }
}

const fn field(name: &'static str, target: Target) -> Field {
    let patch = PatchStrategy { merge: false, retain_keys: false, replace: false, key: "" };
    Field { name, target, list: ListType::Atomic, atomic: None, patch }
}

const fn leaf(name: &'static str) -> Field {
    field(name, Target::Leaf)
}

const fn one(name: &'static str, target: &'static str) -> Field {
    field(name, Target::One(target))
}

const fn items(name: &'static str, target: &'static str) -> Field {
    field(name, Target::Items(target))
}

const fn values(name: &'static str, target: &'static str) -> Field {
    field(name, Target::Values(target))
}

impl Field {
    /// `+listType=set`
    const fn set(mut self) -> Field {
        self.list = ListType::Set;
        self
    }

    /// `+listType=map` with these `+listMapKey`s
    const fn keys(mut self, keys: &'static [&'static str]) -> Field {
        self.list = ListType::Map(keys);
        self
    }

    /// `+mapType=atomic`
    const fn atomic(mut self) -> Field {
        self.atomic = Some(true);
        self
    }

    /// `+structType=granular`, overriding an atomic type
    const fn granular(mut self) -> Field {
        self.atomic = Some(false);
        self
    }

    /// `patchStrategy=merge` with this `patchMergeKey`
    const fn merge(mut self, key: &'static str) -> Field {
        self.patch.merge = true;
        self.patch.key = key;
        self
    }

    /// `patchStrategy=retainKeys`
    const fn retain_keys(mut self) -> Field {
        self.patch.retain_keys = true;
        self
    }

    /// `patchStrategy=replace`
    const fn replace(mut self) -> Field {
        self.patch.replace = true;
        self
    }
}
