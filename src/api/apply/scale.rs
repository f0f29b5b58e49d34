//! Who owns the replicas: the claims on an object as they look from its `/scale`, and back.
//!
//! Follows apimachinery `pkg/util/managedfields/scalehandler.go`. One thing differs: upstream tells updaters apart by the version of
//! the entry, which is another one in the Scale, so that their entries come back twice; here they are found again.

use super::managed::{Claim, Claims};
use crate::api::fields::FieldSet;

/// The version of a Scale.
pub const VERSION: &str = "autoscaling/v1";
const PATH: &[&str] = &["spec", "replicas"];

/// Where a version of the object keeps its replicas; `None` for a version that is not served.
pub type Paths<'a> = &'a dyn Fn(&str) -> Option<&'a [&'a str]>;

/// The claims on the replicas, as claims on a Scale.
pub fn to_scale(parent: &Claims, path: Paths<'_>) -> Claims {
    let own = |claim: &&Claim| path(&claim.version).is_some_and(|path| claim.fields.has(path));
    let scaled = |claim: &Claim| Claim { version: VERSION.into(), fields: FieldSet::of_path(PATH), ..claim.clone() };
    parent.iter().filter(own).map(scaled).collect()
}

/// The claims on the object after its Scale was written, in the object's `version`.
pub fn to_parent(parent: Claims, mut scale: Claims, version: &str, path: Paths<'_>) -> Claims {
    let mut claims = Claims::new();
    for mut claim in parent {
        let Some(own) = path(&claim.version) else { continue };
        if claim.fields.has(own) {
            let found = scale.iter().position(|other| {
                other.manager == claim.manager && other.operation == claim.operation && other.subresource == claim.subresource
            });
            match found {
                Some(place) => {
                    let kept = scale.remove(place);
                    claim.time = kept.time;
                }
                None => claim.fields.remove(&FieldSet::of_path(own)),
            }
        }
        if !claim.fields.is_empty() {
            claims.push(claim);
        }
    }
    let Some(own) = path(version) else { return claims };
    for claim in scale.into_iter().filter(|claim| claim.fields.has(PATH)) {
        let moved = Claim { version: version.into(), fields: FieldSet::of_path(own), ..claim };
        match claims.iter_mut().find(|known| known.same_manager(&moved)) {
            Some(known) => {
                known.fields.add(&moved.fields);
                known.time = moved.time;
            }
            None => claims.push(moved),
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::apply::Operation;

    fn claim(manager: &str, operation: Operation, fields: &[&[&str]]) -> Claim {
        let mut set = FieldSet::default();
        fields.iter().for_each(|path| set.add(&FieldSet::of_path(path)));
        Claim { manager: manager.into(), operation, version: "apps/v1".into(), subresource: String::new(), time: None, fields: set }
    }

    #[test]
    fn replicas_change_hands() {
        let path = |version: &str| (version == "apps/v1").then_some(PATH);
        let parent = vec![
            claim("applier", Operation::Apply, &[PATH, &["spec", "selector"]]),
            claim("updater", Operation::Update, &[PATH]),
            claim("other", Operation::Update, &[&["spec", "paused"]]),
        ];
        let scale = to_scale(&parent, &path);
        assert_eq!(
            scale.iter().map(|c| (c.manager.as_str(), c.version.as_str())).collect::<Vec<_>>(),
            [("applier", VERSION), ("updater", VERSION)]
        );
        // Nothing happened.
        assert_eq!(to_parent(parent.clone(), scale, "apps/v1", &path), parent);
        // An autoscaler took them.
        let mut taken = claim("hpa", Operation::Update, &[PATH]);
        taken.version = VERSION.into();
        taken.subresource = "scale".into();
        let after = to_parent(parent, vec![taken], "apps/v1", &path);
        let shown: Vec<_> = after.iter().map(|c| (c.manager.as_str(), c.version.as_str(), c.fields.has(PATH))).collect();
        assert_eq!(shown, [("applier", "apps/v1", false), ("other", "apps/v1", false), ("hpa", "apps/v1", true)]);
    }
}
