//! What an administrator chose about requests, made of the configuration: limits, record, keys.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};

use super::ServerError;
use super::encryption::{EncryptionError, Keeper, RotateError};
use super::http::audit::Audit;
use super::http::audit::log::LogConfig;
use super::http::audit::policy::Policy;
use super::http::secrets::Secrets;
use super::http::{Settings, fairness};
use crate::api::Status;
use crate::config::ServerConfig;

/// Reads the audit policy, opens the audit log, and puts the rest together.
pub(super) fn settings(config: &ServerConfig, keeper: Keeper) -> Result<Settings, ServerError> {
    let audit = match &config.audit {
        None => None,
        Some(audit) => {
            let policy = Policy::read(&audit.policy)?;
            let log = LogConfig {
                path: audit.path.clone(),
                max_bytes: audit.max_bytes,
                max_age: audit.max_age,
                max_backups: audit.max_backups,
                compress: audit.compress,
            };
            let failed = |source| ServerError::Io { doing: "opening the audit log", path: audit.path.clone(), source };
            Some(Arc::new(Audit::open(policy, log).map_err(failed)?))
        }
    };
    Ok(Settings {
        request_timeout: config.request_timeout,
        // A request waits for its seat for a quarter of its time, as upstream.
        fairness: fairness::Limits { seats: config.seats, wait: config.request_timeout / 4 },
        audit,
        secrets: Some(Arc::new(Keys(keeper))),
    })
}

/// The keeper of keys, as the API shows it.
struct Keys(Keeper);

impl Secrets for Keys {
    fn status(&self) -> Value {
        self.0.status()
    }

    fn perform<'a>(&'a self, action: &'a str) -> Pin<Box<dyn Future<Output = Result<Value, Status>> + Send + 'a>> {
        Box::pin(async move {
            let message = match action {
                "rotate" => {
                    self.0.rotate().await.map(|key| format!("{key} encrypts from now on; run `orch secrets-encrypt reencrypt` next"))
                }
                "reencrypt" => {
                    self.0.reencrypt().await.map(|count| format!("{count} records were encrypted anew; the older keys are forgotten"))
                }
                "rotate-keys" => {
                    let told = |(key, count)| {
                        format!("{key} encrypts from now on; {count} records were encrypted anew, and the older keys are forgotten")
                    };
                    self.0.rotate_keys().await.map(told)
                }
                other => return Err(Status::bad_request(format!("{other:?} is none of rotate, reencrypt, rotate-keys"))),
            };
            message.map(|message| json!({"message": message})).map_err(|error| match error {
                RotateError::Keys(EncryptionError::Given(_)) => Status::bad_request(error.to_string()),
                error => Status::internal(error),
            })
        })
    }
}
