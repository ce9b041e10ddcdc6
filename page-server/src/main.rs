//! The `rekindle-pages` command.

fn main() {}
