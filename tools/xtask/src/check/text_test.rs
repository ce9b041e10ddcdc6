//! Lines that break a rule, and lines that look like it.

use super::*;

fn lines(path: &str, text: &str) -> Vec<usize> {
    check(path, text, "/srv/checkout").into_iter().map(|finding| finding.line).collect()
}

#[test]
fn paths_of_one_machine() {
    assert_eq!(lines("a.sh", "cd /home/me/x\ncd \"/root/x\"\n# /srv/checkout/vmm\n"), [1, 2, 3]);
    assert!(lines("a.sh", "cd $HOME/x\nrun/home/x\ncd ~/root/x\n").is_empty());
}

#[test]
fn unfinished_work_needs_an_issue() {
    let mark = MARKS[0];
    assert_eq!(lines("a.rs", &format!("// {mark}: later\n// {mark}(#12): later\n// {mark}S\n")), [1]);
}

#[test]
fn short_documents() {
    let text = "line\n".repeat(MAX_SHORT_LINES + 1);
    assert_eq!(lines("README.md", &text), [201]);
    assert_eq!(lines("snapshot-format/FORMAT.md", &text), [201]);
    assert!(lines("ARCHITECTURE.md", &text).is_empty());
    assert!(lines("README.md", &text[5..]).is_empty());
}
