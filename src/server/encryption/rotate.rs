//! Keys that change while the server runs: what `orch secrets-encrypt` asks for.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Encryption, EncryptionError};
use crate::server::store::{BackendError, Store, StoreError, backup};

/// Why a rotation did not come to its end. What was done stays valid: the same command may be given again.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// Keys.
    #[error(transparent)]
    Keys(#[from] EncryptionError),
    /// Sealing anew.
    #[error("sealing everything with the new key: {0}; the old keys are kept, try `orch secrets-encrypt reencrypt` again")]
    Store(#[from] StoreError),
    /// The backups under old keys could not be replaced.
    #[error("replacing the backups that old keys sealed: {0}; the old keys are kept, try `orch secrets-encrypt reencrypt` again")]
    Backup(#[from] BackendError),
}

/// Changes keys and seals the store anew. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    encryption: Arc<Encryption>,
    store: Store,
    /// The store's directory, where backups are.
    dir: PathBuf,
    /// One at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Keeper {
    /// Keeps the keys of `store`, which lies in `dir`.
    pub fn new(encryption: Arc<Encryption>, store: Store, dir: PathBuf) -> Keeper {
        Keeper { encryption, store, dir, turn: Arc::default() }
    }

    /// What is sealed with what. Key names, never keys.
    pub fn status(&self) -> Value {
        let current = self.encryption.current.load();
        let entry = |rule: &super::Rule, names: &[String]| {
            let keys = rule.ciphers.iter().enumerate().map(|(index, cipher)| {
                let (kind, name) = cipher.show();
                json!({"active": index == 0, "type": kind, "name": name})
            });
            json!({"resources": names, "keys": keys.collect::<Vec<_>>()})
        };
        let entries = current.rules.iter().zip(&current.config.resources).map(|(rule, entry_of)| entry(rule, &entry_of.resources));
        let sealing = current.rules.iter().any(|rule| rule.ciphers.first().is_some_and(|cipher| cipher.show().0 != "identity"));
        json!({
            "enabled": sealing,
            "stage": if self.encryption.is_between() { "rotate" } else { "reencrypt_finished" },
            "managed": self.encryption.is_managed(),
            "file": self.encryption.path.display().to_string(),
            "entries": entries.collect::<Vec<_>>(),
        })
    }

    /// A new key seals from now on. Returns its name.
    pub async fn rotate(&self) -> Result<String, RotateError> {
        let _turn = self.turn.lock().await;
        self.add_key().await
    }

    async fn add_key(&self) -> Result<String, RotateError> {
        let encryption = self.encryption.clone();
        let name = tokio::task::spawn_blocking(move || encryption.add_key()).await.expect("adding a key does not panic")?;
        tracing::info!(key = name, "a new key seals Secrets from now on");
        Ok(name)
    }

    /// Seals everything with the first key, backups included, and lets our other keys go. Returns how many records changed.
    pub async fn reencrypt(&self) -> Result<usize, RotateError> {
        let _turn = self.turn.lock().await;
        self.seal_anew().await
    }

    /// Seals what was written before there was a key of ours, if anything was. (What an old key sealed waits for [`Keeper::reencrypt`].)
    pub async fn seal_plain(&self, stale: usize) -> Result<(), RotateError> {
        if stale > 0 && self.encryption.is_managed() && !self.encryption.is_between() {
            self.reencrypt().await?;
        }
        Ok(())
    }

    async fn seal_anew(&self) -> Result<usize, RotateError> {
        let active = self.encryption.managed_keys().ok().and_then(|keys| keys.first().map(|key| key.name.clone()));
        let changed = self.store.reseal().await?;
        let (store, dir) = (self.store.clone(), self.dir.clone());
        // The older backups need the keys that go.
        let replace = move || backup::write(&dir, &store.snapshot(), store.codec(), 1);
        tokio::task::spawn_blocking(replace).await.expect("writing a backup does not panic")?;
        if let Some(name) = active {
            let encryption = self.encryption.clone();
            tokio::task::spawn_blocking(move || encryption.keep_only(&name)).await.expect("keeping a key does not panic")?;
        }
        tracing::info!(changed, "everything that is to be encrypted is sealed with the newest key");
        Ok(changed)
    }

    /// Both, one after the other.
    pub async fn rotate_keys(&self) -> Result<(String, usize), RotateError> {
        let _turn = self.turn.lock().await;
        Ok((self.add_key().await?, self.seal_anew().await?))
    }
}
