//! Whom a container runs as: `USER[:GROUP]` looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! After moby/sys `user.GetExecUser`: names or numbers; a number need not exist; without a group it is the user's own, or 0;
//! without a named group, every group that lists the user is added.
use super::Error;

/// Ids to run with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, without `gid`.
    pub groups: Vec<u32>,
    /// Home directory; `/` if unknown.
    pub home: String,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let name = parts.next()?;
        let (uid, gid) = (parts.nth(1)?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Passwd { name, uid, gid, home: parts.nth(1).unwrap_or_default() })
    })
}

fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let name = parts.next()?;
        Some((name, parts.nth(1)?.parse().ok()?, parts.next().unwrap_or_default()))
    })
}

/// Resolves `spec` with the contents of `/etc/passwd` and `/etc/group`.
pub fn resolve_user(spec: &str, passwd_text: &str, group_text: &str) -> Result<Identity, Error> {
    let (user, group) = spec.split_once(':').map_or((spec, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok().filter(|number| *number <= i32::MAX as u32);
    // A name wins over the same digits as a number.
    let entry =
        passwd(passwd_text).find(|entry| entry.name == user).or_else(|| passwd(passwd_text).find(|entry| Some(entry.uid) == number));
    let mut identity = match (&entry, number) {
        (Some(entry), _) => Identity { uid: entry.uid, gid: entry.gid, groups: vec![], home: entry.home.to_string() },
        (None, Some(uid)) => Identity { uid, ..Identity::default() },
        (None, None) => return Err(Error::Container(format!("unable to find user {user}: no matching entries in passwd file"))),
    };
    if identity.home.is_empty() {
        identity.home = "/".to_string();
    }
    match group.filter(|group| !group.is_empty()) {
        Some(group) => {
            let found = groups(group_text).find(|(name, _, _)| *name == group).map(|(_, gid, _)| gid);
            let number = group.parse::<u32>().ok().filter(|number| *number <= i32::MAX as u32);
            let missing = || Error::Container(format!("unable to find group {group}: no matching entries in group file"));
            identity.gid = found.or(number).ok_or_else(missing)?;
        }
        None => {
            let name = entry.map_or("", |entry| entry.name);
            let listed = groups(group_text)
                .filter(|(_, gid, members)| *gid != identity.gid && members.split(',').any(|member| !name.is_empty() && member == name));
            identity.groups = listed.map(|(_, gid, _)| gid).collect();
        }
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n77:x:500:501::/n:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:web\nadm:x:4:syslog,web\nops:x:90:webby\n";

    fn check(spec: &str, expect: &str) {
        let got = match resolve_user(spec, PASSWD, GROUP) {
            Ok(id) => format!("{}:{} {:?} {}", id.uid, id.gid, id.groups, id.home),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expect, "{spec}");
    }

    #[test]
    fn users_are_found_as_upstream_does() {
        check("", "0:0 [] /root");
        check("web", "33:34 [4] /var/www");
        check("33", "33:34 [4] /var/www");
        check("web:adm", "33:4 [] /var/www");
        check("1000", "1000:0 [] /");
        check("1000:2000", "1000:2000 [] /");
        check("77", "500:501 [] /n");
        check("nobody", "unable to find user nobody: no matching entries in passwd file");
        check("web:none", "unable to find group none: no matching entries in group file");
        check("-1", "unable to find user -1: no matching entries in passwd file");
    }
}
