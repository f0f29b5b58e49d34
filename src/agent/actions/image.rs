//! Images of containers: looked up or pulled as the policy says, with the pod's credentials.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Container;
use serde_json::Value;

use super::{ImageFailure, Job, text};
use crate::agent::sources;
use crate::agent::spec::env::SourceKind;
use crate::runtime::Runtime;
use crate::runtime::image::{Credentials, Image, ImageError};
impl<R: Runtime> Job<R> {
    /// The image of a container: looked up, or pulled where its policy says so.
    pub async fn ensure_image(&self, container: &Container) -> Result<Image, ImageFailure> {
        let reference = text(&container.image);
        let name = Some(container.name.as_str());
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        let fail = |reason, message: String| {
            self.event(name, true, "Failed", format!("Error: {reason}"));
            ImageFailure { reason, message }
        };
        if policy != "Always" {
            match self.context.images.get(reference).await {
                Ok(Some(image)) => {
                    self.event(name, false, "Pulled", format!("Container image \"{reference}\" already present on machine"));
                    return Ok(image);
                }
                Ok(None) if policy == "Never" => {
                    let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
                    self.event(name, true, "ErrImageNeverPull", message.clone());
                    return Err(fail("ErrImageNeverPull", message));
                }
                Ok(None) => {}
                Err(error) => return Err(self.image_error(name, reference, &error, fail)),
            }
        }
        self.event(name, false, "Pulling", format!("Pulling image \"{reference}\""));
        let began = Instant::now();
        let credentials = self.credentials().await;
        match self.context.images.pull(reference, &credentials).await {
            Ok(image) => {
                let took = duration(began.elapsed());
                let message = format!(
                    "Successfully pulled image \"{reference}\" in {took} ({took} including waiting). Image size: {} bytes.",
                    image.size
                );
                self.event(name, false, "Pulled", message);
                Ok(image)
            }
            Err(error) => Err(self.image_error(name, reference, &error, fail)),
        }
    }

    fn image_error(
        &self,
        name: Option<&str>,
        reference: &str,
        error: &ImageError,
        fail: impl Fn(&'static str, String) -> ImageFailure,
    ) -> ImageFailure {
        if let ImageError::InvalidReference { why, .. } = error {
            let message = format!("Failed to apply default image tag \"{reference}\": couldn't parse image name \"{reference}\": {why}");
            self.event(name, true, "InspectFailed", message.clone());
            return fail("InvalidImageName", message);
        }
        let message = format!("failed to pull image \"{reference}\": {error}");
        self.event(name, true, "Failed", format!("Failed to pull image \"{reference}\": {error}"));
        fail("ErrImagePull", message)
    }

    /// What imagePullSecrets give. One that can't be read is told of and left out, as upstream.
    async fn credentials(&self) -> Vec<Credentials> {
        let mut all = Vec::new();
        for reference in self.pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
            let id = (SourceKind::Secret, text(&self.pod.metadata.namespace).to_owned(), reference.name.clone());
            match sources::fetch(&self.context.client, &id).await {
                Ok(Some(data)) => all.extend(docker_credentials(&data)),
                Ok(None) | Err(_) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    self.event(None, true, "FailedToRetrieveImagePullSecret", message);
                }
            }
        }
        all
    }
}

/// Seconds as Go writes them.
fn duration(time: Duration) -> String {
    match time {
        t if t < Duration::from_secs(1) => format!("{}ms", t.as_millis()),
        t => format!("{:.3}s", t.as_secs_f64()),
    }
}

/// Credentials in a `kubernetes.io/dockerconfigjson` or `dockercfg` Secret.
fn docker_credentials(data: &BTreeMap<String, Vec<u8>>) -> Vec<Credentials> {
    use base64::Engine;
    let parse = |key: &str| data.get(key).and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok());
    let auths = parse(".dockerconfigjson").map(|v| v["auths"].clone()).or_else(|| parse(".dockercfg")).unwrap_or_default();
    let one = |(registry, entry): (&String, &Value)| {
        let field = |name: &str| entry[name].as_str().map(str::to_owned);
        let decoded = || {
            let bytes = base64::engine::general_purpose::STANDARD.decode(entry["auth"].as_str()?).ok()?;
            let pair = String::from_utf8(bytes).ok()?;
            pair.split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned()))
        };
        let (username, password) = field("username").zip(field("password")).or_else(decoded)?;
        let registry = registry.trim_start_matches("https://").trim_start_matches("http://").split('/').next()?.to_owned();
        Some(Credentials { registry, username, password })
    };
    auths.as_object().into_iter().flatten().filter_map(one).collect()
}
