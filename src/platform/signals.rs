//! SIGINT, SIGTERM and SIGQUIT become a cancelled [`Control`]; the second one ends the process at once.
//!
//! What a cancelled job cleans up is the job's business, the exit code `cli`'s.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use super::control::Control;

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C at the terminal.
    Interrupt,
    /// `kill`, or the system's shutdown.
    Terminate,
    /// Ctrl-\ at the terminal. It would end the process where it stands, and leave a mount or stopped containers behind.
    Quit,
}

impl Signal {
    /// `SIGINT`, `SIGTERM`, `SIGQUIT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Quit => "SIGQUIT",
        }
    }
}

/// Tells afterwards which signal came, if any. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<AtomicU8>);

impl Received {
    /// The first signal that came.
    pub fn get(&self) -> Option<Signal> {
        match self.0.load(Ordering::SeqCst) {
            1 => Some(Signal::Interrupt),
            2 => Some(Signal::Terminate),
            3 => Some(Signal::Quit),
            _ => None,
        }
    }
}

/// From now on the first SIGINT, SIGTERM or SIGQUIT cancels `control` (and calls `announce`), the second ends the process with
/// `exit_code`: what must survive that (stopped containers) is in a journal. Needs a running tokio runtime.
///
/// # Errors
/// The handlers cannot be installed.
pub fn cancel_on_signal(control: Control, exit_code: i32, announce: impl FnOnce(Signal) + Send + 'static) -> io::Result<Received> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    // SIGHUP is taken and does nothing from now on: `restic unlock` on this machine sends one to every holder of a lock to see
    // whether it is alive, and a backup outlives its terminal.
    drop(signal(SignalKind::hangup())?);
    let received = Received::default();
    let told = received.clone();
    tokio::spawn(async move {
        let first = tokio::select! {
            _ = interrupt.recv() => Signal::Interrupt,
            _ = terminate.recv() => Signal::Terminate,
            _ = quit.recv() => Signal::Quit,
        };
        let number = match first {
            Signal::Interrupt => 1,
            Signal::Terminate => 2,
            Signal::Quit => 3,
        };
        told.0.store(number, Ordering::SeqCst);
        control.cancel();
        announce(first);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
        }
        std::process::exit(exit_code);
    });
    Ok(received)
}
