//! Expressions made to break things.

use proptest::prelude::*;

use super::outcome;

#[test]
fn depth_and_size_are_bounded() {
    for source in [
        format!("{}1{}", "(".repeat(100_000 / 2 - 1), ")".repeat(100_000 / 2 - 1)),
        format!("{}1{}", "[".repeat(300), "]".repeat(300)),
        "-".repeat(99_999) + "1",
        "!".repeat(99_999) + "true",
        format!("x{}", ".a".repeat(40_000)),
        format!("x{}", "[0]".repeat(30_000)),
        format!("1{}", " + 1".repeat(20_000)),
        format!("true{}", "?true:true".repeat(5_000)),
        format!("{}1", "x.all(a,".repeat(5_000)),
        format!("{}true{}", "x.all(a,".repeat(240), ")".repeat(240)),
        format!("x{}", ".optMap(a, a)".repeat(200)),
        "x".repeat(200_000),
        "'".repeat(99_999),
        "{".repeat(99_999),
        "a.b{".repeat(20_000),
    ] {
        let found = outcome(&source);
        assert!(
            found.starts_with("refused") || found.starts_with("error") || found == "-1" || found == "false",
            "{}: {found}",
            &source[..20]
        );
    }
    let many = format!("true{}", " && true".repeat(10_000));
    assert_eq!(outcome(&many), "true");
    let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
    assert_eq!(outcome(&deep), "1");
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    assert!(outcome(&deep).starts_with("[["));
}

#[test]
fn results_are_bounded() {
    let doubled = |start: &str, step: &str, times: usize| {
        let mut source = String::new();
        for index in 0..times {
            let before = if index == 0 { start.to_string() } else { format!("v{}", index - 1) };
            source.push_str(&format!("cel.bind(v{index}, {}, ", step.replace('_', &before)));
        }
        format!("{source}size(v{}){}", times - 1, ")".repeat(times))
    };
    for source in [
        doubled("[1]", "_ + _", 60),
        doubled("'ab'", "_.replace('', _)", 30),
        doubled("'ab'", "_ + _", 60),
        doubled("'ab'", "[_, _].join(_)", 30),
    ] {
        assert!(outcome(&source).starts_with("error"), "{source}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_it_panic(parts in prop::collection::vec(prop::sample::select(vec![
        "x", "text", "numbers", "labels", "(", ")", "[", "]", "{", "}", ".", ",", ":", "?", "+", "-", "*", "/", "%", "!", "<", "==", "&&", "||", " in ", "1", "2u",
        "1.5", "'a'", "b'a'", "\"", "'", "null", "true", ".all(i, ", ".map(i, i", ".?a", "[?", "has(", "optional.of(", "size(", "Object{", "a: ", "\\", "é", "duration('1s')",
        "timestamp(0)", "quantity('1')", ".substring(", ".replace('',", ".split('')", ".format([", "%s", "-9223372036854775808", "18446744073709551615u", "1e308",
    ]), 1..12)) {
        let _ = outcome(&parts.concat());
    }

    #[test]
    fn any_text_is_answered(source in "\\PC{0,40}") {
        let _ = outcome(&source);
    }
}
