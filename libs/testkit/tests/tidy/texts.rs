//! What files may be called, how long they are, and what must not be in them.

use std::path::Path;

use crate::tree::{Source, insist, root, sources};

const FILE_LINES_MAX: usize = 800;

pub(crate) const VAGUE_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "misc", "types", "manager", "service",
    "services",
];

/// This folder quotes what it forbids.
const TIDY: &str = "libs/testkit/tests/tidy/";

fn rust() -> Vec<Source> {
    sources().into_iter().filter(|source| source.is_rust()).collect()
}

/// The places of `words` in `files`.
fn places_of(files: &[Source], words: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for file in files.iter().filter(|file| !file.path.starts_with(TIDY)) {
        for (place, line) in file.lines() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                places.push(format!("{place}: {word}"));
            }
        }
    }
    places
}

#[test]
fn every_source_file_begins_with_what_it_is() {
    let begins_well = |file: &&Source| {
        ["//! ", "#![doc = include_str!("].iter().any(|start| file.text.starts_with(start))
    };
    let bad =
        rust().iter().filter(|file| !begins_well(file)).map(|file| file.path.clone()).collect();
    let bad: Vec<String> = bad;
    insist("Every .rs file begins with `//!`.", "a reader wants to know where they are", &bad);
}

#[test]
fn no_source_file_is_too_long() {
    let too_long = |file: &Source| {
        let n_lines = file.text.lines().count();
        (n_lines > FILE_LINES_MAX).then(|| format!("{}: {n_lines} lines", file.path))
    };
    let bad: Vec<String> = rust().iter().filter_map(too_long).collect();
    insist("No .rs file has more than 800 lines (aim at 400).", "it holds two ideas", &bad);
}

#[test]
fn no_module_has_a_vague_name() {
    let bad: Vec<String> = rust()
        .into_iter()
        .filter(|file| {
            let folders = file.path.split('/').rev().skip(1).take_while(|it| *it != "src");
            let in_source = file.path.contains("/src/")
                && folders.into_iter().any(|it| VAGUE_NAMES.contains(&it));
            VAGUE_NAMES.contains(&file.stem()) || in_source
        })
        .map(|file| file.path)
        .collect();
    insist("No module has a vague name.", "a name says what belongs there and what does not", &bad);
}

#[test]
fn modules_are_files_with_names() {
    let bad: Vec<String> =
        rust().into_iter().filter(|file| file.stem() == "mod").map(|file| file.path).collect();
    insist("No `mod.rs`.", "ten tabs with the same name; write `name.rs` beside `name/`", &bad);
}

#[test]
fn nothing_is_switched_off_or_left_for_later() {
    const WORDS: &[&str] =
        &["#[ignore", "#[should_panic", "#[allow(", "#![allow(", "TODO", "FIXME", "XXX", "todo!("];
    // What prost generates may or may not trip a lint, so that it cannot be expected to.
    const GENERATED: &str = "proto-events/src/lib.rs";
    let mut places = places_of(&rust(), WORDS);
    places.retain(|place| !(place.starts_with(GENERATED) && place.ends_with("#![allow(")));
    insist(
        "No #[ignore], #[should_panic], #[allow(…)] or unfinished work.",
        "a switched-off test tests nothing; `#[expect(…, reason)]` says why and notices when it is over; \
         what is left to do is an issue, or a `Limit:` that says when it matters",
        &places,
    );
}

#[test]
fn sql_stands_where_it_is_looked_for() {
    let macros = [
        "query!(",
        "query_as!(",
        "query_scalar!(",
        "query_file!(",
        "query_file_as!(",
        "query_file_scalar!(",
    ];
    let elsewhere: Vec<Source> = rust()
        .into_iter()
        .filter(|file| {
            let is_store = file.stem() == "store" || file.path.contains("/store/");
            let is_exempt = file.path.starts_with("libs/bus/") || file.path.contains("/tests/");
            !is_store && !is_exempt
        })
        .collect();
    insist(
        "SQL macros stand in store.rs (or store/), and in bus.",
        "the lock order of a service is readable only in one place",
        &places_of(&elsewhere, &macros),
    );
}

#[test]
fn sql_that_is_put_together_stands_in_few_places() {
    const MAY: &[&str] = &[
        "libs/chassis/src/postgres.rs",
        "libs/sandbox/src/servers/roles.rs",
        "libs/testkit/src/postgres.rs",
        // Indexes are dropped and built again as Postgres itself printed them.
        "services/ledger/src/store/seed.rs",
    ];
    let elsewhere: Vec<Source> = rust()
        .into_iter()
        .filter(|file| !MAY.contains(&file.path.as_str()) && !file.path.contains("/tests/"))
        .collect();
    insist(
        "Only grants, roles and test databases are made by SQL that is put together.",
        "everything else is checked against the schema when it is compiled, and cannot be injected into",
        &places_of(&elsewhere, &["AssertSqlSafe", "QueryBuilder"]),
    );
}

#[test]
fn no_file_speaks_of_the_workshop() {
    let words = ["../shared", "/work/", "BRIEF.md", "CHANGES.md"];
    insist(
        "No file mentions a place or a paper outside the project.",
        "whoever reads the project has only the project",
        &places_of(&sources(), &words),
    );
}

#[test]
fn migrations_are_chapters() {
    let mut folders: Vec<String> = sources()
        .iter()
        .filter_map(|file| Path::new(&file.path).parent()?.to_str().map(str::to_owned))
        .filter(|folder| folder.ends_with("/migrations"))
        .collect();
    folders.dedup();
    let mut bad = Vec::new();
    for folder in &folders {
        let entries = std::fs::read_dir(root().join(folder)).expect("the folder can be read");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry.expect("an entry can be read").file_name().to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        for (n, name) in names.iter().enumerate() {
            if !name.starts_with(&format!("{:04}_", n + 1)) || !name.ends_with(".sql") {
                bad.push(format!("{folder}/{name} should be {:04}_<name>.sql", n + 1));
            }
        }
    }
    assert!(!folders.is_empty(), "there are services with a schema");
    insist(
        "Migrations are numbered 0001, 0002, … without gaps.",
        "they are read in order, and a gap is a migration that somebody lost",
        &bad,
    );
}

#[test]
fn no_request_is_captured_by_a_stream() {
    let subjects = sources().into_iter().find(|file| file.path == "proto-events/src/subjects.rs");
    let text = subjects.expect("the subjects are there").text;
    let quoted: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    let requests: Vec<&str> = quoted.iter().copied().filter(|it| it.starts_with("rpc.")).collect();
    let streams: Vec<&str> = quoted.iter().filter_map(|it| it.strip_suffix('>')).collect();
    assert!(!requests.is_empty() && !streams.is_empty(), "{quoted:?}");
    let bad: Vec<String> = requests
        .iter()
        .flat_map(|request| streams.iter().map(move |stream| (request, stream)))
        .filter(|(request, stream)| request.starts_with(**stream))
        .map(|(request, stream)| format!("{request} is captured by {stream}>"))
        .collect();
    insist(
        "No `rpc.` subject matches a stream.",
        "the stream would answer the request with its own acknowledgement",
        &bad,
    );
}
