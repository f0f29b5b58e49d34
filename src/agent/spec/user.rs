//! Who a container runs as: securityContext against the image's User, with names looked up in the image's own /etc/passwd and
//! /etc/group. Files of an image are foreign: opened beneath its layer only, and read up to a bound.
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::SpecError;

/// Numbers of a process's user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What the pod asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Vec<u32>,
    non_root: bool,
    strict: bool,
}

fn id(value: Option<i64>) -> Option<u32> {
    value.and_then(|v| u32::try_from(v).ok())
}

/// What pod and container ask for; the container's word counts more.
pub fn wanted(pod: &Pod, container: &Container) -> Wanted {
    let pods = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let mut groups: Vec<u32> = pods.supplemental_groups.iter().flatten().filter_map(|g| id(Some(*g))).collect();
    groups.extend(id(pods.fs_group));
    Wanted {
        uid: id(own.run_as_user.or(pods.run_as_user)),
        gid: id(own.run_as_group.or(pods.run_as_group)),
        groups,
        non_root: own.run_as_non_root.or(pods.run_as_non_root) == Some(true),
        strict: pods.supplemental_groups_policy.as_deref() == Some("Strict"),
    }
}

/// Settles the user. `passwd` and `group` are the texts of the image's files.
pub fn resolve(container: &str, want: &Wanted, image_user: &str, passwd: &str, group: &str) -> Result<User, SpecError> {
    let (user, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let entry = |key: &str, number: Option<u32>| {
        passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find_map(|f| {
            let (name, uid, gid) = (*f.first()?, f.get(2)?.parse::<u32>().ok()?, f.get(3)?.parse::<u32>().ok()?);
            (name == key || Some(uid) == number).then(|| (name.to_owned(), uid, gid))
        })
    };
    let (name, uid, primary) = match (want.uid, user) {
        (Some(uid), _) => entry("\0", Some(uid)).map_or((String::new(), uid, 0), |(name, uid, gid)| (name, uid, gid)),
        (None, "") => (entry("\0", Some(0)).map_or("root".into(), |e| e.0), 0, 0),
        (None, text) => match text.parse::<u32>() {
            Ok(uid) => entry("\0", Some(uid)).unwrap_or((String::new(), uid, 0)),
            Err(_) => {
                if want.non_root {
                    return Err(SpecError::NonNumericUser { user: text.into(), container: container.into() });
                }
                entry(text, None).ok_or_else(|| SpecError::NoSuchUser(text.into()))?
            }
        },
    };
    if want.non_root && uid == 0 {
        return Err(SpecError::RunsAsRoot(container.into()));
    }
    let groups_of = || {
        group
            .lines()
            .map(|l| l.split(':').collect::<Vec<_>>())
            .filter_map(|f| Some((f.first()?.to_string(), f.get(2)?.parse().ok()?, f.get(3).unwrap_or(&"").to_string())))
    };
    let gid = match (want.gid, image_group) {
        (Some(gid), _) => gid,
        (None, "") => primary,
        _ if want.uid.is_some() => primary,
        (None, text) => match text.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => groups_of()
                .find(|(n, ..)| n == text)
                .map(|(_, gid, _): (String, u32, String)| gid)
                .ok_or_else(|| SpecError::NoSuchUser(text.into()))?,
        },
    };
    let mut groups = want.groups.clone();
    if !want.strict && !name.is_empty() {
        groups.extend(groups_of().filter(|(_, _, members)| members.split(',').any(|m| m == name)).map(|(_, gid, _)| gid));
    }
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups })
}

/// A small file of an image (its topmost version), or nothing if no layer has it.
pub fn image_file(layers: &[PathBuf], path: &str) -> Result<String, SpecError> {
    for layer in layers.iter().rev() {
        if let Some(text) = read_beneath(layer, path).map_err(|source| SpecError::Io { what: format!("{path} of the image"), source })? {
            return Ok(text);
        }
    }
    Ok(String::new())
}

fn read_beneath(layer: &Path, path: &str) -> std::io::Result<Option<String>> {
    const LIMIT: u64 = 1 << 20;
    let root = rustix::fs::openat(CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if !file.metadata()?.is_file() {
        // A whiteout (a character device) hides what is below.
        return Ok(Some(String::new()));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
