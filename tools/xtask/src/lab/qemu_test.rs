//! The CPU, by what emulates it.

use super::*;

#[test]
fn what_an_old_version_gets_wrong_is_masked_there_only() {
    assert_eq!(cpu(Version::GOOD), "max,+svm,-la57");
    assert!(cpu(Version(7, 2)).contains(",-cx16,-xsave,"));
    assert_eq!(escaped(Path::new("/srv/a,b")), "/srv/a,,b");
}
