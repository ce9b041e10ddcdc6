//! What must not be there afterwards.

use std::path::Path;

/// The names of what lies in a directory, in order.
pub fn entries(directory: &Path) -> Vec<String> {
    let found = std::fs::read_dir(directory).expect("a scratch directory can be listed");
    let mut names: Vec<String> =
        found.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The names of images that were begun and not finished.
pub fn half_images(directory: &Path) -> Vec<String> {
    entries(directory).into_iter().filter(|name| name.starts_with('.') && name.contains(".tmp-")).collect()
}
