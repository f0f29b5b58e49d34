//! Service account tokens: JSON web tokens (RFC 7519) signed with ES256, made and checked with `ring` alone.
//!
//! A token names its service account by name *and* uid, and may be bound to a pod, a secret or a node; it dies with any of them, which
//! [`verify`](TokenKey::verify) leaves to the caller ([`super::authn`]) since that needs the state.
//!
//! Follows upstream's `pkg/serviceaccount/claims.go`. Never accepts another algorithm than the one of its own key.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;
/// Most tokens that are remembered as rightly signed.
const MAX_KEPT: usize = 4096;

/// Clocks of one cluster may differ by this much, in seconds.
pub const LEEWAY: i64 = 60;
/// What the issuer of tokens in Secrets is called.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Why a token is refused, or can't be made. In upstream's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// The key is not a P-256 key in PKCS#8.
    #[error("the service account key is not a P-256 key: {0}")]
    Key(String),
    /// `ring` fails to sign or to give random bytes.
    #[error("signing failed")]
    Sign,
    /// Claims that can't be read, though the issuer is right.
    #[error("service account token claims could not be validated due to unexpected private claim")]
    Malformed,
    /// Another algorithm, or signed by another key.
    #[error("square/go-jose: error in cryptographic primitive")]
    Signature,
    /// No longer valid.
    #[error("service account token has expired")]
    Expired,
    /// Not yet.
    #[error("service account token is not valid yet")]
    NotYet,
    /// For somebody else.
    #[error("token audiences {} is invalid for the target audiences {}", quoted(token), quoted(wanted))]
    Audience {
        /// Those of the token.
        token: Vec<String>,
        /// Those that were asked for.
        wanted: Vec<String>,
    },
    /// Its account is gone.
    #[error("serviceaccounts \"{0}\" not found")]
    NoAccount(String),
    /// Its account, or what it is bound to, is another one by now.
    #[error("{0}")]
    Account(String),
    /// What it is bound to is gone.
    #[error("service account token has been invalidated")]
    Invalidated,
    /// Its Secret is gone.
    #[error("Token has been invalidated")]
    LegacyInvalidated,
    /// Its Secret holds another.
    #[error("Token does not match server's copy")]
    OtherCopy,
    /// A claim is missing.
    #[error("{0}")]
    Claim(&'static str),
    /// Its Secret says so.
    #[error(
        "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. Use tokens from the \
         TokenRequest API or manually created secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the \
         secret to temporarily allow use of this token"
    )]
    Marked {
        /// Of the Secret.
        namespace: String,
        /// Its name.
        secret: String,
        /// Whose token it is.
        account: String,
    },
}

/// A list as Go's `%q` shows it.
fn quoted(names: &[String]) -> String {
    format!("[{}]", names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" "))
}

/// An object that a token names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
}

/// The private claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    /// Namespace of the service account.
    pub namespace: String,
    /// The service account.
    pub serviceaccount: Reference,
    /// The pod it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The secret it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The node it is bound to, or that its pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// Unix time after which its use is recorded: its client should have asked for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// What a token in a Secret says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyClaims {
    /// Always the same.
    pub iss: String,
    /// Of account and Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    pub namespace: String,
    /// Name of the Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    pub secret: String,
    /// Name of the account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    pub account: String,
    /// Uid of the account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    pub uid: String,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    #[serde(default)]
    pub sub: String,
}

/// A token whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Bound, with a time.
    Bound(Box<Claims>),
    /// Kept in a Secret.
    Legacy(LegacyClaims),
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it is for.
    pub aud: Vec<String>,
    /// Unix time of its end.
    pub exp: i64,
    /// Unix time of its making.
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// Its own id.
    #[serde(default)]
    pub jti: String,
    /// What Kubernetes adds.
    #[serde(rename = "kubernetes.io")]
    pub private: Private,
    /// Unix time of its beginning.
    #[serde(default)]
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// The key that signs and checks tokens.
pub struct TokenKey {
    key: EcdsaKeyPair,
    random: SystemRandom,
    kid: String,
    issuer: String,
    /// Tokens whose signature was found right, by their digest: clients send the same one again and again.
    right: Mutex<HashMap<[u8; 32], Arc<Verified>>>,
}

impl TokenKey {
    /// The key in `pkcs8_der`, for tokens of `https://kubernetes.default.svc.CLUSTER_DOMAIN`.
    pub fn new(pkcs8_der: &[u8], cluster_domain: &str) -> Result<TokenKey, TokenError> {
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8_der, &random).map_err(|e| TokenError::Key(e.to_string()))?;
        let kid = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref()));
        Ok(TokenKey { key, random, kid, right: Mutex::default(), issuer: format!("https://kubernetes.default.svc.{cluster_domain}") })
    }

    /// What tokens name as their issuer, and the audience of this server.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public key as a JSON web key set.
    pub fn jwks(&self) -> serde_json::Value {
        // An uncompressed point: one byte of form, then x and y.
        let point = &self.key.public_key().as_ref()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        serde_json::json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
    }

    /// Signs `claims`; `iss` and `jti` are set here. Returns the token and its id.
    pub fn sign(&self, mut claims: Claims) -> Result<(String, String), TokenError> {
        let mut id = [0u8; 16];
        self.random.fill(&mut id).map_err(|_| TokenError::Sign)?;
        claims.jti = uuid::Builder::from_random_bytes(id).into_uuid().to_string();
        claims.iss.clone_from(&self.issuer);
        Ok((self.encode(&claims)?, claims.jti))
    }

    /// The token that is kept in a Secret of this account.
    pub fn sign_legacy(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, TokenError> {
        self.encode(&LegacyClaims {
            iss: LEGACY_ISSUER.into(),
            namespace: namespace.into(),
            secret: secret.into(),
            account: account.into(),
            uid: uid.into(),
            sub: format!("system:serviceaccount:{namespace}:{account}"),
        })
    }

    fn encode(&self, claims: &impl Serialize) -> Result<String, TokenError> {
        let header = Header { alg: "ES256".into(), kid: self.kid.clone() };
        let part = |json: Result<Vec<u8>, serde_json::Error>| json.map(|j| URL_SAFE_NO_PAD.encode(j)).map_err(|_| TokenError::Sign);
        let signed = format!("{}.{}", part(serde_json::to_vec(&header))?, part(serde_json::to_vec(claims))?);
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(|_| TokenError::Sign)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What `token` says, if it is ours and rightly signed; `None` if it is no token of this issuer. Times and audiences are not looked
    /// at.
    pub fn verify(&self, token: &str) -> Result<Option<Arc<Verified>>, TokenError> {
        let digest = super::authn::digest(token.as_bytes());
        if let Some(known) = self.right.lock().get(&digest) {
            return Ok(Some(known.clone()));
        }
        let Some(verified) = self.decode(token)?.map(Arc::new) else { return Ok(None) };
        let mut right = self.right.lock();
        if right.len() >= MAX_KEPT {
            right.clear();
        }
        right.insert(digest, verified.clone());
        Ok(Some(verified))
    }

    fn decode(&self, token: &str) -> Result<Option<Verified>, TokenError> {
        #[derive(Deserialize)]
        struct Issuer {
            iss: String,
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let Some((signed, signature)) = token.rsplit_once('.').filter(|_| token.len() <= MAX_TOKEN) else { return Ok(None) };
        let Some((header, claims)) = signed.split_once('.') else { return Ok(None) };
        let Some(claims) = decode(claims) else { return Ok(None) };
        let Ok(Issuer { iss }) = serde_json::from_slice(&claims) else { return Ok(None) };
        if iss != self.issuer && iss != LEGACY_ISSUER {
            return Ok(None);
        }
        let header = decode(header).and_then(|header| serde_json::from_slice::<Header>(&header).ok());
        let signature = decode(signature);
        let (Some(header), Some(signature)) = (header, signature) else { return Err(TokenError::Signature) };
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        if header.alg != "ES256" || public.verify(signed.as_bytes(), &signature).is_err() {
            return Err(TokenError::Signature);
        }
        let malformed = |_| TokenError::Malformed;
        Ok(Some(match iss == LEGACY_ISSUER {
            true => Verified::Legacy(serde_json::from_slice(&claims).map_err(malformed)?),
            false => Verified::Bound(serde_json::from_slice(&claims).map_err(malformed)?),
        }))
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key() -> TokenKey {
        let pair = rcgen::KeyPair::generate().unwrap();
        TokenKey::new(&pair.serialize_der(), "cluster.local").unwrap()
    }

    pub(crate) fn claims() -> Claims {
        Claims {
            aud: vec!["https://kubernetes.default.svc.cluster.local".into()],
            exp: 2000,
            iat: 1000,
            nbf: 1000,
            sub: "system:serviceaccount:default:web".into(),
            private: Private {
                namespace: "default".into(),
                serviceaccount: Reference { name: "web".into(), uid: "u-sa".into() },
                ..Private::default()
            },
            ..Claims::default()
        }
    }

    #[test]
    fn tokens_are_checked() {
        let key = key();
        let (token, id) = key.sign(claims()).unwrap();
        let known = key.verify(&token).unwrap().unwrap();
        let Verified::Bound(back) = &*known else { panic!("it is ours") };
        assert!(Arc::ptr_eq(&known, &key.verify(&token).unwrap().unwrap()), "the signature is checked once");
        assert_eq!((back.sub.as_str(), &back.jti), ("system:serviceaccount:default:web", &id));
        let legacy = key.sign_legacy("default", "web", "u", "s").unwrap();
        assert!(matches!(&*key.verify(&legacy).unwrap().unwrap(), Verified::Legacy(claims) if claims.secret == "s"));
        let parts: Vec<&str> = token.split('.').collect();
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), parts[1]);
        let mut longer: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        longer["exp"] = 9_999_999_999i64.into();
        let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(longer.to_string()), parts[2]);
        for bad in [none.as_str(), &forged, &format!("{}.{}.!", parts[0], parts[1])] {
            assert_eq!(key.verify(bad), Err(TokenError::Signature), "{bad}");
        }
        for strange in ["", "a", "a.b", "a.b.c", "abcdef.0123456789abcdef", &"x.".repeat(MAX_TOKEN)] {
            assert_eq!(key.verify(strange), Ok(None));
        }
        assert_eq!(super::tests::key().verify(&token), Err(TokenError::Signature), "a stranger's key");
    }

    #[test]
    fn the_public_key_is_published() {
        let set = key().jwks();
        assert_eq!(set["keys"][0]["x"].as_str().unwrap().len(), 43);
        assert!(set["keys"][0].get("d").is_none(), "never the private part");
    }
}
