//! The table.

use super::*;

#[test]
fn the_table_says_how_each_ended() {
    let second = Duration::from_secs(1);
    let rows = [("fmt", Verdict::of(true), second), ("deny", Verdict::Skipped("no network".into()), second)];
    let table = table(&rows);
    assert_eq!(table, "fmt             1.0 s  ok\ndeny            1.0 s  skipped: no network\n");
    assert_eq!(Verdict::of(false), Verdict::Failed);
}
