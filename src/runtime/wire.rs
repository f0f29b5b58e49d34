//! What the agent and a shim say to each other: JSON in frames of bounded size on a unix socket, descriptors by SCM_RIGHTS.
//!
//! A *frame* is a little-endian length and that many bytes. Descriptors ride on the first byte of their frame.
//! One request per connection; `Watch`, `Exec` and `Attach` keep theirs open for what comes later.
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::{Deserialize, Serialize};

use super::{ContainerConfig, ContainerState, Error, ExecConfig};

/// Largest frame.
pub const MAX_FRAME: usize = 4 << 20;
const MAX_FDS: usize = 3;

/// From the agent. Each variant is a method of [`super::Runtime`].
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Request {
    List,
    Create(Box<ContainerConfig>),
    Start(String),
    Signal(String, i32),
    Remove(String),
    Exec(String, ExecConfig),
    Attach(String, bool),
    /// Exits from now on, as [`Reply::Ended`].
    Watch,
    /// Kill everything and end.
    Shutdown,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// Answer to `List`.
    Containers(Vec<ContainerState>),
    /// Streams follow as descriptors, in this order, where true.
    Streams {
        /// Write end.
        stdin: bool,
        /// Read end.
        stdout: bool,
        /// Read end.
        stderr: bool,
        /// The first descriptor is a terminal's master.
        tty: bool,
    },
    /// The process of this connection ended with this code.
    Exited(i32),
    /// A container ended.
    Ended(String),
    /// Refused.
    Failed(Fault),
}

/// An [`Error`] on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub enum Fault {
    /// See [`Error::NotFound`].
    NotFound(String),
    /// See [`Error::NotRunning`].
    NotRunning(String),
    /// See [`Error::Container`]; other errors are told in words.
    Container(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        match error {
            Error::NotFound(what) => Fault::NotFound(what),
            Error::NotRunning(what) => Fault::NotRunning(what),
            other => Fault::Container(other.to_string()),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::NotFound(what) => Error::NotFound(what),
            Fault::NotRunning(what) => Error::NotRunning(what),
            Fault::Container(why) => Error::Container(why),
        }
    }
}

/// A message as a frame.
pub fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - 4;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message exceeds 4 MiB"));
    }
    bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(bytes)
}

/// Takes a whole message off the front of `buffer`, if there is one.
pub fn unframe<T: for<'a> Deserialize<'a>>(buffer: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some((head, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*head) as usize;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message exceeds 4 MiB"));
    }
    if rest.len() < len {
        return Ok(None);
    }
    let message = serde_json::from_slice(&rest[..len])?;
    buffer.drain(..4 + len);
    Ok(Some(message))
}

/// Sends bytes with descriptors on the first; returns how many bytes went.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives bytes into `buffer` and descriptors into `fds`; 0 at the end.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(got.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let mut bytes = frame(&Request::Start("a".into())).unwrap();
        bytes.extend(frame(&Request::List).unwrap());
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        for byte in bytes {
            buffer.push(byte);
            seen.extend(unframe::<Request>(&mut buffer).unwrap());
        }
        assert!(matches!(&seen[..], [Request::Start(id), Request::List] if id == "a"), "{seen:?}");
    }

    #[test]
    fn a_frame_too_long_is_refused() {
        let mut buffer = (MAX_FRAME as u32 + 1).to_le_bytes().to_vec();
        assert!(unframe::<Request>(&mut buffer).is_err());
    }
}
