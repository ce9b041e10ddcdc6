//! Limits as the kernel spells them.

use std::fs;
use std::path::PathBuf;

use super::limits::{of_threads, pids_max};

#[test]
fn the_lowest_limit_of_all_groups_above_a_process_counts() {
    let root = tempfile::tempdir().unwrap();
    let limit = |group: &str, most: &str| {
        fs::create_dir_all(root.path().join(group)).unwrap();
        fs::write(root.path().join(group).join("pids.max"), most).unwrap();
    };
    limit("user/inner", "max\n");
    limit("user", "7\n");
    let unified = "0::/user/inner\n";
    assert_eq!(pids_max(unified, root.path()), Some((PathBuf::from("/user"), 7)));
    limit("pids/a", "5\n");
    limit("unified/a", "9\n");
    let both = "4:cpu:/user\n3:pids:/a\n0::/a\n";
    assert_eq!(pids_max(both, root.path()), Some((PathBuf::from("/a"), 5)));
    for none in ["", "nonsense\n", "0::/elsewhere\n", "2:pids:/../..\n"] {
        assert_eq!(pids_max(none, root.path()), None, "{none:?}");
    }
}

#[test]
fn the_hint_names_the_users_limit() {
    assert!(of_threads().contains("`ulimit -u`"), "{}", of_threads());
}
