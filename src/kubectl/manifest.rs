//! Objects from files: YAML of several documents, JSON, folders, standard input.
//!
//! Lists are taken apart. Folders hold manifests in files that end with `.json`, `.yaml` or `.yml`, in the order of their names.
//! Never: addresses to download from. A manifest from the network is run by whoever wrote it; fetch and read it first.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{Error, Result};
use super::flags::Files;
use crate::api::yaml;

/// Longest manifest that is read.
const MAX_BYTES: u64 = 64 << 20;

/// An object and the file it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The file, or `STDIN`.
    pub source: String,
    /// The object.
    pub object: Value,
}

/// Reads everything that `-f` names.
pub fn read(files: &Files) -> Result<Vec<Manifest>> {
    if let Some(folder) = &files.kustomize {
        return Error::usage(format!(
            "-k {folder}: kustomizations are not supported; build them elsewhere and pipe the result into `-f -`"
        ));
    }
    let mut found = Vec::new();
    for name in &files.filename {
        if name == "-" {
            found.extend(parse("STDIN", &bounded(std::io::stdin(), Path::new("STDIN"))?)?);
            continue;
        }
        if name.starts_with("http://") || name.starts_with("https://") {
            return Error::usage(format!("{name}: manifests are not downloaded; fetch the file and pipe it into `-f -`"));
        }
        let path = Path::new(name);
        if !path.exists() {
            return Err(Error::NoPath(name.clone()));
        }
        for path in walk(path, files.recursive, true)? {
            let file = std::fs::File::open(&path).map_err(|source| Error::File { action: "open", path: path.clone(), source })?;
            found.extend(parse(&path.display().to_string(), &bounded(file, &path)?)?);
        }
    }
    match found.is_empty() && !files.filename.is_empty() {
        true => Error::usage("no objects passed to the command"),
        false => Ok(found),
    }
}

fn bounded(reader: impl Read, path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = reader.take(MAX_BYTES + 1).read_to_string(&mut text);
    let bytes = read.map_err(|source| Error::File { action: "read", path: path.to_path_buf(), source })?;
    if bytes as u64 > MAX_BYTES {
        return Error::usage(format!("{} is larger than {MAX_BYTES} bytes", path.display()));
    }
    Ok(text)
}

/// The files below `path`. A file that is named itself may end as it likes.
fn walk(path: &Path, recursive: bool, named: bool) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        let fits = named || path.extension().is_some_and(|end| ["json", "yaml", "yml"].iter().any(|known| end == *known));
        return Ok(if fits { vec![path.to_path_buf()] } else { Vec::new() });
    }
    if !named && !recursive {
        return Ok(Vec::new());
    }
    let failed = |source| Error::File { action: "read folder", path: path.to_path_buf(), source };
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        found.extend(walk(&path, recursive, false)?);
    }
    Ok(found)
}

/// The objects of one file.
pub fn parse(source: &str, text: &str) -> Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for document in yaml::Documents::new(text) {
        let object = document.map_err(|error| Error::Manifest { name: source.to_string(), source: error })?;
        flatten(source, object, &mut found)?;
    }
    Ok(found)
}

fn flatten(source: &str, object: Value, found: &mut Vec<Manifest>) -> Result<()> {
    match object {
        Value::Null => Ok(()),
        Value::Object(mut object) => {
            let is_list = object.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
            if let (true, Some(Value::Array(items))) = (is_list, object.get_mut("items")) {
                return std::mem::take(items).into_iter().try_for_each(|item| flatten(source, item, found));
            }
            found.push(Manifest { source: source.to_string(), object: Value::Object(object) });
            Ok(())
        }
        other => Error::usage(format!("error parsing {source}: a manifest must be an object, found {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists() {
        let names = |text: &str| -> Vec<String> {
            parse("f", text).unwrap().iter().map(|found| found.object["metadata"]["name"].as_str().unwrap().to_string()).collect()
        };
        assert_eq!(names("---\nmetadata: {name: a}\n---\n---\n# only a comment\n---\nmetadata: {name: b}\n"), ["a", "b"]);
        assert_eq!(names("{kind: List, items: [{metadata: {name: a}}, {kind: PodList, items: [{metadata: {name: b}}]}]}"), ["a", "b"]);
        assert_eq!(names("{\"metadata\": {\"name\": \"j\"}}"), ["j"]);
        assert!(parse("f", "a: [").unwrap_err().to_string().starts_with("error: error parsing f: "));
        assert!(parse("f", "just text").unwrap_err().to_string().contains("must be an object"));
    }

    #[test]
    fn folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for (name, text) in
            [("b.yaml", "{metadata: {name: b}}"), ("a.json", "{\"metadata\": {}}"), ("x.txt", "no"), ("sub/c.yml", "{kind: c}")]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let count = |recursive| {
            let filename = vec![folder.path().display().to_string()];
            read(&Files { filename, recursive, kustomize: None }).unwrap().len()
        };
        assert_eq!((count(false), count(true)), (2, 3));
        let missing = Files { filename: vec!["/nowhere/x.yaml".into()], ..Files::default() };
        assert_eq!(read(&missing).unwrap_err().to_string(), "error: the path \"/nowhere/x.yaml\" does not exist");
        assert!(read(&Files { kustomize: Some("k".into()), ..Files::default() }).is_err());
    }
}
