//! Service account tokens: JSON web tokens (RFC 7519) signed with ES256, made and checked with `ring` alone.
//!
//! A token names its service account by name *and* uid, and may be bound to a pod, a secret or a node; it dies with any of them, which
//! [`verify`](TokenKey::verify) leaves to the caller ([`super::authn`]) since that needs the state.
//!
//! Follows upstream's `pkg/serviceaccount/claims.go`. Never accepts another algorithm than the one of its own key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Why a token is refused, or can't be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// The key is not a P-256 key in PKCS#8.
    #[error("the service account key is not a P-256 key: {0}")]
    Key(String),
    /// `ring` fails to sign or to give random bytes.
    #[error("signing failed")]
    Sign,
    /// Not a token at all.
    #[error("the token is malformed")]
    Malformed,
    /// Another algorithm, or signed by another key.
    #[error("the token's signature is invalid")]
    Signature,
    /// Not (or no longer) valid at this time.
    #[error("the token has expired or is not valid yet")]
    Time,
    /// From somebody else.
    #[error("the token's issuer is not this cluster")]
    Issuer,
    /// For somebody else.
    #[error("the token's audience is not this server")]
    Audience,
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
}

impl TokenKey {
    /// The key in `pkcs8_der`, for tokens of `https://kubernetes.default.svc.CLUSTER_DOMAIN`.
    pub fn new(pkcs8_der: &[u8], cluster_domain: &str) -> Result<TokenKey, TokenError> {
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8_der, &random).map_err(|e| TokenError::Key(e.to_string()))?;
        let kid = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref()));
        Ok(TokenKey { key, random, kid, issuer: format!("https://kubernetes.default.svc.{cluster_domain}") })
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
        let header = Header { alg: "ES256".into(), kid: self.kid.clone() };
        let part = |json: Result<Vec<u8>, serde_json::Error>| json.map(|j| URL_SAFE_NO_PAD.encode(j)).map_err(|_| TokenError::Sign);
        let signed = format!("{}.{}", part(serde_json::to_vec(&header))?, part(serde_json::to_vec(&claims))?);
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(|_| TokenError::Sign)?;
        Ok((format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)), claims.jti))
    }

    /// The claims of `token`, if it is ours, valid at `now` (Unix time) and for one of `audiences`.
    pub fn verify(&self, token: &str, audiences: &[String], now: i64) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
        if header.alg != "ES256" {
            return Err(TokenError::Signature);
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        public.verify(signed.as_bytes(), &decode(signature)?).map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| TokenError::Malformed)?;
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        if now >= claims.exp || now < claims.nbf {
            return Err(TokenError::Time);
        }
        if !claims.aud.iter().any(|aud| audiences.contains(aud)) {
            return Err(TokenError::Audience);
        }
        Ok(claims)
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
        let audience = [key.issuer().to_owned()];
        let (token, id) = key.sign(claims()).unwrap();
        let back = key.verify(&token, &audience, 1500).unwrap();
        assert_eq!((back.sub.as_str(), &back.jti), ("system:serviceaccount:default:web", &id));
        let mut flipped = token.clone().into_bytes();
        let middle = token.find('.').unwrap() + 5;
        flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(flipped).unwrap();
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), token.split('.').nth(1).unwrap());
        let table = [
            (token.as_str(), &audience[..], 999, TokenError::Time),
            (&token, &audience, 2000, TokenError::Time),
            (&token, &["vault".to_owned()], 1500, TokenError::Audience),
            (&flipped, &audience, 1500, TokenError::Signature),
            (&none, &audience, 1500, TokenError::Signature),
            ("", &audience, 1500, TokenError::Malformed),
            ("a.b", &audience, 1500, TokenError::Malformed),
        ];
        for (token, audiences, now, want) in table {
            assert_eq!(key.verify(token, audiences, now), Err(want), "{token} at {now}");
        }
        let stranger = super::tests::key();
        assert_eq!(stranger.verify(&token, &audience, 1500), Err(TokenError::Signature));
    }

    #[test]
    fn the_public_key_is_published() {
        let set = key().jwks();
        assert_eq!(set["keys"][0]["x"].as_str().unwrap().len(), 43);
        assert!(set["keys"][0].get("d").is_none(), "never the private part");
    }
}
