//! A pipe, socket or terminal of a process, read and written without blocking a thread.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::io::unix::AsyncFd;

const CHUNK: usize = 32 << 10;

/// One end.
pub struct Fd(AsyncFd<OwnedFd>);

impl Fd {
    /// Takes a descriptor; fails for what can't be waited for (regular files).
    // Deprecated for types whose descriptor may change under the reactor; an `OwnedFd`'s can't.
    #[allow(deprecated)]
    pub fn new(fd: OwnedFd) -> io::Result<Fd> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(Fd(AsyncFd::new(fd)?))
    }

    /// What is there, waiting for at least a byte; `None` at the end.
    pub async fn read(&self) -> io::Result<Option<Bytes>> {
        let mut buffer = BytesMut::zeroed(CHUNK);
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer[..])?));
            match read {
                Err(_would_block) => {}
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(n)) => {
                    buffer.truncate(n);
                    return Ok(Some(buffer.freeze()));
                }
                // The last process that held the other end of a terminal is gone (pty(7)).
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Ok(None),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// Writes everything.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Err(_would_block) => {}
                Ok(written) => bytes = &bytes[written?..],
            }
        }
        Ok(())
    }
}
