//! Tables of texts and trees, both ways; hostile texts.

use serde_json::json;

use super::*;

fn of(text: &str) -> Value {
    read(text.as_bytes(), &mut Vec::new()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn error(text: &str) -> String {
    match read(text.as_bytes(), &mut Vec::new()) {
        Ok(value) => panic!("{text:?} is {value}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn scalars() {
    let table = [
        ("0400", json!(256)),
        ("-0400", json!(-256)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("0b101", json!(5)),
        ("08", json!(8)),
        ("0", json!(0)),
        ("00", json!(0)),
        ("+7", json!(7)),
        ("1_000", json!(1000)),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551616", json!(18446744073709551616.0)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000)),
        ("3.0", json!(3)),
        (".5", json!(0.5)),
        ("1e400", json!("1e400")),
        ("1.2.3", json!("1.2.3")),
        ("0x", json!("0x")),
        ("1Gi", json!("1Gi")),
        ("2024-01-01", json!("2024-01-01")),
        ("12:30", json!("12:30")),
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("y", json!(true)),
        ("nO", json!("nO")),
        ("~", json!(null)),
        ("", json!(null)),
        ("NULL", json!(null)),
        ("'0400'", json!("0400")),
        ("\"yes\"", json!("yes")),
        ("|-\n  0400", json!("0400")),
        ("!!str 0400", json!("0400")),
        ("!!int '12'", json!(12)),
        ("!!float 1", json!(1)),
        ("!!binary aGk=", json!("hi")),
        ("!own 5", json!("5")),
        ("-", json!([null])),
        ("--", json!("--")),
        ("<<", json!("<<")),
    ];
    let wrong: Vec<_> = table.iter().map(|(text, want)| (text, of(text), want)).filter(|(_, found, want)| found != *want).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn keys_merges_and_documents() {
    let table = [
        ("1: a\nyes: b\n1.5: c\n'2': d", json!({"1": "a", "true": "b", "1.5": "c", "2": "d"})),
        ("x: &a {k: 1, l: 2}\nz: {<<: *a, l: 3}", json!({"x": {"k": 1, "l": 2}, "z": {"k": 1, "l": 3}})),
        ("a: &a {k: 1}\nb: &b {k: 2, l: 2}\nc: {<<: [*a, *b]}", json!({"a": {"k": 1}, "b": {"k": 2, "l": 2}, "c": {"k": 1, "l": 2}})),
        ("a: &x [1]\nb: *x", json!({"a": [1], "b": [1]})),
        ("'<<': {a: 1}", json!({"<<": {"a": 1}})),
        ("{\"a\": [true, null, 1e2, \"\\u00e9\"]}", json!({"a": [true, null, 100, "é"]})),
        ("# nothing\n", json!(null)),
        ("a: 1\n---\nb: 2", json!({"a": 1})),
        ("a: 1\r\nb: |\r\n  x\r\n", json!({"a": 1, "b": "x\n"})),
    ];
    let wrong: Vec<_> = table.iter().map(|(text, want)| (text, of(text), want)).filter(|(_, found, want)| found != *want).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let all: Result<Vec<_>, _> = Documents::new("---\na: 1\n---\n---\n# none\n---\nb: 2\n").collect();
    assert_eq!(all.unwrap(), [json!({"a": 1}), json!(null), json!(null), json!({"b": 2})]);
    let cut: Vec<_> = Documents::new("a: 1\n---\nb: [\n---\nc: 3").collect();
    assert!(cut.len() == 2 && cut[0].is_ok() && cut[1].is_err(), "{cut:?}");
}

/// Where brackets and quotes are open, blanks say nothing.
#[test]
fn lines_in_brackets_and_quotes_begin_anywhere() {
    let table = [
        ("a: {\nb: 1,\n'c': [\n2\n]\n}\nd: 3", json!({"a": {"b": 1, "c": [2]}, "d": 3})),
        ("a:\n  b: [\n \"x\",\ny z,\n  {k: v}\n]\n  c: 1", json!({"a": {"b": ["x", "y z", {"k": "v"}], "c": 1}})),
        ("a:\n- b: \"one\ntwo\n\n three\"\n  c: 'it''s\nso'", json!({"a": [{"b": "one two\nthree", "c": "it's so"}]})),
        ("a:\r\n  b: [\r\n'é',\r\nü\r\n]\r\n", json!({"a": {"b": ["é", "ü"]}})),
        ("a:\n  b: {c: \"x\\\ny\"}", json!({"a": {"b": {"c": "xy"}}})),
    ];
    let wrong: Vec<_> = table.iter().map(|(text, want)| (text, of(text), want)).filter(|(_, found, want)| found != *want).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The line that is told is the text's own; and there is an end to reading again.
    assert_eq!(error("a:\n  b: [\n1,\n2,\n3: {]\n"), "yaml: line 5: did not find expected node content");
    let long = format!("a:\n  b: [\n{}]", "1,\n".repeat(100_000));
    assert_eq!(error(&long).split(": ").last(), Some("invalid indentation"));
}

#[test]
fn what_is_wrong_is_told_as_upstream_does() {
    let table = [
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ("a: 1\nb: c: d", "yaml: line 2: mapping values are not allowed in this context"),
        ("a: 1\n  b: 2", "yaml: line 2: mapping values are not allowed in this context"),
        ("a:\n  - b\n c: d", "yaml: line 3: did not find expected key"),
        ("a: 1\n\tb: 2", "yaml: found a tab"),
        ("a: 'b", "yaml: found unexpected end of stream"),
        ("x: *nope", "yaml: found unknown anchor"),
        ("x: &x [*x]", "yaml: anchor value contains itself"),
        ("<<: 5", "yaml: map merge requires map or sequence of maps as the value"),
        ("!!int abc", "yaml: cannot decode !!str `abc` as a !!int"),
        ("a: .inf", "json: unsupported value: +Inf"),
        ("a: \u{1}", "yaml: control characters are not allowed"),
    ];
    let wrong: Vec<_> = table.iter().map(|(text, want)| (text, error(text), *want)).filter(|(_, found, want)| found != want).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut duplicates = Vec::new();
    let last = read(b"a: 1\nb:\n  c: 1\n  c:\n    d: 2\na: 3\n", &mut duplicates).unwrap();
    assert_eq!(last, json!({"a": 3, "b": {"c": {"d": 2}}}));
    assert_eq!(duplicates, ["line 5: key \"c\" already set in map", "line 6: key \"a\" already set in map"]);
}

#[test]
fn hostile_texts_are_bounded() {
    let deep = "[".repeat(100_000);
    assert_eq!(error(&deep), "yaml: recursion limit exceeded");
    let less = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(error(&less), "yaml: exceeded max depth of 128");
    let laughs: String = (1..20).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","))).collect();
    assert_eq!(error(&format!("a0: &a0 x\n{laughs}")), "yaml: document contains excessive aliasing");
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a,".repeat(1000));
    assert_eq!(error(&long), "yaml: document contains excessive aliasing");
    let chain: String = (1..200).map(|n| format!("a{n}: &a{n} [*a{}]\n", n - 1)).collect();
    assert_eq!(error(&format!("a0: &a0 x\n{chain}")), "yaml: exceeded max depth of 128");
    let merges: String = (1..30).map(|n| format!("a{n}: &a{n} {{<<: [*a{}, *a{}]}}\n", n - 1, n - 1)).collect();
    assert_eq!(error(&format!("a0: &a0 {{x: y}}\n{merges}")), "yaml: document contains excessive aliasing");
    // Used fairly, aliases may repeat a lot.
    let fair = format!("a: &a [1, 2, 3]\nb: [{}]", "*a,".repeat(50));
    assert_eq!(of(&fair)["b"].as_array().unwrap().len(), 50);
}

/// Whatever a string looks like, it is read back as the string that was written.
#[test]
fn what_is_written_is_read_back() {
    let strings = [
        "0400",
        "0o7",
        "0x1F",
        "0b1",
        "1_000",
        "08",
        "+1",
        "-1",
        "1.",
        ".5",
        "1e3",
        "1E+3",
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "N",
        "~",
        "null",
        "",
        "true",
        ".inf",
        "-.Inf",
        ".nan",
        "<<",
        "=",
        "2024-01-01",
        "2024-01-01\"",
        "2024-01-01\\x",
        "12:30",
        "*a",
        "&a",
        "!t",
        "- a",
        "a: b",
        "#",
        "a #b",
        "'",
        "\"",
        "two\nlines\n",
        " pad ",
        "\t",
        "é",
        "\u{1}",
        "{",
        "[",
        "|",
        ">",
        "%",
        "@",
        "`",
        "---",
        "...",
        "0",
        "9223372036854775808",
        "1__0",
        "-0x10",
        "+.inf",
        "\u{feff}",
    ];
    let mut wrong = Vec::new();
    for text in strings {
        for value in [json!({"k": text}), json!({text: 1}), json!([text])] {
            let written = write(&value);
            let back = read(written.as_bytes(), &mut Vec::new());
            if back.as_ref() != Ok(&value) {
                wrong.push((written, back));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_look_of_it() {
    let value = json!({
        "a": {"b": [], "c": {}, "list": ["x", {"k": "v", "l": [1, [2, 3], {"m": null}]}, [], ""]},
        "text": "one\ntwo\n", "cut": "one\ntwo", "more": "one\n\n", "mode": "0400", "time": "2026-01-01T00:00:00Z", "yes": "no", "url": "http://x:1/#y",
        "quote": "it's", "star": "*x", "number": 1.5, "tab": "a\tb", "trailing": "a \nb",
    });
    let want = r#"a:
  b: []
  c: {}
  list:
  - x
  - k: v
    l:
    - 1
    - - 2
      - 3
    - m: null
  - []
  - ""
cut: |-
  one
  two
mode: "0400"
more: |+
  one

number: 1.5
quote: it's
star: '*x'
tab: "a\tb"
text: |
  one
  two
time: "2026-01-01T00:00:00Z"
trailing: "a \nb"
url: http://x:1/#y
"yes": "no"
"#;
    assert_eq!(write(&value), want);
    assert_eq!(of(want), value);
}

proptest::proptest! {
    /// What is written is read back, whatever the texts.
    #[test]
    fn any_text_survives(text in "[ab:\\-?,#&*!|>'\"%@`~<0-9. \\n\t\r_é\u{85}\u{feff}=yesno\\[\\]{}]{0,12}", key in "[ab: \\n'\"#0-]{0,8}") {
        for value in [json!({&key: &text}), json!([&text, [&text], {"k": [&text], &key: {&key: &text}}]), json!(&text)] {
            let written = write(&value);
            proptest::prop_assert_eq!(read(written.as_bytes(), &mut Vec::new()), Ok(value), "{}", written);
        }
    }

    /// Nothing that comes is a panic.
    #[test]
    fn any_bytes(text in proptest::collection::vec(proptest::sample::select(&b"ab:-?,[]{}#&*!|>'\"%@`~<0. \n\t\r\\_\xc3\xa9\xff"[..]), 0..60)) {
        let _ = read(&text, &mut Vec::new());
    }
}
