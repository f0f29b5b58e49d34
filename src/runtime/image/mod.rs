//! Images: pulled or imported, kept by content, unpacked once.
//!
//! Words: a *reference* is what people write (`nginx:1.25`), always kept in its full form; an image's *ID* is the digest of its
//! config; a layer's *diff ID* is the digest of its uncompressed tar and names its folder.
//!
//! On disk, below `<data-dir>/images`: `configs/<hex>` (image configs), `layers/<hex>/` (unpacked, whiteouts in overlay's form),
//! `refs/<hex>.json` (one record per reference), `tmp/` (work in progress, private to one process each).
//!
//! Invariants: nothing is unpacked before its digest was verified; a layer folder is whole, since it appears by rename after its
//! file system was synced; so several processes may use one store at once.
//!
//! Never: trusts a path inside an archive, or runs a helper program.

mod archive;
mod layer;
mod pull;
mod registries;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_client::Reference;
use serde::{Deserialize, Serialize};

pub use registries::{Registries, RegistriesError};

/// An image ready to run.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:...` of its config: the image ID.
    pub id: String,
    /// Manifest digest as `REPO@sha256:...`, where known.
    pub repo_digests: Vec<String>,
    /// Tags, as `REPO:TAG`.
    pub repo_tags: Vec<String>,
    /// Unpacked layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Entrypoint, Cmd, Env, User, WorkingDir, StopSignal, ...
    pub config: oci_spec::image::Config,
    /// Compressed size in bytes.
    pub size: u64,
}

/// Why an image can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The reference can't be parsed.
    #[error("invalid image reference {reference:?}: {why}")]
    InvalidReference {
        /// As written.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry refused or could not be reached, or sent what does not match its digest.
    #[error("pulling {reference}: {why}")]
    Pull {
        /// In full form.
        reference: String,
        /// What each endpoint answered.
        why: String,
    },
    /// The archive or layer is broken.
    #[error("unpacking {what}: {why}")]
    Unpack {
        /// Which archive or layer.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Disk trouble.
    #[error("{doing} {path}: {source}")]
    Io {
        /// Such as `writing`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Credentials for one pull, beyond registries.yaml (a pod's imagePullSecrets).
#[derive(Clone)]
pub struct Credentials {
    /// Registry host this is for.
    pub registry: String,
    /// User.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}@{})", self.username, self.registry)
    }
}

/// What a reference points to: the content of `refs/*.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RefRecord {
    reference: String,
    /// `sha256:...` of the config.
    id: String,
    /// `sha256:...` of the manifest, for images that were pulled.
    manifest: Option<String>,
    /// Diff IDs, lowest first.
    layers: Vec<String>,
    size: u64,
}

/// The image store of a node, under `<data-dir>/images`. Safe to use from several processes at once. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    store: store::Layout,
    puller: Arc<pull::Puller>,
}

impl Images {
    /// Opens (or makes) the store.
    pub fn open(data_dir: &Path, registries: Registries) -> Result<Images, ImageError> {
        let store = store::Layout::open(&data_dir.join("images"))?;
        Ok(Images { puller: Arc::new(pull::Puller::new(store.clone(), registries)), store })
    }

    /// A local image by reference or ID.
    pub async fn get(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        if is_id(reference) {
            return Ok(self.list().await?.into_iter().find(|image| image.id == reference));
        }
        let reference = parse(reference)?.whole();
        self.blocking(move |store| store.read_ref(&reference)?.map(|record| store.image(&record)).transpose()).await
    }

    /// Pulls (one download per layer however many ask), verifies, unpacks.
    pub async fn pull(&self, reference: &str, credentials: &[Credentials]) -> Result<Image, ImageError> {
        let record = self.puller.pull(&parse(reference)?, credentials).await?;
        self.blocking(move |store| store.image(&record)).await
    }

    /// All local images, one for each ID.
    pub async fn list(&self) -> Result<Vec<Image>, ImageError> {
        self.blocking(|store| {
            let mut images: Vec<Image> = Vec::new();
            for record in store.refs()? {
                let image = store.image(&record)?;
                match images.iter_mut().find(|other| other.id == image.id) {
                    Some(other) => {
                        other.repo_tags.extend(image.repo_tags);
                        other.repo_digests.extend(image.repo_digests);
                        other.repo_digests.dedup();
                    }
                    None => images.push(image),
                }
            }
            Ok(images)
        })
        .await
    }

    /// Imports an archive (OCI layout or docker-archive, plain, gzip or zstd). `name` is for an image that the archive gives
    /// none. Returns the references that now exist.
    pub async fn import(&self, file: &Path, name: Option<&str>) -> Result<Vec<String>, ImageError> {
        let (file, name) = (file.to_path_buf(), name.map(parse).transpose()?);
        self.blocking(move |store| archive::import(store, &file, name.as_ref())).await
    }

    /// Makes an image that holds one executable (`/NAME`, its entrypoint), and imports it as `reference`.
    pub async fn import_executable(&self, executable: &Path, reference: &str) -> Result<String, ImageError> {
        let (executable, reference) = (executable.to_path_buf(), parse(reference)?);
        self.blocking(move |store| archive::import_executable(store, &executable, &reference)).await
    }

    /// Forgets a reference, or all references of an ID; layers that no image needs any more are removed with it.
    /// Returns what was forgotten. Running containers keep their layers (the kernel holds what is mounted).
    pub async fn remove(&self, reference: &str) -> Result<Vec<String>, ImageError> {
        let wanted = if is_id(reference) { reference.to_string() } else { parse(reference)?.whole() };
        self.blocking(move |store| store.remove(|record| record.id == wanted || record.reference == wanted)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&store::Layout) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.expect("image work does not panic")
    }
}

fn is_id(reference: &str) -> bool {
    reference.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64)
}

/// Reads a reference as people write it; the full form has registry, repository and a tag or digest.
pub fn parse(reference: &str) -> Result<Reference, ImageError> {
    let invalid = |why: String| ImageError::InvalidReference { reference: reference.into(), why };
    if reference.len() > 4096 {
        return Err(invalid("it is longer than 4096 bytes".into()));
    }
    reference.parse::<Reference>().map_err(|error| invalid(error.to_string()))
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ImageError {
    let path = path.to_path_buf();
    move |source| ImageError::Io { doing, path, source }
}

#[cfg(test)]
mod tests;
