//! The rules of ownership: what a write does to the claims of all managers.
//!
//! - What a write changes or adds is owned by its manager; who owned it before loses it, or, if the write is an unforced apply, it is
//!   refused as a conflict.
//! - What a write removes is owned by nobody.
//! - An applier owns exactly what its configuration states. What it stated last time and no longer does is removed, unless another
//!   manager owns it too.
//! - Whoever states the same value as another shares the ownership.
//!
//! Follows structured-merge-diff's `merge/update.go` and `merge/conflict.go`.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::managed::{Claim, Claims, Operation};
use super::schema::Schema;
use super::walk::{self, Changes, Fault};
use crate::api::fields::{Element, FieldSet};

/// The versions of a kind.
pub trait Versions {
    /// The schema of a version; `None` when it is not served (any more).
    fn schema(&self, version: &str) -> Option<&Schema>;
    /// A value of one version in another, which is served.
    ///
    /// # Errors
    /// Why it can't be converted.
    fn convert(&self, value: &Value, from: &str, to: &str) -> Result<Value, String>;
    /// Which fields a write does not change, by the version it is made in (upstream's `GetResetFields`).
    fn filter(&self, version: &str) -> Filter;
}

/// Which fields a write of some subresource may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All but these and what is below them.
    Except(&'static [&'static [&'static str]]),
    /// These and what is below them; `*` is any element.
    Only(&'static [&'static [&'static str]]),
}

impl Filter {
    fn apply(self, set: &mut FieldSet) {
        match self {
            Filter::Except(paths) => paths.iter().for_each(|path| set.remove_whole(&FieldSet::of_path(path))),
            Filter::Only(patterns) => *set = set.only(patterns),
        }
    }

    fn changes(self, mut changes: Changes) -> Changes {
        self.apply(&mut changes.removed);
        self.apply(&mut changes.modified);
        self.apply(&mut changes.added);
        changes
    }
}

/// A field that an applier wants and another manager owns.
#[derive(Clone, Debug)]
pub struct Conflict {
    /// The owner.
    pub owner: Claim,
    /// The field.
    pub path: Vec<Element>,
}

/// Why an apply is refused.
#[derive(Debug)]
pub enum Refused {
    /// Others own what it would change.
    Conflicts(Vec<Conflict>),
    /// Something can't be merged or converted.
    Failed(String),
}

impl From<String> for Refused {
    fn from(why: String) -> Refused {
        Refused::Failed(why)
    }
}

/// An object in one version.
struct Typed<'a> {
    value: Cow<'a, Value>,
    version: Cow<'a, str>,
}

impl<'a> Typed<'a> {
    fn new(value: &'a Value, version: &'a str) -> Typed<'a> {
        Typed { value: Cow::Borrowed(value), version: Cow::Borrowed(version) }
    }

    /// The object in another version; `None` when that is not served.
    fn to<'b>(&'b self, version: &str, versions: &'b dyn Versions) -> Result<Option<(Typed<'b>, &'b Schema)>, String> {
        let Some(schema) = versions.schema(version) else { return Ok(None) };
        if version == self.version {
            return Ok(Some((Typed { value: Cow::Borrowed(&*self.value), version: Cow::Borrowed(&*self.version) }, schema)));
        }
        let value = versions.convert(&self.value, &self.version, version)?;
        Ok(Some((Typed { value: Cow::Owned(value), version: Cow::Owned(version.to_owned()) }, schema)))
    }

    fn detach(self) -> Typed<'static> {
        Typed { value: Cow::Owned(self.value.into_owned()), version: Cow::Owned(self.version.into_owned()) }
    }
}

/// What a change that is no apply does to `claims`. Returns the fields that it takes, for its manager.
///
/// # Errors
/// Why the change can't be followed; `claims` are then of no use.
pub fn update(live: &Value, new: &Value, version: &str, claims: &mut Claims, versions: &dyn Versions) -> Result<FieldSet, String> {
    let schema = versions.schema(version).ok_or_else(|| format!("no corresponding type for {version}"))?;
    let changes = walk::compare(schema, live, new).map_err(|faults| format!("failed to compare objects: {}", Fault::list(&faults)))?;
    let changes = versions.filter(version).changes(changes);
    if changes.is_empty() && claims.iter().all(|claim| claim.version == version) {
        return Ok(FieldSet::default());
    }
    let (live, new) = (Typed::new(live, version), Typed::new(new, version));
    reconcile(&live, claims, versions)?;
    let conflicts = settle(&live, &new, &changes, claims, None, versions)?;
    give_up(claims, &conflicts);
    let mut taken = changes.modified;
    taken.add(&changes.added);
    Ok(taken)
}

/// Merges an applied configuration into `live` and settles who owns what. `applier` names the manager; its fields and version are set.
///
/// # Errors
/// The conflicts with other managers unless `force`; what can't be merged.
pub fn apply(
    live: &Value,
    config: &Value,
    claims: &mut Claims,
    applier: Claim,
    force: bool,
    versions: &dyn Versions,
) -> Result<Value, Refused> {
    let version = applier.version.clone();
    let schema = versions.schema(&version).ok_or_else(|| format!("no corresponding type for {version}"))?;
    let typed_live = Typed::new(live, &version);
    reconcile(&typed_live, claims, versions)?;
    let merged = walk::merge(schema, live, config).map_err(|faults| format!("failed to merge config: {}", Fault::list(&faults)))?;
    let filter = versions.filter(&version);
    let mut fields = walk::owned(schema, config);
    filter.apply(&mut fields);
    let place = claims.iter().position(|claim| claim.same_manager(&applier));
    let last = place.map(|place| claims.remove(place));
    let own = claims.len();
    claims.push(Claim { fields, operation: Operation::Apply, ..applier });
    let merged = Typed { value: Cow::Owned(merged), version: Cow::Borrowed(&version) };
    let pruned = match &last {
        Some(last) if !last.fields.is_empty() => prune(merged, claims, last, &version, versions)?,
        _ => merged,
    };
    let changes =
        walk::compare(schema, live, &pruned.value).map_err(|faults| format!("failed to compare objects: {}", Fault::list(&faults)))?;
    let changes = filter.changes(changes);
    let conflicts = settle(&typed_live, &pruned, &changes, claims, Some(own), versions)?;
    if !force && conflicts.iter().any(|losses| !losses.conflict.is_empty()) {
        return Err(Refused::Conflicts(list(claims, conflicts)));
    }
    give_up(claims, &conflicts);
    Ok(pruned.value.into_owned())
}

/// What a manager loses by a write.
struct Losses {
    claim: usize,
    conflict: FieldSet,
    removed: FieldSet,
}

/// What every manager but `own` loses. Claims of versions that are not served are dropped at once.
fn settle(
    live: &Typed<'_>,
    new: &Typed<'_>,
    changes: &Changes,
    claims: &mut Claims,
    own: Option<usize>,
    versions: &dyn Versions,
) -> Result<Vec<Losses>, String> {
    let mut in_version: HashMap<String, Changes> = HashMap::new();
    for claim in claims.iter().enumerate().filter(|(place, _)| Some(*place) != own).map(|(_, claim)| claim) {
        if claim.version == *live.version || in_version.contains_key(&claim.version) {
            continue;
        }
        let (Some((old, schema)), Some((new, _))) = (live.to(&claim.version, versions)?, new.to(&claim.version, versions)?) else {
            continue;
        };
        let found = walk::compare(schema, &old.value, &new.value)
            .map_err(|faults| format!("failed to compare objects: {}", Fault::list(&faults)))?;
        in_version.insert(claim.version.clone(), versions.filter(&claim.version).changes(found));
    }
    let mut losses = Vec::new();
    for (place, claim) in claims.iter_mut().enumerate().filter(|(place, _)| Some(*place) != own) {
        let changes = if claim.version == *live.version { Some(changes) } else { in_version.get(&claim.version) };
        let Some(changes) = changes else {
            claim.fields = FieldSet::default();
            continue;
        };
        let mut conflict = claim.fields.intersection(&changes.modified);
        conflict.add(&claim.fields.intersection(&changes.added));
        losses.push(Losses { claim: place, conflict, removed: claim.fields.intersection(&changes.removed) });
    }
    Ok(losses)
}

fn give_up(claims: &mut Claims, losses: &[Losses]) {
    for loss in losses {
        let fields = &mut claims[loss.claim].fields;
        fields.remove(&loss.conflict);
        fields.remove(&loss.removed);
    }
    claims.retain(|claim| !claim.fields.is_empty());
}

fn list(claims: &Claims, losses: Vec<Losses>) -> Vec<Conflict> {
    let mut losers: Vec<_> = losses.into_iter().filter(|loss| !loss.conflict.is_empty()).collect();
    losers.sort_by(|a, b| claims[a.claim].order(&claims[b.claim]));
    let each = |loss: Losses| {
        let owner = Claim { fields: FieldSet::default(), ..claims[loss.claim].clone() };
        loss.conflict.paths().into_iter().map(move |path| Conflict { owner: owner.clone(), path }).collect::<Vec<_>>()
    };
    losers.into_iter().flat_map(each).collect()
}

/// Brings claims in line with schemas that changed since they were made.
fn reconcile(live: &Typed<'_>, claims: &mut Claims, versions: &dyn Versions) -> Result<(), String> {
    for claim in claims.iter_mut() {
        if let Some((live, schema)) = live.to(&claim.version, versions)?
            && let Some(fields) = walk::reconcile(schema, &claim.fields, &live.value)
        {
            claim.fields = fields;
        }
    }
    Ok(())
}

/// Removes what the applier stated last time and no longer does, unless others own it.
fn prune<'a>(merged: Typed<'a>, claims: &Claims, last: &Claim, version: &str, versions: &dyn Versions) -> Result<Typed<'a>, String> {
    let Some((at_last, schema)) = merged.to(&last.version, versions)? else { return Ok(merged) };
    let at_last = at_last.detach();
    let pruned = walk::prune(schema, at_last.value.clone().into_owned(), &walk::name_structs(schema, &last.fields));
    let pruned = Typed { value: Cow::Owned(pruned), version: at_last.version.clone() };
    let pruned = add_back_owned(&at_last, pruned, claims, versions)?;
    let pruned = add_back_dangling(&at_last, &pruned, last, schema, versions)?;
    let Some((pruned, _)) = pruned.to(version, versions)? else { return Ok(merged) };
    Ok(pruned.detach())
}

/// Puts back what somebody owns, the applier's present configuration included. First by the claims of the version at hand, lest
/// the object lacks what its conversion needs.
fn add_back_owned<'a>(merged: &Typed<'a>, pruned: Typed<'a>, claims: &Claims, versions: &dyn Versions) -> Result<Typed<'a>, String> {
    let mut owned: Vec<(&str, FieldSet)> = Vec::new();
    for claim in claims {
        match owned.iter_mut().find(|(version, _)| *version == claim.version) {
            Some((_, fields)) => fields.add(&claim.fields),
            None => owned.push((&claim.version, claim.fields.clone())),
        }
    }
    owned.sort_by_key(|(version, _)| (*version != pruned.version, *version));
    let mut merged = Typed { value: merged.value.clone(), version: merged.version.clone() };
    let mut pruned = pruned;
    for (version, fields) in owned {
        let Some((next, schema)) = merged.to(version, versions)? else { continue };
        let next = next.detach();
        let Some((less, _)) = pruned.to(version, versions)? else { continue };
        let named = |value: &Value| walk::name_structs(schema, &walk::owned(schema, value));
        let mut gone = named(&next.value);
        gone.remove(&named(&less.value));
        gone.remove(&walk::name_structs(schema, &fields));
        let value = walk::prune(schema, next.value.clone().into_owned(), &gone);
        pruned = Typed { value: Cow::Owned(value), version: next.version.clone() };
        merged = next;
    }
    Ok(pruned)
}

/// Puts back what the applier did not own: only its own items go.
fn add_back_dangling<'a>(
    merged: &Typed<'a>,
    pruned: &Typed<'a>,
    last: &Claim,
    schema: &Schema,
    versions: &dyn Versions,
) -> Result<Typed<'a>, String> {
    let Some((pruned, _)) = pruned.to(&last.version, versions)? else {
        return Ok(Typed { value: merged.value.clone(), version: merged.version.clone() });
    };
    let named = |value: &Value| walk::name_structs(schema, &walk::owned(schema, value));
    let mut gone = named(&merged.value);
    gone.remove(&named(&pruned.value));
    let gone = gone.intersection(&walk::name_structs(schema, &last.fields));
    let value = walk::prune(schema, merged.value.clone().into_owned(), &gone);
    Ok(Typed { value: Cow::Owned(value), version: merged.version.clone() })
}

#[cfg(test)]
#[path = "updater_tests.rs"]
mod tests;
