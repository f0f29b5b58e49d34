//! Paths that are no resources: health, version, discovery, OpenAPI, token keys, metrics.

use std::collections::BTreeMap;

use axum::response::Response;
use http::Method;
use parking_lot::RwLock;
use serde_json::json;

use super::negotiate::{clauses, negotiate_plain};
use super::{Call, discovery, only, reply};
use crate::api::Status;

/// Named conditions that must hold before the server is ready.
#[derive(Default)]
pub struct Readiness(RwLock<BTreeMap<&'static str, bool>>);

impl Readiness {
    /// A server that is ready once each of `checks` was [`set`](Readiness::set).
    pub fn new(checks: &[&'static str]) -> Readiness {
        Readiness(RwLock::new(checks.iter().map(|check| (*check, false)).collect()))
    }

    /// Says whether `check` holds.
    pub fn set(&self, check: &'static str, holds: bool) {
        self.0.write().insert(check, holds);
    }

    /// Whether all hold.
    pub fn ready(&self) -> bool {
        self.0.read().values().all(|holds| *holds)
    }

    /// Each check in upstream's form (`server/healthz`), and whether all of them hold.
    fn report(&self, endpoint: &str, with_checks: bool) -> (bool, String) {
        let mut text = String::from("[+]ping ok\n");
        let mut good = true;
        for (check, holds) in self.0.read().iter().filter(|_| with_checks) {
            good &= holds;
            text += &if *holds { format!("[+]{check} ok\n") } else { format!("[-]{check} failed: reason withheld\n") };
        }
        text += &format!("{endpoint} check {}\n", if good { "passed" } else { "failed" });
        (good, text)
    }
}

/// What may be read without credentials.
pub fn is_public(path: &str) -> bool {
    let probe = |root: &&str| path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path == "/version" || ["/healthz", "/livez", "/readyz"].iter().any(probe)
}

/// Answers a plain path.
pub(super) async fn serve(call: Call) -> Result<Response, Status> {
    let path = call.info.path.trim_end_matches('/').to_owned();
    only(call.request.method(), &[Method::GET, Method::HEAD]).map_err(|refusal| match path.as_str() {
        "/api" | "/apis" | "/version" => refusal,
        _ => Status::no_such_path(),
    })?;
    match path.as_str() {
        "/healthz" | "/livez" | "/readyz" => Ok(health(&call, &path[1..])),
        "/version" => Ok(version(&call)),
        "/metrics" => Ok(reply::bytes(200, "text/plain; version=0.0.4; charset=utf-8", call.app.metrics.text())),
        "" => Ok(reply::json(200, &json!({"paths": discovery::paths(&call.app.discovery)}))),
        "/openid/v1/jwks" => Ok(reply::bytes(200, "application/jwk-set+json", call.app.authenticator.token_key().jwks().to_string())),
        "/.well-known/openid-configuration" => Ok(openid(&call)),
        path if path == "/api" || path == "/apis" || path.starts_with("/api/") || path.starts_with("/apis/") => {
            discovery::serve(&call, path)
        }
        path if path.starts_with("/openapi/") => openapi(&call, path),
        _ => Err(Status::no_such_path()),
    }
}

fn health(call: &Call, endpoint: &str) -> Response {
    // Being alive must not depend on being ready, or a slow start is restarted for ever.
    let (good, text) = call.app.readiness.report(endpoint, endpoint != "livez");
    let body = if good && !call.query.flag("verbose") { "ok".into() } else { text };
    reply::bytes(if good { 200 } else { 500 }, "text/plain; charset=utf-8", body)
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
    match path {
        "/openapi/v2" => {
            let gnostic = "application/com.github.proto-openapi.spec.v2";
            let protobuf = clauses(&accept).first().is_some_and(|clause| clause.media.starts_with(gnostic));
            if protobuf {
                let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
                return Ok(reply::bytes(200, content_type, documents.v2_protobuf()));
            }
            Ok(reply::encoded(200, negotiate_plain(&accept)?, documents.v2_json()))
        }
        "/openapi/v3" => Ok(reply::encoded(200, negotiate_plain(&accept)?, documents.v3_index())),
        _ => {
            let group_version = path.strip_prefix("/openapi/v3/").ok_or_else(Status::no_such_path)?;
            let document = documents.v3(group_version).ok_or_else(Status::no_such_path)?;
            // The protobuf form of v3 is not written: JSON whenever that is accepted, else 406.
            Ok(reply::encoded(200, negotiate_plain(&accept)?, document))
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

    #[test]
    fn readiness() {
        let ready = Readiness::new(&["store", "bootstrap"]);
        assert!(!ready.ready());
        ready.set("store", true);
        assert_eq!(
            ready.report("readyz", true),
            (false, "[+]ping ok\n[-]bootstrap failed: reason withheld\n[+]store ok\nreadyz check failed\n".into())
        );
        assert!(ready.report("livez", false).0);
        ready.set("bootstrap", true);
        assert!(ready.ready());
    }
}
