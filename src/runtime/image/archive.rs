//! Archives of images: what `docker save`, `skopeo copy ... oci-archive:` and the like write.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use oci_client::Reference;
use oci_spec::image::{
    Arch, Config, ConfigBuilder, Descriptor, ImageConfiguration, ImageConfigurationBuilder, ImageIndex, ImageManifest, Os, RootFsBuilder,
};
use serde::Deserialize;

use super::store::{Layout, digest};
use super::{ImageError, RefRecord, io as failed, layer, pull};

/// Most bytes of a JSON file in an archive.
const MAX_JSON: u64 = 8 << 20;

/// An entry of docker-archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image found in an archive: files inside of it.
struct Found {
    references: Vec<String>,
    config: String,
    layers: Vec<String>,
    manifest: Option<String>,
}

/// Imports every image of an archive; returns their references.
pub(super) fn import(store: &Layout, file: &Path, name: Option<&Reference>) -> Result<Vec<String>, ImageError> {
    let broken = |why: io::Error| ImageError::Unpack { what: file.display().to_string(), why: why.to_string() };
    let scratch = store.scratch()?;
    let input: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file).map_err(failed("opening", file))?),
    };
    layer::unpack(input, scratch.path()).map_err(broken)?;
    let images = images(scratch.path(), name).map_err(broken)?;
    let mut references = Vec::new();
    for image in images {
        references.extend(add(store, scratch.path(), image, file)?);
    }
    Ok(references)
}

fn add(store: &Layout, root: &Path, image: Found, file: &Path) -> Result<Vec<String>, ImageError> {
    let broken = |what: &str, why: String| ImageError::Unpack { what: format!("{} in {}", what, file.display()), why };
    let bytes = read(root, &image.config).map_err(|error| broken(&image.config, error.to_string()))?;
    let config: ImageConfiguration = serde_json::from_slice(&bytes).map_err(|error| broken(&image.config, error.to_string()))?;
    let diff_ids = config.rootfs().diff_ids().clone();
    if diff_ids.len() != image.layers.len() {
        return Err(broken(&image.config, format!("it names {} layers, the archive holds {}", diff_ids.len(), image.layers.len())));
    }
    let mut size = bytes.len() as u64;
    for (diff_id, path) in diff_ids.iter().zip(&image.layers) {
        let file = layer::open_in(root, Path::new(path)).map_err(|error| broken(path, error.to_string()))?;
        size += file.metadata().map_err(|error| broken(path, error.to_string()))?.len();
        store.add_layer(diff_id, file)?;
    }
    let mut references = Vec::new();
    for reference in image.references {
        let reference = super::parse(&reference)?.whole();
        let record = RefRecord {
            reference: reference.clone(),
            id: digest(&bytes),
            manifest: image.manifest.clone(),
            layers: diff_ids.clone(),
            size,
        };
        store.tag(&record, &bytes)?;
        references.push(reference);
    }
    Ok(references)
}

fn read(root: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    layer::open_in(root, Path::new(path))?.take(MAX_JSON + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(io::Error::other(format!("{path} is larger than {MAX_JSON} bytes")));
    }
    Ok(bytes)
}

/// The images of either format. `manifest.json` goes first: where both are there, only it has whole names.
fn images(root: &Path, name: Option<&Reference>) -> io::Result<Vec<Found>> {
    match read(root, "manifest.json") {
        Ok(bytes) => docker_images(&bytes, name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match read(root, "index.json") {
            Ok(bytes) => oci_images(root, &bytes, name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::other("it is no image archive: neither manifest.json (docker save) nor index.json (OCI layout) is in it"))
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn docker_images(bytes: &[u8], name: Option<&Reference>) -> io::Result<Vec<Found>> {
    let images: Vec<DockerImage> = serde_json::from_slice(bytes)?;
    let found = images.into_iter().map(|image| {
        let mut references = image.repo_tags.unwrap_or_default();
        if references.is_empty() {
            references.push(name.ok_or_else(unnamed)?.whole());
        }
        Ok(Found { references, config: image.config, layers: image.layers, manifest: None })
    });
    found.collect()
}

fn unnamed() -> io::Error {
    io::Error::other("an image in it has no name; give it one with --name")
}

fn blob(descriptor: &Descriptor) -> String {
    format!("blobs/{}", descriptor.digest().to_string().replacen(':', "/", 1))
}

fn oci_images(root: &Path, bytes: &[u8], name: Option<&Reference>) -> io::Result<Vec<Found>> {
    let index: ImageIndex = serde_json::from_slice(bytes)?;
    let mut found = Vec::new();
    for descriptor in index.manifests() {
        let reference = oci_name(descriptor, name)?;
        let (digest, manifest) = manifest(root, descriptor)?;
        found.push(Found {
            references: vec![reference],
            config: blob(manifest.config()),
            layers: manifest.layers().iter().map(blob).collect(),
            manifest: Some(digest),
        });
    }
    Ok(found)
}

/// The manifest behind a descriptor, for this machine where it is an index.
fn manifest(root: &Path, descriptor: &Descriptor) -> io::Result<(String, ImageManifest)> {
    let bytes = read(root, &blob(descriptor))?;
    let found = digest(&bytes);
    if found != descriptor.digest().to_string() {
        return Err(io::Error::other(format!("{} has the digest {found}: it was changed or cut", descriptor.digest())));
    }
    if let Ok(manifest) = serde_json::from_slice::<ImageManifest>(&bytes) {
        return Ok((found, manifest));
    }
    let index: ImageIndex = serde_json::from_slice(&bytes)?;
    let chosen = pull::for_this_machine(index.manifests()).ok_or_else(|| io::Error::other("no image in it is for this machine"))?;
    let bytes = read(root, &blob(chosen))?;
    Ok((digest(&bytes), serde_json::from_slice(&bytes)?))
}

/// containerd writes whole names; others write only a tag, or nothing.
fn oci_name(descriptor: &Descriptor, name: Option<&Reference>) -> io::Result<String> {
    let annotations = descriptor.annotations().clone().unwrap_or_default();
    let whole = annotations.get("io.containerd.image.name").or_else(|| annotations.get("org.opencontainers.image.ref.name"));
    match (whole, name) {
        (_, Some(name)) => Ok(name.whole()),
        (Some(whole), None) if whole.contains(['/', ':']) => Ok(whole.clone()),
        _ => Err(unnamed()),
    }
}

/// See [`super::Images::import_executable`].
pub(super) fn import_executable(store: &Layout, executable: &Path, reference: &Reference) -> Result<String, ImageError> {
    let encode = |error: io::Error| ImageError::Unpack { what: reference.whole(), why: error.to_string() };
    let name = executable.file_name().ok_or_else(|| encode(io::ErrorKind::InvalidInput.into()))?;
    let mut layer = tempfile::tempfile().map_err(encode)?;
    let mut tar = tar::Builder::new(&mut layer);
    let file = File::open(executable).map_err(failed("opening", executable))?;
    let mut header = tar::Header::new_gnu();
    header.set_size(file.metadata().map_err(failed("reading", executable))?.len());
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, name, file).map_err(encode)?;
    tar.finish().map_err(encode)?;
    drop(tar);
    let diff_id = diff_id(&mut layer).map_err(encode)?;
    let config = config(Path::new("/").join(name).display().to_string(), &diff_id).map_err(|why| encode(io::Error::other(why)))?;
    let bytes = serde_json::to_vec(&config).map_err(|error| encode(error.into()))?;
    let size = layer.metadata().map_err(encode)?.len() + bytes.len() as u64;
    io::Seek::rewind(&mut layer).map_err(encode)?;
    store.add_layer(&diff_id, layer)?;
    let record = RefRecord { reference: reference.whole(), id: digest(&bytes), manifest: None, layers: vec![diff_id], size };
    store.tag(&record, &bytes)?;
    Ok(record.reference)
}

fn diff_id(layer: &mut File) -> io::Result<String> {
    use sha2::Digest;
    io::Seek::rewind(layer)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match layer.read(&mut buffer)? {
            0 => return Ok(layer::format_digest(hasher)),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn config(entrypoint: String, diff_id: &str) -> Result<ImageConfiguration, oci_spec::OciSpecError> {
    let config: Config = ConfigBuilder::default().entrypoint(vec![entrypoint]).build()?;
    ImageConfigurationBuilder::default()
        .architecture(Arch::default())
        .os(Os::Linux)
        .config(config)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(vec![diff_id.to_string()]).build()?)
        .build()
}
