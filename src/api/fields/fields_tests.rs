//! Tables of set operations, after the examples of structured-merge-diff's documentation.

use super::*;

fn set(yaml: &str) -> FieldSet {
    FieldSet::read(&serde_yaml::from_str(yaml).unwrap()).unwrap()
}

#[test]
fn union_difference_intersection() {
    // a, b, union, a - b, a - b whole, both
    let table = [
        ("{f:a: {}}", "{f:b: {}}", "{f:a: {}, f:b: {}}", "{f:a: {}}", "{f:a: {}}", "{}"),
        ("{f:a: {f:b: {}}}", "{f:a: {}}", "{f:a: {'.': {}, f:b: {}}}", "{f:a: {f:b: {}}}", "{}", "{}"),
        ("{f:a: {}}", "{f:a: {f:b: {}}}", "{f:a: {'.': {}, f:b: {}}}", "{f:a: {}}", "{f:a: {}}", "{}"),
        (
            "{f:a: {'.': {}, f:b: {}}}",
            "{f:a: {'.': {}, f:c: {}}}",
            "{f:a: {'.': {}, f:b: {}, f:c: {}}}",
            "{f:a: {f:b: {}}}",
            "{}",
            "{f:a: {}}",
        ),
        (
            "{f:a: {f:b: {}, f:c: {}}}",
            "{f:a: {f:b: {}}}",
            "{f:a: {f:b: {}, f:c: {}}}",
            "{f:a: {f:c: {}}}",
            "{f:a: {f:c: {}}}",
            "{f:a: {f:b: {}}}",
        ),
        ("{f:a: {f:b: {}}}", "{f:a: {f:b: {}}}", "{f:a: {f:b: {}}}", "{}", "{}", "{f:a: {f:b: {}}}"),
    ];
    for (a, b, both, less, whole, common) in table {
        let (a_set, b_set) = (set(a), set(b));
        let mut got = a_set.clone();
        got.add(&b_set);
        assert_eq!(got, set(both), "{a} + {b}");
        let mut got = a_set.clone();
        got.remove(&b_set);
        assert_eq!(got, set(less), "{a} - {b}");
        let mut got = a_set.clone();
        got.remove_whole(&b_set);
        assert_eq!(got, set(whole), "{a} - {b}, whole");
        assert_eq!(a_set.intersection(&b_set), set(common), "{a} & {b}");
    }
}

#[test]
fn elements_have_one_form() {
    let table = [
        ("f:a", "f:a", ".a"),
        ("f:a.b/c", "f:a.b/c", ".a.b/c"),
        (r#"k:{"protocol":"TCP","port": 80}"#, r#"k:{"port":80,"protocol":"TCP"}"#, r#"[port=80,protocol="TCP"]"#),
        (r#"v:"a<b""#, r#"v:"a\u003cb""#, r#"[="a<b"]"#),
        ("v:1.0", "v:1", "[=1.0]"),
        ("i:3", "i:3", "[3]"),
    ];
    for (text, form, shown) in table {
        let element = Element::parse(text).unwrap();
        assert_eq!((element.to_string_form().as_str(), element.to_string().as_str()), (form, shown));
    }
    for bad in ["a", "", "x:1", "abc", "k:[]", "k:{", "i:x", "v:"] {
        assert!(Element::parse(bad).is_err(), "{bad}");
    }
    assert!(FieldSet::read(&serde_json::json!({"f:a": 1})).is_err());
}

#[test]
fn paths_in_upstreams_order() {
    let shown = |set: &FieldSet| set.paths().iter().map(|path| show_path(path)).collect::<Vec<_>>();
    let one =
        set(r#"{"f:b": {}, "f:a": {".": {}, "k:{\"port\":443}": {}, "k:{\"port\":80}": {"f:x": {}}}, "v:true": {}, "i:1": {}, "v:2": {}}"#);
    assert_eq!(shown(&one), [".a", ".b", "[=2]", "[=true]", "[1]", ".a[port=443]", ".a[port=80].x"]);
}

#[test]
fn patterns_keep_what_they_name() {
    let all =
        set(r#"{"f:spec": {".": {}, "f:a": {}, "f:list": {"k:{\"n\":1}": {".": {}, "f:x": {"f:y": {}}, "f:z": {}}}}, "f:status": {}}"#);
    let kept = all.only(&[&["spec", "list", "*", "x"]]);
    assert_eq!(kept, set(r#"{"f:spec": {".": {}, "f:list": {"k:{\"n\":1}": {".": {}, "f:x": {"f:y": {}}}}}}"#));
    assert!(all.has(&["spec", "a"]) && all.has(&["spec"]) && !all.has(&["spec", "list"]) && !all.has(&["nothing"]));
    assert_eq!(FieldSet::of_path(&["a", "b"]), set("{f:a: {f:b: {}}}"));
}
