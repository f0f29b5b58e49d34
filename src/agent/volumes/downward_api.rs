//! downwardAPI volumes: fields of the pod as files.
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, DownwardAPIVolumeSource};

use super::{File, Made, Maker, Payload, VolumeError, mode_of};
use crate::agent::spec::env::{field_path, resource_field};
use crate::runtime::Runtime;

/// The files of a downwardAPI volume.
pub fn make<R: Runtime>(maker: &Maker<'_, R>, source: &DownwardAPIVolumeSource) -> Result<Made, VolumeError> {
    let mut made = Made::default();
    files(maker, &mut made.payload, source.items.as_deref().unwrap_or_default(), mode_of(source.default_mode, 0o644))?;
    Ok(made)
}

/// Adds these files.
pub fn files<R: Runtime>(
    maker: &Maker<'_, R>,
    payload: &mut Payload,
    items: &[DownwardAPIVolumeFile],
    mode: u32,
) -> Result<(), VolumeError> {
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => field_path(maker.pod, &field.field_path, &maker.facts)?,
            (_, Some(selector)) => resource_field(maker.pod, selector, None, &maker.facts)?,
            _ => continue,
        };
        payload.insert(item.path.clone(), File { data: text.into_bytes(), mode: mode_of(item.mode, mode) });
    }
    Ok(())
}
