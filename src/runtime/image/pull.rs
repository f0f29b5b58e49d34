//! Pulling from registries (OCI distribution spec): manifest, config and layers, each verified by its digest.

use std::collections::HashMap;
use std::fs::File;
use std::io::Seek;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use super::registries::{Endpoint, Registries};
use super::store::{Layout, digest, hex_of};
use super::{Credentials, ImageError, RefRecord, io};

/// Layers of one image downloaded at once.
const PARALLEL: usize = 3;
/// Most bytes of a config.
const MAX_CONFIG: u64 = 8 << 20;
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

const MANIFESTS: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

type Locks = Mutex<HashMap<String, std::sync::Weak<tokio::sync::Mutex<()>>>>;

/// Pulls images into one store.
pub(super) struct Puller {
    store: Layout,
    registries: Registries,
    /// One lock per layer in flight: whoever comes second finds it unpacked.
    layers: Locks,
}

/// One registry that is being talked to.
struct Source {
    client: Client,
    auth: RegistryAuth,
    /// The image as that registry names it.
    image: Reference,
}

/// The descriptor that is for this machine's OS and architecture.
pub(super) fn for_this_machine(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform().as_ref().is_some_and(|platform| *platform.os() == Os::Linux && *platform.architecture() == Arch::default())
    };
    // An index of one image may leave the platform out.
    let only = || manifests.first().filter(|first| manifests.len() == 1 && first.platform().is_none());
    manifests.iter().find(fits).or_else(only)
}

impl Puller {
    pub(super) fn new(store: Layout, registries: Registries) -> Puller {
        Puller { store, registries, layers: Locks::default() }
    }

    /// Tries each endpoint, with each of the credentials that are for it, until one gives the whole image.
    pub(super) async fn pull(&self, reference: &Reference, credentials: &[Credentials]) -> Result<RefRecord, ImageError> {
        let mut answers = Vec::new();
        for endpoint in self.registries.endpoints(reference.registry()) {
            for auth in auths(&endpoint, reference, credentials) {
                let source = source(&endpoint, reference, auth)?;
                match self.pull_from(&source, reference).await {
                    Ok(record) => return Ok(record),
                    Err(error) => answers.push(format!("{}: {}", endpoint.host, detail(&error))),
                }
            }
        }
        answers.dedup();
        Err(ImageError::Pull { reference: reference.whole(), why: answers.join("; ") })
    }

    async fn pull_from(&self, source: &Source, reference: &Reference) -> Result<RefRecord, ImageError> {
        let failed = |why: String| ImageError::Pull { reference: reference.whole(), why };
        let (bytes, manifest_digest) = source.manifest(&source.image).await.map_err(failed)?;
        let manifest = match serde_json::from_slice::<ImageManifest>(&bytes) {
            Ok(manifest) => manifest,
            Err(_) => {
                let index: ImageIndex = serde_json::from_slice(&bytes)
                    .map_err(|error| failed(format!("its manifest is neither an image nor an index: {error}")))?;
                let here = format!("linux/{}", Arch::default());
                let chosen = for_this_machine(index.manifests()).ok_or_else(|| failed(format!("no image for {here} in its index")))?;
                let image = source.image.clone_with_digest(chosen.digest().to_string());
                let (bytes, _) = source.manifest(&image).await.map_err(failed)?;
                serde_json::from_slice(&bytes).map_err(|error| failed(format!("its manifest can't be read: {error}")))?
            }
        };
        let config_bytes = self.config(source, manifest.config()).await.map_err(failed)?;
        let config: ImageConfiguration =
            serde_json::from_slice(&config_bytes).map_err(|error| failed(format!("its config can't be read: {error}")))?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            return Err(failed(format!("its config names {} layers, its manifest {}", diff_ids.len(), manifest.layers().len())));
        }
        let layers: Vec<(String, Descriptor)> = diff_ids.iter().cloned().zip(manifest.layers().iter().cloned()).collect();
        let layers = layers.into_iter().map(|(diff_id, layer)| async move { self.layer(source, &diff_id, &layer).await });
        futures::stream::iter(layers).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
        let size = manifest.layers().iter().map(Descriptor::size).sum::<u64>() + config_bytes.len() as u64;
        let record = RefRecord {
            reference: reference.whole(),
            id: digest(&config_bytes),
            manifest: Some(manifest_digest),
            layers: diff_ids.clone(),
            size,
        };
        let (store, tagged) = (self.store.clone(), record.clone());
        blocking(move || store.tag(&tagged, &config_bytes)).await?;
        Ok(record)
    }

    async fn config(&self, source: &Source, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
        if descriptor.size() > MAX_CONFIG {
            return Err(format!("its config has {} bytes, more than {MAX_CONFIG}", descriptor.size()));
        }
        let mut bytes = Vec::new();
        source.blob(descriptor, &mut bytes).await?;
        Ok(bytes)
    }

    /// Downloads, verifies and unpacks one layer, unless it is there.
    async fn layer(&self, source: &Source, diff_id: &str, descriptor: &Descriptor) -> Result<(), ImageError> {
        hex_of(diff_id)?;
        let lock = {
            let mut locks = self.layers.lock();
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(diff_id).and_then(std::sync::Weak::upgrade);
            let lock = known.unwrap_or_default();
            locks.insert(diff_id.into(), Arc::downgrade(&lock));
            lock
        };
        let _guard = lock.lock().await;
        if self.store.layer_path(diff_id)?.exists() {
            return Ok(());
        }
        let file = tempfile::tempfile_in(self.store.scratch()?.path()).map_err(io("making a file in", Path::new("tmp")))?;
        let copy = file.try_clone().map_err(io("opening", Path::new("layer")))?;
        let mut out = tokio::fs::File::from_std(copy);
        let failed = |why| ImageError::Pull { reference: source.image.whole(), why };
        source.blob(descriptor, &mut out).await.map_err(failed)?;
        out.flush().await.map_err(io("writing", Path::new("layer")))?;
        let (store, diff_id) = (self.store.clone(), diff_id.to_string());
        blocking(move || unpack(&store, &diff_id, file)).await
    }
}

fn unpack(store: &Layout, diff_id: &str, mut file: File) -> Result<(), ImageError> {
    file.rewind().map_err(io("rewinding", Path::new("layer")))?;
    store.add_layer(diff_id, file)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ImageError> + Send + 'static) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.expect("image work does not panic")
}

/// The innermost reason: the reference is said once, by the caller.
fn detail(error: &ImageError) -> String {
    match error {
        ImageError::Pull { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

/// The pod's own credentials first, then those of registries.yaml, else none.
fn auths(endpoint: &Endpoint, reference: &Reference, credentials: &[Credentials]) -> Vec<RegistryAuth> {
    let ours = |c: &&Credentials| c.registry == endpoint.host || c.registry == reference.registry();
    let given = credentials.iter().filter(ours).map(|c| RegistryAuth::Basic(c.username.clone(), c.password.clone()));
    let configured = endpoint.credentials.iter().map(|(user, password)| RegistryAuth::Basic(user.clone(), password.clone()));
    let mut auths: Vec<RegistryAuth> = given.chain(configured).collect();
    if auths.is_empty() {
        auths.push(RegistryAuth::Anonymous);
    }
    auths
}

fn source(endpoint: &Endpoint, reference: &Reference, auth: RegistryAuth) -> Result<Source, ImageError> {
    let mut config = ClientConfig {
        protocol: if endpoint.http { ClientProtocol::Http } else { ClientProtocol::Https },
        accept_invalid_certificates: endpoint.insecure,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("orch/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    if let Some(path) = &endpoint.ca_file {
        let data = std::fs::read(path).map_err(io("reading", path))?;
        config.extra_root_certificates.push(Certificate { encoding: CertificateEncoding::Pem, data });
    }
    let mut image = reference.clone();
    if endpoint.host != reference.registry() {
        image.set_mirror_registry(endpoint.host.clone());
    }
    Ok(Source { client: Client::new(config), auth, image })
}

impl Source {
    /// A manifest and its digest, which is the one asked for where one was.
    async fn manifest(&self, image: &Reference) -> Result<(Vec<u8>, String), String> {
        let (bytes, _) = self.client.pull_manifest_raw(image, &self.auth, MANIFESTS).await.map_err(|error| reason(&error))?;
        let found = digest(&bytes);
        match image.digest() {
            Some(asked) if asked != found => Err(format!("the manifest {asked} has the digest {found}: it was changed or cut")),
            _ => Ok((bytes.to_vec(), found)),
        }
    }

    /// Copies a blob; fails if it is longer than it should be or does not match its digest.
    async fn blob(&self, descriptor: &Descriptor, out: &mut (impl tokio::io::AsyncWrite + Unpin)) -> Result<(), String> {
        let name = descriptor.digest().to_string();
        let wanted = OciDescriptor { digest: name.clone(), size: descriptor.size() as i64, ..OciDescriptor::default() };
        let mut stream = self.client.pull_blob_stream(&self.image, &wanted).await.map_err(|error| reason(&error))?.stream;
        let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
        let mut left = descriptor.size();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| format!("blob {name}: {}", reason(&error)))?;
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| format!("blob {name} is longer than {} bytes", descriptor.size()))?;
            sha2::Digest::update(&mut hasher, &chunk);
            out.write_all(&chunk).await.map_err(|error| format!("writing blob {name}: {error}"))?;
        }
        if left > 0 {
            return Err(format!("blob {name} was cut: {left} of {} bytes are missing", descriptor.size()));
        }
        let found = super::layer::format_digest(hasher);
        if found != name { Err(format!("blob {name} has the digest {found}: it was changed")) } else { Ok(()) }
    }
}

/// An error with its causes, which hold what happened ("connection refused", "certificate ...").
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
