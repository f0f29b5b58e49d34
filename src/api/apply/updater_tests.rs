//! The rules of ownership as histories: steps by managers, and what is there afterwards. After structured-merge-diff's `merge` tests.

use super::*;
use crate::api::apply::compile::custom;
use crate::api::fields::show_path;

/// Two versions of one type; in `v2` the field `s` is called `t`.
struct Two {
    v1: Schema,
    v2: Schema,
}

impl Two {
    fn new() -> Two {
        let schema = |text: &str| {
            custom(
                &serde_yaml::from_str(&format!(
                    "
type: object
properties:
  {text}: {{type: string}}
  n: {{type: integer}}
  struct: {{type: object, properties: {{a: {{type: integer}}, b: {{type: integer}}}}}}
  list: {{type: array, items: {{type: string}}}}
  set: {{type: array, x-kubernetes-list-type: set, items: {{type: string}}}}
  keyed:
    type: array
    x-kubernetes-list-type: map
    x-kubernetes-list-map-keys: [name]
    items: {{type: object, properties: {{name: {{type: string}}, v: {{type: integer}}, w: {{type: integer}}}}}}
  status: {{type: object, properties: {{x: {{type: integer}}}}}}
"
                ))
                .unwrap(),
            )
        };
        Two { v1: schema("s"), v2: schema("t") }
    }
}

impl Versions for Two {
    fn schema(&self, version: &str) -> Option<&Schema> {
        match version {
            "v1" => Some(&self.v1),
            "v2" => Some(&self.v2),
            _ => None,
        }
    }
    fn convert(&self, value: &Value, from: &str, _: &str) -> Result<Value, String> {
        let (old, new) = if from == "v1" { ("s", "t") } else { ("t", "s") };
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut()
            && let Some(text) = map.remove(old)
        {
            map.insert(new.into(), text);
        }
        Ok(value)
    }
    fn filter(&self, _: &str) -> Filter {
        Filter::Except(&[&["status"]])
    }
}

struct State {
    two: Two,
    live: Value,
    claims: Claims,
}

fn own(manager: &str, operation: Operation, version: &str) -> Claim {
    let (manager, version) = (manager.to_owned(), version.to_owned());
    Claim { manager, operation, version, subresource: String::new(), time: None, fields: FieldSet::default() }
}

impl State {
    /// The stored object is one of `v1`.
    fn step(&mut self, manager: &str, version: &str, verb: &str, object: &str) -> Result<(), String> {
        let given: Value = serde_yaml::from_str(object).unwrap();
        let live = if version == "v1" { self.live.clone() } else { self.two.convert(&self.live, "v1", version).unwrap() };
        let mut claims = self.claims.clone();
        let new = if verb == "update" {
            let taken = update(&live, &given, version, &mut claims, &self.two)?;
            let mut claim = own(manager, Operation::Update, version);
            match claims.iter_mut().find(|known| known.same_manager(&claim)) {
                Some(known) => known.fields.add(&taken),
                None if taken.is_empty() => {}
                None => {
                    claim.fields = taken;
                    claims.push(claim);
                }
            }
            given
        } else {
            let claim = own(manager, Operation::Apply, version);
            match apply(&live, &given, &mut claims, claim, verb == "force", &self.two) {
                Ok(merged) => merged,
                Err(Refused::Failed(why)) => return Err(why),
                Err(Refused::Conflicts(conflicts)) => {
                    let shown: Vec<_> = conflicts.iter().map(|c| format!("{} {}", c.owner.manager, show_path(&c.path))).collect();
                    return Err(shown.join(", "));
                }
            }
        };
        self.live = if version == "v1" { new } else { self.two.convert(&new, version, "v1").unwrap() };
        self.claims = claims;
        Ok(())
    }
}

/// Steps, then the live object, then owners with their fields.
fn history(steps: &[(&str, &str, &str, &str, &str)], live: &str, owners: &[(&str, &str)]) {
    let mut state = State { two: Two::new(), live: serde_json::json!({}), claims: Claims::new() };
    for (manager, version, verb, object, refused) in steps {
        let done = state.step(manager, version, verb, object);
        assert_eq!(done.err().unwrap_or_default(), *refused, "{manager} {verb} {object}, of {steps:?}");
    }
    let mut got: Vec<_> = state.claims.iter().map(|claim| (claim.manager.as_str(), claim.fields.clone().into_value())).collect();
    got.sort_by(|a, b| a.0.cmp(b.0));
    let want: Vec<(&str, Value)> = owners.iter().map(|(name, fields)| (*name, serde_yaml::from_str(fields).unwrap())).collect();
    assert_eq!(got, want, "after {steps:?}");
    let mut live: Value = serde_yaml::from_str(live).unwrap();
    let mut there = state.live;
    for value in [&mut live, &mut there] {
        if let Some(map) = value.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
    }
    let there = if there.is_null() { serde_json::json!({}) } else { there };
    assert_eq!(there, live, "after {steps:?}");
}

#[test]
fn fields_change_hands() {
    history(&[("a", "v1", "apply", "{n: 1}", ""), ("b", "v1", "update", "{n: 2}", "")], "{n: 2}", &[("b", "{f:n: {}}")]);
    history(
        &[("a", "v1", "apply", "{n: 1}", ""), ("b", "v1", "apply", "{n: 2}", "a .n"), ("b", "v1", "force", "{n: 2}", "")],
        "{n: 2}",
        &[("b", "{f:n: {}}")],
    );
    history(
        &[("a", "v1", "apply", "{n: 1, s: x}", ""), ("b", "v1", "apply", "{n: 1}", ""), ("a", "v1", "apply", "{s: x}", "")],
        "{n: 1, s: x}",
        &[("a", "{f:s: {}}"), ("b", "{f:n: {}}")],
    );
    // The last one to let go takes it along.
    history(
        &[
            ("a", "v1", "apply", "{n: 1, s: x}", ""),
            ("b", "v1", "apply", "{n: 1}", ""),
            ("a", "v1", "apply", "{s: x}", ""),
            ("b", "v1", "apply", "{}", ""),
        ],
        "{s: x}",
        &[("a", "{f:s: {}}")],
    );
    // An updater owns what it changed, so the applier that lets go does not remove it.
    history(
        &[
            ("a", "v1", "apply", "{n: 1, struct: {a: 1}}", ""),
            ("b", "v1", "update", "{n: 1, struct: {a: 2}}", ""),
            ("a", "v1", "apply", "{n: 1}", ""),
        ],
        "{n: 1, struct: {a: 2}}",
        &[("a", "{f:n: {}}"), ("b", "{f:struct: {f:a: {}}}")],
    );
    // What nobody owns stays.
    history(
        &[
            ("b", "v1", "update", "{n: 1, s: x}", ""),
            ("b", "v1", "update", "{n: 1}", ""),
            ("a", "v1", "apply", "{struct: {a: 1}}", ""),
            ("a", "v1", "apply", "{}", ""),
        ],
        "{n: 1}",
        &[("b", "{f:n: {}}")],
    );
}

#[test]
fn items_change_hands() {
    let a = r#"'k:{"name":"a"}'"#;
    history(
        &[
            ("a", "v1", "apply", "{keyed: [{name: a, v: 1}]}", ""),
            ("b", "v1", "apply", "{keyed: [{name: b, v: 1}]}", ""),
            ("a", "v1", "apply", "{keyed: []}", ""),
        ],
        "{keyed: [{name: b, v: 1}]}",
        &[("b", r#"{f:keyed: {'k:{"name":"b"}': {'.': {}, f:name: {}, f:v: {}}}}"#)],
    );
    // An item that two appliers share loses only what one of them had alone.
    history(
        &[
            ("a", "v1", "apply", "{keyed: [{name: a, v: 1}]}", ""),
            ("b", "v1", "apply", "{keyed: [{name: a, w: 1}]}", ""),
            ("a", "v1", "apply", "{}", ""),
        ],
        "{keyed: [{name: a, w: 1}]}",
        &[("b", &format!("{{f:keyed: {{{a}: {{'.': {{}}, f:name: {{}}, f:w: {{}}}}}}}}"))],
    );
    // The item goes with its last owner, and what an updater put into it goes along.
    history(
        &[
            ("a", "v1", "apply", "{keyed: [{name: a, v: 1}]}", ""),
            ("b", "v1", "update", "{keyed: [{name: a, v: 1, w: 2}]}", ""),
            ("a", "v1", "apply", "{n: 1}", ""),
        ],
        "{n: 1}",
        &[("a", "{f:n: {}}")],
    );
    history(
        &[("a", "v1", "apply", "{set: [a, b]}", ""), ("b", "v1", "apply", "{set: [b, c]}", ""), ("a", "v1", "apply", "{set: []}", "")],
        "{set: [b, c]}",
        &[("b", r#"{f:set: {'v:"b"': {}, 'v:"c"': {}}}"#)],
    );
    history(
        &[
            ("a", "v1", "apply", "{list: [a]}", ""),
            ("b", "v1", "apply", "{list: [a, b]}", "a .list"),
            ("b", "v1", "apply", "{list: [a]}", ""),
        ],
        "{list: [a]}",
        &[("a", "{f:list: {}}"), ("b", "{f:list: {}}")],
    );
}

#[test]
fn versions_change() {
    // Owned in one version, taken in the other.
    history(
        &[("a", "v1", "apply", "{s: x}", ""), ("b", "v2", "apply", "{t: y}", "a .s"), ("b", "v2", "force", "{t: y}", "")],
        "{s: y}",
        &[("b", "{f:t: {}}")],
    );
    // An applier that changes the version has one set still, and what it leaves out goes.
    history(&[("a", "v1", "apply", "{s: x, n: 1}", ""), ("a", "v2", "apply", "{t: x}", "")], "{s: x}", &[("a", "{f:t: {}}")]);
    history(
        &[("a", "v1", "apply", "{s: x, n: 1}", ""), ("b", "v2", "update", "{t: z, n: 1}", "")],
        "{s: z, n: 1}",
        &[("a", "{f:n: {}}"), ("b", "{f:t: {}}")],
    );
    // Claims of a version that is gone are forgotten by the next change.
    let mut state = State { two: Two::new(), live: serde_json::json!({"n": 1}), claims: vec![own("old", Operation::Update, "v0")] };
    state.claims[0].fields = FieldSet::of_path(&["n"]);
    state.step("a", "v1", "apply", "{n: 2}").unwrap();
    assert_eq!(state.claims.iter().map(|c| c.manager.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn fields_that_a_write_does_not_change_are_not_owned() {
    history(&[("a", "v1", "update", "{n: 1, status: {x: 1}}", "")], "{n: 1, status: {x: 1}}", &[("a", "{f:n: {}}")]);
    history(&[("a", "v1", "apply", "{n: 1, status: {x: 1}}", "")], "{n: 1, status: {x: 1}}", &[("a", "{f:n: {}}")]);
}
