//! configMap volumes.
use k8s_openapi::api::core::v1::ConfigMapVolumeSource;

use super::{Made, Maker, VolumeError, mode_of};
use crate::agent::spec::env::SourceKind;
use crate::runtime::Runtime;

/// The files of a configMap volume.
pub async fn make<R: Runtime>(maker: &Maker<'_, R>, source: &ConfigMapVolumeSource) -> Result<Made, VolumeError> {
    let mut made = Made::default();
    let mode = mode_of(source.default_mode, 0o644);
    maker.keys(&mut made, SourceKind::ConfigMap, &source.name, source.items.as_deref(), source.optional == Some(true), mode).await?;
    Ok(made)
}
