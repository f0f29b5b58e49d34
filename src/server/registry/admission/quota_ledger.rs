//! How much of each quota is taken right now: by what is stored, and by writes that are under way.
//!
//! Words: an *account* is what the ledger knows of one quota; a *reservation* is what one write under way has set aside.
//!
//! Two writes never share the last bit of room: the ledger looks at the newest snapshot *while holding* its lock, and a reservation is
//! given back only after its commit is visible. In between, the write would count twice; so a reservation counts only while its object
//! is still as it was when the reservation was made. (Has it changed, then the write is in the snapshot, or somebody else's is and this
//! one will be decided again.)
//!
//! An account is counted in full once, and from then on carried forward by the difference of two snapshots, so that the cost of a write
//! does not grow with what the namespace holds.
//!
//! Unlike upstream, `status.used` is not what is trusted: it is written by a controller, and two writers can't agree through it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use parking_lot::Mutex;

use crate::api::amounts::Amounts;
use crate::api::{Key, Rev, Scope};
use crate::server::quota::{self, Item, Standing};
use crate::server::store::{DecodeError, Entry, Snapshot};

/// The ledger. Clones share it.
#[derive(Clone, Default)]
pub(in super::super) struct Ledger(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    /// What the accounts were last brought up to.
    upto: Snapshot,
    /// By the key of the quota.
    accounts: HashMap<Key, Account>,
    reservations: BTreeMap<u64, Reservation>,
    next: u64,
}

struct Account {
    /// The rule that was counted by; a quota with another one is counted anew.
    quota: Arc<ResourceQuota>,
    /// The sum of all objects, as if those that end had not ended.
    used: Amounts,
    /// What the living among those that are about to end take, and until when.
    ending: HashMap<Key, (Timestamp, Amounts)>,
}

struct Reservation {
    object: Key,
    /// The revision it was decided on; `None` for a creation.
    base: Option<Rev>,
    /// By the key of the quota.
    charges: Vec<(Key, Amounts)>,
}

/// Room set aside for one write; dropping it gives it back.
pub(in super::super) struct Room {
    ledger: Ledger,
    number: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.ledger.0.lock().reservations.remove(&self.number);
    }
}

/// One write, as the ledger is asked about it.
pub(super) struct Write<'a> {
    /// Where it goes.
    pub object: Key,
    /// The revision it was decided on; `None` for a creation.
    pub base: Option<Rev>,
    /// What is written.
    pub new: Item<'a>,
    /// What was there.
    pub old: Option<Item<'a>>,
}

/// Why there is no room.
#[derive(Debug)]
pub(super) enum Refused {
    /// A quota says so, in these words.
    Full(String),
    /// Something stored can't be read.
    Unreadable(DecodeError),
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Refused {
        Refused::Unreadable(error)
    }
}

impl Ledger {
    /// Sets room aside in each quota of the namespace, or says which has none. `None`: no quota is concerned.
    pub(super) fn reserve(&self, write: &Write<'_>, now: Timestamp, latest: &dyn Fn() -> Snapshot) -> Result<Option<Room>, Refused> {
        let namespace = Scope::of_namespace::<ResourceQuota>(write.object.namespace());
        if latest().range(&namespace).next().is_none() {
            return Ok(None);
        }
        let mut books = self.0.lock();
        let snapshot = latest();
        books.carry_forward(&snapshot);
        let mut quotas = Vec::new();
        for entry in snapshot.range(&namespace) {
            let quota = entry.typed::<ResourceQuota>()?;
            books.open(&entry.key, &quota, &snapshot);
            quotas.push((entry.key.clone(), quota));
        }
        let standings: Vec<_> = quotas.iter().map(|(key, quota)| Standing { quota, used: books.used(key, now, &snapshot) }).collect();
        let kind = (write.object.group(), write.object.resource());
        let charges = quota::charge(&standings, kind, write.new, write.old).map_err(Refused::Full)?;
        let charges: Vec<_> = quotas.iter().map(|(key, _)| key.clone()).zip(charges).filter(|(_, charge)| !charge.is_empty()).collect();
        if charges.is_empty() {
            return Ok(None);
        }
        let number = books.next;
        books.next += 1;
        books.reservations.insert(number, Reservation { object: write.object.clone(), base: write.base, charges });
        Ok(Some(Room { ledger: self.clone(), number }))
    }
}

impl Books {
    /// Brings all accounts up to a newer snapshot.
    fn carry_forward(&mut self, snapshot: &Snapshot) {
        let changes = if self.accounts.is_empty() { None } else { Some(snapshot.changes_since(&self.upto)) };
        for (before, after) in changes.into_iter().flatten() {
            let Some(key) = before.or(after).map(|entry| &entry.key) else { continue };
            if key.is::<ResourceQuota>() && after.is_none() {
                self.accounts.remove(key);
            }
            for (_, account) in self.accounts.iter_mut().filter(|(quota, _)| quota.namespace() == key.namespace()) {
                account.replace(before, after);
            }
        }
        self.upto = snapshot.clone();
    }

    /// Makes sure that there is an account for this rule, counting it if there is none.
    fn open(&mut self, key: &Key, quota: &Arc<ResourceQuota>, snapshot: &Snapshot) {
        if self.accounts.get(key).is_some_and(|account| account.quota.spec == quota.spec) {
            return;
        }
        let mut account = Account { quota: quota.clone(), used: Amounts::default(), ending: HashMap::new() };
        for entry in snapshot.range(&Scope::all()).filter(|entry| entry.key.namespace() == key.namespace()) {
            account.replace(None, Some(entry));
        }
        self.accounts.insert(key.clone(), account);
    }

    /// What is taken of a quota.
    fn used(&self, quota: &Key, now: Timestamp, snapshot: &Snapshot) -> Amounts {
        let Some(account) = self.accounts.get(quota) else { return Amounts::default() };
        let mut used = account.used.clone();
        for (ends, amounts) in account.ending.values() {
            if now > *ends {
                used.subtract(amounts);
            }
        }
        let pending = self.reservations.values().filter(|one| snapshot.get(&one.object).map(|entry| entry.rev) == one.base);
        for (_, amounts) in pending.flat_map(|one| &one.charges).filter(|(key, _)| key == quota) {
            used.add(amounts);
        }
        used
    }
}

impl Account {
    /// One object changed, came or went.
    fn replace(&mut self, before: Option<&Arc<Entry>>, after: Option<&Arc<Entry>>) {
        if let Some(entry) = before {
            if let Some(measure) = quota::share(&self.quota, entry) {
                self.used.subtract(&measure.stored);
                self.used.subtract(&measure.alive);
            }
            self.ending.remove(&entry.key);
        }
        if let Some(entry) = after
            && let Some(measure) = quota::share(&self.quota, entry)
        {
            self.used.add(&measure.stored);
            self.used.add(&measure.alive);
            if let Some(ends) = measure.ends {
                self.ending.insert(entry.key.clone(), (ends, measure.alive));
            }
        }
    }
}
