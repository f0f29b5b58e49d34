//! What a machine needs to join: the hash of the cluster's authority, and a bootstrap token.
//!
//! Written `K10HASH::ID.SECRET`, as k3s writes it. HASH is the SHA-256 of the authority's public key (SubjectPublicKeyInfo, as in kubeadm's
//! `discovery-token-ca-cert-hash` and RFC 7469), so that a token outlives a renewal of the authority that keeps its key. ID and SECRET
//! are a bootstrap token of upstream's: the ID is no secret, and names its Secret `bootstrap-token-ID`.
//!
//! Never: shows the secret, but through [`JoinToken::reveal`].

use ring::rand::{SecureRandom, SystemRandom};
use x509_parser::prelude::{FromDer, X509Certificate};

const MARK: &str = "K10";
const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// The largest multiple of 36 in a byte: bytes from there on would make some letters likelier.
const FAIR: u8 = 252;

/// Identifies an authority by its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthorityHash([u8; 32]);

impl AuthorityHash {
    /// Of a certificate, DER. `None`: it is none.
    pub fn of(certificate: &[u8]) -> Option<AuthorityHash> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
        digest.as_ref().try_into().ok().map(AuthorityHash)
    }

    fn parse(hex: &str) -> Option<AuthorityHash> {
        let mut bytes = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(AuthorityHash(bytes))
    }
}

impl std::fmt::Display for AuthorityHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for AuthorityHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Whom to believe.
    pub authority: AuthorityHash,
    /// The public half.
    pub id: String,
    secret: String,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinToken({}, ..)", self.id)
    }
}

/// Why a text is no token. Says nothing of its second half.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// A bootstrap token alone.
    #[error(
        "it does not say which authority to trust (a token is K10HASH::ID.SECRET), so the server could not be verified; on the server, \
         `orch token create --print-join-command` prints a whole one"
    )]
    NoHash,
    /// Something else.
    #[error("{0}; a token is K10HASH::ID.SECRET, as `orch token create` prints it: was a part lost when it was copied?")]
    Malformed(&'static str),
}

fn legal(part: &str, length: usize) -> bool {
    part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte))
}

impl JoinToken {
    /// A new one for the cluster of this authority.
    pub fn generate(authority: AuthorityHash) -> Result<JoinToken, ring::error::Unspecified> {
        Ok(JoinToken { authority, id: random(6)?, secret: random(16)? })
    }

    /// From its two halves; `None` if they are no bootstrap token's.
    pub fn of(authority: AuthorityHash, id: &str, secret: &str) -> Option<JoinToken> {
        (legal(id, 6) && legal(secret, 16)).then(|| JoinToken { authority, id: id.into(), secret: secret.into() })
    }

    /// Reads one; space around it does not count.
    pub fn parse(text: &str) -> Result<JoinToken, JoinTokenError> {
        let text = text.trim();
        let bootstrap = |text: &str| text.split_once('.').is_some_and(|(id, secret)| legal(id, 6) && legal(secret, 16));
        let Some(rest) = text.strip_prefix(MARK) else {
            return Err(if bootstrap(text) { JoinTokenError::NoHash } else { JoinTokenError::Malformed("it does not begin with K10") });
        };
        let (hash, token) = rest.split_once("::").ok_or(JoinTokenError::Malformed("it has no ::"))?;
        let authority = AuthorityHash::parse(hash).ok_or(JoinTokenError::Malformed("its hash is not 64 hexadecimal digits"))?;
        let (id, secret) = token.split_once('.').ok_or(JoinTokenError::Malformed("it has no full stop after its ID"))?;
        JoinToken::of(authority, id, secret)
            .ok_or(JoinTokenError::Malformed("its ID and SECRET are not 6 and 16 lower-case letters and digits"))
    }

    /// The bootstrap token, as a bearer shows it. A secret.
    pub fn bootstrap(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The second half. A secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// All of it, as it is typed. A secret.
    pub fn reveal(&self) -> String {
        format!("{MARK}{}::{}", self.authority, self.bootstrap())
    }
}

fn random(length: usize) -> Result<String, ring::error::Unspecified> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0u8; 32];
    while text.len() < length {
        SystemRandom::new().fill(&mut bytes)?;
        let fair = bytes.iter().filter(|byte| **byte < FAIR).map(|byte| char::from(ALPHABET[usize::from(byte % 36)]));
        text.extend(fair.take(length - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let token = JoinToken::generate(AuthorityHash([0xab; 32])).unwrap();
        let text = token.reveal();
        assert_eq!(JoinToken::parse(&format!(" {text}\n")), Ok(token.clone()));
        assert_eq!(text.len(), 3 + 64 + 2 + 6 + 1 + 16);
        assert!(!format!("{token:?}").contains(token.secret()), "{token:?}");
        assert_ne!(JoinToken::generate(token.authority).unwrap(), token);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let hash = "ab".repeat(32);
        for (text, want) in [
            ("abcdef.0123456789abcdef".to_owned(), "which authority"),
            ("secret".into(), "does not begin with K10"),
            (format!("K10{hash}abcdef.0123456789abcdef"), "no ::"),
            (format!("K10{}::abcdef.0123456789abcdef", &hash[2..]), "64 hexadecimal"),
            (format!("K10{}zz::abcdef.0123456789abcdef", &hash[2..]), "64 hexadecimal"),
            (format!("K10{hash}::abcdef0123456789abcdef"), "full stop"),
            (format!("K10{hash}::abcdef.0123456789abcde"), "6 and 16"),
            (format!("K10{hash}::ABCDEF.0123456789abcdef"), "6 and 16"),
        ] {
            let error = JoinToken::parse(&text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
            assert!(!error.contains("0123456789"), "{error}");
        }
    }

    #[test]
    fn an_authority_is_its_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = |name: &str| rcgen::CertificateParams::new(vec![name.into()]).unwrap().self_signed(&key).unwrap();
        let (first, renewed) = (certificate("a"), certificate("b"));
        assert_eq!(AuthorityHash::of(first.der()), AuthorityHash::of(renewed.der()));
        assert!(AuthorityHash::of(first.der()).is_some());
        assert_eq!(AuthorityHash::of(b"x"), None);
    }
}
