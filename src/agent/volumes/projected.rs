//! projected volumes: several sources in one directory, and service account tokens bound to the pod. Tokens are renewed when 80 %
//! of their life or 24 hours are over, as upstream's token manager does (pkg/kubelet/token/token_manager.go).
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ProjectedVolumeSource, ServiceAccountTokenProjection};

use super::downward_api;
use super::{File, Made, Maker, VolumeError, mode_of};
use crate::agent::plan::later;
use crate::agent::spec::env::SourceKind;
use crate::runtime::Runtime;

/// The files of a projected volume.
pub async fn make<R: Runtime>(maker: &Maker<'_, R>, source: &ProjectedVolumeSource) -> Result<Made, VolumeError> {
    let mut made = Made::default();
    let mode = mode_of(source.default_mode, 0o644);
    // Begins all watches, so that they answer while the token is asked for.
    let mut begun = Vec::new();
    for projection in source.sources.iter().flatten() {
        let map = projection.config_map.as_ref().map(|m| (SourceKind::ConfigMap, m.name.as_str()));
        let secret = projection.secret.as_ref().map(|s| (SourceKind::Secret, s.name.as_str()));
        for (kind, name) in map.into_iter().chain(secret) {
            begun.push(maker.context.sources.get(kind, maker.namespace(), name).await);
        }
    }
    for projection in source.sources.iter().flatten() {
        if let Some(map) = &projection.config_map {
            let optional = map.optional == Some(true);
            maker.keys(&mut made, SourceKind::ConfigMap, &map.name, map.items.as_deref(), optional, mode).await?;
        }
        if let Some(secret) = &projection.secret {
            let optional = secret.optional == Some(true);
            maker.keys(&mut made, SourceKind::Secret, &secret.name, secret.items.as_deref(), optional, mode).await?;
        }
        if let Some(downward) = &projection.downward_api {
            downward_api::files(maker, &mut made.payload, downward.items.as_deref().unwrap_or_default(), mode)?;
        }
        if let Some(token) = &projection.service_account_token {
            token_file(maker, &mut made, token, mode).await?;
        }
        if projection.cluster_trust_bundle.is_some() {
            return Err(VolumeError::Unsupported("projected.clusterTrustBundle"));
        }
        if projection.pod_certificate.is_some() {
            return Err(VolumeError::Unsupported("projected.podCertificate"));
        }
    }
    Ok(made)
}

async fn token_file<R: Runtime>(
    maker: &Maker<'_, R>,
    made: &mut Made,
    source: &ServiceAccountTokenProjection,
    mode: u32,
) -> Result<(), VolumeError> {
    let meta = &maker.pod.metadata;
    let account = maker.pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).filter(|n| !n.is_empty()).unwrap_or("default");
    let seconds = source.expiration_seconds.unwrap_or(3600);
    let key = (meta.uid.clone().unwrap_or_default(), account.to_owned(), source.audience.clone(), seconds);
    let now = maker.context.now();
    let cached = maker.context.tokens.lock().get(&key).filter(|(_, refresh)| *refresh > now).cloned();
    let (token, refresh) = match cached {
        Some(found) => found,
        None => {
            let fresh = request(maker, account, source, seconds, now).await?;
            maker.context.tokens.lock().insert(key, fresh.clone());
            fresh
        }
    };
    // As upstream: readable for its owner alone, or for the group that fsGroup names, or, if the user is unknown, for all.
    let fs_group = maker.pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
    let mode = if fs_group.is_some() { 0o600 } else { mode };
    made.payload.insert(source.path.clone(), File { data: token.into_bytes(), mode });
    made.refresh = [made.refresh, Some(refresh)].into_iter().flatten().min();
    Ok(())
}

async fn request<R: Runtime>(
    maker: &Maker<'_, R>,
    account: &str,
    source: &ServiceAccountTokenProjection,
    seconds: i64,
    now: jiff::Timestamp,
) -> Result<(String, jiff::Timestamp), VolumeError> {
    let meta = &maker.pod.metadata;
    let body = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: source.audience.clone().filter(|a| !a.is_empty()).map(|a| vec![a]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", maker.namespace());
    let what = || format!("a token of service account \"{account}\"");
    let fail = |source: kube::Error| VolumeError::Api { what: what(), source: Box::new(source) };
    let bytes = serde_json::to_vec(&body).map_err(|e| fail(kube::Error::SerdeError(e)))?;
    let request = http::Request::post(path).header("content-type", "application/json").body(bytes);
    let request = request.map_err(|e| fail(kube::Error::HttpError(e)))?;
    let answer: TokenRequest = maker.context.client.request(request).await.map_err(fail)?;
    let status = answer.status.and_then(|s| s.token.zip(s.expiration_timestamp));
    let (token, expires) = status.ok_or_else(|| VolumeError::NotFound { kind: "token", name: account.into() })?;
    let life = expires.0.duration_since(now).as_secs().max(0).unsigned_abs();
    Ok((token, later(now, Duration::from_secs((life * 8 / 10).clamp(10, 24 * 3600)))))
}
