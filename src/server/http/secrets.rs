//! What `orch secrets-encrypt` talks to: the keys of Secrets at rest.
//!
//! A path of our own, below no API group, so that only who may everything (or was granted this very path) reaches it. Never: sends a key.

use std::future::Future;
use std::pin::Pin;

use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{Call, only, reply};
use crate::api::Status;

/// Where it is.
pub const PATH: &str = "/orch/v1/secrets-encrypt";

/// The keys, as the composition root knows them.
pub trait Secrets: Send + Sync {
    /// What is sealed with what.
    fn status(&self) -> Value;
    /// Performs `rotate`, `reencrypt` or `rotate-keys`; says what came of it.
    fn perform<'a>(&'a self, action: &'a str) -> Pin<Box<dyn Future<Output = Result<Value, Status>> + Send + 'a>>;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    action: String,
}

/// GET shows, PUT `{"action": "..."}` performs.
pub(super) async fn serve(mut call: Call) -> Result<Response, Status> {
    only(call.request.method(), &[Method::GET, Method::PUT])?;
    let secrets = call.app.settings.secrets.clone().ok_or_else(Status::no_such_path)?;
    if call.request.method() == Method::GET {
        return Ok(reply::json(200, &secrets.status()));
    }
    let wanted: Wanted =
        serde_json::from_slice(&call.body().await?).map_err(|error| Status::bad_request(format!("what to do with the keys: {error}")))?;
    Ok(reply::json(200, &secrets.perform(&wanted.action).await?))
}
