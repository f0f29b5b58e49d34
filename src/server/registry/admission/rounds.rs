//! Whether mutating admission must be gone through again: when a hook or policy changed the object, everything that ran before it is given
//! a second look, once.
//!
//! Words: a *round* is one pass over all mutating steps; the second has only those hooks in it that ask for it (`reinvocationPolicy:
//! IfNeeded`) and ran before a change.
//!
//! Follows upstream's `admission/reinvocation.go` and `plugin/webhook/mutating/reinvocationcontext.go`. There are never more than two.

use std::collections::BTreeSet;

use crate::api::Object;

/// What one write's mutating admission remembers between its rounds.
#[derive(Default)]
pub(in crate::server::registry) struct Rounds {
    second: bool,
    /// Something changed, so that a second round is due.
    again: bool,
    /// Hooks that were asked and would like to be asked again after a change.
    willing: BTreeSet<String>,
    /// Of them, those after which something changed.
    due: BTreeSet<String>,
    /// The object as the hooks of the first round left it.
    left: Option<Vec<u8>>,
}

impl Rounds {
    /// 0, then 1.
    pub(super) fn number(&self) -> u8 {
        u8::from(self.second)
    }

    /// Whether there has to be another round; starts it.
    pub(super) fn next(&mut self) -> bool {
        let next = self.again && !self.second;
        self.second |= next;
        next
    }

    /// The hooks are about to be asked about `object`. In the second round, a change by other steps since the first makes all willing
    /// hooks due.
    pub(super) fn enter(&mut self, object: &dyn Object) {
        if self.second && self.left.as_ref().is_some_and(|left| *left != object.to_json()) {
            self.make_due();
        }
    }

    /// The hooks have been asked.
    pub(super) fn leave(&mut self, object: &dyn Object) {
        if self.again {
            self.left = Some(object.to_json());
        }
    }

    /// Whether this hook is asked in this round.
    pub(super) fn is_due(&self, hook: &str) -> bool {
        !self.second || self.due.contains(hook)
    }

    /// A hook or policy changed the object.
    pub(super) fn changed(&mut self) {
        self.make_due();
        self.again = true;
    }

    /// This hook was asked, and would like to be asked again after a change.
    pub(super) fn invoked(&mut self, hook: &str) {
        self.willing.insert(hook.into());
    }

    fn make_due(&mut self) {
        self.due.append(&mut self.willing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[test]
    fn hooks_before_a_change_are_asked_again_once() {
        let object = ConfigMap::default();
        let mut rounds = Rounds::default();
        rounds.enter(&object);
        rounds.invoked("a");
        rounds.changed();
        rounds.invoked("b");
        rounds.leave(&object);
        assert!(rounds.next());
        rounds.enter(&object);
        assert!(rounds.is_due("a") && !rounds.is_due("b") && !rounds.is_due("c"));
        rounds.changed();
        assert!(!rounds.next(), "there are two rounds at most");
    }

    #[test]
    fn other_steps_change_things_too() {
        let mut object = ConfigMap::default();
        let mut rounds = Rounds::default();
        rounds.enter(&object);
        rounds.changed();
        rounds.invoked("b");
        rounds.leave(&object);
        assert!(rounds.next());
        object.immutable = Some(true);
        rounds.enter(&object);
        assert!(rounds.is_due("b"));
    }

    #[test]
    fn without_a_change_there_is_one_round() {
        let mut rounds = Rounds::default();
        rounds.invoked("a");
        assert!(!rounds.next());
    }
}
