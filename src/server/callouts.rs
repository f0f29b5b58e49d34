//! How the registry's webhooks are called: [`Outbound`], handed to it as a [`Callout`].
//!
//! Never: decides what a failure means; that is the admission's.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;

use super::outbound::{CallError, Outbound, Peer};
use super::registry::{Callout, CalloutError};

/// Most of a webhook's answer that is read: a patch may replace an object of the largest size, in base64.
const MOST_ANSWERED: usize = 8 << 20;

/// Calls webhooks over HTTPS.
pub struct Webhooks(pub Outbound);

impl Callout for Webhooks {
    fn post<'a>(
        &'a self,
        to: &'a WebhookClientConfig,
        query: &'a str,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, CalloutError>> {
        Box::pin(async move {
            let service = to.service.as_ref();
            let service = service.map(|service| (service.namespace.as_str(), service.name.as_str(), service.path.as_deref(), service.port));
            let bundle = to.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
            let peer = Peer::webhook(to.url.as_deref(), service, bundle).map_err(|error| CalloutError::Unusable(error.to_string()))?;
            self.0.post(&peer, query, body, timeout, MOST_ANSWERED).await.map_err(|error| match error {
                CallError::Unusable(why) => CalloutError::Unusable(why),
                other => CalloutError::Failed(other.to_string()),
            })
        })
    }
}
