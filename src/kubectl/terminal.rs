//! The user's terminal: raw mode, its size, and standard input without blocking the runtime's end.

use std::io::{IsTerminal, Read, stdin};

use rustix::termios::{self, OptionalActions, Termios};
use tokio::sync::mpsc;

use super::error::{Error, Result};

/// Raw mode for as long as this lives: each key goes to the container, Ctrl-C too.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Enters raw mode. `None` if standard input is no terminal.
    pub fn enter() -> Result<Option<Raw>> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let failed = |error: rustix::io::Errno| Error::Output(error.into());
        let before = termios::tcgetattr(stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Raw { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing more can be done if the terminal is gone.
        let _ = termios::tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows, if standard output or input is a terminal.
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(std::io::stdout()).or_else(|_| termios::tcgetwinsize(stdin())).ok()?;
    Some((size.ws_col, size.ws_row))
}

/// Standard input in pieces. A thread of its own reads it, which the process's end does not wait for.
pub fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match stdin().read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(length) if sender.blocking_send(buffer[..length].to_vec()).is_err() => return,
                Ok(_) => {}
            }
        }
    });
    receiver
}
