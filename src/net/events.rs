//! What others change on this node's links, addresses and routes, as it happens.

use std::fs::File;
use std::io;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

use super::link::{NETLINK_ROUTE, parse_link};
use super::netlink::within;
use super::node::is_host_link;
use super::overlay::DEVICE;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;

/// See the module.
pub struct Changes(AsyncFd<Socket>);

impl Changes {
    /// Those of the calling thread's network namespace, from now on.
    pub fn here() -> io::Result<Changes> {
        Changes::of(&File::open("/proc/thread-self/ns/net")?)
    }

    /// Those of this network namespace, from now on.
    pub(crate) fn of(namespace: &File) -> io::Result<Changes> {
        let socket = within(namespace, || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        })?;
        #[allow(deprecated, reason = "its successor is unsafe; a socket keeps its descriptor for life")]
        AsyncFd::new(socket).map(Changes)
    }

    /// Waits until something changed that may concern the way to other nodes. Several changes may be told as one, and our own are told too.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            let mut concerns = false;
            let drained = ready.try_io(|socket| {
                loop {
                    match socket.get_ref().recv_from_full() {
                        Ok((datagram, _)) => concerns |= concerns_us(&datagram),
                        // Too many to keep: something did change.
                        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => concerns = true,
                        Err(error) => return Err::<(), _>(error),
                    }
                }
            });
            if let Ok(Err(error)) = drained {
                return Err(error);
            }
            if concerns {
                return Ok(());
            }
        }
    }
}

/// Links of pods come and go often, and no route depends on them.
fn concerns_us(datagram: &[u8]) -> bool {
    let Ok(message) = NetlinkBuffer::new_checked(datagram) else { return true };
    match message.message_type() {
        NEW_LINK | DELETE_LINK => parse_link(message.payload()).is_ok_and(|link| !is_host_link(&link.name) && link.name != DEVICE),
        _ => true,
    }
}
