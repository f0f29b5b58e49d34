//! Where images lie on disk, and how they come and go.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use sha2::{Digest, Sha256};

use super::{Image, ImageError, RefRecord, io, layer};

/// The folders of an image store.
#[derive(Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

/// `sha256:HEX` to `HEX`; refuses whatever else, for it becomes a file name.
pub(super) fn hex_of(digest: &str) -> Result<&str, ImageError> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    hex.ok_or_else(|| ImageError::Unpack { what: digest.into(), why: "only sha256 digests of 64 hex digits are supported".into() })
}

/// `sha256:HEX` of bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    layer::format_digest(Sha256::new_with_prefix(bytes))
}

impl Layout {
    pub(super) fn open(root: &Path) -> Result<Layout, ImageError> {
        for folder in ["configs", "layers", "refs", "tmp"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(io("making", &path))?;
        }
        Ok(Layout { root: root.into() })
    }

    /// A folder of one's own for work in progress, removed when dropped.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir, ImageError> {
        let tmp = self.root.join("tmp");
        tempfile::Builder::new().prefix("work-").tempdir_in(&tmp).map_err(io("making a folder in", &tmp))
    }

    pub(super) fn layer_path(&self, diff_id: &str) -> Result<PathBuf, ImageError> {
        Ok(self.root.join("layers").join(hex_of(diff_id)?))
    }

    fn config_path(&self, id: &str) -> Result<PathBuf, ImageError> {
        Ok(self.root.join("configs").join(hex_of(id)?))
    }

    fn ref_path(&self, reference: &str) -> PathBuf {
        let name = digest(reference.as_bytes());
        self.root.join("refs").join(format!("{}.json", &name["sha256:".len()..]))
    }

    /// Unpacks a layer's tar, unless it is there. `compressed` was verified already; this verifies the diff ID.
    pub(super) fn add_layer(&self, diff_id: &str, compressed: impl Read) -> Result<(), ImageError> {
        let path = self.layer_path(diff_id)?;
        if path.exists() {
            return Ok(());
        }
        let scratch = self.scratch()?;
        let folder = scratch.path().join("layer");
        fs::create_dir(&folder).map_err(io("making", &folder))?;
        let found = layer::unpack(compressed, &folder).map_err(|why| ImageError::Unpack { what: diff_id.into(), why: why.to_string() })?;
        if found != diff_id {
            return Err(ImageError::Unpack {
                what: diff_id.into(),
                why: format!("its content has the digest {found}: it was changed or cut"),
            });
        }
        let handle = File::open(&folder).map_err(io("opening", &folder))?;
        rustix::fs::syncfs(&handle).map_err(|error| io("syncing", &folder)(error.into()))?;
        match fs::rename(&folder, &path) {
            Err(_) if path.exists() => Ok(()),
            renamed => renamed.map_err(io("renaming", &folder)),
        }
    }

    /// Keeps a config (idempotent) and points a reference to it.
    pub(super) fn tag(&self, record: &RefRecord, config: &[u8]) -> Result<(), ImageError> {
        self.replace(&self.config_path(&record.id)?, config)?;
        let json = serde_json::to_vec(record).map_err(|error| io("encoding", Path::new("record"))(error.into()))?;
        self.replace(&self.ref_path(&record.reference), &json)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let folder = self.root.join("tmp");
        let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(io("making a file in", &folder))?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(io("writing", path))?;
        file.persist(path).map_err(|error| io("renaming to", path)(error.error))?;
        Ok(())
    }

    pub(super) fn read_ref(&self, reference: &str) -> Result<Option<RefRecord>, ImageError> {
        self.read_record(&self.ref_path(reference))
    }

    fn read_record(&self, path: &Path) -> Result<Option<RefRecord>, ImageError> {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => {
                let bytes = bytes.map_err(io("reading", path))?;
                serde_json::from_slice(&bytes).map(Some).map_err(|error| io("decoding", path)(error.into()))
            }
        }
    }

    /// Every reference, in name order.
    pub(super) fn refs(&self) -> Result<Vec<RefRecord>, ImageError> {
        let folder = self.root.join("refs");
        let mut records = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io("reading", &folder))? {
            let path = entry.map_err(io("reading", &folder))?.path();
            records.extend(self.read_record(&path)?);
        }
        records.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(records)
    }

    /// The image a record stands for.
    pub(super) fn image(&self, record: &RefRecord) -> Result<Image, ImageError> {
        let path = self.config_path(&record.id)?;
        let config = fs::read(&path).map_err(io("reading", &path))?;
        let config: ImageConfiguration = serde_json::from_slice(&config).map_err(|error| io("decoding", &path)(error.into()))?;
        let layers = record.layers.iter().map(|diff_id| self.layer_path(diff_id)).collect::<Result<_, _>>()?;
        let repository = super::parse(&record.reference)?;
        let repository = format!("{}/{}", repository.registry(), repository.repository());
        let tagged = !record.reference.contains('@');
        Ok(Image {
            id: record.id.clone(),
            repo_digests: record.manifest.iter().map(|manifest| format!("{repository}@{manifest}")).collect(),
            repo_tags: tagged.then(|| record.reference.clone()).into_iter().collect(),
            layers,
            config: config.config().clone().unwrap_or_default(),
            size: record.size,
        })
    }

    /// Forgets the chosen references and what only they needed.
    pub(super) fn remove(&self, chosen: impl Fn(&RefRecord) -> bool) -> Result<Vec<String>, ImageError> {
        let (gone, kept): (Vec<_>, Vec<_>) = self.refs()?.into_iter().partition(chosen);
        for record in &gone {
            let path = self.ref_path(&record.reference);
            fs::remove_file(&path).map_err(io("removing", &path))?;
        }
        let ids: HashSet<&str> = kept.iter().map(|record| record.id.as_str()).collect();
        let layers: HashSet<&str> = kept.iter().flat_map(|record| &record.layers).map(String::as_str).collect();
        for record in &gone {
            if !ids.contains(record.id.as_str()) {
                remove_if_there(&self.config_path(&record.id)?)?;
            }
            for diff_id in record.layers.iter().filter(|diff_id| !layers.contains(diff_id.as_str())) {
                remove_if_there(&self.layer_path(diff_id)?)?;
            }
        }
        Ok(gone.into_iter().map(|record| record.reference).collect())
    }
}

fn remove_if_there(path: &Path) -> Result<(), ImageError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(io("removing", path)),
    }
}
