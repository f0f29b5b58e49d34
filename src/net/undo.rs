//! Takes away all that this module made in a network namespace, and nothing else: for a node that is to be none any more.
//!
//! What is ours is told by name and by kind (our bridge, its ports that are called as ours are, our VXLAN device, our table) and by the
//! protocol number of our routes.

use std::io;
use std::path::Path;

use super::NetError;
use super::link::{Link, Links};
use super::nft::Table;
use super::node::{BRIDGE, is_host_link};
use super::overlay::DEVICE;
use super::sysctl;

fn failed(doing: &'static str, what: impl Into<String>) -> impl FnOnce(io::Error) -> NetError {
    let what = what.into();
    move |source| NetError::Netlink { doing, what, source }
}

/// In the calling thread's network namespace; `directory` is the node's [`data_dir`](super::NetConfig::data_dir). Returns what was done, one
/// line each, and the failures; as much as can be is done.
pub fn undo(directory: &Path) -> (Vec<String>, Vec<NetError>) {
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    let mut note = |result: Result<Vec<String>, NetError>| match result {
        Ok(lines) => done.extend(lines),
        Err(error) => failures.push(error),
    };
    note(table());
    match Links::here() {
        Ok(all) => {
            note(routes(&all));
            note(links(&all));
        }
        Err(error) => note(Err(failed("opening", "a route socket")(error))),
    }
    note(sysctl::restore(directory).map(|lines| lines.into_iter().map(|line| format!("put back {line}")).collect()));
    (done, failures)
}

fn table() -> Result<Vec<String>, NetError> {
    let removed = Table::open().and_then(|table| table.remove()).map_err(failed("removing", "nftables table ip orch"))?;
    Ok(if removed { vec!["removed nftables table ip orch".into()] } else { Vec::new() })
}

fn routes(all: &Links) -> Result<Vec<String>, NetError> {
    let mut done = Vec::new();
    for (to, way) in all.peer_routes().map_err(failed("listing", "routes"))? {
        all.remove_peer_route(to, way).map_err(failed("removing route", to.to_string()))?;
        done.push(format!("removed route {to} via {}", way.gateway));
    }
    Ok(done)
}

fn links(all: &Links) -> Result<Vec<String>, NetError> {
    let present = all.list().map_err(failed("listing", "links"))?;
    let bridge = present.iter().find(|link| link.name == BRIDGE).map(|link| link.index);
    let port = |link: &Link| bridge.is_some() && link.controller == bridge && is_host_link(&link.name);
    let mut done = Vec::new();
    // Ports before their bridge.
    for link in present.iter().filter(|link| port(link)).chain(present.iter().filter(|link| [BRIDGE, DEVICE].contains(&link.name.as_str())))
    {
        all.remove(&link.name).map_err(failed("removing link", link.name.as_str()))?;
        done.push(format!("removed link {}", link.name));
    }
    Ok(done)
}
