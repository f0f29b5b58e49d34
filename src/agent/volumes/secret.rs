//! secret volumes.
use k8s_openapi::api::core::v1::SecretVolumeSource;

use super::{Made, Maker, VolumeError, mode_of};
use crate::agent::spec::env::SourceKind;
use crate::runtime::Runtime;

/// The files of a secret volume.
pub async fn make<R: Runtime>(maker: &Maker<'_, R>, source: &SecretVolumeSource) -> Result<Made, VolumeError> {
    let mut made = Made::default();
    let mode = mode_of(source.default_mode, 0o644);
    let name = source.secret_name.as_deref().unwrap_or_default();
    maker.keys(&mut made, SourceKind::Secret, name, source.items.as_deref(), source.optional == Some(true), mode).await?;
    Ok(made)
}
