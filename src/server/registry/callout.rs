//! Calling webhooks, as the registry sees it: a function that whoever composes the server hands in, so that the registry itself opens no
//! connection and tests need none.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;

/// Why a webhook gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalloutError {
    /// Its configuration can't be used: a broken URL or CA bundle.
    #[error("{0}")]
    Unusable(String),
    /// The call failed, or was answered by something else than a success.
    #[error("{0}")]
    Failed(String),
}

/// Calls webhooks.
pub trait Callout: Send + Sync {
    /// POSTs JSON to the webhook, with `query` added to its URL, and returns the body of a successful answer that came within `timeout`.
    fn post<'a>(
        &'a self,
        to: &'a WebhookClientConfig,
        query: &'a str,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, CalloutError>>;
}

/// For a registry that nobody gave a way out.
pub(super) struct NoCallout;

impl Callout for NoCallout {
    fn post<'a>(&'a self, _: &'a WebhookClientConfig, _: &'a str, _: Bytes, _: Duration) -> BoxFuture<'a, Result<Bytes, CalloutError>> {
        Box::pin(std::future::ready(Err(CalloutError::Unusable("this server calls nobody".into()))))
    }
}
