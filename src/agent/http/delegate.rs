//! Who may measure: not the API server alone, but whoever its review of a token names and lets `get` the node's `metrics` or `stats`. So
//! collectors that scrape nodes themselves, such as metrics-server, work with their service account.
//!
//! Follows upstream's `pkg/kubelet/server/auth.go` and delegated authentication and authorization of `k8s.io/apiserver`, for these paths only.
use http::Method;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;

use crate::api::Status;
use crate::client::Client;

/// Reviews that are under way at once: strangers can't make this node flood the server.
const AT_ONCE: usize = 8;
/// Longest token that is reviewed.
const LONGEST: usize = 16 << 10;

/// What somebody asks for who is not the server: the token, and the subresource.
pub struct Asked(String, &'static str);

impl Asked {
    /// `None`: it is not for such as these, whatever they bear.
    pub fn of(request: &axum::extract::Request) -> Option<Asked> {
        let subresource = subresource(request.uri().path()).filter(|_| request.method() == Method::GET)?;
        let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
        let token = header.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty() && token.len() <= LONGEST)?;
        Some(Asked(token.to_owned(), subresource))
    }
}

/// Asks the server. Shared by all requests.
pub struct Delegate {
    client: Client,
    node: String,
    reviews: Semaphore,
}

/// The subresource of a node that a path stands for, if others than the server may ask for it.
fn subresource(path: &str) -> Option<&'static str> {
    match path {
        "/metrics/resource" => Some("metrics"),
        "/stats/summary" => Some("stats"),
        _ => None,
    }
}

impl Delegate {
    /// For this node.
    pub fn new(client: Client, node: &str) -> Delegate {
        Delegate { client, node: node.into(), reviews: Semaphore::new(AT_ONCE) }
    }

    /// Whether whoever bears the token may have that.
    pub async fn review(&self, Asked(token, subresource): Asked) -> Result<(), Status> {
        let failed = |what: &str, error: kube::Error| Status::internal(format!("{what} could not be reviewed by the server: {error}"));
        let _turn = self.reviews.acquire().await.map_err(Status::internal)?;
        let spec = TokenReviewSpec { token, audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await.map_err(|e| failed("a token", e))?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).ok_or_else(Status::unauthorized)?;
        let name = user.username.clone().unwrap_or_default();
        let review = self.question(user, subresource);
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await.map_err(|e| failed("access", e))?;
        match answer.status.is_some_and(|status| status.allowed) {
            true => Ok(()),
            // Upstream's words.
            false => Err(Status::new(
                403,
                "Forbidden",
                format!("Forbidden (user={name}, verb=get, resource=nodes, subresource(s)=[{subresource}])"),
            )),
        }
    }

    fn question(&self, user: UserInfo, subresource: &str) -> SubjectAccessReview {
        let attributes = ResourceAttributes {
            verb: Some("get".into()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some(subresource.into()),
            name: Some(self.node.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: user.username,
            uid: user.uid,
            groups: user.groups,
            extra: user.extra,
            ..SubjectAccessReviewSpec::default()
        };
        SubjectAccessReview { spec, ..SubjectAccessReview::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_measured() {
        for (path, want) in [
            ("/metrics/resource", Some("metrics")),
            ("/stats/summary", Some("stats")),
            ("/usage", None),
            ("/exec/n/p/c", None),
            ("/pods", None),
            ("/metrics/resource/../../pods", None),
        ] {
            assert_eq!(subresource(path), want, "{path}");
        }
    }
}
