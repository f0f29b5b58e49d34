//! JSON web key sets (RFC 7517) and signatures by them (RFC 7518), checked by `ring`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature as sig;
use serde::Deserialize;

/// Most keys of a set.
const MAX_KEYS: usize = 256;

/// How a signature is checked.
enum Method {
    Rsa(&'static sig::RsaParameters),
    Ec(&'static sig::EcdsaVerificationAlgorithm, &'static str),
}

/// Algorithms by name.
const METHODS: &[(&str, Method)] = &[
    ("RS256", Method::Rsa(&sig::RSA_PKCS1_2048_8192_SHA256)),
    ("RS384", Method::Rsa(&sig::RSA_PKCS1_2048_8192_SHA384)),
    ("RS512", Method::Rsa(&sig::RSA_PKCS1_2048_8192_SHA512)),
    ("PS256", Method::Rsa(&sig::RSA_PSS_2048_8192_SHA256)),
    ("PS384", Method::Rsa(&sig::RSA_PSS_2048_8192_SHA384)),
    ("PS512", Method::Rsa(&sig::RSA_PSS_2048_8192_SHA512)),
    ("ES256", Method::Ec(&sig::ECDSA_P256_SHA256_FIXED, "P-256")),
    ("ES384", Method::Ec(&sig::ECDSA_P384_SHA384_FIXED, "P-384")),
];

/// What `--oidc-signing-algs` may say.
pub const SUPPORTED: &[&str] = &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

fn method(alg: &str) -> Option<&'static Method> {
    METHODS.iter().find(|(name, _)| *name == alg).map(|(_, method)| method)
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default, rename = "use")]
    usage: String,
    #[serde(default)]
    alg: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: String, point: Vec<u8> },
}

struct Key {
    kid: String,
    /// The only algorithm that it is for; empty: any of its sort.
    alg: String,
    public: Public,
}

/// The keys of an issuer.
pub(super) struct Keys(Vec<Key>);

fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    (zeros < bytes.len()).then(|| bytes[zeros..].to_vec())
}

/// A coordinate of its curve's full length.
fn coordinate(text: &str, length: usize) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    (bytes.len() == length).then_some(bytes)
}

fn public(jwk: &Jwk) -> Option<Public> {
    match jwk.kty.as_str() {
        "RSA" => Some(Public::Rsa { n: number(&jwk.n)?, e: number(&jwk.e)? }),
        "EC" => {
            let length = match jwk.crv.as_str() {
                "P-256" => 32,
                "P-384" => 48,
                _ => return None,
            };
            let point = [vec![4], coordinate(&jwk.x, length)?, coordinate(&jwk.y, length)?].concat();
            Some(Public::Ec { curve: jwk.crv.clone(), point })
        }
        _ => None,
    }
}

impl Keys {
    /// Reads a set; keys of a sort that is not known, or not for signatures, are left out.
    pub(super) fn parse(text: &[u8]) -> Result<Keys, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|error| format!("the key set is malformed: {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("the key set has more than {MAX_KEYS} keys"));
        }
        let keys = set.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            let public = public(&jwk).filter(|_| ["", "sig"].contains(&jwk.usage.as_str()))?;
            Some(Key { kid: jwk.kid, alg: jwk.alg, public })
        });
        Ok(Keys(keys.collect()))
    }

    fn fitting<'a>(&'a self, kid: &'a str, alg: &'a str) -> impl Iterator<Item = &'a Key> {
        let fits = move |key: &&Key| {
            let sort = match (method(alg), &key.public) {
                (Some(Method::Rsa(_)), Public::Rsa { .. }) => true,
                (Some(Method::Ec(_, wanted)), Public::Ec { curve, .. }) => curve == wanted,
                _ => false,
            };
            sort && (kid.is_empty() || key.kid == kid) && (key.alg.is_empty() || key.alg == alg)
        };
        self.0.iter().filter(fits)
    }

    /// Whether some key could have made such a signature.
    pub(super) fn knows(&self, kid: &str, alg: &str) -> bool {
        self.fitting(kid, alg).next().is_some()
    }

    /// Whether one of the keys signed this.
    pub(super) fn verify(&self, kid: &str, alg: &str, signed: &[u8], signature: &[u8]) -> bool {
        self.fitting(kid, alg).any(|key| match (method(alg), &key.public) {
            (Some(Method::Rsa(parameters)), Public::Rsa { n, e }) => {
                sig::RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            (Some(Method::Ec(algorithm, _)), Public::Ec { point, .. }) => {
                sig::UnparsedPublicKey::new(*algorithm, point).verify(signed, signature).is_ok()
            }
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, A.2: the key's public part, what is signed, the signature.
    const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const SIGNED: &str =
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

    #[test]
    fn signatures() {
        let set = format!(
            r#"{{"keys": [{{"kty": "RSA", "kid": "a", "n": "{N}", "e": "AQAB"}}, {{"kty": "oct", "k": "x"}}, {{"kty": "RSA", "use": "enc", "n": "AQ", "e": "AQ"}}, 7]}}"#
        );
        let keys = Keys::parse(set.as_bytes()).unwrap();
        assert_eq!(keys.0.len(), 1);
        let signature = URL_SAFE_NO_PAD.decode(SIGNATURE).unwrap();
        let check = |kid: &str, alg: &str, signed: &str| keys.verify(kid, alg, signed.as_bytes(), &signature);
        assert!(check("a", "RS256", SIGNED) && check("", "RS256", SIGNED));
        assert!(
            !check("b", "RS256", SIGNED) && !check("a", "RS512", SIGNED) && !check("a", "ES256", SIGNED) && !check("a", "none", SIGNED)
        );
        assert!(!check("a", "RS256", "other"));
        assert!(keys.knows("a", "PS256") && !keys.knows("a", "ES256"));
        for bad in ["", "{}", "[]", r#"{"keys": 1}"#] {
            assert!(Keys::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(METHODS.iter().map(|(name, _)| *name).eq(SUPPORTED.iter().copied()));
    }
}
