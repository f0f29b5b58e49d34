//! `--basic-auth-file`: lines of `user:bcrypt-hash[:uid[:group1,group2]]`, as `htpasswd -B` writes them.
//!
//! Checking a hash takes long on purpose, so that results are kept for a while (by a keyed digest, never the password), few are
//! computed at once, and an unknown name takes as long as a known one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::Semaphore;

use super::files::{FileError, Watched};
use crate::server::registry::User;

/// Most users of one file.
const MAX_USERS: usize = 100_000;
/// A hash that takes longer than about a second is refused.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// How long a right password is not computed again, and how long a wrong one.
const GOOD_FOR: Duration = Duration::from_secs(600);
const WRONG_FOR: Duration = Duration::from_secs(10);
/// Results kept.
const MAX_KEPT: usize = 4096;
/// Hashes computed at once, and requests that may wait for it.
const AT_ONCE: usize = 2;
const MAX_WAITING: usize = 64;
/// Longest password; bcrypt itself looks at 72 bytes.
const MAX_PASSWORD: usize = 1024;

/// One line.
#[derive(Clone)]
struct Entry {
    user: User,
    hash: String,
}

/// The users of one file.
pub struct Users {
    by_name: HashMap<String, Entry>,
    /// What an unknown name is checked against.
    nobody: String,
}

impl Users {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Users, FileError> {
        let mut by_name = HashMap::new();
        let mut dearest = 10;
        for (index, line) in text.lines().enumerate().map(|(index, line)| (index, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: String| FileError::Line { line: index as u64 + 1, why };
            let mut parts = line.splitn(4, ':');
            let mut next = || parts.next().unwrap_or_default();
            let (name, hash, uid, groups) = (next(), next(), next(), next());
            if name.is_empty() {
                return Err(wrong("there is no user name".into()));
            }
            let cost = cost(hash).ok_or_else(|| wrong(format!("what follows {name:?} is no bcrypt hash ($2b$...)")))?;
            if !COSTS.contains(&cost) {
                return Err(wrong(format!("the hash's cost is {cost}; use {} to {}", COSTS.start(), COSTS.end())));
            }
            dearest = dearest.max(cost);
            let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(String::from).collect();
            let user = User { name: name.into(), uid: uid.into(), groups, ..User::default() };
            if by_name.insert(name.to_owned(), Entry { user, hash: hash.into() }).is_some() {
                return Err(wrong(format!("{name:?} is there twice")));
            }
            if by_name.len() > MAX_USERS {
                return Err(wrong(format!("there are more than {MAX_USERS} users")));
            }
        }
        Ok(Users { by_name, nobody: format!("$2b${dearest:02}${}", ".".repeat(53)) })
    }
}

/// The cost of a well-formed hash.
fn cost(hash: &str) -> Option<u32> {
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| hash.strip_prefix(prefix))?;
    let (cost, rest) = rest.split_once('$')?;
    let legal = rest.len() == 53 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    cost.parse().ok().filter(|_| legal && cost.len() == 2)
}

/// What came of a check.
#[derive(Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is this user.
    Good(User),
    /// It is not.
    Wrong,
    /// There was no time to find out.
    Busy,
}

/// Checks passwords.
pub struct Passwords {
    file: Arc<Watched<Users>>,
    key: hmac::Key,
    kept: Mutex<HashMap<[u8; 32], (bool, Instant)>>,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Hashes computed so far.
    computed: AtomicUsize,
}

impl Passwords {
    /// Of this file.
    pub fn new(file: Arc<Watched<Users>>) -> Passwords {
        let mut key = [0u8; 32];
        rand::fill(&mut key);
        Passwords {
            file,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            kept: Mutex::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: AtomicUsize::new(0),
            computed: AtomicUsize::new(0),
        }
    }

    /// The file.
    pub fn file(&self) -> &Watched<Users> {
        &self.file
    }

    /// Is this `name`'s password?
    pub async fn check(&self, name: &str, password: &str) -> Checked {
        if password.len() > MAX_PASSWORD || name.len() > MAX_PASSWORD || password.contains('\0') {
            return Checked::Wrong;
        }
        let users = self.file.get();
        let entry = users.by_name.get(name).cloned();
        let hash = entry.as_ref().map_or_else(|| users.nobody.clone(), |entry| entry.hash.clone());
        drop(users);
        // The hash is part of it: a changed password is not the one that was kept.
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name, password, &hash] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let digest: [u8; 32] = context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes");
        let known = self.kept.lock().get(&digest).filter(|(_, until)| *until > Instant::now()).map(|(good, _)| *good);
        let good = match known {
            Some(good) => good,
            None => {
                let Some(good) = self.compute(password, hash).await else { return Checked::Busy };
                self.keep(digest, good);
                good
            }
        };
        match entry {
            Some(entry) if good => Checked::Good(entry.user),
            _ => Checked::Wrong,
        }
    }

    async fn compute(&self, password: &str, hash: String) -> Option<bool> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let slot = self.slots.clone().acquire_owned().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let slot = slot.ok()?;
        self.computed.fetch_add(1, Ordering::Relaxed);
        let password = password.to_owned();
        let work = tokio::task::spawn_blocking(move || {
            let good = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(slot);
            good
        });
        work.await.ok()
    }

    fn keep(&self, digest: [u8; 32], good: bool) {
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_KEPT {
            let now = Instant::now();
            kept.retain(|_, (_, until)| *until > now);
            if kept.len() >= MAX_KEPT {
                // Guesses must not drive out what is right.
                kept.retain(|_, (good, _)| *good);
            }
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
        }
        kept.insert(digest, (good, Instant::now() + if good { GOOD_FOR } else { WRONG_FOR }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let hash = format!("$2y$05${}", "a".repeat(53));
        let users = Users::parse(&format!("# ours\n\nann:{hash}:7:a, b\nbob:{hash}\n")).unwrap();
        let ann = &users.by_name["ann"].user;
        assert_eq!((ann.uid.as_str(), ann.groups.as_slice()), ("7", &["a".to_owned(), "b".to_owned()][..]));
        assert!(users.by_name["bob"].user.groups.is_empty());
        for (text, want) in [
            ("ann:plain".to_owned(), "line 1: what follows \"ann\" is no bcrypt hash ($2b$...)"),
            (format!("ann:{}", hash.replace("05", "20")), "line 1: the hash's cost is 20; use 4 to 14"),
            (format!("ann:{hash}\nann:{hash}"), "line 2: \"ann\" is there twice"),
            (format!(":{hash}"), "line 1: there is no user name"),
        ] {
            assert_eq!(Users::parse(&text).err().unwrap().to_string(), want);
        }
    }

    #[tokio::test]
    async fn a_password_is_computed_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, format!("ann:{}", bcrypt::hash("right", 4).unwrap())).unwrap();
        let passwords = Passwords::new(Arc::new(Watched::open(&path, Users::parse).unwrap()));
        for _ in 0..3 {
            assert!(matches!(passwords.check("ann", "right").await, Checked::Good(user) if user.name == "ann"));
            assert_eq!(passwords.check("ann", "wrong").await, Checked::Wrong);
            assert_eq!(passwords.check("eve", "right").await, Checked::Wrong);
        }
        assert_eq!(passwords.computed.load(Ordering::Relaxed), 3, "one for each question");
        assert!(passwords.kept.lock().keys().all(|digest| digest[..] != b"right"[..]));
    }
}
