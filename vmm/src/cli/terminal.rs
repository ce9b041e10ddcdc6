//! The terminal of whoever runs a guest by hand: raw while the guest has it, as it was before at the end.
//!
//! Nothing here touches a stdin that is not a terminal: bytes from a pipe reach the guest unchanged.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, Once, PoisonError};

use rustix::process::getpgrp;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetpgrp,
    tcsetattr,
};

/// The settings to go back to, while a terminal is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A raw terminal on stdin; dropping it, and a panic of any thread, gives the terminal back as it was.
///
/// `std::process::exit` runs no drop: leave `main` by returning from it.
#[derive(Debug)]
pub(super) struct RawMode(());

impl RawMode {
    /// Makes stdin raw if it is a terminal; `None` if it is something else.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !isatty(&stdin) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        vmm::make_terminal_raw(|| Ok(tcsetattr(&stdin, OptionalActions::Now, &raw(&before))?))?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back(io::stdin().as_fd());
                next(panic);
            }));
        });
        Ok(Some(Self(())))
    }
}

/// Whether stdin is a terminal that some other job has in the foreground: reading it, or setting it up, would stop this
/// process (SIGTTIN, SIGTTOU: POSIX.1, 11.1.4).
pub(super) fn is_in_background() -> bool {
    let stdin = io::stdin();
    isatty(&stdin) && tcgetpgrp(&stdin) != Ok(getpgrp())
}

impl Drop for RawMode {
    fn drop(&mut self) {
        give_back(io::stdin().as_fd());
    }
}

fn give_back(terminal: BorrowedFd<'_>) {
    // A panic inside this lock must not hang the hook.
    let Ok(mut before) = BEFORE.try_lock() else { return };
    if let Some(before) = before.take() {
        // Nothing can be done about a terminal that has hung up.
        let _ = tcsetattr(terminal, OptionalActions::Drain, &before);
        vmm::terminal_is_given_back();
    }
}

/// Keys reach the guest one by one, unchanged, Ctrl-C among them. Output stays cooked, so that our own messages on
/// stderr begin at the left; a guest's `\r\n` looks the same either way.
pub(super) fn raw(cooked: &Termios) -> Termios {
    let mut raw = cooked.clone();
    raw.input_modes -= InputModes::IGNBRK
        | InputModes::BRKINT
        | InputModes::PARMRK
        | InputModes::ISTRIP
        | InputModes::INLCR
        | InputModes::IGNCR
        | InputModes::ICRNL
        | InputModes::IXON;
    raw.local_modes -=
        LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG;
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    raw
}

/// Finds `Ctrl-A x`, which ends the VM, among typed bytes. `Ctrl-A Ctrl-A` types one Ctrl-A.
#[derive(Debug, Default)]
pub(super) struct EscapeFilter {
    /// Whether the last byte was a Ctrl-A that has not been passed on.
    held: bool,
}

impl EscapeFilter {
    const CTRL_A: u8 = 1;

    /// Appends to `guest` what of `typed` is meant for the guest; breaks at the end of the VM.
    pub(super) fn feed(&mut self, typed: &[u8], guest: &mut Vec<u8>) -> ControlFlow<()> {
        for &byte in typed {
            match (std::mem::take(&mut self.held), byte) {
                (true, b'x' | b'X') => return ControlFlow::Break(()),
                (false, Self::CTRL_A) => self.held = true,
                (true, Self::CTRL_A) | (false, _) => guest.push(byte),
                (true, _) => guest.extend([Self::CTRL_A, byte]),
            }
        }
        ControlFlow::Continue(())
    }
}
