//! Which programs are driven, and running one to its end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::patience::{self, SOON};
use crate::scratch::Scratch;
use crate::stream::Stream;
use crate::sys;
use crate::vm::Vm;

/// A program under test: what a variable names, which whoever sets it has built; else a release build of this workspace,
/// made if need be.
#[derive(Debug)]
pub(crate) struct Program {
    variable: &'static str,
    package: &'static str,
    name: &'static str,
    path: OnceLock<PathBuf>,
}

/// The VMM.
pub(crate) static REKINDLE: Program = Program::new("REKINDLE_BIN", "vmm", "rekindle");
/// The page server.
pub(crate) static PAGES: Program = Program::new("REKINDLE_PAGES_BIN", "page-server", "rekindle-pages");

impl Program {
    const fn new(variable: &'static str, package: &'static str, name: &'static str) -> Self {
        Self { variable, package, name, path: OnceLock::new() }
    }

    fn path(&self) -> &Path {
        self.path.get_or_init(|| match std::env::var_os(self.variable) {
            Some(path) => path.into(),
            None => self.build(),
        })
    }

    /// Cargo has released its lock by the time it runs tests.
    fn build(&self) -> PathBuf {
        let Self { package, name, .. } = self;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let args = ["build", "--release", "--package", package, "--bin", name, "--message-format", "json"];
        let mut command = Command::new(cargo);
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::null());
        let built = command.output().expect("cargo can be run");
        assert!(built.status.success(), "cannot build `{name}`: try `cargo build --release -p {package}`");
        let messages = String::from_utf8_lossy(&built.stdout).into_owned();
        let messages =
            messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut paths = messages.filter_map(|message| Some(message.get("executable")?.as_str()?.to_owned()));
        paths.next_back().expect("cargo names the program that it built").into()
    }
}

/// A directory with both programs in it, for the front of a `PATH`.
pub fn programs(scratch: &Scratch) -> PathBuf {
    let dir = scratch.path("bin");
    std::fs::create_dir_all(&dir).expect("a scratch directory can be made");
    for program in [&REKINDLE, &PAGES] {
        // It may be there already.
        let _ = std::os::unix::fs::symlink(program.path(), dir.join(program.name));
    }
    dir
}

/// A command that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The exit code, or `None` for a signal.
    pub code: Option<i32>,
    /// What it printed on stdout.
    pub stdout: String,
    /// What it printed on stderr.
    pub stderr: String,
}

impl Done {
    /// Demands success without a word of complaint; gives what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Demands exit code `code` and a message in which all of `says` stand.
    #[track_caller]
    pub fn fails(self, code: i32, says: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in says {
            assert!(self.stderr.contains(part), "`{part}` is not in {self:?}");
        }
        self.stderr
    }
}

/// Runs `rekindle` with `args` and nothing on stdin, to its end.
#[track_caller]
pub fn rekindle<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Done {
    Launch::new(args).run()
}

/// A program about to be started: `rekindle`, if nothing else is said.
#[derive(Debug)]
pub struct Launch {
    program: &'static Program,
    wrapper: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<File>,
    stdout: Option<File>,
    directory: Option<PathBuf>,
    is_merged: bool,
}

impl Launch {
    /// With these arguments.
    pub fn new<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Self::of(&REKINDLE).args(args)
    }

    /// `rekindle-pages` with these arguments.
    pub fn pages<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Self {
        Self::of(&PAGES).args(args)
    }

    fn of(program: &'static Program) -> Self {
        let (wrapper, args, env) = (Vec::new(), Vec::new(), Vec::new());
        Self { program, wrapper, args, env, stdin: None, stdout: None, directory: None, is_merged: false }
    }

    /// And these.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Run by another program, which is given the program and its arguments behind its own. It must `exec`.
    #[must_use]
    pub fn under<A: AsRef<OsStr>>(mut self, wrapper: impl IntoIterator<Item = A>) -> Self {
        self.wrapper = wrapper.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        self
    }

    /// In a mount namespace of its own, after `script` (of a shell, as root) has changed it.
    #[must_use]
    pub fn mounted(self, script: &str) -> Self {
        let script = format!("set -e; {script}; exec \"$@\"");
        self.under(["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With something of the test's own as its stdin, in place of a pipe.
    #[must_use]
    pub fn stdin(mut self, from: impl Into<File>) -> Self {
        self.stdin = Some(from.into());
        self
    }

    /// With something of the test's own as its stdout, in place of a pipe that is read.
    #[must_use]
    pub fn stdout(mut self, to: impl Into<File>) -> Self {
        self.stdout = Some(to.into());
        self
    }

    /// In another working directory.
    #[must_use]
    pub fn in_directory(mut self, path: &Path) -> Self {
        self.directory = Some(path.to_owned());
        self
    }

    /// With memory that KSM may merge.
    #[must_use]
    pub fn merged(mut self) -> Self {
        self.is_merged = true;
        self
    }

    /// Starts it as a VM.
    #[track_caller]
    pub fn vm(self) -> Vm {
        Vm::launch(self)
    }

    /// Runs it to its end with nothing on stdin.
    #[track_caller]
    pub fn run(self) -> Done {
        self.run_within(SOON)
    }

    /// The same for what takes long.
    #[track_caller]
    pub fn run_within(mut self, within: Duration) -> Done {
        if self.stdin.is_none() {
            self.stdin = Some(File::open("/dev/null").expect("there is a /dev/null"));
        }
        let mut child = self.spawn();
        let mut stdout = child.stdout.take().map_or_else(Stream::none, Stream::read);
        let mut stderr = child.stderr.take().map_or_else(Stream::none, Stream::read);
        let status = wait(&mut child, within);
        // Before the verdict: what it printed tells what it was waiting for.
        let closed = stdout.wait_end(SOON) && stderr.wait_end(SOON);
        let (stdout, stderr) = (stdout.text(), stderr.text());
        let Some(status) = status else { panic!("does not end: {stdout:?} {stderr:?}") };
        assert!(closed, "somebody still holds the output of a process that has ended");
        no_panic(&stderr);
        Done { code: status.code(), stdout, stderr }
    }

    /// Starts it, and kills it `after` a while.
    #[track_caller]
    pub fn start_and_kill(self, after: Duration) {
        let mut child = self.spawn();
        std::thread::sleep(after);
        // Fails only if it has ended of itself.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Starts the process.
    #[track_caller]
    pub(crate) fn spawn(self) -> Child {
        let Self { program, wrapper, args, env, stdin, stdout, directory, is_merged } = self;
        let words: Vec<OsString> = wrapper.into_iter().chain([program.path().into()]).chain(args).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(env).env_remove("REKINDLE_LOG");
        command.stdin(stdin.map_or_else(Stdio::piped, Stdio::from));
        command.stdout(stdout.map_or_else(Stdio::piped, Stdio::from));
        command.stderr(Stdio::piped());
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        if is_merged {
            sys::let_merge(&mut command);
        }
        command.spawn().unwrap_or_else(|e| panic!("cannot start {words:?}: {e}"))
    }
}

/// Waits for a process; one that does not end in time is killed, and gives `None`.
pub(crate) fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let status = patience::until(within, || child.try_wait().expect("a child can be waited for"));
    if status.is_none() {
        // It may end in this instant.
        let _ = child.kill();
        let _ = child.wait();
    }
    status
}

/// Whatever is wrong, a panic is never the answer.
#[track_caller]
pub(crate) fn no_panic(stderr: &str) {
    assert!(!stderr.contains("panicked at"), "{stderr}");
}
