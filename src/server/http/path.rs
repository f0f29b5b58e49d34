//! What a request addresses: the method and path as data.
//!
//! Words: a *resource request* is one below `/api/VERSION` or `/apis/GROUP/VERSION`; anything else is a plain path. The *rest* is what
//! follows a subresource (`proxy/a/b`), kept as sent.
//!
//! Follows upstream's `apiserver/pkg/endpoints/request/requestinfo.go`. No route exists per kind.

use super::query::{Query, percent_decode};
use crate::api::Status;
use crate::server::auth::Attributes;

/// A parsed method and path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method for plain paths.
    pub verb: &'static str,
    /// Whether this is below an API group and version.
    pub is_resource: bool,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource.
    pub resource: String,
    /// Namespace in the path, or empty.
    pub namespace: String,
    /// Object name, or empty.
    pub name: String,
    /// Such as `status`.
    pub subresource: String,
    /// What follows the subresource, undecoded, without the leading slash.
    pub rest: String,
    /// The path as sent.
    pub path: String,
    /// `fieldSelector` as sent.
    pub fields: String,
}

fn method_verb(method: &str) -> &'static str {
    match method {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "unknown",
    }
}

fn resource_verb(method: &str) -> &'static str {
    match method {
        "GET" | "HEAD" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

impl RequestInfo {
    /// Parses. A path that is no resource is still an answer; only broken escapes are an error.
    pub fn parse(method: &str, path: &str, query: &Query) -> Result<RequestInfo, Status> {
        let mut info = RequestInfo { verb: method_verb(method), path: path.into(), ..RequestInfo::default() };
        let raw: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, mut parts) = match raw.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Ok(info),
        };
        info.is_resource = true;
        info.verb = resource_verb(method);
        (info.group, info.version) = (segment(group)?, segment(version)?);
        if let ["watch", rest @ ..] = parts
            && !rest.is_empty()
        {
            info.verb = "watch";
            parts = rest;
        }
        if let ["namespaces", namespace, rest @ ..] = parts {
            info.namespace = segment(namespace)?;
            // Below a namespace lives a resource, but for the namespace's own subresources.
            if let [first, ..] = rest
                && !["status", "finalize"].contains(first)
            {
                parts = rest;
            }
        }
        let mut words = parts.iter();
        let mut next = || words.next().map_or(Ok(String::new()), |word| segment(word));
        (info.resource, info.name, info.subresource) = (next()?, next()?, next()?);
        // Of what follows a proxy the trailing slash matters.
        if let Some(tail) = parts.get(3..).filter(|tail| !tail.is_empty()) {
            info.rest = tail.join("/");
            if path.ends_with('/') {
                info.rest.push('/');
            }
        }
        info.refine(query);
        Ok(info)
    }

    /// What a GET or DELETE without a name means, and the name that a field selector requires.
    fn refine(&mut self, query: &Query) {
        self.fields = query.first("fieldSelector").unwrap_or_default().to_owned();
        if self.name.is_empty() {
            self.verb = match self.verb {
                "get" if query.flag("watch") => "watch",
                "get" => "list",
                "delete" => "deletecollection",
                other => other,
            };
        }
        if self.name.is_empty() && ["list", "watch", "deletecollection"].contains(&self.verb) {
            let attributes = Attributes { fields: self.fields.clone(), ..Attributes::default() };
            // Only for the decision: who may read one object by name may also list exactly that one.
            if let Some(name) = attributes.required_field("metadata.name").filter(|name| !name.contains('/')) {
                self.name = name.to_owned();
            }
        }
    }

    /// Whether this is one object rather than a collection.
    pub fn is_collection(&self) -> bool {
        ["list", "watch", "deletecollection"].contains(&self.verb)
    }

    /// Whether the answer may take as long as it likes.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch" || (self.is_resource && ["log", "exec", "attach", "portforward", "proxy"].contains(&self.subresource.as_str()))
    }

    /// The question for the authorizer.
    pub fn attributes(&self) -> Attributes {
        Attributes {
            verb: self.verb.into(),
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            fields: self.fields.clone(),
            path: self.path.clone(),
        }
    }
}

/// One decoded part of a path; it may hold no slash, since keys are made of it.
fn segment(raw: &str) -> Result<String, Status> {
    let text =
        percent_decode(raw).ok_or_else(|| Status::bad_request(format!("the path part {raw:?} is not valid percent-encoded UTF-8")))?;
    if text.contains('/') || text == "." || text == ".." {
        return Err(Status::bad_request(format!("the path part {text:?} can't be a name")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group version resource namespace name subresource rest`, `-` for empty.
    fn check(method: &str, uri: &str, want: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let info = RequestInfo::parse(method, path, &Query::parse(query)).unwrap();
        let parts = [info.verb, &info.group, &info.version, &info.resource, &info.namespace, &info.name, &info.subresource, &info.rest];
        let got = parts.map(|p| if p.is_empty() { "-" } else { p }).join(" ");
        assert_eq!(got, want, "{method} {uri}");
        assert_eq!(info.is_resource, !info.version.is_empty(), "{uri}");
    }

    #[test]
    fn requests() {
        for (method, uri, want) in [
            ("GET", "/api/v1/pods", "list - v1 pods - - - -"),
            ("GET", "/api/v1/pods?watch=1", "watch - v1 pods - - - -"),
            ("GET", "/api/v1/pods?watch=false", "list - v1 pods - - - -"),
            ("GET", "/api/v1/watch/pods", "watch - v1 pods - - - -"),
            ("GET", "/api/v1/watch/namespaces/ns/pods/a", "watch - v1 pods ns a - -"),
            ("GET", "/api/v1/namespaces/ns/pods", "list - v1 pods ns - - -"),
            ("GET", "/api/v1/namespaces/ns/pods/a", "get - v1 pods ns a - -"),
            ("HEAD", "/api/v1/namespaces/ns/pods/a", "get - v1 pods ns a - -"),
            ("GET", "/api/v1/namespaces/ns/pods?fieldSelector=metadata.name%3Da", "list - v1 pods ns a - -"),
            ("POST", "/api/v1/namespaces/ns/pods", "create - v1 pods ns - - -"),
            ("POST", "/api/v1/namespaces/ns/pods/a/exec?command=x", "create - v1 pods ns a exec -"),
            ("GET", "/api/v1/namespaces/ns/pods/a/proxy/b/c/", "get - v1 pods ns a proxy b/c/"),
            ("GET", "/api/v1/namespaces/ns/services/http:a:80/proxy/x%2Fy", "get - v1 services ns http:a:80 proxy x%2Fy"),
            ("GET", "/api/v1/namespaces", "list - v1 namespaces - - - -"),
            ("GET", "/api/v1/namespaces/ns", "get - v1 namespaces ns ns - -"),
            ("PUT", "/api/v1/namespaces/ns/finalize", "update - v1 namespaces ns ns finalize -"),
            ("PATCH", "/api/v1/namespaces/ns/status", "patch - v1 namespaces ns ns status -"),
            ("DELETE", "/api/v1/nodes/n1", "delete - v1 nodes - n1 - -"),
            ("DELETE", "/api/v1/nodes", "deletecollection - v1 nodes - - - -"),
            ("PATCH", "/apis/apps/v1/namespaces/ns/deployments/a/scale", "patch apps v1 deployments ns a scale -"),
            (
                "GET",
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get rbac.authorization.k8s.io v1 clusterroles - system:node - -",
            ),
            ("GET", "/api", "get - - - - - - -"),
            ("GET", "/api/v1", "get - - - - - - -"),
            ("GET", "/apis/apps/v1/", "get - - - - - - -"),
            ("GET", "/healthz", "get - - - - - - -"),
            ("POST", "/version", "post - - - - - - -"),
        ] {
            check(method, uri, want);
        }
    }

    #[test]
    fn hostile_paths() {
        for path in ["/api/v1/pods/a%2Fb", "/api/v1/namespaces/%2e%2e/pods", "/api/v1/pods/%ff", "/api/v1/pods/%4"] {
            assert_eq!(RequestInfo::parse("GET", path, &Query::default()).map_err(|s| s.code), Err(400), "{path}");
        }
    }
}
