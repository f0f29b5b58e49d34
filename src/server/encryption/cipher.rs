//! The ciphers, each with a key, in the layouts that upstream writes: `k8s:enc:CIPHER:v1:NAME:` and then nonce and ciphertext.
//!
//! Follows `apiserver/pkg/storage/value/encrypt`. The object's key in the store is authenticated where the cipher can do that
//! (AES-GCM), so that a sealed object can't be moved to another name. Never: shows a key, or any byte of what it opens, in an error.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use crypto_secretbox::aead::AeadInPlace;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// What every sealed object begins with. JSON never does.
const SEALED: &[u8] = b"k8s:enc:";
const CBC_BLOCK: usize = 16;
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;

/// One way of sealing.
pub(super) enum Cipher {
    /// Leaves everything as it is.
    Identity,
    /// With a key.
    Keyed { prefix: Vec<u8>, name: String, algorithm: Algorithm },
}

pub(super) enum Algorithm {
    Gcm(Box<LessSafeKey>),
    Cbc(Vec<u8>),
    SecretBox(Box<XSalsa20Poly1305>),
}

/// Whether bytes are sealed by anything.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(SEALED)
}

/// `aesgcm`, `NAME` of `k8s:enc:aesgcm:v1:NAME:...`, for messages.
pub(super) fn describe(bytes: &[u8]) -> Option<(&str, &str)> {
    let head = &bytes[..bytes.len().min(256)];
    let text = std::str::from_utf8(head).unwrap_or_else(|error| std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default());
    let mut parts = text.strip_prefix("k8s:enc:")?.splitn(4, ':');
    let (cipher, _, name) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().map(|_| (cipher, name))
}

impl Cipher {
    fn keyed(kind: &str, name: &str, algorithm: Algorithm) -> Cipher {
        Cipher::Keyed { prefix: format!("k8s:enc:{kind}:v1:{name}:").into(), name: name.into(), algorithm }
    }

    /// AES-GCM with a key of 16 or 32 bytes.
    pub(super) fn aesgcm(name: &str, key: &[u8]) -> Result<Cipher, String> {
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, key).map_err(|_| format!("the key {name:?} has not 16 or 32 bytes"))?;
        Ok(Cipher::keyed("aesgcm", name, Algorithm::Gcm(Box::new(LessSafeKey::new(key)))))
    }

    /// AES-CBC with a key of 16, 24 or 32 bytes.
    pub(super) fn aescbc(name: &str, key: &[u8]) -> Result<Cipher, String> {
        match key.len() {
            16 | 24 | 32 => Ok(Cipher::keyed("aescbc", name, Algorithm::Cbc(key.to_vec()))),
            _ => Err(format!("the key {name:?} has not 16, 24 or 32 bytes")),
        }
    }

    /// XSalsa20-Poly1305 with a key of 32 bytes.
    pub(super) fn secretbox(name: &str, key: &[u8]) -> Result<Cipher, String> {
        let key = XSalsa20Poly1305::new_from_slice(key).map_err(|_| format!("the key {name:?} has not 32 bytes"))?;
        Ok(Cipher::keyed("secretbox", name, Algorithm::SecretBox(Box::new(key))))
    }

    /// As `orch secrets-encrypt status` shows it: type and key name.
    pub(super) fn show(&self) -> (&'static str, &str) {
        match self {
            Cipher::Identity => ("identity", ""),
            Cipher::Keyed { name, algorithm: Algorithm::Gcm(_), .. } => ("AES-GCM", name),
            Cipher::Keyed { name, algorithm: Algorithm::Cbc(_), .. } => ("AES-CBC", name),
            Cipher::Keyed { name, algorithm: Algorithm::SecretBox(_), .. } => ("XSalsa20-POLY1305", name),
        }
    }

    /// Whether `sealed` says that it was made by this cipher under a key of this name.
    pub(super) fn made(&self, sealed: &[u8]) -> bool {
        match self {
            Cipher::Identity => !is_sealed(sealed),
            Cipher::Keyed { prefix, .. } => sealed.starts_with(prefix),
        }
    }

    /// Seals; `None` leaves the bytes as they are.
    pub(super) fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Cipher::Keyed { prefix, algorithm, .. } = self else { return Ok(None) };
        let mut out = Vec::with_capacity(prefix.len() + BOX_NONCE + plain.len() + CBC_BLOCK);
        out.extend_from_slice(prefix);
        match algorithm {
            Algorithm::Gcm(key) => {
                let nonce = random::<NONCE_LEN>()?;
                out.extend_from_slice(&nonce);
                let start = out.len();
                out.extend_from_slice(plain);
                let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut out[start..]);
                out.extend_from_slice(tag.map_err(|_| "the object is too large to be encrypted")?.as_ref());
            }
            Algorithm::Cbc(key) => {
                let iv = random::<CBC_BLOCK>()?;
                out.extend_from_slice(&iv);
                out.extend_from_slice(&cbc_seal(key, &iv, plain)?);
            }
            Algorithm::SecretBox(key) => {
                let nonce = random::<BOX_NONCE>()?;
                out.extend_from_slice(&nonce);
                let mut text = plain.to_vec();
                let tag = key.encrypt_in_place_detached(&nonce.into(), b"", &mut text);
                // NaCl puts the tag before the text.
                out.extend_from_slice(&tag.map_err(|_| "the object is too large to be encrypted")?);
                out.extend_from_slice(&text);
            }
        }
        Ok(Some(out))
    }

    /// Opens what [`Cipher::made`] says is its own. `None`: the bytes as they are. An error: the key is not the one that sealed it, or
    /// the bytes were changed.
    pub(super) fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, ()> {
        let Cipher::Keyed { prefix, algorithm, .. } = self else { return Ok(None) };
        let body = sealed.get(prefix.len()..).ok_or(())?;
        let plain = match algorithm {
            Algorithm::Gcm(key) => {
                let (nonce, text) = body.split_first_chunk::<NONCE_LEN>().ok_or(())?;
                let mut text = text.to_vec();
                let length = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut text).map_err(|_| ())?.len();
                text.truncate(length);
                text
            }
            Algorithm::Cbc(key) => {
                let (iv, text) = body.split_first_chunk::<CBC_BLOCK>().ok_or(())?;
                cbc_open(key, iv, text)?
            }
            Algorithm::SecretBox(key) => {
                let (nonce, rest) = body.split_first_chunk::<BOX_NONCE>().ok_or(())?;
                let (tag, text) = rest.split_first_chunk::<BOX_TAG>().ok_or(())?;
                let mut text = text.to_vec();
                key.decrypt_in_place_detached(&(*nonce).into(), b"", &mut text, &(*tag).into()).map_err(|_| ())?;
                text
            }
        };
        Ok(Some(plain))
    }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system has no randomness")?;
    Ok(bytes)
}

fn cbc_seal(key: &[u8], iv: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |_| "the key has an unusable length".to_owned();
    Ok(match key.len() {
        16 => cbc::Encryptor::<aes::Aes128>::new_from_slices(key, iv).map_err(wrong)?.encrypt_padded_vec_mut::<Pkcs7>(plain),
        24 => cbc::Encryptor::<aes::Aes192>::new_from_slices(key, iv).map_err(wrong)?.encrypt_padded_vec_mut::<Pkcs7>(plain),
        _ => cbc::Encryptor::<aes::Aes256>::new_from_slices(key, iv).map_err(wrong)?.encrypt_padded_vec_mut::<Pkcs7>(plain),
    })
}

fn cbc_open(key: &[u8], iv: &[u8], text: &[u8]) -> Result<Vec<u8>, ()> {
    match key.len() {
        16 => {
            cbc::Decryptor::<aes::Aes128>::new_from_slices(key, iv).map_err(|_| ())?.decrypt_padded_vec_mut::<Pkcs7>(text).map_err(|_| ())
        }
        24 => {
            cbc::Decryptor::<aes::Aes192>::new_from_slices(key, iv).map_err(|_| ())?.decrypt_padded_vec_mut::<Pkcs7>(text).map_err(|_| ())
        }
        _ => cbc::Decryptor::<aes::Aes256>::new_from_slices(key, iv).map_err(|_| ())?.decrypt_padded_vec_mut::<Pkcs7>(text).map_err(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_again_and_only_as_it_was() {
        let ciphers = [
            Cipher::aesgcm("k", &[1; 16]).unwrap(),
            Cipher::aesgcm("k", &[1; 32]).unwrap(),
            Cipher::aescbc("k", &[1; 16]).unwrap(),
            Cipher::aescbc("k", &[1; 24]).unwrap(),
            Cipher::aescbc("k", &[1; 32]).unwrap(),
            Cipher::secretbox("k", &[1; 32]).unwrap(),
        ];
        for cipher in &ciphers {
            for plain in [&b""[..], b"{}", &[b'x'; 1000]] {
                let sealed = cipher.seal(b"a", plain).unwrap().unwrap();
                assert!(is_sealed(&sealed) && cipher.made(&sealed) && !Cipher::Identity.made(&sealed));
                assert!(plain.len() < 16 || !sealed.windows(16).any(|part| part == &plain[..16]), "{:?}", cipher.show());
                assert_eq!(cipher.open(b"a", &sealed).unwrap().unwrap(), plain, "{:?}", cipher.show());
                assert_ne!(sealed, cipher.seal(b"a", plain).unwrap().unwrap(), "a nonce is never used twice");
                assert!(cipher.open(b"a", &sealed[..sealed.len() - 1]).is_err());
                if !matches!(cipher, Cipher::Keyed { algorithm: Algorithm::Cbc(_), .. }) {
                    let mut spoilt = sealed.clone();
                    *spoilt.last_mut().unwrap() ^= 1;
                    assert!(cipher.open(b"a", &spoilt).is_err(), "{:?}", cipher.show());
                }
            }
        }
        let sealed = ciphers[1].seal(b"a", b"{}").unwrap().unwrap();
        assert!(ciphers[1].open(b"b", &sealed).is_err(), "moved to another key of the store");
        assert!(Cipher::aesgcm("k", &[2; 32]).unwrap().open(b"a", &sealed).is_err(), "another key");
        assert_eq!(describe(&sealed), Some(("aesgcm", "k")));
        assert_eq!(describe(b"{}"), None);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(
            Cipher::aesgcm("k", &[0; 24]).is_err() && Cipher::aescbc("k", &[0; 20]).is_err() && Cipher::secretbox("k", &[0; 16]).is_err()
        );
    }
}
