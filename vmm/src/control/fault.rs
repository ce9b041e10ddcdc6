//! Why a request was not carried out, as it crosses the process boundary: a code and the printed chain.

use std::error::Error;
use std::fmt::Write;

/// A refusal or a failure, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The error, its causes each on a line of its own, and hints: what a command line prints after `error: `.
    pub message: String,
    /// The exit code for a command that asked on somebody's behalf; 1 to 5, as `rekindle --help` lists them.
    pub exit_code: u8,
}

impl Fault {
    /// The exit code of a request that failed or was refused.
    pub const FAILED: u8 = 1;

    /// A refusal in one sentence.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: Self::FAILED }
    }

    /// An error with all its causes.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        Self { message: print_chain(error), exit_code: Self::FAILED }
    }

    /// The same with a hint below it.
    #[must_use]
    pub fn with_hint(mut self, hint: &str) -> Self {
        self.message.push_str("\n  hint: ");
        self.message.push_str(hint);
        self
    }
}

/// An error and its causes, one to a line, as they follow `error: ` on a terminal.
pub fn print_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, "\n  caused by: {error}").expect("a String takes what it is given");
        cause = error.source();
    }
    text
}
