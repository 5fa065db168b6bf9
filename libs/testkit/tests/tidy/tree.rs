//! Reads the tree, and says what is wrong with it in one form.

use std::path::{Path, PathBuf};

/// A file of the project, by its path from the root, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// The name without folder and extension.
    pub(crate) fn stem(&self) -> &str {
        Path::new(&self.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// Lines with their place, for failures.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        let numbered = self.text.lines().enumerate();
        numbered.map(|(n, line)| (format!("{}:{}", self.path, n + 1), line))
    }
}

pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("libs/testkit is two folders below the root").to_owned()
}

/// Every text file but what is built, installed, locked or recorded.
pub(crate) fn sources() -> Vec<Source> {
    const SKIPPED: &[&str] = &["target", ".git", ".wallet", ".sqlx", "node_modules", "Cargo.lock"];
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("a folder of the tree can be read");
        for entry in entries.map(|entry| entry.expect("an entry can be read")) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).expect("it is below the root");
                found.push(Source { path: path.display().to_string(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "this is not the tree: {}", root().display());
    found
}

/// One file of the root, which must be there.
pub(crate) fn document(path: &str) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{path} is part of the project: {error}"))
}

/// Fails with the rule, the reason and every place.
#[track_caller]
pub(crate) fn insist(rule: &str, reason: &str, places: &[String]) {
    assert!(places.is_empty(), "\n{rule}\n({reason})\n  {}\n", places.join("\n  "));
}
