//! Acting as somebody else: the `Impersonate-*` headers.
//!
//! Words: the *requestor* is who authenticated; the *acted* user is who the request is then judged and recorded as. Each part of the acted
//! user (name, uid, each group, each extra value) must be granted by `impersonate` on a resource of its own.
//!
//! Follows upstream's `apiserver/pkg/endpoints/filters/impersonation`. Never: falls back to the requestor when a header can't be read.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::authz::Attributes;
use crate::api::Status;
use crate::server::registry::User;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Most parts that one request may impersonate: each is a question to the authorizer.
const MAX_PARTS: usize = 1_000;

/// Whom a request wants to act as.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// `system:serviceaccount:NAMESPACE:NAME`, split.
pub fn service_account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (crate::api::names::label(namespace).is_ok() && crate::api::names::subdomain(name).is_ok()).then_some((namespace, name))
}

impl Wanted {
    /// Reads the headers; `None` when there are none.
    pub fn read(headers: &HeaderMap) -> Result<Option<Wanted>, Status> {
        let mut wanted = Wanted::default();
        let mut parts = 0;
        for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("impersonate-")) {
            parts += 1;
            let text = std::str::from_utf8(value.as_bytes());
            let text = text.map_err(|_| Status::bad_request(format!("the header {name} is not text")))?.to_owned();
            match name.as_str() {
                // As of any header that should be there once, the first counts.
                USER if wanted.name.is_empty() => wanted.name = text,
                UID if wanted.uid.is_empty() => wanted.uid = text,
                GROUP => wanted.groups.push(text),
                other => {
                    if let Some(key) = other.strip_prefix(EXTRA) {
                        wanted.extra.entry(unescape(key)).or_default().push(text);
                    }
                }
            }
        }
        match parts {
            0 => return Ok(None),
            MAX_PARTS.. => return Err(Status::bad_request(format!("a request may impersonate at most {MAX_PARTS} groups and values"))),
            _ => {}
        }
        if wanted.name.is_empty() {
            let empty = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
            return if empty { Ok(None) } else { Err(wanted.nobody()) };
        }
        Ok(Some(wanted))
    }

    /// 500, as upstream: groups, uid or extra without a user.
    fn nobody(&self) -> Status {
        // Each part as Go shows an ObjectReference: kind, namespace, name, uid, version, resource version, field.
        let mut parts: Vec<String> = self.groups.iter().map(|group| format!("{{Group  {group}    }}")).collect();
        for (key, values) in &self.extra {
            parts.extend(values.iter().map(|value| format!("{{UserExtra  {value}  {AUTHENTICATION}/v1  {key}}}")));
        }
        if !self.uid.is_empty() {
            parts.push(format!("{{UID  {}  {AUTHENTICATION}/v1  }}", self.uid));
        }
        Status::internal(format!("requested [{}] without impersonating a user", parts.join(" ")))
    }

    /// Every question that must be answered yes.
    pub fn questions(&self) -> Vec<Attributes> {
        let ask = |group: &str, version: &str, resource: &str, subresource: &str, name: &str| Attributes {
            verb: "impersonate".into(),
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..Attributes::default()
        };
        let mut questions = vec![match service_account(&self.name) {
            Some((namespace, name)) => Attributes { namespace: namespace.into(), ..ask("", "v1", "serviceaccounts", "", name) },
            None => ask("", "v1", "users", "", &self.name),
        }];
        questions.extend(self.groups.iter().map(|group| ask("", "v1", "groups", "", group)));
        for (key, values) in &self.extra {
            questions.extend(values.iter().map(|value| ask(AUTHENTICATION, "v1", "userextras", key, value)));
        }
        if !self.uid.is_empty() {
            questions.push(ask(AUTHENTICATION, "v1", "uids", "", &self.uid));
        }
        questions
    }

    /// The user, once all is granted.
    pub fn into_user(self) -> User {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = service_account(&self.name)
        {
            groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
        }
        let listed = |group: &str| groups.iter().any(|known| known == group);
        if self.name == ANONYMOUS {
            if !listed(UNAUTHENTICATED) {
                groups.push(UNAUTHENTICATED.into());
            }
        } else if !listed(AUTHENTICATED) && !listed(UNAUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        User { name: self.name, uid: self.uid, groups, extra: self.extra }
    }
}

/// A key of `Impersonate-Extra-KEY`: escaped like a part of a path, and left as it is when it is escaped wrongly.
pub(super) fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => bytes.push(byte),
            None => return key.to_owned(),
        }
        rest = &after[2..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    /// Header lines, the questions as `GROUP/RESOURCE[/SUB] NAMESPACE/NAME`, and the groups in the end.
    #[test]
    fn who_is_acted_as() {
        type Row<'a> = (&'a [(&'static str, &'a str)], &'a [&'a str], &'a [&'a str]);
        let table: &[Row<'_>] = &[
            (&[("impersonate-user", "ann")], &["/users /ann"], &["system:authenticated"]),
            (
                &[("impersonate-user", "ann"), ("impersonate-group", "a"), ("impersonate-group", "b"), ("impersonate-uid", "7")],
                &["/users /ann", "/groups /a", "/groups /b", "authentication.k8s.io/uids /7"],
                &["a", "b", "system:authenticated"],
            ),
            (
                &[("impersonate-user", "system:serviceaccount:ns:web")],
                &["/serviceaccounts ns/web"],
                &["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"],
            ),
            (
                &[("impersonate-user", "system:serviceaccount:ns:web"), ("impersonate-group", "x")],
                &["/serviceaccounts ns/web", "/groups /x"],
                &["x", "system:authenticated"],
            ),
            (&[("impersonate-user", "system:serviceaccount:Bad")], &["/users /system:serviceaccount:Bad"], &["system:authenticated"]),
            (&[("impersonate-user", "system:anonymous")], &["/users /system:anonymous"], &["system:unauthenticated"]),
            (
                &[("impersonate-user", "ann"), ("impersonate-group", "system:unauthenticated")],
                &["/users /ann", "/groups /system:unauthenticated"],
                &["system:unauthenticated"],
            ),
            (
                &[("impersonate-user", "ann"), ("impersonate-extra-acme.com%2fteam", "red"), ("impersonate-extra-bad%zz", "v")],
                &["/users /ann", "authentication.k8s.io/userextras/acme.com/team /red", "authentication.k8s.io/userextras/bad%zz /v"],
                &["system:authenticated"],
            ),
        ];
        for (lines, questions, groups) in table {
            let wanted = Wanted::read(&headers(lines)).unwrap().unwrap();
            let asked: Vec<String> =
                wanted.questions().iter().map(|q| format!("{}/{} {}/{}", q.group, q.full_resource(), q.namespace, q.name)).collect();
            assert_eq!(asked, *questions);
            assert_eq!(wanted.into_user().groups, *groups, "{lines:?}");
        }
    }

    #[test]
    fn nobody_is_not_impersonated() {
        assert_eq!(Wanted::read(&headers(&[("accept", "x")])), Ok(None));
        assert_eq!(Wanted::read(&headers(&[("impersonate-user", "")])), Ok(None));
        let error = Wanted::read(&headers(&[("impersonate-group", "g")])).unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (500, "Internal error occurred: requested [{Group  g    }] without impersonating a user")
        );
        assert_eq!(Wanted::read(&headers(&[("impersonate-uid", "1")])).unwrap_err().code, 500);
        let many: Vec<_> = (0..MAX_PARTS).map(|_| ("impersonate-group", "g")).chain([("impersonate-user", "u")]).collect();
        assert_eq!(Wanted::read(&headers(&many)).unwrap_err().code, 400);
    }
}
