//! What `boot`, `bake` and `restore` have in common: a console, a control socket, signals, and a VM that lives
//! between them until something ends it.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use vmm::config::{SerialConfig, SerialFile};
use vmm::control::{ControlSocket, Mailbox, Server};
use vmm::device::serial::{ConsoleLimits, ConsoleTap};
use vmm::machine::{Connections, PausedVm};
use vmm::supervisor::{self, Ending, Filter, Input, Passed, Signals, Start, Watch};

use super::terminal::{EscapeFilter, RawMode, is_in_background};
use super::written::Written;

/// The host's side of a VM.
///
/// Until [`Session::run`] signals have their usual effect, so whatever comes before can be interrupted, and leaves
/// nothing behind that would need a hand.
pub(super) struct Session {
    serial: SerialConfig,
    api_socket: Option<PathBuf>,
    /// What the VM is restored from, if it is.
    image: Option<PathBuf>,
    input: Option<File>,
    /// A console that is a file, emptied when the VM is about to live.
    log: Option<Written>,
    /// From the start of the VM's life on.
    signals: Option<Signals>,
}

impl Session {
    pub(super) fn new(serial: SerialConfig, api_socket: Option<PathBuf>) -> Result<Self> {
        vmm::share_heap();
        vmm::descriptors::raise_limit();
        Ok(Self { serial, api_socket, image: None, input: None, log: None, signals: None })
    }

    /// The same for a VM that is restored from `image`, which nothing may write to.
    pub(super) fn of_image(serial: SerialConfig, api_socket: Option<PathBuf>, image: &Path) -> Result<Self> {
        Ok(Self { image: Some(image.to_owned()), ..Self::new(serial, api_socket)? })
    }

    /// Whether whoever started this sees the guest's console as it is written.
    pub(super) fn shows_console(&self) -> bool {
        self.serial == SerialConfig::Stdio
    }

    /// Opens the console and makes the connections for the machine. `tap` sees the console's output; `ready_armed`
    /// lets the readiness port stop the guest.
    pub(super) fn connections(
        &mut self,
        tap: Option<Box<dyn ConsoleTap>>,
        ready_armed: bool,
    ) -> Result<Connections> {
        let Console { output, input, log } = Console::open(&self.serial, self.image.as_deref())?;
        self.input = input;
        self.log = log;
        let limits = match &self.serial {
            SerialConfig::File(file) => ConsoleLimits { size: file.size, rate: file.rate },
            SerialConfig::Stdio | SerialConfig::Null => ConsoleLimits::default(),
        };
        Ok(Connections::new(output, tap, ready_armed)?.limit_console(limits))
    }

    /// Lets `vm` live. `on_running` is called once, when the guest runs; `deadline` ends it.
    pub(super) fn run(
        &mut self,
        vm: PausedVm,
        start: Start,
        deadline: Option<Instant>,
        on_running: Option<Box<dyn FnOnce()>>,
    ) -> Result<Ending> {
        let signals = self.signals.insert(Signals::watch()?);
        let (server, mailbox) = match self.api_socket.as_deref().map(serve).transpose()? {
            Some((server, mailbox)) => (Some(server), Some(mailbox)),
            None => (None, None),
        };
        if let Some(log) = self.log.take() {
            log.empty()?;
        }
        // Kept until the VM has ended; dropped, it gives the terminal back.
        let raw = if self.input.is_some() { raw_terminal()? } else { None };
        vmm::guard_sockets_and_terminal().context("cannot handle signals that end the process")?;
        let filter = raw.is_some().then(|| Box::new(Keys::default()) as Box<dyn Filter>);
        let input = self.input.take().map(|source| Input { source, filter });
        let ending = supervisor::run(vm, Watch { start, signals, input, mailbox, deadline, on_running });
        drop(server);
        drop(raw);
        Ok(ending?)
    }

    /// Whether a signal wants this process to end, after [`Self::run`].
    pub(super) fn is_interrupted(&self) -> bool {
        self.signals.as_ref().is_some_and(Signals::is_pending)
    }
}

fn serve(path: &Path) -> Result<(Server, Mailbox)> {
    let socket = ControlSocket::bind(path)?;
    let (postbox, mailbox) = Mailbox::new().context("cannot set up the control socket")?;
    Ok((Server::start(socket, postbox)?, mailbox))
}

fn raw_terminal() -> Result<Option<RawMode>> {
    RawMode::enter().context("cannot set the terminal up for the guest's console")
}

/// What the guest's console is connected to.
struct Console {
    output: Option<File>,
    input: Option<File>,
    log: Option<Written>,
}

impl Console {
    fn open(serial: &SerialConfig, image: Option<&Path>) -> Result<Self> {
        match serial {
            SerialConfig::Stdio => Ok(Self {
                output: Some(own(io::stdout()).context("stdout is not open: try --serial null")?),
                // A closed stdin is a console nobody types on; so is the terminal of a job in the background.
                input: own(io::stdin()).ok().filter(|_| !is_in_background()),
                log: None,
            }),
            SerialConfig::Null => Ok(Self { output: None, input: None, log: None }),
            SerialConfig::File(SerialFile { path, .. }) => {
                let log = Written::open(path, "the console", image)?;
                let output = log.file().with_context(|| format!("cannot write to `{}`", path.display()))?;
                Ok(Self { output: Some(output), input: None, log: Some(log) })
            }
        }
    }
}

fn own(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

/// The keys of a terminal: `Ctrl-A x` quits.
#[derive(Default)]
struct Keys(EscapeFilter);

impl Filter for Keys {
    fn pass(&mut self, bytes: &[u8]) -> Passed {
        let mut passed = Passed::default();
        passed.quit = self.0.feed(bytes, &mut passed.bytes) == ControlFlow::Break(());
        passed
    }
}
