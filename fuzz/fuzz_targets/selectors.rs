//! Selectors of labels and of fields: the canonical text reads back as the same selector, and selects the same.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use libfuzzer_sys::fuzz_target;
use orch::api::selector::{FieldSelector, LabelRequirement, LabelSelector, Operator};
use orch_fuzz::seeds;

const SEEDS: &[&str] = &[
    "",
    "a",
    "!a",
    "a=b",
    "a==b",
    "a!=b",
    "a in (b,c)",
    "a notin (b, c,)",
    "a>1",
    "a<-7",
    "a in ()",
    "x.y/z=1,!q,r notin(s)",
    " a , b = c ",
    "in=in",
    "in in (in)",
    "notin notin (notin)",
    "a=,b!=",
    "metadata.name=x,metadata.namespace!=y",
    r"a=b\,c\=d\\e",
    "a==b,c=",
    "status.phase!=Running",
    r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"a","operator":"In","values":["x","y"]},{"key":"b","operator":"DoesNotExist"}]}"#,
];

fn labels() -> Vec<BTreeMap<String, String>> {
    let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    vec![of(&[]), of(&[("a", "b")]), of(&[("a", "2"), ("b", "")]), of(&[("x.y/z", "1"), ("in", "in")]), of(&[("a", "-9"), ("notin", "c")])]
}

fn same(selector: &LabelSelector, text: &str) {
    // Upstream writes the set of one empty value as it writes the empty set, which it does not read.
    let is_empty_value = |one: &LabelRequirement| matches!(one.operator(), Operator::In | Operator::NotIn) && one.values().eq([""]);
    if selector.requirements().any(is_empty_value) {
        return;
    }
    let canonical = selector.to_string();
    let back = LabelSelector::parse(&canonical).unwrap_or_else(|error| panic!("{text:?} is {canonical:?}: {error}"));
    assert_eq!(back.to_string(), canonical, "{text:?}");
    for labels in labels() {
        assert_eq!(selector.matches(Some(&labels)), back.matches(Some(&labels)), "{text:?} and {canonical:?} of {labels:?}");
    }
    assert_eq!(selector.matches(None), back.matches(None), "{text:?}");
}

fuzz_target!(init: seeds::plant(
    || SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect(),
    || seeds::words(&["in", "notin", "==", "!=", "=", "(", ")", ",", "!", ">", "<", "\\", "matchLabels", "matchExpressions", "operator", "NotIn", "Exists", "values"]),
), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(selector) = LabelSelector::parse(text) {
        same(&selector, text);
    }
    if let Ok(api) = serde_json::from_str::<ApiSelector>(text)
        && let Ok(selector) = LabelSelector::from_api(Some(&api))
    {
        same(&selector, text);
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let canonical = selector.to_string();
        let back = FieldSelector::parse(&canonical).unwrap_or_else(|error| panic!("{text:?} is {canonical:?}: {error}"));
        // They are in the order of their texts, and an operator has two.
        let all = |selector: &FieldSelector| -> BTreeSet<String> { selector.requirements().map(|one| format!("{one:?}")).collect() };
        assert_eq!(all(&back), all(&selector), "{text:?} and {canonical:?}");
    }
});
