//! The front proxy: whoever holds its certificate says in headers whom it speaks for.
//!
//! Follows upstream's `apiserver/pkg/authentication/request/headerrequest`. The certificate itself was verified by TLS against the front
//! proxy's own authority; the cluster's authority counts for nothing here.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::server::registry::User;

/// `--requestheader-*`.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Common names that are believed; empty: any that the authority signed.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name, the first that is there counts. Lower case.
    pub username_headers: Vec<String>,
    /// Headers with the uid.
    pub uid_headers: Vec<String>,
    /// Headers with groups; all of them count.
    pub group_headers: Vec<String>,
    /// Beginnings of headers with extra values.
    pub extra_prefixes: Vec<String>,
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    let value = |name: &String| headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    names.iter().find_map(value).map(String::from)
}

impl FrontProxy {
    /// For whom the holder of a certificate of this common name speaks; `None` if it is not believed or names nobody.
    pub fn user(&self, common_name: &str, headers: &HeaderMap) -> Option<User> {
        if !self.allowed_names.is_empty() && !self.allowed_names.iter().any(|name| name == common_name) {
            return None;
        }
        let name = first(headers, &self.username_headers)?;
        let uid = first(headers, &self.uid_headers).unwrap_or_default();
        let texts = |name: &String| headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(String::from).collect::<Vec<_>>();
        let groups = self.group_headers.iter().flat_map(texts).filter(|group| !group.is_empty()).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let key = self.extra_prefixes.iter().find_map(|prefix| name.as_str().strip_prefix(prefix.as_str()));
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                extra.entry(super::super::impersonate::unescape(key)).or_default().push(value.to_owned());
            }
        }
        Some(User { name, uid, groups, extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_user() {
        let list = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let proxy = FrontProxy {
            allowed_names: list(&["front"]),
            username_headers: list(&["x-remote-user"]),
            uid_headers: list(&["x-remote-uid"]),
            group_headers: list(&["x-remote-group"]),
            extra_prefixes: list(&["x-remote-extra-"]),
        };
        let mut headers = HeaderMap::new();
        assert_eq!(proxy.user("front", &headers), None);
        for (name, value) in [("x-remote-user", "ann"), ("x-remote-group", "a"), ("x-remote-group", "b"), ("x-remote-extra-acme%2fk", "v")]
        {
            headers.append(name, value.parse().unwrap());
        }
        let user = proxy.user("front", &headers).unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("ann", &list(&["a", "b"])[..]));
        assert_eq!(user.extra["acme/k"], ["v"]);
        assert_eq!(proxy.user("other", &headers), None);
        assert!(FrontProxy { allowed_names: vec![], ..proxy }.user("other", &headers).is_some());
    }
}
