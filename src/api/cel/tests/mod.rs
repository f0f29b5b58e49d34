//! Tables of expressions. Each line of a file of `cases/` is `expression => value`, `expression => error: text` (when it runs), or
//! `expression => refused: text` (when it is compiled; the first line of the complaint, without its place).

mod costs;
mod hostile;
mod objects;

use super::functions::{Authorize, AuthzCheck, AuthzDecision};
use super::*;

const TABLES: &[(&str, &str)] = &[
    ("basics", include_str!("cases/basics.txt")),
    ("macros", include_str!("cases/macros.txt")),
    ("strings", include_str!("cases/strings.txt")),
    ("times", include_str!("cases/times.txt")),
    ("libraries", include_str!("cases/libraries.txt")),
    ("refused", include_str!("cases/refused.txt")),
];

/// Allows what service account `ns/good` and the user ask of pods.
struct Desk;

impl Authorize for Desk {
    fn authorize(&self, check: &AuthzCheck) -> AuthzDecision {
        let good = check.service_account.as_ref().is_none_or(|account| *account == ("ns".into(), "good".into()));
        AuthzDecision {
            allowed: good && (check.resource == "pods" || check.path.as_deref() == Some("/healthz")),
            reason: check.verb.clone(),
            error: None,
        }
    }
}

/// A value as it might be written.
pub(super) fn show(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.as_str()),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.1}"),
        Value::Double(value) => value.to_string(),
        Value::Bytes(bytes) => format!("b{:?}", String::from_utf8_lossy(bytes)),
        Value::List(list) => {
            format!("[{}]", list.iter().map(|item| item.map_or_else(|e| e.to_string(), |item| show(&item))).collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let entry =
                |key: &Value<'_>| format!("{}: {}", show(key), map.get(key).ok().flatten().map(|value| show(&value)).unwrap_or_default());
            format!("{{{}}}", map.keys().iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Object(object) => {
            let fields = object.fields.iter().map(|(name, value)| format!("{name}: {}", show(value))).collect::<Vec<_>>();
            format!("{}{{{}}}", object.name, fields.join(", "))
        }
        Value::Optional(None) => "none".into(),
        Value::Optional(Some(inner)) => format!("some({})", show(inner)),
        Value::Opaque(opaque) => format!("<{}>", opaque.to_text().unwrap_or_else(|| opaque.type_name().into())),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(nanos) => super::time::format_duration(*nanos),
        Value::Type(ty) => super::value::type_head(ty),
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Variables => "variables".into(),
    }
}

/// What becomes of an expression.
pub(super) fn outcome(source: &str) -> String {
    let env = Env::new()
        .with("x", Type::Dyn)
        .with("text", Type::String)
        .with("numbers", Type::list(Type::Int))
        .with("labels", Type::map(Type::String, Type::String))
        .with("authorizer", Type::Opaque("kubernetes.authorization.Authorizer"))
        .with_constructors();
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(errors) => return format!("refused: {}", errors.issues[0].message),
    };
    let x = serde_json::json!({"a": 1, "b": [1, 2, 3], "c": {"d": "deep", "e": null}, "f": 1.5, "g": "text"});
    let numbers = serde_json::json!([3, 1, 2]);
    let labels = serde_json::json!({"app": "web", "tier": "front"});
    let value = |json| Value::from_json(json, None).unwrap();
    let activation = Activation::new()
        .with("x", value(&x))
        .with("text", "some text".into())
        .with("numbers", value(&numbers))
        .with("labels", value(&labels))
        .with("authorizer", Opaque::Authz(AuthzState::Authorizer(AuthzCheck::default())).into())
        .with_authorizer(&Desk);
    match program.eval(&activation, &mut Budget::new(Budget::RUNTIME)) {
        Ok(value) => show(&value),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn every_line_of_the_tables_holds() {
    let mut wrong = Vec::new();
    for (name, table) in TABLES {
        let lines = table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("# "));
        for line in lines {
            let (source, wanted) = line.split_once(" => ").unwrap_or_else(|| panic!("{name}: {line}"));
            let found = outcome(source.trim());
            if found != wanted.trim() {
                wrong.push(format!("{name}: {source}\n    wanted {wanted}\n    found  {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn complaints_show_the_place() {
    for (source, text) in [
        ("y > 1", "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y > 1\n | ^"),
        ("text.foo > 1", "ERROR: <input>:1:5: type 'string' does not support field selection\n | text.foo > 1\n | ....^"),
        (
            "true &&\n  1 + 'a' == 2",
            "ERROR: <input>:2:5: found no matching overload for '_+_' applied to '(int, string)'\n |   1 + 'a' == 2\n | ....^",
        ),
        (
            "y + z",
            "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y + z\n | ^\nERROR: <input>:1:5: undeclared reference to 'z' (in container '')\n | y + z\n | ....^",
        ),
        ("'é' + y", "ERROR: <input>:1:7: undeclared reference to 'y' (in container '')\n | 'é' + y\n | .．....^"),
        (
            "text = 42",
            "ERROR: <input>:1:6: Syntax error: token recognition error at: '= '\n | text = 42\n | .....^\nERROR: <input>:1:8: Syntax error: extraneous input '42' expecting <EOF>\n | text = 42\n | .......^",
        ),
    ] {
        let env = Env::new().with("text", Type::String);
        assert_eq!(env.compile(source).unwrap_err().to_string(), text, "{source}");
    }
}
