//! The verbs that write an image again, and what their failures mean to a script.

use std::fs;
use std::io::Write;
use std::path::Path;

use clap::Parser;
use snapshot_format::ImageWriter;
use snapshot_format::testing::samples;

use super::args::{Cli, Command};
use super::exit::{Exit, Failure};
use super::{classify, pack};

fn command(verb: &str, image: &Path, out: &Path) -> Result<(), Failure> {
    let line = ["rekindle".as_ref(), verb.as_ref(), image.as_os_str(), "--out".as_ref(), out.as_os_str()];
    let result = match Cli::try_parse_from(line).unwrap().command {
        Command::Pack(args) => pack::pack(&args),
        Command::Unpack(args) => pack::unpack(&args),
        other => panic!("{other:?}"),
    };
    result.map_err(classify)
}

#[test]
fn there_and_back_and_what_a_script_is_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let mut writer = ImageWriter::create(&at("plain")).unwrap();
    writer.memory().unwrap().write_all(&samples::memory_file()).unwrap();
    writer.commit(&samples::state_file().unwrap()).unwrap();
    command("pack", &at("plain"), &at("packed")).unwrap();
    command("unpack", &at("packed"), &at("again")).unwrap();
    assert_eq!(fs::read(at("again").join("memory")).unwrap(), samples::memory_file());

    let failure = |verb, image, out| command(verb, &at(image), &at(out)).unwrap_err();
    assert_eq!(failure("pack", "plain", "packed").exit, Exit::Failed);
    let packed = failure("pack", "packed", "out");
    assert_eq!(packed.exit, Exit::Usage);
    assert!(packed.render().contains("is packed already"), "{}", packed.render());
    assert_eq!(failure("unpack", "plain", "out").exit, Exit::Usage);
    let nothing = failure("pack", "none", "out");
    assert_eq!(nothing.exit, Exit::Failed);
    assert!(nothing.hint.unwrap().starts_with("there is nothing at that path"));
    fs::write(at("packed").join("memory-pack"), "REKNPACK, or what is left of it").unwrap();
    assert_eq!(failure("unpack", "packed", "out").exit, Exit::Damaged);
    fs::write(at("plain").join("memory"), vec![1; samples::memory_file().len()]).unwrap();
    let damaged = failure("pack", "plain", "out");
    assert_eq!(damaged.exit, Exit::Damaged);
    assert_eq!(damaged.hint.unwrap(), "bake the image again, or take another copy of it");
    assert!(!at("out").exists());
}
