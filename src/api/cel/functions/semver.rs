//! Semantic versions (apiserver `pkg/cel/library/semverlib.go`).

use std::cmp::Ordering;

use super::{Context, Res, Row, Value};
use crate::api::cel::error::EvalError;
use crate::api::cel::opaque::Opaque;

pub(super) const TABLE: &[Row] = &[
    Row("semver", semver, &["string_to_semver|(string) -> kubernetes.Semver", "string_bool_to_semver|(string, bool) -> kubernetes.Semver"]),
    Row(
        "isSemver",
        |_, args| Ok(Value::Bool(Semver::parse(args[0].str()?, normalized(args)?).is_some())),
        &["is_semver_string|(string) -> bool", "is_semver_string_bool|(string, bool) -> bool"],
    ),
    Row("major", |_, args| part(args, |version| version.major), &["semver_major|kubernetes.Semver.() -> int"]),
    Row("minor", |_, args| part(args, |version| version.minor), &["semver_minor|kubernetes.Semver.() -> int"]),
    Row("patch", |_, args| part(args, |version| version.patch), &["semver_patch|kubernetes.Semver.() -> int"]),
];

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    major: u64,
    minor: u64,
    patch: u64,
    pre: Vec<String>,
    build: String,
}

impl Semver {
    /// `lenient` takes a leading `v`, leading zeros and missing parts.
    fn parse(text: &str, lenient: bool) -> Option<Semver> {
        let text = if lenient { text.strip_prefix('v').unwrap_or(text) } else { text };
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let mut numbers: Vec<&str> = core.split('.').collect();
        if lenient && numbers.len() < 3 {
            if pre.is_some() || build.is_some() {
                return None;
            }
            numbers.resize(3, "0");
        }
        let number = |text: &&str| {
            let text = if lenient {
                Some(text.trim_start_matches('0')).filter(|rest| !rest.is_empty()).unwrap_or(if text.is_empty() { "" } else { "0" })
            } else {
                text
            };
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            text.parse::<u64>().ok().filter(|_| plain)
        };
        let numbers: Option<Vec<u64>> = numbers.iter().map(number).collect();
        let [major, minor, patch] = numbers.as_deref().and_then(|all| <[u64; 3]>::try_from(all).ok())?;
        let identifiers =
            |text: &str| text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let sound = |pre: &str| identifiers(pre) && pre.split('.').all(|part| !numeric(part) || part == "0" || !part.starts_with('0'));
        if pre.is_some_and(|pre| !sound(pre)) || build.is_some_and(|build| !identifiers(build)) {
            return None;
        }
        let pre = pre.map(|pre| pre.split('.').map(String::from).collect()).unwrap_or_default();
        Some(Semver { major, minor, patch, pre, build: build.unwrap_or_default().into() })
    }
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Semver {
    /// Builds do not count.
    fn cmp(&self, other: &Self) -> Ordering {
        let core = |version: &Semver| (version.major, version.minor, version.patch);
        core(self).cmp(&core(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.pre.iter().zip(&other.pre).map(|(a, b)| identifier(a, b));
                pairs.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        })
    }
}

/// Numbers by value and before words.
fn identifier(a: &str, b: &str) -> Ordering {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match (number(a), number(b)) {
        (true, true) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    }
}

impl std::fmt::Display for Semver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre.join("."))?;
        }
        if self.build.is_empty() { Ok(()) } else { write!(f, "+{}", self.build) }
    }
}

fn normalized(args: &[Value<'_>]) -> Res<bool> {
    Ok(args.get(1).map(Value::bool).transpose()?.unwrap_or(false))
}

fn semver<'a>(_: &Context<'_, 'a>, args: &[Value<'a>]) -> Res<Value<'a>> {
    let version = Semver::parse(args[0].str()?, normalized(args)?);
    version.map(|version| Opaque::Semver(version).into()).ok_or_else(|| EvalError::new("semver parse error during conversion from string"))
}

fn part<'a>(args: &[Value<'a>], part: fn(&Semver) -> u64) -> Res<Value<'a>> {
    match &args[0] {
        Value::Opaque(opaque) => match &**opaque {
            Opaque::Semver(version) => Ok(Value::Int(part(version) as i64)),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}
