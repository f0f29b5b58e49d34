//! Resizes in place: groups are given what a pod is allotted.
use oci_spec::runtime::LinuxResources;

use super::Job;
use crate::agent::resize::{Given, Move, moves};
use crate::runtime::Runtime;

impl<R: Runtime> Job<R> {
    /// Changes the groups of the pod and of containers that run (name and ID) from what they were given to what the pod is allotted, all or
    /// as far as it goes: what was done stays done, and doing it again does no harm.
    pub async fn resize(&self, given: &Given, running: &[(String, String)]) -> Result<(), String> {
        let moves = moves(&self.pod, given, running);
        for change in &moves {
            self.fits(change).await?;
        }
        for Move { group, limits, .. } in moves {
            let limits: LinuxResources = serde_json::from_value(limits).map_err(|error| error.to_string())?;
            match self.context.runtime.resize_group(&group, &limits).await {
                // It ended meanwhile: its next run is made anew.
                Err(crate::runtime::Error::NotFound(_)) => {}
                other => other.map_err(|error| error.to_string())?,
            }
        }
        Ok(())
    }

    /// A memory limit falls only to what is not used: the kernel would kill for the rest.
    async fn fits(&self, change: &Move) -> Result<(), String> {
        let Some((who, limit)) = &change.falls else { return Ok(()) };
        let usage = match self.context.runtime.stats(&change.group).await {
            Ok(stats) => stats.usage_bytes,
            Err(crate::runtime::Error::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        match i64::try_from(usage).unwrap_or(i64::MAX) {
            usage if usage >= *limit => Err(format!("attempting to set {who} memory limit ({limit}) below current usage ({usage})")),
            _ => Ok(()),
        }
    }
}
