//! Who asks: every way in, in upstream's order.
//!
//! Words: a *way in* knows one sort of credential. One that is *agnostic* of audiences speaks for this server's own audience only.
//!
//! Invariants: a request without credentials is nobody (`None`), one with wrong credentials is an error and never falls back to nobody;
//! secrets are compared in constant time, by their digests; every authenticated user is in `system:authenticated`; what is in a file is
//! read again when the file changes, and a file that went wrong leaves the last good one in force.
//!
//! Follows upstream's `pkg/kubeapiserver/authenticator/config.go`. Never shows a credential.

pub mod bootstrap_token;
pub mod certificate;
pub mod files;
pub mod front_proxy;
pub mod oidc;
pub mod passwords;
pub mod service_account;
pub mod static_tokens;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio_util::sync::CancellationToken;

use super::lookup::Lookup;
use super::token::{TokenError, TokenKey};
use crate::server::registry::User;
pub use certificate::certificate;
use files::Watched;
use front_proxy::FrontProxy;
use oidc::{Oidc, OidcError};
use passwords::{Checked, Passwords};
use static_tokens::StaticTokens;

const AUTHENTICATED: &str = "system:authenticated";
/// Longest header with a token or a password that is looked at.
const MAX_HEADER: usize = 24 * 1024;

/// Why credentials are refused. The client learns only "Unauthorized"; the log and token reviews say why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthnError {
    /// The client certificate can't be read, or names nobody.
    #[error("the client certificate is unreadable or has no common name")]
    Certificate,
    /// The header is of no known form.
    #[error("the Authorization header is neither a bearer token nor a password that could be checked")]
    Header,
    /// No way in knows the token.
    #[error("invalid bearer token")]
    Unknown,
    /// A token of a service account.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A token of the OpenID Connect issuer.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// Name or password is wrong.
    #[error("wrong user name or password")]
    Password,
    /// More passwords are being checked than this server has time for.
    #[error("too many passwords are being checked")]
    Busy,
}

/// A secret-based token of a service account that was just used: its Secret is to be marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyUse {
    /// Of the Secret.
    pub namespace: String,
    /// Of the Secret.
    pub secret: String,
}

/// Somebody who proved who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub user: User,
    /// The audiences that the credential and the question share; empty for credentials other than tokens.
    pub audiences: Vec<String>,
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub annotations: Vec<(String, String)>,
    /// See [`LegacyUse`].
    pub legacy: Option<LegacyUse>,
}

impl From<User> for Identity {
    fn from(user: User) -> Identity {
        Identity { user, ..Identity::default() }
    }
}

/// Digest of a secret: comparing digests takes the same time whatever the guess.
pub(crate) fn digest(secret: &[u8]) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, secret).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Whether two secrets are the same, in constant time.
pub(crate) fn same_secret(a: &[u8], b: &[u8]) -> bool {
    digest(a).iter().zip(digest(b)).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Adds `system:authenticated`.
pub(crate) fn authenticated(mut user: User) -> User {
    if !user.groups.iter().any(|group| group == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
    user
}

/// The ways in that are not always there.
#[derive(Default)]
pub struct Ways {
    /// `--token`: its bearer is an administrator.
    pub admin_token: Option<String>,
    /// `--token-auth-file`.
    pub tokens: Option<Arc<Watched<StaticTokens>>>,
    /// `--basic-auth-file`.
    pub passwords: Option<Arc<Passwords>>,
    /// `--oidc-...`.
    pub oidc: Option<Arc<Oidc>>,
    /// `--requestheader-...`.
    pub front_proxy: Option<FrontProxy>,
}

/// Knows every way in.
pub struct Authenticator {
    key: TokenKey,
    admin_token: Option<[u8; 32]>,
    ways: Ways,
}

impl Authenticator {
    /// Certificates and the tokens that `key` signs. `admin_token` is `--token`, which makes its bearer an administrator.
    pub fn new(key: TokenKey, admin_token: Option<&str>) -> Authenticator {
        Authenticator::with_ways(key, Ways { admin_token: admin_token.map(String::from), ..Ways::default() })
    }

    /// Those and more.
    pub fn with_ways(key: TokenKey, mut ways: Ways) -> Authenticator {
        let admin_token = ways.admin_token.take().filter(|token| !token.is_empty()).map(|token| digest(token.as_bytes()));
        Authenticator { key, admin_token, ways }
    }

    /// The key of service account tokens.
    pub fn token_key(&self) -> &TokenKey {
        &self.key
    }

    /// Keeps files and keys fresh until `stop`.
    pub async fn keep_fresh(&self, stop: CancellationToken) {
        let tokens = async {
            if let Some(tokens) = &self.ways.tokens {
                tokens.follow(&stop).await;
            }
        };
        let passwords = async {
            if let Some(passwords) = &self.ways.passwords {
                passwords.file().follow(&stop).await;
            }
        };
        let oidc = async {
            if let Some(oidc) = &self.ways.oidc {
                oidc.keep_fresh(&stop).await;
            }
        };
        // With nothing to follow there is still a server to outlive: the end of a task is the end of the server.
        tokio::join!(tokens, passwords, oidc, stop.cancelled());
    }

    /// Who sends these headers at `now` (Unix time)? `None` without credentials. `proxy` is the common name of a client certificate
    /// that the front proxy's authority signed, `certificate` the user of one that the cluster's did.
    pub async fn request(
        &self,
        headers: &HeaderMap,
        proxy: Option<&str>,
        certificate: Option<&User>,
        state: &impl Lookup,
        now: i64,
    ) -> Result<Option<Identity>, AuthnError> {
        if let (Some(way), Some(name)) = (&self.ways.front_proxy, proxy)
            && let Some(user) = way.user(name, headers)
        {
            return Ok(Some(authenticated(user).into()));
        }
        if let Some(user) = certificate {
            return Ok(Some(user.clone().into()));
        }
        let Some(header) = headers.get(AUTHORIZATION) else {
            // A certificate of the front proxy alone is a wrong credential, not none.
            return if proxy.is_some() { Err(AuthnError::Certificate) } else { Ok(None) };
        };
        // A header that is no text is still a header: it must not pass for none.
        let header = header.to_str().ok().filter(|header| header.len() <= MAX_HEADER).ok_or(AuthnError::Header)?;
        let (scheme, credential) = header.trim().split_once(' ').ok_or(AuthnError::Header)?;
        match &self.ways.passwords {
            _ if scheme.eq_ignore_ascii_case("bearer") => self.token(credential.trim(), &[], state, now).await.map(Some),
            Some(passwords) if scheme.eq_ignore_ascii_case("basic") => self.password(passwords, credential.trim()).await.map(Some),
            _ => Err(AuthnError::Header),
        }
    }

    async fn password(&self, passwords: &Passwords, credential: &str) -> Result<Identity, AuthnError> {
        let decoded = STANDARD.decode(credential).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(AuthnError::Header)?;
        let (name, password) = decoded.split_once(':').ok_or(AuthnError::Header)?;
        match passwords.check(name, password).await {
            Checked::Good(user) => Ok(authenticated(user).into()),
            Checked::Wrong => Err(AuthnError::Password),
            Checked::Busy => Err(AuthnError::Busy),
        }
    }

    /// Who holds this token? `audiences` (empty: this server's) are those that it may be for.
    pub async fn token(&self, token: &str, audiences: &[String], state: &impl Lookup, now: i64) -> Result<Identity, AuthnError> {
        let ours = [self.key.issuer().to_owned()];
        let audiences = if audiences.is_empty() { &ours } else { audiences };
        if token.is_empty() || token.len() > MAX_HEADER {
            return Err(AuthnError::Unknown);
        }
        if let Some(found) = service_account::authenticate(&self.key, token, audiences, state, now)? {
            return Ok(found);
        }
        // All others know nothing of audiences: they speak for this server's own.
        if !audiences.contains(&ours[0]) {
            return Err(AuthnError::Unknown);
        }
        let user = match self.agnostic(token, state, now).await? {
            Some(user) => authenticated(user),
            None => return Err(AuthnError::Unknown),
        };
        Ok(Identity { user, audiences: ours.to_vec(), ..Identity::default() })
    }

    async fn agnostic(&self, token: &str, state: &impl Lookup, now: i64) -> Result<Option<User>, AuthnError> {
        if let Some(expected) = &self.admin_token
            && expected.iter().zip(digest(token.as_bytes())).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
        {
            return Ok(Some(User { name: "admin".into(), groups: vec!["system:masters".into()], ..User::default() }));
        }
        if let Some(user) = self.ways.tokens.as_ref().and_then(|tokens| tokens.get().user(token)) {
            return Ok(Some(user));
        }
        if let Some(user) = bootstrap_token::user(token, state, now) {
            return Ok(Some(user));
        }
        match &self.ways.oidc {
            Some(oidc) => Ok(oidc.user(token, now).await?),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lookup::memory::Memory;
    use super::super::token::tests::key;
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(AUTHORIZATION, authorization.parse().unwrap());
        map
    }

    #[tokio::test]
    async fn schemes_and_the_administrators_token() {
        let authn = Authenticator::new(key(), Some("s3cret"));
        let state = Memory::default();
        let ask = async |header: &str| authn.request(&headers(header), None, None, &state, 0).await;
        assert_eq!(authn.request(&HeaderMap::new(), None, None, &state, 0).await, Ok(None));
        assert_eq!(authn.request(&HeaderMap::new(), Some("proxy"), None, &state, 0).await, Err(AuthnError::Certificate));
        assert_eq!(ask("Basic YTpi").await, Err(AuthnError::Header));
        assert_eq!(ask("Bearer").await, Err(AuthnError::Header));
        assert_eq!(ask("Bearer wrong").await, Err(AuthnError::Unknown));
        let admin = ask("bearer s3cret").await.unwrap().unwrap();
        assert_eq!(admin.user.groups, ["system:masters", "system:authenticated"]);
        assert!(Authenticator::new(key(), Some("")).request(&headers("Bearer "), None, None, &state, 0).await.is_err());
        let other = ["vault".to_owned()];
        assert_eq!(authn.token("s3cret", &other, &state, 0).await, Err(AuthnError::Unknown), "it speaks for this server only");
        let both = ["vault".to_owned(), authn.key.issuer().to_owned()];
        assert_eq!(authn.token("s3cret", &both, &state, 0).await.unwrap().audiences, [authn.key.issuer()]);
    }
}
