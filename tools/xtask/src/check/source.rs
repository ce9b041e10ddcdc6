//! A Rust source file as the house lints see it: tokens with line numbers, so that neither comments nor
//! strings count.

use std::str::FromStr as _;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

#[cfg(test)]
#[path = "source_test.rs"]
mod source_test;

/// One source file.
pub struct Source {
    /// Relative to the workspace, with slashes.
    pub path: String,
    /// As it is on disk.
    pub text: String,
    /// Its tokens in order, groups flattened.
    pub tokens: Vec<Token>,
}

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Counted from 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a token is, as far as the lints care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or a keyword.
    Word(String),
    /// One character of punctuation, or a bracket.
    Sign(char),
    /// A literal, whichever.
    Literal,
}

impl Source {
    /// Splits `text` into tokens.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let stream =
            TokenStream::from_str(text).map_err(|why| anyhow!("cannot read {path} as Rust: {why}"))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        Ok(Self { path: path.to_owned(), text: text.to_owned(), tokens })
    }

    /// Lines with code on them: neither blank nor only a comment.
    pub fn code_lines(&self) -> usize {
        let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        self.text.lines().filter(code).count()
    }

    /// Lines of every use of one of `words`, with the word.
    pub fn words<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = (usize, &'a str)> {
        self.tokens
            .iter()
            .filter_map(|token| Some((token.line, token.word()?)))
            .filter(|(_, w)| words.contains(w))
    }

    /// Lines where these words and signs stand one after another.
    pub fn sequences<'a>(&'a self, parts: &'a [&str]) -> impl Iterator<Item = usize> {
        let windows = self.tokens.windows(parts.len());
        windows
            .filter(move |window| window.iter().zip(parts).all(|(token, part)| token.is(part)))
            .map(|w| w[0].line)
    }

    /// The module right below the crate's root that each path through `crate::` names, with its line.
    pub fn crate_modules(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            if token.word() == Some("crate") && self.is_path_separator(at + 1) {
                self.names_at(at + 3, &mut found);
            }
        }
        found
    }

    /// Whether `::` stands at this token and the next.
    fn is_path_separator(&self, at: usize) -> bool {
        self.sign(at) == Some(':') && self.sign(at + 1) == Some(':')
    }

    fn sign(&self, at: usize) -> Option<char> {
        self.tokens.get(at).and_then(Token::sign)
    }

    /// The name at `at`, or, in `{a, b::c}`, the first name of each path.
    fn names_at<'a>(&'a self, at: usize, found: &mut Vec<(usize, &'a str)>) {
        let Some(token) = self.tokens.get(at) else { return };
        if let Some(word) = token.word() {
            found.push((token.line, word));
        }
        if token.sign() != Some('{') {
            return;
        }
        let (mut depth, mut is_first) = (0_usize, false);
        for token in &self.tokens[at..] {
            match (&token.kind, depth) {
                (Kind::Sign('{'), _) => (depth, is_first) = (depth + 1, depth == 0),
                (Kind::Sign('}'), 1) => return,
                (Kind::Sign('}'), _) => depth -= 1,
                (Kind::Sign(','), 1) => is_first = true,
                (Kind::Word(word), 1) if is_first => {
                    found.push((token.line, word));
                    is_first = false;
                }
                _ => {}
            }
        }
    }
}

impl Token {
    /// The word that it is, if it is one.
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Sign(_) | Kind::Literal => None,
        }
    }

    fn is(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Word(word) => word == text,
            Kind::Sign(sign) => text.strip_prefix(*sign) == Some(""),
            Kind::Literal => false,
        }
    }

    /// The character that it is, if it is one.
    pub fn sign(&self) -> Option<char> {
        match self.kind {
            Kind::Sign(sign) => Some(sign),
            Kind::Word(_) | Kind::Literal => None,
        }
    }
}

fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(word) => into.push(Token { line, kind: Kind::Word(word.to_string()) }),
            TokenTree::Punct(sign) => into.push(Token { line, kind: Kind::Sign(sign.as_char()) }),
            TokenTree::Literal(_) => into.push(Token { line, kind: Kind::Literal }),
            TokenTree::Group(group) => {
                let brackets = match group.delimiter() {
                    Delimiter::Parenthesis => Some(('(', ')')),
                    Delimiter::Brace => Some(('{', '}')),
                    Delimiter::Bracket => Some(('[', ']')),
                    Delimiter::None => None,
                };
                if let Some((open, _)) = brackets {
                    into.push(Token { line, kind: Kind::Sign(open) });
                }
                let end = group.span_close().start().line;
                flatten(group.stream(), into);
                if let Some((_, close)) = brackets {
                    into.push(Token { line: end, kind: Kind::Sign(close) });
                }
            }
        }
    }
}
