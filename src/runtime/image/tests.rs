//! Archives and layers, hostile ones among them. Pulling is tested against a real registry in the node tests.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use sha2::Digest;

use super::*;

/// A tar of (path, content); a path with `->` is a symlink, one with `=>` a hard link, one ending in `/` a folder.
fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o4755);
        header.set_mtime(7);
        header.set_uid(0);
        header.set_gid(0);
        let (name, link, kind) = match (path.split_once("->"), path.split_once("=>")) {
            (Some((name, to)), _) => (name, Some(to), tar::EntryType::Symlink),
            (_, Some((name, to))) => (name, Some(to), tar::EntryType::Link),
            _ if path.ends_with('/') => (*path, None, tar::EntryType::Directory),
            _ => (*path, None, tar::EntryType::Regular),
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        // Written raw: the builder would refuse the paths that hostile archives have.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        tar.append(&header, content.as_bytes()).expect("appends");
    }
    tar.into_inner().expect("finishes")
}

fn unpack(entries: &[(&str, &str)]) -> (tempfile::TempDir, Result<String, String>) {
    let outer = tempfile::tempdir().expect("a directory");
    let root = outer.path().join("root");
    fs::create_dir(&root).expect("makes");
    let result = layer::unpack(&*tar(entries), &root).map_err(|error| error.to_string());
    (outer, result)
}

#[test]
fn layers_unpack_with_owners_links_and_whiteouts() {
    let entries = [
        ("usr/", ""),
        ("usr/a", "one"),
        ("usr/b=>usr/a", ""),
        ("c->usr/a", ""),
        ("usr/a2", "x"),
        ("usr/a2", "y"),
        (".wh.gone", ""),
        ("usr/.wh..wh..opq", ""),
    ];
    let (outer, result) = unpack(&entries);
    let root = outer.path().join("root");
    assert_eq!(result.expect("unpacks"), layer::format_digest(sha2::Sha256::new_with_prefix(tar(&entries))));
    assert_eq!(fs::read_to_string(root.join("usr/b")).expect("reads"), "one");
    assert_eq!(fs::read_to_string(root.join("usr/a2")).expect("reads"), "y");
    assert_eq!(fs::read_link(root.join("c")).expect("is a link"), Path::new("usr/a"));
    let a = fs::metadata(root.join("usr/a")).expect("is there");
    assert_eq!((a.mode() & 0o7777, a.mtime(), a.nlink()), (0o4755, 7, 2));
    let gone = fs::symlink_metadata(root.join("gone")).expect("is there");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0; 8];
    let read = rustix::fs::getxattr(root.join("usr"), "trusted.overlay.opaque", &mut value[..]);
    assert_eq!((read, value[0]), (Ok(1), b'y'));
}

#[test]
fn no_entry_leaves_the_layer() {
    let cases: &[&[(&str, &str)]] = &[
        &[("../evil", "x")],
        &[("a/../../evil", "x")],
        &[("up->..", ""), ("up/evil", "x")],
        &[("up->../..", ""), ("up/evil", "x")],
        &[("abs->/", ""), ("abs/evil", "x")],
        &[("evil=>../secret", "")],
        &[("f->../secret", ""), ("f", "x")],
    ];
    for entries in cases {
        let (outer, _) = unpack(entries);
        let names: Vec<_> = fs::read_dir(outer.path()).expect("reads").map(|entry| entry.expect("reads").file_name()).collect();
        assert_eq!(names, ["root"], "{entries:?} wrote outside");
    }
}

#[test]
fn cut_layers_are_refused() {
    let whole = tar(&[("a", &"x".repeat(5000))]);
    let root = tempfile::tempdir().expect("a directory");
    assert!(layer::unpack(&whole[..3000], root.path()).is_err());
}

fn docker_archive(tags: &str, layer: &[u8]) -> Vec<u8> {
    let diff_id = layer::format_digest(sha2::Sha256::new_with_prefix(tar(&[("f", "content")])));
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Cmd":["/f"],"User":"7"}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#,
        oci_spec::image::Arch::default()
    );
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":{tags},"Layers":["l.tar"]}}]"#);
    let layer = String::from_utf8(layer.to_vec()).expect("this tar is text");
    tar(&[("manifest.json", &manifest), ("c.json", &config), ("l.tar", &layer)])
}

async fn import(archive: &[u8], name: Option<&str>) -> (tempfile::TempDir, Images, Result<Vec<String>, String>) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("archive.tar");
    fs::write(&file, archive).expect("writes");
    let images = Images::open(dir.path(), Registries::default()).expect("opens");
    let result = images.import(&file, name).await.map_err(|error| error.to_string());
    (dir, images, result)
}

#[tokio::test]
async fn archives_are_imported_listed_and_removed() {
    let layer = tar(&[("f", "content")]);
    let (dir, images, result) = import(&docker_archive(r#"["web:1"]"#, &layer), None).await;
    assert_eq!(result.expect("imports"), ["docker.io/library/web:1"]);
    let image = images.get("web:1").await.expect("reads").expect("is there");
    assert_eq!((image.config.cmd().clone(), image.config.user().clone()), (Some(vec!["/f".into()]), Some("7".into())));
    assert_eq!(fs::read_to_string(image.layers[0].join("f")).expect("reads"), "content");
    assert!(images.get(&image.id).await.expect("reads").is_some());
    assert!(images.get("web:2").await.expect("reads").is_none());
    assert_eq!(images.list().await.expect("lists").len(), 1);
    assert_eq!(images.remove("web:1").await.expect("removes"), ["docker.io/library/web:1"]);
    assert!(!image.layers[0].exists());
    let tmp: Vec<_> = fs::read_dir(dir.path().join("images/tmp")).expect("reads").collect();
    assert!(tmp.is_empty(), "work in progress is cleaned up");
}

#[tokio::test]
async fn bad_archives_change_nothing_and_say_why() {
    let layer = tar(&[("f", "content")]);
    let other = tar(&[("f", "CONTENT")]);
    let cases = [
        (docker_archive("null", &layer), "--name"),
        (docker_archive(r#"["web:1"]"#, &other), "was changed or cut"),
        (docker_archive(r#"["Not A Name"]"#, &layer), "invalid image reference"),
        (tar(&[("hello", "x")]), "no image archive"),
        (b"not a tar at all".to_vec(), "unpacking"),
    ];
    for (archive, expected) in cases {
        let (_dir, images, result) = import(&archive, None).await;
        let error = result.expect_err(expected);
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
        assert!(images.list().await.expect("lists").is_empty());
    }
    let (_dir, _, result) = import(&docker_archive("null", &layer), Some("named:2")).await;
    assert_eq!(result.expect("imports"), ["docker.io/library/named:2"]);
}

#[tokio::test]
async fn an_executable_becomes_an_image() {
    let dir = tempfile::tempdir().expect("a directory");
    let executable = dir.path().join("tool");
    fs::write(&executable, "binary").expect("writes");
    let images = Images::open(dir.path(), Registries::default()).expect("opens");
    let name = images.import_executable(&executable, "orch.local/tool:latest").await.expect("imports");
    let image = images.get(&name).await.expect("reads").expect("is there");
    assert_eq!(image.config.entrypoint().clone(), Some(vec!["/tool".into()]));
    assert_eq!(fs::read_to_string(image.layers[0].join("tool")).expect("reads"), "binary");
}
