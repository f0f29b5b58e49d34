//! Secrets at rest: which objects are sealed, with which keys, and how keys change.
//!
//! Words: a *managed* configuration is ours: Secrets under AES-256-GCM, its keys in a file of the data directory that no backup holds
//! (`cred/encryption-config.json`, mode 0600). A *given* one is the user's file (`--encryption-provider-config`), whose keys we never change.
//! To *rotate* is to seal with a new key from now on; to *reencrypt* is to seal everything anew and to let the old keys go.
//!
//! Invariants: a key is on the disk before anything is sealed with it; an old key goes only after nothing is sealed with it any more,
//! backups included; a key that is missing or wrong stops the start, says which, and changes nothing.
//!
//! Follows upstream's `EncryptionConfiguration` ([`config`]) and, for the commands, k3s's `secrets-encrypt`. Never: logs or returns a key.

mod cipher;
pub mod config;
mod rotate;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};

use crate::api::Key;
use crate::server::store::{Codec, CodecError};
use cipher::Cipher;
use config::{EncryptionConfiguration, Identity, Keys, NamedKey, Provider, ResourceConfiguration, Rule};
pub use rotate::{Keeper, RotateError};

/// Why keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// A file operation.
    #[error("{doing} {path}: {source}")]
    Io {
        /// Such as `reading`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path} can't be used as encryption configuration: {why}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Everything that is wrong.
        why: String,
    },
    /// The user's keys are the user's.
    #[error("the keys are given in {0}: add a new first key there, restart the server, and run `orch secrets-encrypt reencrypt`")]
    Given(PathBuf),
    /// No random numbers.
    #[error("the system has no randomness for a key")]
    Random,
}

/// The rules in force, and the file they came from.
struct Current {
    config: EncryptionConfiguration,
    rules: Vec<Rule>,
}

impl Current {
    fn of(config: EncryptionConfiguration, path: &Path) -> Result<Current, EncryptionError> {
        let invalid = |why| EncryptionError::Invalid { path: path.into(), why };
        let wrong = config.validate();
        if !wrong.is_empty() {
            return Err(invalid(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")));
        }
        let rules = config.rules().map_err(invalid)?;
        Ok(Current { config, rules })
    }

    fn ciphers(&self, key: &Key) -> &[Cipher] {
        let (group, resource) = (key.group(), key.resource());
        self.rules.iter().find(|rule| rule.resources.iter().any(|pattern| pattern.fits(group, resource))).map_or(&[], |rule| &rule.ciphers)
    }
}

/// The store's codec, with keys that may change while the server runs.
pub struct Encryption {
    current: ArcSwap<Current>,
    path: PathBuf,
    managed: bool,
    /// Whether the managed file is still to be written: a key that has sealed nothing yet.
    unsaved: AtomicBool,
    /// Held while keys change.
    changing: Mutex<()>,
}

impl Encryption {
    /// Where the managed keys of a data directory are.
    pub fn managed_path(data_dir: &Path) -> PathBuf {
        data_dir.join("cred").join("encryption-config.json")
    }

    /// Reads the user's file, if `given`, or else the managed one; makes a key where there is none, without writing it yet.
    pub fn open(data_dir: &Path, given: Option<&Path>) -> Result<Encryption, EncryptionError> {
        let path = given.map_or_else(|| Encryption::managed_path(data_dir), Path::to_path_buf);
        let (config, unsaved) = match fs::read_to_string(&path) {
            Ok(text) => {
                let invalid = |why| EncryptionError::Invalid { path: path.clone(), why };
                (EncryptionConfiguration::parse(&text).map_err(invalid)?, false)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => (managed(vec![new_key()?]), true),
            Err(source) => return Err(EncryptionError::Io { doing: "reading", path, source }),
        };
        let current = ArcSwap::from_pointee(Current::of(config, &path)?);
        Ok(Encryption { current, path, managed: given.is_none(), unsaved: unsaved.into(), changing: Mutex::new(()) })
    }

    /// Writes a key that was made by [`Encryption::open`]. To be called once the store is open, and before anything is written to it.
    pub fn save(&self) -> Result<(), EncryptionError> {
        if self.unsaved.load(Ordering::Relaxed) {
            self.write(&self.current.load().config)?;
            self.unsaved.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the keys are ours.
    pub fn is_managed(&self) -> bool {
        self.managed
    }

    /// Whether a rotation was begun that no reencryption has followed yet.
    fn is_between(&self) -> bool {
        self.managed_keys().is_ok_and(|keys| keys.len() > 1)
    }

    fn write(&self, config: &EncryptionConfiguration) -> Result<(), EncryptionError> {
        let failed = |doing, path: &Path| {
            let path = path.to_path_buf();
            move |source| EncryptionError::Io { doing, path, source }
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("making", folder))?;
        let temporary = self.path.with_extension("new");
        let text = serde_json::to_vec_pretty(config).expect("a configuration is plain data");
        let write = || {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(failed("writing", &self.path))
    }

    /// The keys of the managed file, the sealing one first.
    fn managed_keys(&self) -> Result<Vec<NamedKey>, EncryptionError> {
        if !self.managed {
            return Err(EncryptionError::Given(self.path.clone()));
        }
        let current = self.current.load();
        let providers = current.config.resources.iter().flat_map(|entry| &entry.providers);
        Ok(providers.filter_map(|provider| provider.aesgcm.as_ref()).flat_map(|keys| keys.keys.clone()).collect())
    }

    /// Takes these keys, first on the disk, then in force.
    fn adopt(&self, keys: Vec<NamedKey>) -> Result<(), EncryptionError> {
        let next = Current::of(managed(keys), &self.path)?;
        self.write(&next.config)?;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// From now on a new key seals; the old ones still open. Returns its name.
    fn add_key(&self) -> Result<String, EncryptionError> {
        let _changing = self.changing.lock();
        let mut keys = self.managed_keys()?;
        let key = new_key()?;
        let name = key.name.clone();
        keys.insert(0, key);
        self.adopt(keys)?;
        Ok(name)
    }

    /// Lets go every key but `name`, if that is still the sealing one. (If not, somebody rotated meanwhile, and will come here again.)
    fn keep_only(&self, name: &str) -> Result<(), EncryptionError> {
        let _changing = self.changing.lock();
        let mut keys = self.managed_keys()?;
        if keys.first().is_some_and(|key| key.name == name) && keys.len() > 1 {
            keys.truncate(1);
            self.adopt(keys)?;
        }
        Ok(())
    }
}

/// The managed configuration. What was written before there were keys stays readable.
fn managed(keys: Vec<NamedKey>) -> EncryptionConfiguration {
    let providers = vec![
        Provider { aesgcm: Some(Keys { keys }), ..Provider::default() },
        Provider { identity: Some(Identity {}), ..Provider::default() },
    ];
    EncryptionConfiguration::of(vec![ResourceConfiguration { resources: vec!["secrets".into()], providers }])
}

fn new_key() -> Result<NamedKey, EncryptionError> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| EncryptionError::Random)?;
    let mut unique = [0; 4];
    SystemRandom::new().fill(&mut unique).map_err(|_| EncryptionError::Random)?;
    // No colon: that ends the name in what is sealed. Unique, so that a lost key is not mistaken for a present one.
    let name = format!("aesgcmkey-{}-{:08x}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ"), u32::from_be_bytes(unique));
    Ok(NamedKey { name, secret: STANDARD.encode(secret) })
}

impl Codec for Encryption {
    fn seal(&self, key: &Key, plain: &Bytes) -> Result<Bytes, CodecError> {
        let current = self.current.load();
        let Some(cipher) = current.ciphers(key).first() else { return Ok(plain.clone()) };
        let sealed = cipher.seal(key.as_str().as_bytes(), plain).map_err(CodecError)?;
        Ok(sealed.map_or_else(|| plain.clone(), Bytes::from))
    }

    fn open(&self, key: &Key, sealed: &Bytes) -> Result<Bytes, CodecError> {
        let current = self.current.load();
        let ciphers = current.ciphers(key);
        if ciphers.is_empty() && !cipher::is_sealed(sealed) {
            return Ok(sealed.clone());
        }
        let mut tried = false;
        for cipher in ciphers.iter().filter(|cipher| cipher.made(sealed)) {
            tried = true;
            // If not: another key of the same name may fit.
            if let Ok(plain) = cipher.open(key.as_str().as_bytes(), sealed) {
                return Ok(plain.map_or_else(|| sealed.clone(), Bytes::from));
            }
        }
        Err(CodecError(self.explain(key, sealed, tried)))
    }

    fn is_stale(&self, key: &Key, sealed: &Bytes) -> bool {
        match self.current.load().ciphers(key).first() {
            Some(cipher) => !cipher.made(sealed),
            None => false,
        }
    }
}

impl Encryption {
    /// Why something can't be opened, and what to do.
    fn explain(&self, key: &Key, sealed: &[u8], tried: bool) -> String {
        let path = self.path.display();
        let absent = self.unsaved.load(Ordering::Relaxed);
        match cipher::describe(sealed) {
            Some((cipher, name)) if absent => {
                format!("it is encrypted with the {cipher} key {name:?}, but {path} is missing; put that file back (nothing was changed)")
            }
            Some((cipher, name)) if tried => format!(
                "it is encrypted with the {cipher} key {name:?}, but the key of that name in {path} is another one, or the object was \
                 damaged; put the right key back (nothing was changed)"
            ),
            Some((cipher, name)) => format!(
                "it is encrypted with the {cipher} key {name:?}, which {path} does not list for {}; add it there (nothing was changed)",
                crate::api::status::qualified(key.group(), key.resource())
            ),
            None => format!(
                "it is not encrypted, but {path} has no identity provider for {}; add `identity: {{}}` as the last one, and remove it \
                 after `orch secrets-encrypt reencrypt` (nothing was changed)",
                crate::api::status::qualified(key.group(), key.resource())
            ),
        }
    }
}

#[cfg(test)]
mod tests;
