//! Query strings, and the options that they carry.
//!
//! Follows upstream's `ListOptions`, `CreateOptions`, `DeleteOptions` (`apimachinery/pkg/apis/meta/v1/types.go`) and their validation.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use crate::api::selector::{FieldSelector, LabelSelector};
use crate::api::{FieldError, Rev, Status};
use crate::server::registry::{DeleteOptions, FieldValidation, ListOptions, User, WatchOptions, WriteOptions};

/// A parsed query string, in order, keys repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// `%XX` undone; `None` when an escape is broken or the result is not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// Escapes everything but unreserved characters (RFC 3986, 2.3).
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Query {
    /// Parses; what is not decodable is kept as sent.
    pub fn parse(text: &str) -> Query {
        let decode = |part: &str| {
            let part = part.replace('+', " ");
            percent_decode(&part).unwrap_or(part)
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect())
    }

    /// The first value of `key`.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values of `key`.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Whether `key` is there and not `false` or `0`, as upstream reads booleans.
    pub fn flag(&self, key: &str) -> bool {
        self.first(key).is_some_and(|value| !["false", "0"].contains(&value.to_ascii_lowercase().as_str()))
    }

    fn present(&self, key: &str) -> Option<&str> {
        self.first(key).filter(|value| !value.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Status> {
        self.present(key).map(|v| v.parse().map_err(|_| Status::bad_request(format!("{key}: {v:?} is not a valid number")))).transpose()
    }

    /// `resourceVersion`.
    pub fn rev(&self) -> Result<Option<Rev>, Status> {
        let read = |v: &str| {
            Rev::parse(v)
                .ok_or_else(|| Status::invalid("", "ListOptions", "", vec![FieldError::invalid("resourceVersion", v, "must be a number")]))
        };
        self.present("resourceVersion").map(read).transpose()
    }

    fn labels(&self) -> Result<LabelSelector, Status> {
        let text = self.first("labelSelector").unwrap_or_default();
        LabelSelector::parse(text).map_err(|e| Status::bad_request(format!("unable to parse requirement: labelSelector {text:?}: {e}")))
    }

    fn fields(&self, name: &str) -> Result<FieldSelector, Status> {
        let mut text = self.first("fieldSelector").unwrap_or_default().to_owned();
        if !name.is_empty() && !text.contains("metadata.name") {
            let separator = if text.is_empty() { "" } else { "," };
            text = format!("{text}{separator}metadata.name={name}");
        }
        FieldSelector::parse(&text).map_err(|e| Status::bad_request(format!("fieldSelector {text:?}: {e}")))
    }

    /// Options of a list, or of the selection that deletecollection deletes.
    pub fn list(&self) -> Result<ListOptions, Status> {
        let rev_match = self.present("resourceVersionMatch").map(str::to_owned);
        let (rev, continue_token) = (self.rev()?, self.present("continue").map(str::to_owned));
        let wrong = match &rev_match {
            Some(m) if m != "Exact" && m != "NotOlderThan" => {
                Some(FieldError::not_supported("resourceVersionMatch", m, &["Exact", "NotOlderThan", ""]))
            }
            Some(_) if continue_token.is_some() => {
                Some(FieldError::forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"))
            }
            Some(_) if rev.is_none() => {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                Some(FieldError::forbidden("resourceVersionMatch", why))
            }
            Some(m) if m == "Exact" && rev == Some(Rev(0)) => {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                Some(FieldError::forbidden("resourceVersionMatch", why))
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", vec![wrong]));
        }
        let (labels, fields) = (self.labels()?, self.fields("")?);
        Ok(ListOptions { labels, fields, limit: self.number("limit")?.unwrap_or(0), continue_token, rev, rev_match })
    }

    /// Options of a watch, of the one object `name` when that is not empty.
    pub fn watch(&self, name: &str) -> Result<WatchOptions, Status> {
        let initial_events = self.flag("sendInitialEvents");
        let forbidden = |field: &str, why: &str| Status::invalid("meta.k8s.io", "ListOptions", "", vec![FieldError::forbidden(field, why)]);
        if self.first("sendInitialEvents").is_some() && self.first("resourceVersionMatch") != Some("NotOlderThan") {
            return Err(forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
        }
        if self.first("sendInitialEvents").is_none() && self.present("resourceVersionMatch").is_some() {
            return Err(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        Ok(WatchOptions {
            labels: self.labels()?,
            fields: self.fields(name)?,
            rev: self.rev()?,
            bookmarks: self.flag("allowWatchBookmarks"),
            initial_events,
        })
    }

    /// How long a watch may last.
    pub fn timeout(&self) -> Result<Option<Duration>, Status> {
        Ok(self.number::<u64>("timeoutSeconds")?.filter(|seconds| *seconds > 0).map(Duration::from_secs))
    }

    /// Options of a write. `user_agent` names the field manager when the client does not.
    pub fn write(&self, user: Arc<User>, user_agent: &str) -> Result<WriteOptions, Status> {
        let dry_run = match self.all("dryRun").filter(|v| !v.is_empty()).collect::<Vec<_>>().as_slice() {
            [] => false,
            values if values.iter().all(|v| *v == "All") => true,
            values => return Err(invalid_option(FieldError::not_supported("dryRun", values, &["All"]))),
        };
        let field_validation = match self.first("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(v) => return Err(invalid_option(FieldError::not_supported("fieldValidation", v, &["", "Ignore", "Strict", "Warn"]))),
        };
        let named = self.present("fieldManager");
        if named.is_some_and(|manager| manager.len() > MAX_MANAGER) {
            return Err(invalid_option(FieldError::too_long("fieldManager", MAX_MANAGER)));
        }
        if let Some((at, c)) = named.and_then(|manager| manager.char_indices().find(|(_, c)| !is_printable(*c))) {
            let why = format!("invalid character {} (at position {at})", go_character(c));
            return Err(invalid_option(FieldError::invalid("fieldManager", named, why)));
        }
        let agent = || manager_of(user_agent);
        let field_manager = named.map_or_else(agent, str::to_owned);
        Ok(WriteOptions { user, dry_run, field_manager, field_validation, ..WriteOptions::default() })
    }

    /// `DeleteOptions` of the query; the body, when there is one, wins as a whole (upstream's rule).
    pub fn delete(&self, body: Option<meta::DeleteOptions>) -> Result<(DeleteOptions, bool), Status> {
        let body = match body {
            Some(body) => body,
            None => meta::DeleteOptions {
                grace_period_seconds: self.number("gracePeriodSeconds")?,
                propagation_policy: self.present("propagationPolicy").map(str::to_owned),
                orphan_dependents: self.present("orphanDependents").map(|v| v == "true" || v == "1"),
                ..meta::DeleteOptions::default()
            },
        };
        let propagation = match (body.propagation_policy, body.orphan_dependents) {
            (Some(_), Some(_)) => {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                return Err(invalid_delete(FieldError::invalid("propagationPolicy", "", why)));
            }
            (Some(policy), None) if !["Background", "Foreground", "Orphan"].contains(&policy.as_str()) => {
                return Err(invalid_delete(FieldError::not_supported(
                    "propagationPolicy",
                    policy,
                    &["Background", "Foreground", "Orphan"],
                )));
            }
            (Some(policy), None) => Some(policy),
            (None, Some(true)) => Some("Orphan".into()),
            (None, Some(false)) => Some("Background".into()),
            (None, None) => None,
        };
        let preconditions = body.preconditions.unwrap_or_default();
        let rev = match preconditions.resource_version {
            Some(text) => Some(
                Rev::parse(&text)
                    .ok_or_else(|| invalid_delete(FieldError::invalid("preconditions.resourceVersion", &text, "must be a number")))?,
            ),
            None => None,
        };
        let dry_run = body.dry_run.iter().flatten().any(|v| v == "All");
        Ok((DeleteOptions { grace: body.grace_period_seconds, propagation, uid: preconditions.uid, rev }, dry_run))
    }
}

/// Longest name of a field manager, in bytes.
const MAX_MANAGER: usize = 128;

/// The field manager of a client that names none: its user agent up to the first slash, as much of it as a name may have
/// (apiserver `managerOrUserAgent`).
fn manager_of(user_agent: &str) -> String {
    let mut manager = String::new();
    for c in user_agent.split('/').next().unwrap_or_default().chars().filter(|c| is_printable(*c)) {
        if manager.len() + c.len_utf8() > MAX_MANAGER {
            break;
        }
        manager.push(c);
    }
    manager
}

/// Go's `unicode.IsPrint`, within what Rust's own tables tell: no control characters, no space but the plain one.
fn is_printable(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace())
}

/// A character as Go's `%#U` shows it.
fn go_character(c: char) -> String {
    let code = format!("U+{:04X}", u32::from(c));
    if is_printable(c) { format!("{code} '{c}'") } else { code }
}

fn invalid_option(error: FieldError) -> Status {
    Status::invalid("meta.k8s.io", "CreateOptions", "", vec![error])
}

fn invalid_delete(error: FieldError) -> Status {
    Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![error])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse("command=sh&command=-c&tty&labelSelector=a%3Db%2Cc&x=1+2&bad=%zz");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c"]);
        assert!(query.flag("tty") && !query.flag("stdin"));
        assert_eq!(query.first("labelSelector"), Some("a=b,c"));
        assert_eq!((query.first("x"), query.first("bad")), (Some("1 2"), Some("%zz")));
        assert_eq!(percent_encode("a b/ü"), "a%20b%2F%C3%BC");
        assert_eq!(percent_decode(&percent_encode("a b/ü")).as_deref(), Some("a b/ü"));
    }

    #[test]
    fn writes() {
        let read = |text: &str| Query::parse(text).write(Arc::default(), "kubectl/v1.33 (linux)");
        assert_eq!(read("").unwrap().field_manager, "kubectl");
        assert_eq!(read("fieldManager=me").unwrap().field_manager, "me");
        assert!(read("dryRun=All").unwrap().dry_run);
        assert_eq!(read("fieldValidation=Strict").unwrap().field_validation, FieldValidation::Strict);
        assert_eq!(Query::default().write(Arc::default(), "a\u{7}b/1").unwrap().field_manager, "ab");
        assert!(read("fieldManager=a%07").unwrap_err().message.contains("invalid character U+0007 (at position 1)"));
        for bad in ["dryRun=Some", "fieldValidation=No", &format!("fieldManager={}", "m".repeat(129))] {
            assert_eq!(read(bad).map(|_| ()).map_err(|s| s.code), Err(422), "{bad}");
        }
    }

    #[test]
    fn deletions() {
        let read = |text: &str| Query::parse(text).delete(None).map(|(options, _)| options);
        assert_eq!(read("gracePeriodSeconds=0").unwrap().grace, Some(0));
        assert_eq!(read("propagationPolicy=Foreground").unwrap().propagation.as_deref(), Some("Foreground"));
        assert_eq!(read("orphanDependents=true").unwrap().propagation.as_deref(), Some("Orphan"));
        assert_eq!(read("propagationPolicy=Sideways").map(|_| ()).map_err(|s| s.code), Err(422));
        assert_eq!(read("gracePeriodSeconds=soon").map(|_| ()).map_err(|s| s.code), Err(400));
    }
}
