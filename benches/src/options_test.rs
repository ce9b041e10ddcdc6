use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_well_formed_and_takes_what_cargo_passes() {
    Options::command().debug_assert();
    let options =
        Options::try_parse_from(["restore", "--bench", "-n", "5", "--only", "starts,clones"]).unwrap();
    assert_eq!(options.n, 5);
    let wanted = |part| options.wants(part);
    assert_eq!([Part::Starts, Part::Clones, Part::Touches].map(wanted), [true, true, false]);
    assert!(Options::try_parse_from(["restore", "-n", "0"]).is_err());
}

#[test]
fn everything_is_measured_unless_it_is_said_what() {
    let options = Options::try_parse_from(["restore"]).unwrap();
    assert!(options.wants(Part::Snapshots) && options.wants(Part::Starts));
}
