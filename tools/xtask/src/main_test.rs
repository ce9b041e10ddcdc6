//! The command line.

use clap::CommandFactory as _;

use super::*;

#[test]
fn every_sub_command_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn what_follows_the_dashes_is_the_labs_command() {
    let cli = Cli::try_parse_from(["xtask", "lab", "--timeout", "5", "--", "ls", "-l", "--cpus"]).unwrap();
    let Chore::Lab { options, command, .. } = cli.chore else { panic!("not the lab") };
    assert_eq!((options.timeout, command), (5, ["ls", "-l", "--cpus"].map(OsString::from).to_vec()));
    assert!(Cli::try_parse_from(["xtask", "lab"]).is_err());
}
