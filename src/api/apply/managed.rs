//! `metadata.managedFields`: who owns what, read and written.
//!
//! Words: a *claim* is one entry. Claims are of one manager when name, operation and subresource agree and, for updates, the version
//! too: an applier has one set whatever version it applies in.
//!
//! Follows apimachinery `pkg/util/managedfields/internal/managedfields.go` and `capmanagers.go`.

use std::cmp::Ordering;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};

use crate::api::fields::FieldSet;

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Anything else.
    Update,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Its name.
    pub manager: String,
    /// How it wrote.
    pub operation: Operation,
    /// `apps/v1`: the version that its fields are of.
    pub version: String,
    /// Empty: the object itself.
    pub subresource: String,
    /// When its set or one of its values changed last.
    pub time: Option<Time>,
    /// What it owns.
    pub fields: FieldSet,
}

/// Who owns what of an object: at most one claim of a manager, none without fields.
pub type Claims = Vec<Claim>;

/// Updates tracked one by one; the oldest beyond that are put together.
const MAX_UPDATERS: usize = 10;
/// The manager of what was put together.
const ANCIENT: &str = "ancient-changes";

impl Claim {
    /// Whether both are of the same manager.
    pub fn same_manager(&self, other: &Claim) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.version == other.version)
    }

    fn seconds(&self) -> i64 {
        self.time.as_ref().map_or(0, |time| time.0.as_second())
    }

    /// Upstream's order of managers, which is that of their encoded names.
    pub(super) fn order(&self, other: &Claim) -> Ordering {
        let version = |claim: &Claim| if claim.operation == Operation::Apply { String::new() } else { claim.version.clone() };
        let name = |claim: &Claim| (claim.manager.clone(), claim.operation, version(claim), claim.subresource.clone());
        name(self).cmp(&name(other))
    }
}

/// The manager as messages about conflicts name it.
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update {
            write!(f, " using {}", self.version)?;
        }
        Ok(())
    }
}

/// Where a list of entries came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The store: the sets are in the form that this crate writes.
    Stored,
    /// A client.
    Client,
}

/// Reads entries.
///
/// # Errors
/// What is wrong with them, in upstream's words.
pub fn read(entries: Vec<ManagedFieldsEntry>, source: Source) -> Result<Claims, String> {
    let mut claims: Claims = Vec::with_capacity(entries.len());
    for (place, entry) in entries.into_iter().enumerate() {
        let operation = match entry.operation.as_deref() {
            Some("Apply") => Operation::Apply,
            Some("Update") => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        let version = entry.api_version.filter(|version| !version.is_empty()).ok_or("apiVersion must not be empty")?;
        match entry.fields_type.as_deref() {
            Some("FieldsV1") => {}
            None | Some("") => return Err(format!("missing fieldsType in managed fields entry {place}")),
            Some(other) => return Err(format!("invalid fieldsType {other:?} in managed fields entry {place}")),
        }
        let fields = match (entry.fields_v1, source) {
            (Some(FieldsV1(value)), Source::Stored) => FieldSet::stored(value),
            (Some(FieldsV1(value)), Source::Client) => {
                FieldSet::read(&value).map_err(|why| format!("error decoding versioned set from entry {place}: {why}"))?
            }
            (None, _) => FieldSet::default(),
        };
        let claim = Claim {
            manager: entry.manager.unwrap_or_default(),
            operation,
            version,
            subresource: entry.subresource.unwrap_or_default(),
            time: entry.time,
            fields,
        };
        match claims.iter_mut().find(|known| known.same_manager(&claim)) {
            Some(known) => *known = claim,
            None => claims.push(claim),
        }
    }
    Ok(claims)
}

/// Writes claims, in upstream's order. `None` when there are none.
pub fn write(mut claims: Claims) -> Option<Vec<ManagedFieldsEntry>> {
    if claims.is_empty() {
        return None;
    }
    claims.sort_by(|a, b| {
        let by = |claim: &Claim| (claim.operation, claim.seconds());
        let names = || (&a.manager, &a.version, &a.subresource).cmp(&(&b.manager, &b.version, &b.subresource));
        by(a).cmp(&by(b)).then_with(names)
    });
    let some = |text: String| (!text.is_empty()).then_some(text);
    let entry = |claim: Claim| ManagedFieldsEntry {
        api_version: Some(claim.version),
        fields_type: Some("FieldsV1".into()),
        fields_v1: Some(FieldsV1(claim.fields.into_value())),
        manager: some(claim.manager),
        operation: Some(if claim.operation == Operation::Apply { "Apply" } else { "Update" }.into()),
        subresource: some(claim.subresource),
        time: claim.time,
    };
    Some(claims.into_iter().map(entry).collect())
}

/// Whether a client asks by its entries that ownership be forgotten: an empty list, or one empty entry.
pub fn is_reset(entries: &[ManagedFieldsEntry]) -> bool {
    match entries {
        [] => true,
        [one] => *one == ManagedFieldsEntry::default(),
        _ => false,
    }
}

/// Puts the oldest updaters together, by version, until no more than ten are left.
pub fn cap(claims: &mut Claims) {
    let updaters = |claims: &Claims| claims.iter().filter(|claim| claim.operation == Operation::Update).count();
    let mut count = updaters(claims);
    if count <= MAX_UPDATERS {
        return;
    }
    let (mut updates, others): (Claims, Claims) = std::mem::take(claims).into_iter().partition(|c| c.operation == Operation::Update);
    updates.sort_by(|a, b| a.seconds().cmp(&b.seconds()).then_with(|| a.order(b)));
    // The first of each version becomes the bucket when a second one comes.
    let mut first: Vec<usize> = Vec::new();
    let mut place = 0;
    while place < updates.len() && count > MAX_UPDATERS {
        let Some(bucket) = first.iter().copied().find(|first| updates[*first].version == updates[place].version) else {
            first.push(place);
            place += 1;
            continue;
        };
        let merged = updates.remove(place);
        let bucket = &mut updates[bucket];
        bucket.manager = ANCIENT.into();
        bucket.subresource.clear();
        bucket.fields.add(&merged.fields);
        // That of the younger one.
        bucket.time = merged.time;
        count -= 1;
    }
    *claims = others;
    for update in updates {
        // A bucket of an earlier time may be there still.
        match claims.iter_mut().find(|known| known.same_manager(&update)) {
            Some(known) => {
                known.fields.add(&update.fields);
                known.time = known.time.take().max(update.time);
            }
            None => claims.push(update),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(manager: &str, version: &str, second: i64, field: &str) -> Claim {
        Claim {
            manager: manager.into(),
            operation: Operation::Update,
            version: version.into(),
            subresource: String::new(),
            time: Some(Time(jiff::Timestamp::from_second(second).unwrap())),
            fields: FieldSet::of_path(&[field]),
        }
    }

    fn shown(claims: Claims) -> Vec<String> {
        let one = |entry: ManagedFieldsEntry| {
            let fields = serde_json::to_string(&entry.fields_v1.unwrap().0).unwrap();
            format!("{} {} {fields}", entry.manager.unwrap_or_default(), entry.api_version.unwrap_or_default())
        };
        write(claims).unwrap_or_default().into_iter().map(one).collect()
    }

    #[test]
    fn the_oldest_updaters_are_put_together() {
        let mut ten: Claims = (0..10).map(|i| claim(&format!("m{i}"), "v1", i, "a")).collect();
        let before = ten.clone();
        cap(&mut ten);
        assert_eq!(ten, before);
        ten.push(claim("m10", "v1", 20, "c"));
        ten[1].fields = FieldSet::of_path(&["b"]);
        cap(&mut ten);
        assert_eq!(ten.len(), 10);
        assert_eq!(shown(ten.clone())[0], r#"ancient-changes v1 {"f:a":{},"f:b":{}}"#);
        // The next one falls into the same bucket.
        ten.push(claim("m11", "v1", 21, "c"));
        cap(&mut ten);
        assert_eq!((ten.len(), ten.iter().filter(|c| c.manager == ANCIENT).count()), (10, 1));
        // Another version has a bucket of its own, and a lone one of its version stays.
        let mut mixed: Claims = (0..11).map(|i| claim(&format!("m{i}"), if i == 0 { "v2" } else { "v1" }, i, "a")).collect();
        cap(&mut mixed);
        let names: Vec<_> = mixed.iter().map(|c| c.manager.as_str()).collect();
        assert!(names.contains(&"m0") && names.contains(&ANCIENT) && names.len() == 10, "{names:?}");
    }

    #[test]
    fn entries_are_read() {
        let read = |yaml: &str| read(serde_yaml::from_str(yaml).unwrap(), Source::Client).map(shown);
        let good = "[{manager: m, operation: Update, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {f:a: {}}}]";
        assert_eq!(read(good), Ok(vec![r#"m v1 {"f:a":{}}"#.into()]));
        for (bad, why) in [
            ("[{operation: Replace}]", "operation must be `Apply` or `Update`"),
            ("[{operation: Apply}]", "apiVersion must not be empty"),
            ("[{operation: Apply, apiVersion: v1}]", "missing fieldsType in managed fields entry 0"),
            ("[{operation: Apply, apiVersion: v1, fieldsType: V2}]", "invalid fieldsType \"V2\" in managed fields entry 0"),
        ] {
            assert_eq!(read(bad), Err(why.into()), "{bad}");
        }
        assert!(read("[{operation: Apply, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {a: {}}}]").is_err());
        assert!(is_reset(&[]) && is_reset(&[ManagedFieldsEntry::default()]));
    }

    #[test]
    fn entries_are_ordered() {
        let mut applied = claim("z", "v1", 9, "a");
        applied.operation = Operation::Apply;
        let order = shown(vec![claim("b", "v1", 2, "a"), claim("c", "v1", 1, "a"), claim("a", "v1", 2, "a"), applied]);
        let names: Vec<_> = order.iter().map(|text| text.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["z", "c", "a", "b"]);
    }
}
