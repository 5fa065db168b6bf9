//! What the documents say about the tree is true of it.

use std::collections::BTreeSet;

use crate::tree::{document, insist, root, sources};

/// The folders that hold crates, as the workspace has them.
fn crates() -> BTreeSet<String> {
    let manifests = sources().into_iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    manifests.map(|file| file.path.trim_end_matches("/Cargo.toml").to_owned()).collect()
}

/// Every `libs/<name>` and `services/<name>` in a text.
fn mentioned(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut found = BTreeSet::new();
    for folder in ["libs/", "services/"] {
        for (at, _) in text.match_indices(folder) {
            let name: String =
                text[at + folder.len()..].chars().take_while(|c| is_name(*c)).collect();
            if !name.is_empty() {
                found.insert(format!("{folder}{name}"));
            }
        }
    }
    found
}

#[test]
fn the_map_names_every_crate_and_no_other() {
    let readme = document("README.md");
    let crates = crates();
    let mut bad: Vec<String> = crates
        .iter()
        .filter(|path| !readme.contains(path.as_str()))
        .map(|path| format!("{path} is not in README.md"))
        .collect();
    let gone = mentioned(&readme).into_iter().filter(|path| !root().join(path).exists());
    bad.extend(gone.map(|path| format!("README.md speaks of {path}, which does not exist")));
    insist(
        "The map in README.md names every crate by its folder (`libs/bus`), and no other.",
        "a newcomer finds the way by it",
        &bad,
    );
}

/// The rows `| I1 … | … | … | test, test |` of the table of invariants: number and tests.
fn invariants(text: &str) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let number =
            cells[0].split_whitespace().next().unwrap_or_default().trim_matches(['`', '*']);
        let is_number = number.strip_prefix('I').is_some_and(|n| n.parse::<u32>().is_ok());
        if is_number {
            let tests = cells.last().copied().unwrap_or_default();
            let names = tests.split([',', ';', ' ']).map(|name| name.trim_matches(['`', ' ', '.']));
            let names = names.map(|name| name.rsplit("::").next().unwrap_or_default());
            let names = names.filter(|name| name.contains('_')).map(str::to_owned).collect();
            rows.push((number.to_owned(), names));
        }
    }
    rows
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let rows = invariants(&document("services/README.md"));
    assert!(
        !rows.is_empty(),
        "services/README.md has a table of invariants: | I1 … | … | … | test |"
    );
    let rust: Vec<_> = sources().into_iter().filter(|file| file.is_rust()).collect();
    let exists = |name: &str| {
        let declared = format!("fn {name}(");
        rust.iter().any(|file| file.text.contains(&declared))
    };
    let mut bad = Vec::new();
    for (place, (number, tests)) in rows.iter().enumerate() {
        if rows[..place].iter().any(|(earlier, _)| earlier == number) {
            bad.push(format!("{number} is there twice"));
        }
        if tests.is_empty() {
            bad.push(format!("{number} names no test in its last column"));
        }
        bad.extend(
            tests.iter().filter(|it| !exists(it)).map(|it| format!("{number}: no test {it}")),
        );
    }
    insist(
        "Every invariant in services/README.md names a test that exists.",
        "what no test holds, the next change breaks",
        &bad,
    );
}

#[test]
fn the_readers_of_documents_see_what_is_there() {
    let text =
        "| I1 money | `check` | trigger | `a::b_c`, d_e |\n|---|\n| **I12** x | y | z | none |\n";
    let rows = invariants(text);
    assert_eq!(rows[0], ("I1".to_owned(), vec!["b_c".to_owned(), "d_e".to_owned()]));
    assert_eq!(rows[1], ("I12".to_owned(), vec![]));
    let found: Vec<String> =
        mentioned("see `libs/bus/src`, services/all-in-one.").into_iter().collect();
    assert_eq!(found, ["libs/bus", "services/all-in-one"]);
}
