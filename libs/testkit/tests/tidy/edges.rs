//! Which crate may depend on which.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::tree::{insist, root};

/// Each crate, what it is built from, and what its tests may use besides. A new edge between
/// crates is a decision: it is made here, where it is seen.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("primitives", &[], &[]),
    ("ledger-core", &["primitives"], &[]),
    ("proto-events", &["primitives"], &[]),
    ("bus", &["primitives", "proto-events"], &["sandbox", "testkit"]),
    ("chassis", &[], &["sandbox", "testkit"]),
    ("sandbox", &["primitives"], &[]),
    ("testkit", &["bus", "chassis", "sandbox"], &[]),
    ("api", &["bus", "chassis", "primitives", "proto-events"], &["sandbox", "testkit"]),
    ("keys", &["bus", "chassis", "primitives", "proto-events"], &["sandbox", "testkit"]),
    (
        "ledger",
        &["bus", "chassis", "ledger-core", "primitives", "proto-events"],
        &["sandbox", "testkit"],
    ),
    (
        "payments",
        &["bus", "chassis", "primitives", "proto-events"],
        &["ledger-core", "sandbox", "testkit"],
    ),
    (
        "wallet",
        &["api", "chassis", "keys", "ledger", "payments", "primitives", "sandbox"],
        &["bus", "ledger-core", "proto-events", "testkit"],
    ),
    ("loadtest", &["bus", "chassis", "ledger", "primitives", "proto-events", "sandbox"], &[]),
];

/// What the crates that hold rules are built from, outside crates included. Nothing here does I/O.
const PURE: &[(&str, &[&str])] = &[
    ("primitives", &["thiserror", "time", "uuid"]),
    ("ledger-core", &["foldhash", "primitives", "thiserror"]),
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo can describe the workspace")
}

/// A crate's direct dependencies: what it is built from, and what only its tests use.
fn dependencies(metadata: &Metadata) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let mut all = BTreeMap::new();
    for package in &metadata.packages {
        let (mut built, mut tested) = (BTreeSet::new(), BTreeSet::new());
        for dependency in &package.dependencies {
            let is_for_tests = dependency.kind == DependencyKind::Development;
            let set = if is_for_tests { &mut tested } else { &mut built };
            set.insert(dependency.name.clone());
        }
        all.insert(package.name.to_string(), (built, tested));
    }
    all
}

#[test]
fn crates_depend_on_each_other_as_the_table_says() {
    let all = dependencies(&metadata());
    let mut places = Vec::new();
    for name in all.keys().filter(|name| EDGES.iter().all(|(known, _, _)| known != name)) {
        places.push(format!("{name} is not in the table"));
    }
    for (name, may, tests_may) in EDGES {
        let Some((built, tested)) = all.get(*name) else {
            places.push(format!("{name} is in the table and not in the workspace"));
            continue;
        };
        let ours = |names: &BTreeSet<String>| -> Vec<String> {
            names.iter().filter(|name| all.contains_key(*name)).cloned().collect()
        };
        let built = ours(built);
        if built != *may {
            places.push(format!("{name} is built from {built:?}, and the table says {may:?}"));
        }
        for extra in ours(tested).iter().filter(|it| !tests_may.contains(&it.as_str())) {
            places.push(format!("the tests of {name} use {extra}"));
        }
    }
    insist(
        "Dependencies between crates are those of the table in libs/testkit/tests/tidy/edges.rs.",
        "what a crate cannot see it cannot break; services meet in proto-events and nowhere else",
        &places,
    );
}

#[test]
fn crates_that_hold_rules_depend_on_nothing_that_does_io() {
    let all = dependencies(&metadata());
    let mut places = Vec::new();
    for (name, may) in PURE {
        let (built, _) = &all[*name];
        for extra in built.iter().filter(|it| !may.contains(&it.as_str())) {
            places.push(format!("{name} depends on {extra}"));
        }
    }
    insist(
        "Crates that hold rules have only the dependencies listed for them.",
        "the compiler keeps them pure, so that they can be tested a million times a second",
        &places,
    );
}

#[test]
fn no_crate_is_named_for_what_it_is_not() {
    let bad = |name: &&String| crate::texts::VAGUE_NAMES.contains(&name.as_str());
    let places: Vec<String> = dependencies(&metadata()).keys().filter(bad).cloned().collect();
    insist("No crate has a vague name.", "it would collect everything", &places);
}
