//! ID tokens of an OpenID Connect issuer.
//!
//! Words: the issuer's *keys* are a JSON web key set that is fetched in the background and kept; a *claim* is a member of the token's
//! payload. Username and groups are claims, with prefixes that keep them apart from other users.
//!
//! Invariants: a token of another issuer is not ours to judge (`None`); nothing of a token is believed before its signature; only
//! algorithms that were asked for count, and only with a key of their own sort. A token with an unknown key has the keys fetched again, at
//! most every few seconds, and waits for that.
//!
//! Follows upstream's `apiserver/plugin/pkg/authenticator/token/oidc`.

mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::server::outbound::{Outbound, Peer};
use crate::server::registry::User;
use keys::Keys;
pub use keys::SUPPORTED;

/// Keys are fetched again after this, and after a failure.
const REFRESH: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(10);
/// For tokens with unknown keys: at most this often.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a token with an unknown key waits for a fetch.
const PATIENCE: Duration = Duration::from_secs(6);
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest discovery document or key set.
const MAX_DOCUMENT: usize = 1 << 20;
/// Most groups of one token.
const MAX_GROUPS: usize = 10_000;

/// Why an ID token is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OidcError {
    /// The keys were never fetched.
    #[error("oidc: authenticator not initialized")]
    NotReady,
    /// The signature, or what it covers.
    #[error("oidc: verify token: {0}")]
    Verify(String),
    /// A claim is not as it must be.
    #[error("oidc: {0}")]
    Claim(String),
}

fn verify(why: impl Into<String>) -> OidcError {
    OidcError::Verify(why.into())
}

fn claim(why: impl Into<String>) -> OidcError {
    OidcError::Claim(why.into())
}

/// `--oidc-*`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `iss` of its tokens; https.
    pub issuer_url: String,
    /// Must be among `aud`.
    pub client_id: String,
    /// The claim with the name.
    pub username_claim: String,
    /// Put before the name.
    pub username_prefix: String,
    /// The claim with the groups.
    pub groups_claim: Option<String>,
    /// Put before each group.
    pub groups_prefix: String,
    /// Claims that must have these values.
    pub required_claims: BTreeMap<String, String>,
    /// Whom to trust, PEM; `None`: the system's authorities.
    pub ca_pem: Option<Vec<u8>>,
    /// Such as `RS256`; each one of [`SUPPORTED`].
    pub signing_algs: Vec<String>,
}

/// Knows one issuer.
pub struct Oidc {
    settings: Settings,
    outbound: Outbound,
    keys: ArcSwapOption<Keys>,
    /// Asks for a fetch; counts finished ones.
    wanted: Notify,
    fetched: watch::Sender<u64>,
    last: Mutex<Option<Instant>>,
}

/// A token taken apart; nothing of it is believed yet.
struct Parts<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    alg: String,
    kid: String,
    claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

fn parts(token: &str) -> Option<Parts<'_>> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let Header { alg, kid } = serde_json::from_slice(&decode(header)?).ok()?;
    Some(Parts { signed, signature: decode(signature)?, alg, kid, claims: serde_json::from_slice(&decode(claims)?).ok()? })
}

impl Oidc {
    /// An issuer whose keys are fetched by [`keep_fresh`](Oidc::keep_fresh).
    pub fn new(settings: Settings, outbound: Outbound) -> Oidc {
        let (fetched, _) = watch::channel(0);
        Oidc { settings, outbound, keys: ArcSwapOption::empty(), wanted: Notify::new(), fetched, last: Mutex::default() }
    }

    /// Fetches the keys now and then, and when a token needs it, until `stop`.
    pub async fn keep_fresh(&self, stop: &CancellationToken) {
        loop {
            let pause = match self.fetch().await {
                Ok(keys) => {
                    self.keys.store(Some(Arc::new(keys)));
                    REFRESH
                }
                Err(why) => {
                    tracing::warn!(issuer = self.settings.issuer_url, why, "fetching the keys of the OpenID Connect issuer");
                    RETRY
                }
            };
            *self.last.lock() = Some(Instant::now());
            self.fetched.send_modify(|count| *count += 1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let peer = Peer::webhook(Some(url), None, self.settings.ca_pem.as_deref()).map_err(|error| error.to_string())?;
        let request = Request::get(peer.url("")).body(Body::empty()).map_err(|error| error.to_string())?;
        let answer = self.outbound.fetch(&peer, request, FETCH_TIMEOUT, MAX_DOCUMENT).await.map_err(|error| error.to_string())?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body().to_vec()),
            code => Err(format!("{url} answered {code}")),
        }
    }

    async fn fetch(&self) -> Result<Keys, String> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        let issuer = &self.settings.issuer_url;
        let document = self.get(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).await?;
        let document: Document =
            serde_json::from_slice(&document).map_err(|error| format!("the discovery document is malformed: {error}"))?;
        if document.issuer != *issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {issuer:?} got {:?}",
                document.issuer
            ));
        }
        Keys::parse(&self.get(&document.jwks_uri).await?)
    }

    /// Has the keys fetched again, unless that was just done, and waits for it.
    async fn refreshed(&self) {
        if self.last.lock().is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        let mut fetched = self.fetched.subscribe();
        fetched.borrow_and_update();
        self.wanted.notify_one();
        // Nobody may be keeping them fresh any more: then there is nothing to wait for.
        let _ = tokio::time::timeout(PATIENCE, fetched.changed()).await;
    }

    /// Whose token this is. `None`: another issuer's.
    pub async fn user(&self, token: &str, now: i64) -> Result<Option<User>, OidcError> {
        let Some(parts) = parts(token) else { return Ok(None) };
        if parts.claims.get("iss").and_then(Value::as_str) != Some(&self.settings.issuer_url) {
            return Ok(None);
        }
        if !self.settings.signing_algs.contains(&parts.alg) {
            let (wanted, got) = (&self.settings.signing_algs, &parts.alg);
            return Err(verify(format!("oidc: id token signed with unsupported algorithm, expected {wanted:?} got {got:?}")));
        }
        let known = |keys: &Option<Arc<Keys>>| keys.as_ref().is_some_and(|keys| keys.knows(&parts.kid, &parts.alg));
        if !known(&self.keys.load()) {
            self.refreshed().await;
        }
        let keys = self.keys.load();
        let keys = keys.as_ref().ok_or(OidcError::NotReady)?;
        if !keys.verify(&parts.kid, &parts.alg, parts.signed.as_bytes(), &parts.signature) {
            return Err(verify("failed to verify signature: failed to verify id token signature"));
        }
        self.settings.check(&parts.claims, now)?;
        self.settings.user(&parts.claims).map(Some)
    }
}

fn number(claims: &Map<String, Value>, name: &str) -> Option<f64> {
    claims.get(name).and_then(Value::as_f64)
}

/// A claim that is a string or a list of strings.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|one| one.as_str().map(String::from)).collect(),
        _ => None,
    }
}

impl Settings {
    /// Time and audience.
    fn check(&self, claims: &Map<String, Value>, now: i64) -> Result<(), OidcError> {
        let now = now as f64;
        let audiences = claims.get("aud").and_then(strings).unwrap_or_default();
        if !audiences.contains(&self.client_id) {
            return Err(verify(format!("oidc: expected audience {:?} got {audiences:?}", self.client_id)));
        }
        let expiry = number(claims, "exp").ok_or_else(|| verify("oidc: the token has no expiry"))?;
        if expiry <= now {
            return Err(verify(format!("oidc: token is expired (Token Expiry: {expiry})")));
        }
        // Clocks differ: five minutes, as upstream's library.
        match number(claims, "nbf") {
            Some(begin) if begin > now + 300.0 => {
                Err(verify(format!("oidc: current time {now} before the nbf (not before) time: {begin}")))
            }
            _ => Ok(()),
        }
    }

    /// The user of claims that are believed.
    fn user(&self, claims: &Map<String, Value>) -> Result<User, OidcError> {
        let wanted = &self.username_claim;
        let name = claims.get(wanted).ok_or_else(|| claim(format!("parse username claims {wanted:?}: claim not present")))?;
        let name = name.as_str().ok_or_else(|| claim(format!("parse username claims {wanted:?}: it is not a string")))?;
        if name.is_empty() {
            return Err(claim(format!("parse username claims {wanted:?}: it is empty")));
        }
        if wanted == "email" && claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true)) {
            return Err(claim("email not verified"));
        }
        for (key, value) in &self.required_claims {
            match claims.get(key).map(|found| found.as_str()) {
                None => return Err(claim(format!("required claim {key} not present in ID token"))),
                Some(None) => return Err(claim(format!("parse claim {key}: it is not a string"))),
                Some(Some(found)) if found != value => {
                    return Err(claim(format!("required claim {key} value does not match. Got = {found}, want = {value}")));
                }
                Some(Some(_)) => {}
            }
        }
        let groups = match self.groups_claim.as_ref().and_then(|name| Some((name, claims.get(name)?))) {
            None => Vec::new(),
            Some((name, value)) => {
                let groups = strings(value)
                    .ok_or_else(|| claim(format!("parse groups claim {name:?}: it is neither a string nor a list of strings")))?;
                if groups.len() > MAX_GROUPS {
                    return Err(claim(format!("parse groups claim {name:?}: there are more than {MAX_GROUPS}")));
                }
                groups.into_iter().map(|group| format!("{}{group}", self.groups_prefix)).collect()
            }
        };
        let mut user = User { name: format!("{}{name}", self.username_prefix), groups, ..User::default() };
        if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![format!("JTI={id}")]);
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            issuer_url: "https://issuer".into(),
            client_id: "orch".into(),
            username_claim: "email".into(),
            username_prefix: "oidc:".into(),
            groups_claim: Some("groups".into()),
            groups_prefix: "g:".into(),
            required_claims: [("hd".to_owned(), "acme".to_owned())].into(),
            ca_pem: None,
            signing_algs: vec!["RS256".into()],
        }
    }

    #[test]
    fn claims_make_a_user() {
        let user = |claims: &str| {
            let claims: Map<String, Value> = serde_yaml::from_str(claims).unwrap();
            settings()
                .check(&claims, 1000)
                .and_then(|()| settings().user(&claims))
                .map(|user| (user.name, user.groups))
                .map_err(|e| e.to_string())
        };
        let good = "{aud: [x, orch], exp: 2000, email: a@b, hd: acme";
        let groups = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        for (claims, want) in [
            (format!("{good}, groups: [x, y]}}"), Ok(groups(&["g:x", "g:y"]))),
            (format!("{good}, groups: x, email_verified: true}}"), Ok(groups(&["g:x"]))),
            (format!("{good}}}"), Ok(groups(&[]))),
            (format!("{good}, groups: [1]}}"), Err("oidc: parse groups claim \"groups\": it is neither a string nor a list of strings")),
            (format!("{good}, email_verified: false}}"), Err("oidc: email not verified")),
            ("{aud: orch, exp: 2000, email: a@b}".into(), Err("oidc: required claim hd not present in ID token")),
            ("{aud: orch, exp: 2000, email: a@b, hd: x}".into(), Err("oidc: required claim hd value does not match. Got = x, want = acme")),
            ("{aud: orch, exp: 2000}".into(), Err("oidc: parse username claims \"email\": claim not present")),
            ("{aud: else, exp: 2000}".into(), Err("oidc: verify token: oidc: expected audience \"orch\" got [\"else\"]")),
            ("{aud: orch, exp: 900}".into(), Err("oidc: verify token: oidc: token is expired (Token Expiry: 900)")),
            ("{aud: orch}".into(), Err("oidc: verify token: oidc: the token has no expiry")),
        ] {
            let want = want.map(|groups| ("oidc:a@b".to_owned(), groups)).map_err(str::to_owned);
            assert_eq!(user(&claims), want, "{claims}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_ours() {
        for text in ["", "a", "a.b", "a.b.c", "..", "abcdef.0123456789abcdef"] {
            assert!(parts(text).is_none(), "{text}");
        }
    }
}
