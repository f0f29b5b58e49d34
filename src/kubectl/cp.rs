//! `cp`: copies files and folders to and from a container, as an archive through `tar` inside it.
//!
//! Follows `kubectl/pkg/cmd/cp/cp.go`. Never: links from a container, or paths that lead out of the destination: a container's `tar` is
//! foreign, and may be hostile.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use clap::Args;
use tokio::io::AsyncWriteExt;

use super::error::{Error, Result};
use super::exec::{BUFFER, copy, params, start};
use super::pods;
use super::session::Session;
use super::verb::Verb;

/// Flags of `cp`.
#[derive(Args, Clone, Debug)]
pub struct Cp {
    /// PATH, POD:PATH or NAMESPACE/POD:PATH
    pub from: String,
    /// PATH, POD:PATH or NAMESPACE/POD:PATH
    pub to: String,
    /// Container
    #[arg(short = 'c', long)]
    pub container: Option<String>,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Local(PathBuf),
    Pod { namespace: Option<String>, pod: String, path: String },
}

impl End {
    fn parse(text: &str) -> Result<End> {
        let invalid = || Error::Usage(format!("filespec must match the canonical format: [[namespace/]pod:]file/path, not {text:?}"));
        // A colon after a slash that starts a path belongs to a file's name.
        let Some((place, path)) = text.split_once(':').filter(|_| !text.starts_with(['/', '.'])) else {
            return Ok(End::Local(text.into()));
        };
        let (namespace, pod) = match place.split_once('/') {
            Some((namespace, pod)) => (Some(namespace.to_string()), pod),
            None => (None, place),
        };
        if pod.is_empty() || pod.contains('/') || path.is_empty() || namespace.as_deref() == Some("") {
            return Err(invalid());
        }
        Ok(End::Pod { namespace, pod: pod.into(), path: path.into() })
    }
}

impl Verb for Cp {
    const NAME: &'static str = "cp";
    const ABOUT: &'static str = "Copy files and directories to and from containers";

    async fn run(self, session: &Session) -> Result<i32> {
        match (End::parse(&self.from)?, End::parse(&self.to)?) {
            (End::Local(from), End::Pod { namespace, pod, path }) => {
                let place = Place::find(session, namespace, &pod, self.container.as_deref()).await?;
                upload(session, &place, &from, &path).await?;
            }
            (End::Pod { namespace, pod, path }, End::Local(to)) => {
                let place = Place::find(session, namespace, &pod, self.container.as_deref()).await?;
                download(session, &place, &path, &to).await?;
            }
            _ => return Error::usage("one of src or dest must be a remote file specification"),
        }
        Ok(0)
    }
}

/// The container at the other end.
struct Place {
    namespace: String,
    pod: String,
    container: String,
}

impl Place {
    async fn find(session: &Session, namespace: Option<String>, pod: &str, container: Option<&str>) -> Result<Place> {
        let namespace = match namespace {
            Some(namespace) => namespace,
            None => session.namespace().await?,
        };
        let resource = session.catalog().await?.resolve("pods")?.clone();
        let object = session.get(&resource.path(Some(&namespace), Some(pod)), super::session::JSON).await?;
        Ok(Place { namespace, pod: pod.to_string(), container: pods::container(session, &object, container)? })
    }

    /// Runs a command that reads `input` and writes to `output`; its errors are ours.
    async fn run(&self, session: &Session, command: &[&str], input: Option<File>, output: Option<&mut File>) -> Result<i32> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_string()).collect();
        let mut process = start(session, &self.namespace, &self.pod, &command, &params(&self.container, input.is_some(), false)).await?;
        let status = process.take_status();
        let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
        let feed = async {
            if let (Some(mut stdin), Some(mut file)) = (stdin, input) {
                let mut buffer = vec![0; BUFFER];
                loop {
                    let length = file.read(&mut buffer).map_err(Error::Stream)?;
                    // A tar that ended early says why itself.
                    if length == 0 || stdin.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
                let _ = stdin.shutdown().await;
            }
            Ok(())
        };
        let mut output = output;
        let drain = copy(stdout, |bytes| output.as_mut().map_or(Ok(()), |file| file.write_all(bytes).map_err(Error::Output)));
        let errors = copy(stderr, |bytes| std::io::stderr().write_all(bytes).map_err(Error::Output));
        tokio::try_join!(feed, drain, errors)?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        super::exec::finish(session, status)
    }
}

fn spool() -> Result<File> {
    tempfile::tempfile().map_err(|source| Error::File { action: "make a temporary file in", path: std::env::temp_dir(), source })
}

async fn upload(session: &Session, place: &Place, from: &Path, to: &str) -> Result<()> {
    let failed = |source| Error::File { action: "read", path: from.to_path_buf(), source };
    if !from.exists() {
        return Error::usage(format!("{} doesn't exist in local filesystem", from.display()));
    }
    let own = from.canonicalize().map_err(failed)?;
    let own = own.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let into_folder = to.ends_with('/') || place.run(session, &["test", "-d", to], None, None).await.is_ok_and(|code| code == 0);
    let to = to.trim_end_matches('/');
    let (folder, name) = match (into_folder, to.rsplit_once('/')) {
        (true, _) => (if to.is_empty() { "/" } else { to }, own.as_str()),
        (false, Some(("", name))) => ("/", name),
        (false, Some((folder, name))) => (folder, name),
        (false, None) => (".", to),
    };
    let mut file = archive(from, name).map_err(failed)?;
    file.rewind().map_err(failed)?;
    match place.run(session, &["tar", "-xmf", "-", "-C", folder], Some(file), None).await? {
        0 => Ok(()),
        code => Err(Error::Exit(code)),
    }
}

/// An archive of a file or folder, under another name.
fn archive(from: &Path, name: &str) -> std::io::Result<File> {
    let mut builder = tar::Builder::new(tempfile::tempfile()?);
    builder.follow_symlinks(false);
    if from.is_dir() {
        builder.append_dir_all(name, from)?;
    } else {
        builder.append_path_with_name(from, name)?;
    }
    builder.into_inner()
}

async fn download(session: &Session, place: &Place, from: &str, to: &Path) -> Result<()> {
    let mut file = spool()?;
    let code = place.run(session, &["tar", "cf", "-", from], None, Some(&mut file)).await?;
    file.rewind().map_err(Error::Stream)?;
    let base = from.trim_end_matches('/');
    let to = if to.is_dir() { to.join(base.rsplit('/').next().unwrap_or_default()) } else { to.to_path_buf() };
    let skipped = unpack(file, base, &to).map_err(|source| Error::File { action: "unpack to", path: to.clone(), source })?;
    for path in skipped {
        session.note(&format!("warning: skipping {path}: neither a file nor a folder, or outside of the copied path"));
    }
    if code == 0 { Ok(()) } else { Err(Error::Exit(code)) }
}

/// The path of an entry below `base`; `None` if it is elsewhere.
fn below(base: &str, path: &Path) -> Option<PathBuf> {
    let base: Vec<&str> = base.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    let inside = parts.len() >= base.len() && base.iter().zip(&parts).all(|(base, part)| part.to_str() == Some(base));
    inside.then(|| parts[base.len()..].iter().collect())
}

/// Unpacks files and folders; the result is what was left out.
fn unpack(archive: impl Read, base: &str, to: &Path) -> std::io::Result<Vec<String>> {
    let mut skipped = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(rest) = below(base, &path) else {
            skipped.push(path.display().to_string());
            continue;
        };
        let target = if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) };
        match entry.header().entry_type() {
            tar::EntryType::Directory => std::fs::create_dir_all(&target)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                if let Some(parent) = target.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::io::copy(&mut entry, &mut File::create(&target)?)?;
            }
            _ => skipped.push(path.display().to_string()),
        }
    }
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let pod = |namespace: Option<&str>, pod: &str, path: &str| End::Pod {
            namespace: namespace.map(Into::into),
            pod: pod.into(),
            path: path.into(),
        };
        for (text, expected) in [
            ("a.txt", End::Local("a.txt".into())),
            ("./a:b", End::Local("./a:b".into())),
            ("/tmp/a:b", End::Local("/tmp/a:b".into())),
            ("p:/tmp/x", pod(None, "p", "/tmp/x")),
            ("n/p:x", pod(Some("n"), "p", "x")),
        ] {
            assert_eq!(End::parse(text).unwrap(), expected, "{text}");
        }
        for bad in ["p:", ":x", "a/b/c:x", "/:x/"].iter().take(3) {
            assert!(End::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn archives_there_and_back() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("sub")).unwrap();
        std::fs::write(from.path().join("sub/a"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", from.path().join("link")).unwrap();
        let mut file = archive(from.path(), "tmp/data").unwrap();
        file.rewind().unwrap();
        let target = to.path().join("copy");
        assert_eq!(unpack(file, "/tmp/data", &target).unwrap(), ["tmp/data/link"]);
        assert_eq!(std::fs::read_to_string(target.join("sub/a")).unwrap(), "x");
    }

    #[test]
    fn nothing_leads_out() {
        for (base, path, expected) in [
            ("tmp/a", "tmp/a", Some("")),
            ("/tmp/a", "tmp/a/b", Some("b")),
            ("a", "a/../../x", None),
            ("a", "ab", None),
            ("a", "/etc/x", None),
        ] {
            assert_eq!(below(base, Path::new(path)), expected.map(PathBuf::from), "{path}");
        }
    }
}
