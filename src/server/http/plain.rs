//! Paths that are no resources: health, version, discovery, OpenAPI, token keys, metrics.

use axum::response::Response;
use http::Method;
use serde_json::json;

use super::negotiate::{clauses, negotiate_document};
use super::openapi::Elsewhere;
use super::{Call, aggregate, discovery, health, only, reply, secrets, tunnel};
use crate::api::Status;
use crate::api::cluster::node_of_tunnel;
use crate::metrics::Text;
use crate::server::aggregation::Aggregator;
pub use health::Readiness;

/// What may be read without credentials.
pub fn is_public(path: &str) -> bool {
    let probe = |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path == "/version" || ["/healthz", "/livez", "/readyz"].iter().any(probe)
}

/// Answers a plain path.
pub(super) async fn serve(call: Call) -> Result<Response, Status> {
    let path = call.info.path.trim_end_matches('/').to_owned();
    if path == secrets::PATH {
        return secrets::serve(call).await;
    }
    if let Some(node) = node_of_tunnel(&path) {
        return tunnel::serve(call, node);
    }
    only(call.request.method(), &[Method::GET, Method::HEAD]).map_err(|refusal| match path.as_str() {
        "/api" | "/apis" | "/version" => refusal,
        _ => Status::no_such_path(),
    })?;
    match path.as_str() {
        "/version" => Ok(version(&call)),
        "/metrics" => Ok(metrics(call.app.metrics.text())),
        "/metrics/slis" => Ok(metrics(call.app.readiness.slis(call.app.registry.store().is_healthy()))),
        "" => Ok(reply::json(200, &json!({"paths": discovery::paths(&call.app.discovery.now(&call.app.registry))}))),
        "/openid/v1/jwks" => Ok(reply::bytes(200, "application/jwk-set+json", call.app.authenticator.token_key().jwks().to_string())),
        "/.well-known/openid-configuration" => Ok(openid(&call)),
        path if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") => {
            discovery::serve(&call, path)
        }
        path if path.starts_with("/openapi/") => openapi(&call, path),
        path => {
            if let Some(text) = path.strip_prefix("/debug/api_priority_and_fairness/").and_then(|name| call.app.fairness.dump(name)) {
                return Ok(reply::bytes(200, "text/plain; charset=utf-8", text));
            }
            let endpoint = ["healthz", "livez", "readyz"].into_iter().find_map(|name| Some((name, path[1..].strip_prefix(name)?)));
            match endpoint {
                Some((endpoint, "")) => health::serve(&call, endpoint, None),
                Some((endpoint, rest)) if rest.starts_with('/') => health::serve(&call, endpoint, Some(&rest[1..])),
                _ => Err(Status::no_such_path()),
            }
        }
    }
}

fn metrics(text: String) -> Response {
    reply::bytes(200, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// `kubernetes_build_info`.
pub(super) fn build_info(version: &str, out: &mut Text) {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let name = "kubernetes_build_info";
    let platform = format!("linux/{}", go_arch());
    out.metric(name, "gauge", "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.");
    let labels = [
        ("build_date", ""),
        ("compiler", "rustc"),
        ("git_commit", ""),
        ("git_tree_state", "clean"),
        ("git_version", version),
        ("go_version", ""),
        ("major", major),
        ("minor", minor),
        ("platform", platform.as_str()),
    ];
    out.sample(name, &labels, 1);
}

fn version(call: &Call) -> Response {
    let version = &call.app.cluster.version;
    let mut numbers = version.trim_start_matches('v').split('.');
    let mut next = || numbers.next().unwrap_or_default();
    let (major, minor) = (next(), next());
    reply::json(
        200,
        &json!({
            "major": major, "minor": minor, "gitVersion": version, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
            "goVersion": "", "compiler": "rustc", "platform": format!("linux/{}", go_arch()),
        }),
    )
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn openid(call: &Call) -> Response {
    let issuer = call.app.authenticator.token_key().issuer();
    reply::json(
        200,
        &json!({
            "issuer": issuer, "jwks_uri": format!("https://{}/openid/v1/jwks", call.app.cluster.server_address),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }),
    )
}

fn openapi(call: &Call, path: &str) -> Result<Response, Status> {
    let documents = &call.app.openapi;
    let accept = call.accept();
    let remotes = || call.app.aggregator.get().map(Aggregator::remotes).unwrap_or_default();
    match path {
        "/openapi/v2" => {
            let elsewhere = Elsewhere::of(remotes());
            let gnostic = "application/com.github.proto-openapi.spec.v2";
            let protobuf = clauses(&accept).first().is_some_and(|clause| clause.media.starts_with(gnostic));
            if protobuf {
                let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
                return Ok(reply::bytes(200, content_type, documents.v2_protobuf(elsewhere)));
            }
            Ok(reply::encoded(200, negotiate_document(&accept)?, documents.v2_json(elsewhere)))
        }
        "/openapi/v3" => {
            let index = aggregate::with_documents(documents.v3_index(), &remotes());
            Ok(reply::encoded(200, negotiate_document(&accept)?, index))
        }
        _ => {
            let group_version = path.strip_prefix("/openapi/v3/").ok_or_else(Status::no_such_path)?;
            let document = documents.v3(group_version).ok_or_else(Status::no_such_path)?;
            // The protobuf form of v3 is not written: JSON whenever that is accepted, else 406.
            Ok(reply::encoded(200, negotiate_document(&accept)?, document))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public() {
        for (path, want) in [
            ("/healthz", true),
            ("/readyz/etcd", true),
            ("/version", true),
            ("/version/x", false),
            ("/healthzz", false),
            ("/api", false),
            ("/metrics", false),
            ("/", false),
        ] {
            assert_eq!(is_public(path), want, "{path}");
        }
    }
}
