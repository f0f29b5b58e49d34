//! Who asks: client certificates, service account tokens, the static token.
//!
//! Invariants: a request without credentials is nobody (`None`), one with wrong credentials is an error and never falls back to nobody;
//! tokens are compared in constant time; every authenticated user is in `system:authenticated`.
//!
//! Follows upstream's `authentication/request/x509` and `pkg/serviceaccount`. Never shows a credential.

use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::lookup::Lookup;
use super::token::{Claims, Reference, TokenError, TokenKey};
use crate::server::registry::User;

/// Why credentials are refused. The client learns only "Unauthorized"; the log says why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthnError {
    /// The client certificate can't be read, or names nobody.
    #[error("the client certificate is unreadable or has no common name")]
    Certificate,
    /// The header is not `Bearer TOKEN`.
    #[error("the Authorization header is not a bearer token")]
    Header,
    /// The token itself.
    #[error("bearer token: {0}")]
    Token(#[from] TokenError),
    /// What the token is bound to is gone, or is another object of that name.
    #[error("the token is bound to {kind} {name}, which is gone or was replaced")]
    Gone {
        /// `ServiceAccount`, `Pod`, ...
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// Knows every way in.
pub struct Authenticator {
    key: TokenKey,
    /// SHA-256 of `--token`: comparing digests takes the same time whatever the guess.
    static_token: Option<[u8; 32]>,
}

fn digest(token: &str) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Authenticator {
    /// `static_token` is `--token`, which makes its bearer an administrator.
    pub fn new(key: TokenKey, static_token: Option<&str>) -> Authenticator {
        Authenticator { key, static_token: static_token.filter(|t| !t.is_empty()).map(digest) }
    }

    /// The key of service account tokens.
    pub fn token_key(&self) -> &TokenKey {
        &self.key
    }

    /// Who sends this `Authorization` header at `now` (Unix time)? `None` without one.
    pub fn header(&self, header: Option<&str>, state: &impl Lookup, now: i64) -> Result<Option<User>, AuthnError> {
        let Some(header) = header else { return Ok(None) };
        let (scheme, token) = header.trim().split_once(' ').ok_or(AuthnError::Header)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthnError::Header);
        }
        self.token(token.trim(), &[], state, now).map(|(user, _)| Some(user))
    }

    /// Who holds this token? Also the audiences that token and `audiences` (empty: this server) share.
    pub fn token(&self, token: &str, audiences: &[String], state: &impl Lookup, now: i64) -> Result<(User, Vec<String>), AuthnError> {
        let ours = [self.key.issuer().to_owned()];
        let audiences = if audiences.is_empty() { &ours } else { audiences };
        if let Some(expected) = &self.static_token
            && expected.iter().zip(digest(token)).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
        {
            let groups = vec!["system:masters".into(), "system:authenticated".into()];
            return Ok((User { name: "admin".into(), groups, ..User::default() }, audiences.to_vec()));
        }
        let claims = self.key.verify(token, audiences, now)?;
        let shared = claims.aud.iter().filter(|aud| audiences.contains(aud)).cloned().collect();
        Ok((service_account(&claims, state)?, shared))
    }
}

/// The user of a client certificate that TLS has verified: CN is the name, O are the groups.
pub fn certificate(der: &[u8]) -> Result<User, AuthnError> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| AuthnError::Certificate)?;
    let text = |part: &x509_parser::x509::AttributeTypeAndValue<'_>| part.as_str().map(str::to_owned).map_err(|_| AuthnError::Certificate);
    let name = cert.subject().iter_common_name().next().map(text).transpose()?.filter(|n| !n.is_empty()).ok_or(AuthnError::Certificate)?;
    let mut groups = cert.subject().iter_organization().map(text).collect::<Result<Vec<_>, _>>()?;
    groups.push("system:authenticated".into());
    Ok(User { name, groups, ..User::default() })
}

fn same(meta: Option<&ObjectMeta>, kind: &'static str, reference: &Reference) -> Result<(), AuthnError> {
    let alive = meta.is_some_and(|meta| meta.uid.as_deref() == Some(&reference.uid));
    if alive { Ok(()) } else { Err(AuthnError::Gone { kind, name: reference.name.clone() }) }
}

/// The user of verified claims, if all that they are bound to still exists.
fn service_account(claims: &Claims, state: &impl Lookup) -> Result<User, AuthnError> {
    let private = &claims.private;
    let (namespace, account) = (private.namespace.as_str(), &private.serviceaccount);
    same(state.get::<ServiceAccount>(namespace, &account.name).as_ref().map(|o| &o.metadata), "ServiceAccount", account)?;
    let mut extra = std::collections::BTreeMap::new();
    let mut say = |what: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{what}"), vec![value.to_owned()]);
    };
    say("credential-id", &format!("JTI={}", claims.jti));
    if let Some(secret) = &private.secret {
        same(state.get::<Secret>(namespace, &secret.name).as_ref().map(|o| &o.metadata), "Secret", secret)?;
    }
    if let Some(pod) = &private.pod {
        same(state.get::<Pod>(namespace, &pod.name).as_ref().map(|o| &o.metadata), "Pod", pod)?;
        say("pod-name", &pod.name);
        say("pod-uid", &pod.uid);
    }
    if let Some(node) = &private.node {
        // Of a token bound to a pod the node is only information; the pod dies with its node anyway.
        if private.pod.is_none() {
            same(state.get::<Node>("", &node.name).as_ref().map(|o| &o.metadata), "Node", node)?;
        }
        say("node-name", &node.name);
        say("node-uid", &node.uid);
    }
    Ok(User {
        name: format!("system:serviceaccount:{namespace}:{}", account.name),
        uid: account.uid.clone(),
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}"), "system:authenticated".into()],
        extra,
    })
}

#[cfg(test)]
mod tests {
    use super::super::lookup::memory::Memory;
    use super::super::token::tests::{claims, key};
    use super::*;

    const ACCOUNT: &str = "{metadata: {namespace: default, name: web, uid: u-sa}}";
    const POD: &str = "{metadata: {namespace: default, name: p, uid: u-p}}";

    #[test]
    fn service_account_tokens() {
        let authn = Authenticator::new(key(), None);
        let bound = |uid: &str| {
            let mut claims = claims();
            claims.private.pod = Some(Reference { name: "p".into(), uid: uid.into() });
            authn.key.sign(claims).unwrap().0
        };
        let full = || Memory::default().with::<ServiceAccount>(ACCOUNT).with::<Pod>(POD);
        let user = authn.header(Some(&format!("Bearer {}", bound("u-p"))), &full(), 1500).unwrap().unwrap();
        assert_eq!(user.name, "system:serviceaccount:default:web");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        let gone = |kind, name: &str| Err(AuthnError::Gone { kind, name: name.into() });
        let without_pod = Memory::default().with::<ServiceAccount>(ACCOUNT);
        assert_eq!(authn.token(&bound("u-p"), &[], &without_pod, 1500), gone("Pod", "p"));
        assert_eq!(authn.token(&bound("another"), &[], &full(), 1500), gone("Pod", "p"));
        assert_eq!(authn.token(&bound("u-p"), &[], &Memory::default().with::<Pod>(POD), 1500), gone("ServiceAccount", "web"));
    }

    #[test]
    fn headers() {
        let authn = Authenticator::new(key(), Some("s3cret"));
        let state = Memory::default();
        assert_eq!(authn.header(None, &state, 0), Ok(None));
        assert_eq!(authn.header(Some("Basic YTpi"), &state, 0), Err(AuthnError::Header));
        assert_eq!(authn.header(Some("Bearer"), &state, 0), Err(AuthnError::Header));
        assert_eq!(authn.header(Some("Bearer wrong"), &state, 0), Err(AuthnError::Token(TokenError::Malformed)));
        let admin = authn.header(Some("bearer s3cret"), &state, 0).unwrap().unwrap();
        assert!(admin.groups.contains(&"system:masters".to_owned()));
        assert!(Authenticator::new(key(), Some("")).header(Some("Bearer "), &state, 0).is_err(), "an empty token is no token");
    }

    #[test]
    fn certificates() {
        let make = |cn: &str, organization: &str| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, cn);
            params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
        };
        let user = certificate(&make("system:node:n1", "system:nodes")).unwrap();
        assert_eq!((user.name.as_str(), user.groups[0].as_str()), ("system:node:n1", "system:nodes"));
        assert_eq!(certificate(&make("", "x")), Err(AuthnError::Certificate));
        assert_eq!(certificate(b"junk"), Err(AuthnError::Certificate));
    }
}
