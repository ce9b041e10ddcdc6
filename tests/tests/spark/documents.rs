//! Every command of every document, as it stands there, in the order in which it stands.
//!
//! A command that is in a document and not in [`COMMANDS`] fails the test: whoever writes one says here what is to become
//! of it. The guest is the built-in one, so the options that name a kernel are left out; nothing else is changed.

use std::process::{Child, Command, Stdio};

use rekindle_tests::patience::{self, SOON};
use rekindle_tests::{Case, Scratch, Stream, cases, programs};

use crate::KVM;

const DOCUMENTS: [(&str, &str); 7] = [
    ("README.md", include_str!("../../../README.md")),
    ("ARCHITECTURE.md", include_str!("../../../ARCHITECTURE.md")),
    ("CHANGELOG.md", include_str!("../../../CHANGELOG.md")),
    ("vmm/README.md", include_str!("../../../vmm/README.md")),
    ("page-server/PROTOCOL.md", include_str!("../../../page-server/PROTOCOL.md")),
    ("snapshot-format/FORMAT.md", include_str!("../../../snapshot-format/FORMAT.md")),
    ("snapshot-format/PARTS.md", include_str!("../../../snapshot-format/PARTS.md")),
];

/// What the documents write and a guest without a kernel file of its own is not given.
const LEFT_OUT: [(&str, &str); 2] =
    [("--kernel vmlinuz --initrd initrd.cpio ", ""), ("'serial:login: '", "'serial:spark: ready'")];

/// What becomes of a command.
#[derive(Clone, Copy)]
enum Fate {
    /// It runs to its end, with code 0.
    Ends,
    /// It goes on beside the others once it has printed this.
    Serves(&'static str),
    /// It is ended by SIGTERM, with code 0, once it has printed this.
    IsEnded(&'static str),
    /// The same for one that knows no SIGTERM.
    IsKilled(&'static str),
    /// It is not run here, for this reason.
    Elsewhere(&'static str),
}

use Fate::{Elsewhere, Ends, IsEnded, IsKilled, Serves};

/// By the command's first words.
const COMMANDS: [(&str, Fate); 18] = [
    ("cargo xtask demo", Elsewhere("it builds the program; the demo itself is a test of its own")),
    ("cargo xtask test", Elsewhere("this is it")),
    ("mkdir ", Ends),
    ("rekindle bake ", Ends),
    ("rekindle inspect ", Ends),
    ("rekindle verify ", Ends),
    ("rekindle restore images/debian --api-socket", Serves("\n")),
    ("rekindle restore ", IsEnded("\n")),
    ("rekindle snapshot ", Ends),
    ("rekindle pause ", Ends),
    ("rekindle resume ", Ends),
    ("rekindle stop ", Ends),
    ("rekindle pack ", Ends),
    ("rekindle-pages serve ", Serves("listening on")),
    ("rekindle-pages top ", IsKilled("VMs served")),
    ("chgrp ", Elsewhere("it is for a group of the reader's")),
    ("dd if=/dev/hwrng", Elsewhere("it is for a guest")),
    ("python3 ", Elsewhere("it is for a guest")),
];

pub(crate) fn cases() -> Vec<Case> {
    cases!(
        "spark",
        KVM,
        [every_command_of_every_document_does_what_it_says, every_option_of_every_document_exists]
    )
}

fn every_command_of_every_document_does_what_it_says() {
    let mut run = 0;
    for (name, text) in DOCUMENTS {
        let mut here = Here { scratch: Scratch::new(), serving: Vec::new() };
        for command in commands(text) {
            run += usize::from(here.obey(name, &command));
        }
        here.end();
    }
    assert!(run >= 14, "only {run} commands were found");
}

/// The lines behind a prompt in the blocks of consoles, whole, without their comments.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut is_console = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            is_console = line == "```console";
        }
        let Some(line) = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).filter(|_| is_console)
        else {
            continue;
        };
        let mut whole = line.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            whole.push_str(lines.next().expect("a line goes on").trim_start());
        }
        let command = whole.split("  # ").next().unwrap_or_default().trim();
        commands.extend(alternatives(command));
    }
    commands
}

/// `rekindle pause|resume|stop X` is three commands.
fn alternatives(command: &str) -> Vec<String> {
    let word = command.split(' ').find(|word| word.contains('|') && !word.starts_with(['\'', '"', '|']));
    match word.filter(|_| command.starts_with("rekindle")) {
        Some(word) => word.split('|').map(|one| command.replacen(word, one, 1)).collect(),
        None => vec![command.to_owned()],
    }
}

/// A directory with what runs in it.
struct Here {
    scratch: Scratch,
    serving: Vec<(String, Child, Stream)>,
}

impl Here {
    /// Whether it was run.
    fn obey(&mut self, document: &str, command: &str) -> bool {
        let fate = COMMANDS.iter().find(|(start, _)| command.starts_with(start));
        let Some((_, fate)) = fate else { panic!("{document}: what is to become of `{command}`?") };
        let line =
            LEFT_OUT.iter().fold(command.to_owned(), |line, (written, given)| line.replace(written, given));
        if let Elsewhere(reason) = fate {
            println!("not run: `{command}`: {reason}");
            return false;
        }
        let mut child = self.start(&line);
        let mut output = Stream::read(child.stdout.take().expect("it is a pipe"));
        let mut waits_for = |word: &str, child: &mut Child| {
            if output.wait_for(word, SOON).is_none() {
                let _ = child.kill();
                panic!("`{command}` prints {}", output.text());
            }
        };
        match fate {
            Elsewhere(_) => {}
            Ends => ends(child, &output, command),
            Serves(word) => {
                waits_for(word, &mut child);
                self.serving.push((line, child, output));
            }
            IsEnded(word) | IsKilled(word) => {
                waits_for(word, &mut child);
                if let IsEnded(_) = fate {
                    terminate(&child);
                    ends(child, &output, command);
                } else {
                    child.kill().and_then(|()| child.wait()).expect("a child can be killed");
                }
            }
        }
        true
    }

    /// Both streams are one, as on a terminal.
    fn start(&self, line: &str) -> Child {
        let path =
            format!("{}:{}", programs(&self.scratch).display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec 2>&1; exec {line}")]).env("PATH", path);
        command.current_dir(self.scratch.root()).stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"))
    }

    /// What still serves is told to end, and does so in an orderly way.
    fn end(mut self) {
        for (command, child, output) in std::mem::take(&mut self.serving) {
            terminate(&child);
            ends(child, &output, &command);
        }
    }
}

/// A test that fails leaves no process behind.
impl Drop for Here {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.serving {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    // It may have ended of itself.
    let _ = rustix::process::kill_process(pid.expect("a child has an id"), rustix::process::Signal::TERM);
}

#[track_caller]
fn ends(mut child: Child, output: &Stream, command: &str) {
    let status = patience::until(SOON, || child.try_wait().expect("a child can be waited for"));
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("`{command}` does not end: {}", output.text());
    };
    assert!(status.success(), "`{command}` ends with {status}: {}", output.text());
}

/// Options of cargo, of the benchmark and of the lab, which the documents mention.
const FOREIGN: [&str; 4] = ["--release", "--only", "--cpu", "--host-kernel"];

/// Each `--option` that a document mentions is one of our programs'.
fn every_option_of_every_document_exists() {
    let scratch = Scratch::new();
    let here = Here { scratch, serving: Vec::new() };
    let mut helps = String::new();
    for line in HELPS {
        let child = here.start(line);
        let output = child.wait_with_output().expect("a child can be waited for");
        helps.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    for (name, text) in DOCUMENTS {
        for option in options(text) {
            let ours = [' ', '\n', '['].iter().any(|end| helps.contains(&format!("{option}{end}")));
            let known = ours || FOREIGN.contains(&option);
            assert!(known, "{name} mentions `{option}`, which no program has");
        }
    }
}

/// Whose options the documents mention.
const HELPS: [&str; 12] = [
    "rekindle boot --help",
    "rekindle bake --help",
    "rekindle snapshot --help",
    "rekindle restore --help",
    "rekindle pause --help",
    "rekindle inspect --help",
    "rekindle verify --help",
    "rekindle pack --help",
    "rekindle doctor --help",
    "rekindle demo --help",
    "rekindle-pages serve --help",
    "rekindle-pages top --help",
];

fn options(text: &str) -> Vec<&str> {
    let starts = text.match_indices("--").map(|(at, _)| &text[at..]);
    let options = starts.filter_map(|rest| {
        let len = rest[2..].find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len() - 2);
        (len > 1).then(|| rest[..len + 2].trim_end_matches('-'))
    });
    options.filter(|option| option.len() > 3).collect()
}
