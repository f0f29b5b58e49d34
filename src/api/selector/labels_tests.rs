//! Label selectors, as tables: text, canonical form, what matches.

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
}

#[test]
fn parses_to_the_canonical_text() {
    for (text, canonical) in [
        ("", ""),
        ("x=a,y=b,z=c", "x=a,y=b,z=c"),
        ("y = b , x == a", "x==a,y=b"),
        ("x!=a", "x!=a"),
        ("x=", "x="),
        ("x= ", "x="),
        ("x=,z= ", "x=,z="),
        ("x", "x"),
        ("!x", "!x"),
        ("! x , y", "!x,y"),
        ("x in (b,a,a)", "x in (a,b)"),
        ("x notin (a)", "x notin (a)"),
        ("x in ()y", "ERR"),
        ("x in (,a)", "x in (,a)"),
        ("x in (a,)", "x in (,a)"),
        ("x in (a,,b)", "x in (,a,b)"),
        ("in in (in,notin)", "in in (in,notin)"),
        ("notin=in", "notin=in"),
        ("x>1,y<5", "x>1,y<5"),
        ("example.com/a.b_c-D=1", "example.com/a.b_c-D=1"),
    ] {
        let parsed = LabelSelector::parse(text);
        if canonical == "ERR" {
            assert!(parsed.is_err(), "{text:?}");
            continue;
        }
        let parsed = parsed.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(parsed.to_string(), canonical, "{text:?}");
        assert_eq!(LabelSelector::parse(canonical).unwrap(), parsed, "{text:?} does not round-trip");
        assert_eq!(parsed.is_empty(), canonical.is_empty());
    }
}

#[test]
fn refuses_with_upstreams_words() {
    for (text, message) in [
        ("x=a||y=b", "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be an empty string"),
        ("x==a==b", "found '==', expected: ',' or 'end of string'"),
        ("!x=a", "found '=', expected: ',' or 'end of string'"),
        ("x<a", "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer"),
        (",x", "found ',', expected: !, identifier, or 'end of string'"),
        ("x,", "found '', expected: identifier after ','"),
        ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
        ("x in", "unable to parse requirement: found '' expected: '('"),
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("x in (a b)", "unable to parse requirement: found 'b', expected: ',' or ')'"),
        ("x in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        ("x in ()", "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"),
        ("x<-5", "unable to parse requirement: values[0][x]: Invalid value: \"-5\": a valid label must be"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("x=(a)", "unable to parse requirement: found '(', expected: identifier"),
        ("-x", "unable to parse requirement: <nil>: Invalid value: \"-x\": name part must consist of"),
        ("a/b/c", "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a qualified name must consist of"),
        ("/b", "unable to parse requirement: <nil>: Invalid value: \"/b\": prefix part must be non-empty"),
        ("A/b", "unable to parse requirement: <nil>: Invalid value: \"A/b\": prefix part a lowercase RFC 1123 subdomain"),
        ("a/", "unable to parse requirement: <nil>: Invalid value: \"a/\": name part must be non-empty; name part must consist of"),
    ] {
        let error = LabelSelector::parse(text).expect_err(text).to_string();
        assert!(error.starts_with(message), "{text:?}: {error}");
    }
    let long = "a".repeat(64);
    for text in [format!("{long}=b"), format!("b={long}"), format!("{}/b", "a".repeat(254))] {
        assert!(LabelSelector::parse(&text).unwrap_err().to_string().contains("must be no more than"), "{text}");
    }
}

#[test]
fn matches_as_upstream() {
    for (selector, on, expect) in [
        ("", "", true),
        ("", "a=b", true),
        ("a=b", "a=b", true),
        ("a=b", "a=c", false),
        ("a=b", "", false),
        ("a=", "a=", true),
        ("a=", "", false),
        ("a!=b", "a=c", true),
        ("a!=b", "a=b", false),
        ("a!=b", "", true),
        ("a", "a=x", true),
        ("a", "b=x", false),
        ("!a", "b=x", true),
        ("!a", "a=x", false),
        ("a in (x,y)", "a=y", true),
        ("a in (x,y)", "a=z", false),
        ("a notin (x,y)", "a=z", true),
        ("a notin (x,y)", "a=x", false),
        ("a notin (x,y)", "", true),
        ("a>5", "a=6", true),
        ("a>5", "a=5", false),
        ("a<5", "a=4", true),
        ("a<5", "a=x", false),
        ("a<5", "", false),
        ("a=b,c", "a=b", false),
        ("a=b,c", "a=b,c=d", true),
    ] {
        let on = labels(on);
        assert_eq!(LabelSelector::parse(selector).unwrap().matches(Some(&on)), expect, "{selector:?} on {on:?}");
        if on.is_empty() {
            assert_eq!(LabelSelector::parse(selector).unwrap().matches(None), expect, "{selector:?} on none");
        }
    }
}

#[test]
fn from_objects() {
    let check = |yaml: &str, text: Result<&str, &str>| {
        let api: ApiSelector = serde_yaml::from_str(yaml).unwrap();
        let got = LabelSelector::from_api(Some(&api)).map(|s| s.to_string()).map_err(|e| e.to_string());
        match (got, text) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect, "{yaml}"),
            (Err(got), Err(expect)) => assert!(got.contains(expect), "{yaml}: {got}"),
            (got, expect) => panic!("{yaml}: {got:?}, expected {expect:?}"),
        }
    };
    check("{}", Ok(""));
    check("{matchLabels: {b: c, a: d}}", Ok("a=d,b=c"));
    check(
        "{matchLabels: {b: c}, matchExpressions: [{key: a, operator: In, values: [y, x]}, {key: z, operator: DoesNotExist}]}",
        Ok("a in (x,y),b=c,!z"),
    );
    check("{matchExpressions: [{key: a, operator: NotIn, values: [x]}, {key: b, operator: Exists}]}", Ok("a notin (x),b"));
    check("{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}", Err("\"Gt\" is not a valid label selector operator"));
    check("{matchExpressions: [{key: a, operator: In}]}", Err("values set can't be empty"));
    check("{matchExpressions: [{key: a, operator: Exists, values: [b]}]}", Err("values set must be empty"));
    let none = LabelSelector::from_api(None).unwrap();
    assert!(!none.matches(Some(&labels("a=b"))) && !none.matches(None) && !none.is_empty());
    assert!(LabelSelector::default().is_empty() && LabelSelector::default().matches(None));
    let map = LabelSelector::from_map(&labels("a=b,c=d"));
    assert_eq!(map.to_string(), "a=b,c=d");
    assert!(map.matches(Some(&labels("a=b,c=d,e=f"))) && !map.matches(Some(&labels("a=b"))));
}
