//! A machine that gets another address begins again with it, be it a node, a server, or both.
//!
//! What it has told of its address is in many hands: the Node, its certificate, the other nodes' routes, every pod's status; the Service
//! `kubernetes`, `cluster-info`, what new machines are told to join. So it is not changed in place: [`notice`] ends with [`Renumbered`], and [`Begun::again`] begins anew, as the same process, by what is done at every
//! start. Containers run on.
//!
//! Never: acts on an address that somebody chose (`--node-ip`), or takes a worse one for another because the better is away for a while.

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use orch::config::{Address, NodeConfig, Origin};
use orch::net::Changes;
use orch::runtime::open_files;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long an address must be gone: renewing a lease may take it away for a moment.
const PATIENCE: Duration = Duration::from_secs(3);

/// The machine has other addresses than it had.
#[derive(Debug, thiserror::Error)]
#[error("the address {told} of this machine is gone, and the machine has {now} instead")]
pub struct Renumbered {
    /// What it told everybody.
    told: IpAddr,
    /// What it would tell now.
    now: IpAddr,
}

/// How this process was begun.
pub struct Begun {
    executable: PathBuf,
    args: Vec<OsString>,
    open_files: Option<u64>,
}

impl Begun {
    /// To be asked at once: the executable may be replaced later, and the limit of open files is raised from here on.
    pub fn now() -> Result<Begun> {
        let executable = std::env::current_exe().context("finding this executable")?;
        let open_files = open_files::raise().unwrap_or_else(|error| {
            tracing::warn!(%error, "the limit of open files can't be raised; many nodes or pods may need more");
            None
        });
        Ok(Begun { executable, args: std::env::args_os().collect(), open_files })
    }

    /// The soft limit of open files that this process was begun with, if that is another than it has now.
    pub fn open_files(&self) -> Option<u64> {
        self.open_files
    }

    /// Begins again, if that is what `outcome` asks for. Files are closed, and so unlocked, by that; everything else must have ended.
    pub fn again(&self, outcome: Result<()>) -> Result<()> {
        let Err(error) = outcome else { return Ok(()) };
        if error.downcast_ref::<Renumbered>().is_none() {
            return Err(error);
        }
        tracing::warn!(%error, "beginning again with the new address");
        let mut args = self.args.iter();
        let mut command = std::process::Command::new(&self.executable);
        if let Some(soft) = self.open_files {
            open_files::set(soft).context("setting the limit of open files")?;
        }
        command.arg0(args.next().unwrap_or(&"orch".into())).args(args);
        // Returns only if it fails.
        Err(command.exec()).with_context(|| format!("beginning again with {}", self.executable.display()))
    }
}

/// What became of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    /// It is gone, and there is none that could stand for it.
    Lost,
    /// It is gone, and this would be the node's now.
    Replaced(IpAddr),
}

fn fate(told: Address, present: &[Address]) -> Fate {
    let stands_for = |best: &&Address| {
        let same_family = best.ip.is_ipv4() || told.ip.is_ipv6() || told.origin == Origin::Nowhere;
        best.origin <= told.origin && same_family
    };
    match present.first().filter(stands_for) {
        _ if told.origin == Origin::Chosen || present.iter().any(|address| address.ip == told.ip) => Fate::Kept,
        Some(best) => Fate::Replaced(best.ip),
        None => Fate::Lost,
    }
}

/// Adds [`notice`] to the parts of a server or a node, until `stopping`.
pub fn follow(parts: &mut JoinSet<Result<()>>, node: &NodeConfig, stopping: CancellationToken) -> Result<()> {
    let changes = Changes::here().context("listening to changes of addresses")?;
    let told = Address { ip: node.ip, origin: node.ip_origin };
    parts.spawn(async move {
        tokio::select! {
            ended = notice(changes, told) => ended.map(drop),
            () = stopping.cancelled() => Ok(()),
        }
    });
    Ok(())
}

/// Waits until the address that was told is gone for good and another is there.
async fn notice(mut changes: Changes, told: Address) -> Result<Infallible> {
    let now = || match Address::all() {
        Ok(all) => fate(told, &all),
        Err(error) => {
            tracing::warn!(%error, "the machine's addresses can't be listed");
            Fate::Kept
        }
    };
    let mut lost = false;
    loop {
        let seen = now();
        if seen == Fate::Lost && !lost && told.origin != Origin::Nowhere {
            tracing::error!(address = %told.ip, "the address of this machine is gone, and there is no other; nobody reaches it");
        }
        lost = seen == Fate::Lost;
        if let Fate::Replaced(_) = seen {
            tokio::time::sleep(PATIENCE).await;
            if let Fate::Replaced(now) = now() {
                return Err(Renumbered { told: told.ip, now }.into());
            }
            continue;
        }
        changes.next().await.context("listening to changes of addresses")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_an_address() {
        let at = |n: u8, origin| Address { ip: [192, 0, 2, n].into(), origin };
        let here = Address { ip: [127, 0, 0, 1].into(), origin: Origin::Nowhere };
        let (route, link) = (Origin::DefaultRoute, Origin::Link);
        for (told, present, want) in [
            (at(1, route), vec![at(2, route), at(1, link)], Fate::Kept),
            (at(1, route), vec![at(2, route)], Fate::Replaced(at(2, route).ip)),
            (at(1, route), vec![at(2, link)], Fate::Lost),
            (at(1, route), vec![], Fate::Lost),
            (at(1, link), vec![at(2, link), at(3, link)], Fate::Replaced(at(2, link).ip)),
            (at(1, link), vec![at(2, route)], Fate::Replaced(at(2, route).ip)),
            (at(1, Origin::Chosen), vec![at(2, route)], Fate::Kept),
            (at(1, link), vec![Address { ip: [1, 2, 3, 4, 5, 6, 7, 8].into(), origin: link }], Fate::Lost),
            (here, vec![], Fate::Lost),
            (here, vec![at(2, link)], Fate::Replaced(at(2, link).ip)),
        ] {
            assert_eq!(fate(told, &present), want, "{told:?} {present:?}");
        }
    }
}
