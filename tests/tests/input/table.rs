//! A row of a table of bad input, and how it is run.

use std::ffi::OsString;

use rekindle_tests::{Launch, Scratch, leftover};

/// One bad input.
pub(crate) struct Row {
    /// What is wrong, for whoever reads a failure.
    pub(crate) what: &'static str,
    /// The command line.
    pub(crate) args: Vec<OsString>,
    /// The documented exit code.
    pub(crate) code: i32,
    /// What stderr must say: the thing, the reason, the remedy where there is one.
    pub(crate) says: &'static [&'static str],
}

/// A command line of text and paths.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { vec![$(std::ffi::OsString::from($arg)),*] };
}

/// Runs every row in a directory of its own, and demands that nothing is there afterwards that was not before.
pub(crate) fn check(here: &Scratch, rows: Vec<Row>) {
    let before = leftover::entries(here.root());
    for Row { what, args, code, says } in rows {
        let shown = format!("{what}: {args:?}");
        let done = Launch::new(args).in_directory(here.root()).run();
        assert_eq!(done.code, Some(code), "{shown}: {done:?}");
        assert!(done.stdout.is_empty(), "{shown} printed on stdout: {done:?}");
        assert!(done.stderr.starts_with("error: "), "{shown}: {done:?}");
        for part in says {
            assert!(done.stderr.contains(part), "{shown}: `{part}` is not in {done:?}");
        }
        assert_eq!(leftover::entries(here.root()), before, "{shown} left something");
    }
}
