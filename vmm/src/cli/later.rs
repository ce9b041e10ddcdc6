//! Options that the command line promises and that this version does not have yet.
//!
//! They are known, and hidden, so that a script written for a later version is told which part of it is missing here
//! rather than that an argument is unexpected.

use std::ffi::OsString;

use clap::Args;
use vmm::config::Error;

/// Options of `boot`, `bake` and `restore` that are refused by name.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct LaterArgs {
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pages: Option<OsString>,
}

impl LaterArgs {
    /// Refuses the first option that was given.
    pub(super) fn refuse(&self) -> Result<(), Error> {
        let Self { pages } = self;
        if pages.is_none() {
            return Ok(());
        }
        let remedy = "leave it out: memory is mapped from the image";
        Err(Error::NotInThisVersion { what: "`--pages`", remedy })
    }
}
