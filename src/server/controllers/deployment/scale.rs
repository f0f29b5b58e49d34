//! How large each ReplicaSet should be. Pure arithmetic over the sizes of a [`Rollout`].
//!
//! Invariants, at every step: all sets together are told at most `replicas + maxSurge`, and no more available pods are taken away
//! than leave `replicas - maxUnavailable`. Follows `rolling.go` and `sync.go` of upstream's deployment controller.

use std::cmp::Reverse;

use super::revision::{self, DESIRED, MAX};
use super::{Rollout, Sized};

impl Rollout<'_> {
    fn total(&self) -> i32 {
        self.all().map(|sized| sized.size).sum()
    }

    /// Whether `spec.replicas` changed since an active set was last scaled.
    pub(super) fn is_scaling_event(&self) -> bool {
        self.all().any(|sized| self.is_resized(sized))
    }

    /// Lets the new set grow into the surge (or shrink to what is wanted). Whether it did.
    pub(super) fn grow_new(&mut self) -> bool {
        let (want, limit) = (self.replicas(), self.replicas() + self.fenceposts().0);
        let room = (limit - self.total()).max(0);
        let Some(new) = &mut self.new else { return false };
        let before = new.size;
        new.size = if before > want { want } else { before + room.min(want - before) };
        new.size != before
    }

    /// Takes pods from old sets: first those that are not available anyway, then as many as the new ones make up for.
    pub(super) fn shrink_old(&mut self) {
        let least = self.replicas() - self.fenceposts().1;
        let unavailable_new = self.new.as_ref().map_or(0, |new| (new.size - new.available()).max(0));
        let mut budget = self.total() - least - unavailable_new;
        for old in &mut self.old {
            let unhealthy = (old.size - old.available()).clamp(0, budget.max(0));
            old.size -= unhealthy;
            budget -= unhealthy;
        }
        // A set's status may lag behind its size; pods it is no longer to have do not count as available.
        let available: i32 = self.all().map(|sized| sized.available().min(sized.size)).sum();
        let mut spare = (available - least).min(budget);
        for old in &mut self.old {
            let take = old.size.min(spare.max(0));
            old.size -= take;
            spare -= take;
        }
    }

    /// Spreads a change of `spec.replicas` over the active sets in proportion to their sizes, so that a rollout in progress (or a
    /// paused one) keeps its ratio.
    pub(super) fn scale_proportionally(&mut self) {
        let want = self.replicas();
        let active = self.all().filter(|sized| sized.size > 0).count();
        if active <= 1 {
            let only = match active {
                1 => self.old.iter_mut().chain(&mut self.new).find(|sized| sized.size > 0),
                _ => self.new.as_mut().or(self.old.last_mut()),
            };
            if let Some(only) = only {
                only.size = want;
            }
            return;
        }
        if self.is_saturated() {
            self.old.iter_mut().for_each(|old| old.size = 0);
            return;
        }
        if self.is_recreate() {
            return;
        }
        let most = if want > 0 { want + self.fenceposts().0 } else { 0 };
        let change = most - self.total();
        let known = self.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        // The largest set goes first and takes the rounding; of equals the newer one grows and the older one shrinks.
        let mut sets: Vec<(usize, &mut Sized)> =
            self.old.iter_mut().chain(&mut self.new).filter(|sized| sized.size > 0).enumerate().collect();
        sets.sort_by_key(|(age, sized)| (Reverse(sized.size), if change > 0 { Reverse(*age) } else { Reverse(usize::MAX - age) }));
        let mut left = change;
        for (_, sized) in &mut sets {
            let share = fraction(sized, want, most, known);
            let share = if change > 0 { share.clamp(0, left.max(0)) } else { share.clamp(left.min(0), 0) };
            sized.size += share;
            left -= share;
        }
        if let Some((_, first)) = sets.first_mut() {
            first.size = (first.size + left).max(0);
        }
    }

    /// Whether the new set is all that is needed.
    fn is_saturated(&self) -> bool {
        let want = self.replicas();
        let noted = |sized: &Sized| revision::number(&sized.set.metadata, DESIRED) == i64::from(want);
        self.new.as_ref().is_some_and(|new| noted(new) && new.size == want && new.available() == want)
    }
}

/// By how much a set changes when the whole goes from the size noted on the set to `most`.
fn fraction(sized: &Sized, want: i32, most: i32, known: i32) -> i32 {
    if want == 0 {
        return -sized.size;
    }
    let noted = match revision::number(&sized.set.metadata, MAX) {
        0 => i64::from(known),
        noted => noted,
    };
    if noted <= 0 {
        return 0;
    }
    // Rounded to the nearest, as upstream.
    let product = i64::from(sized.size) * i64::from(most);
    let size = (2 * product + noted) / (2 * noted);
    i32::try_from(size).unwrap_or(i32::MAX) - sized.size
}
