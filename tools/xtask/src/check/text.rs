//! Rules for every text file of the repository, whatever its language.

use super::lints::Finding;

#[cfg(test)]
#[path = "text_test.rs"]
mod text_test;

/// Documents that stay short, so that they stay read.
const SHORT: [&str; 2] = ["README.md", "FORMAT.md"];
/// How many lines those may have.
const MAX_SHORT_LINES: usize = 200;
/// Directories of people and of build machines: a path through one works on one machine only.
const HOMES: [&str; 3] = ["/home/", "/root/", "/Users/"];
/// Marks of unfinished work, split so that this file has none.
const MARKS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Everything wrong in the file at `path`; `workspace` is where this checkout lies.
pub fn check(path: &str, text: &str, workspace: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = path.rsplit('/').next().unwrap_or(path);
    let lines = text.lines().count();
    if SHORT.contains(&name) && lines > MAX_SHORT_LINES {
        let what = format!("{lines} lines, at most {MAX_SHORT_LINES}: depth goes to other documents");
        findings.push(Finding { line: MAX_SHORT_LINES + 1, what });
    }
    // The rules about paths are written down, and tested, with such paths.
    let is_about_paths = path.starts_with("tools/xtask/src/check/text");
    for (line, content) in (1..).zip(text.lines()) {
        if !is_about_paths
            && (content.contains(workspace) || HOMES.iter().any(|home| has_path(content, home)))
        {
            findings.push(Finding { line, what: "a path of one machine".to_owned() });
        }
        if let Some(mark) = MARKS.iter().find(|mark| has_word(content, mark))
            && !names_issue(content)
        {
            findings.push(Finding { line, what: format!("`{mark}` without the number of an issue, as #12") });
        }
    }
    findings
}

/// Whether an absolute path below `directory` stands in the line.
fn has_path(line: &str, directory: &str) -> bool {
    let starts = |at: usize| {
        line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && !"._-/$}~".contains(c))
    };
    line.match_indices(directory).any(|(at, _)| starts(at))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word).any(|(at, _)| {
        is_edge(line[..at].chars().next_back()) && is_edge(line[at + word.len()..].chars().next())
    })
}

fn names_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}
