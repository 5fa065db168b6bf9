//! What was measured, beside what it should be: a table for people, a file for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::figures::median;

/// What a figure is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    Nothing,
    Pgbench,
    Engine,
}

impl Against {
    const fn key(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Pgbench => Some("pgbench_tps"),
            Self::Engine => Some("engine_tps"),
        }
    }

    const fn shown(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Pgbench => "x pgbench",
            Self::Engine => "x engine",
        }
    }
}

/// What a figure, or its ratio if it has one, should be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    None,
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtLeast(least) => Some(value >= least),
            Self::AtMost(most) => Some(value <= most),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
        }
    }
}

/// One line of the table, and one key of the file.
#[derive(Debug, Clone, Copy)]
struct Figure {
    key: &'static str,
    what: &'static str,
    unit: &'static str,
    against: Against,
    target: Target,
}

const fn figure(
    key: &'static str,
    what: &'static str,
    unit: &'static str,
    against: Against,
    target: Target,
) -> Figure {
    Figure { key, what, unit, against, target }
}

/// Every figure there is, in the order of the table.
const FIGURES: [Figure; 12] = [
    figure("pgbench_tps", "pgbench, TPC-B-like", "/s", Against::Nothing, Target::None),
    figure("engine_tps", "engine, 10,000 accounts", "/s", Against::Pgbench, Target::AtLeast(10.0)),
    figure(
        "engine_hot_tps",
        "engine, one hot account",
        "/s",
        Against::Engine,
        Target::AtLeast(0.95),
    ),
    figure("engine_grown_tps", "engine, grown books", "/s", Against::Engine, Target::AtLeast(0.8)),
    figure(
        "http_transfer_tps",
        "POST /wallet/transfer",
        "/s",
        Against::Pgbench,
        Target::AtLeast(3.0),
    ),
    figure("http_balance_tps", "GET /wallet/balance", "/s", Against::Pgbench, Target::AtLeast(5.0)),
    figure(
        "http_bulk_tps",
        "transfers in bulks of 100",
        "/s",
        Against::Pgbench,
        Target::AtLeast(8.0),
    ),
    figure("p50_ms", "transfer at 1,000/s, p50", "ms", Against::Nothing, Target::None),
    figure("p99_ms", "transfer at 1,000/s, p99", "ms", Against::Nothing, Target::AtMost(10.0)),
    figure("p999_ms", "transfer at 1,000/s, p99.9", "ms", Against::Nothing, Target::None),
    figure(
        "ledger_rss_mb",
        "ledger with all accounts",
        "MB",
        Against::Nothing,
        Target::AtMost(300.0),
    ),
    figure(
        "bytes_per_transfer",
        "bytes a transfer on disk",
        "B",
        Against::Nothing,
        Target::AtMost(450.0),
    ),
];

/// Everything measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    runs: BTreeMap<&'static str, Vec<f64>>,
    details: Map<String, Value>,
}

impl Report {
    /// One more measurement of a figure.
    pub(crate) fn add(&mut self, key: &'static str, value: f64) {
        debug_assert!(FIGURES.iter().any(|it| it.key == key), "{key} is no figure");
        self.runs.entry(key).or_default().push(value);
    }

    /// Takes another figure's place; used for the best of several ways to measure one.
    pub(crate) fn replace(&mut self, key: &'static str, runs: Vec<f64>) {
        self.runs.insert(key, runs);
    }

    /// Something else worth keeping.
    pub(crate) fn detail(&mut self, name: &str, value: Value) {
        self.details.insert(name.to_owned(), value);
    }

    /// The median of a figure's runs.
    pub(crate) fn value(&self, key: &str) -> Option<f64> {
        self.runs.get(key).and_then(|runs| median(runs))
    }

    fn ratio(&self, figure: &Figure) -> Option<f64> {
        let against = self.value(figure.against.key()?).filter(|it| *it > 0.0)?;
        Some(self.value(figure.key)? / against)
    }

    /// Whether the target is met; none if there is none, or nothing to compare.
    fn is_met(&self, figure: &Figure) -> Option<bool> {
        let compared = match figure.against {
            Against::Nothing => self.value(figure.key)?,
            Against::Pgbench | Against::Engine => self.ratio(figure)?,
        };
        figure.target.is_met(compared)
    }

    /// Whether no figure that was measured is below its target.
    pub(crate) fn is_good(&self) -> bool {
        FIGURES.iter().all(|figure| self.is_met(figure) != Some(false))
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from("\n");
        let mut line = |cells: [&str; 6]| {
            let [what, value, unit, ratio, target, verdict] = cells;
            let line = format!("{what:<27}{value:>10} {unit:<3} {ratio:<17} {target:<8} {verdict}");
            // Memory takes every line.
            writeln!(table, "  {}", line.trim_end()).ok();
        };
        line(["figure (median)", "measured", "", "ratio", "target", ""]);
        line([&"-".repeat(26), &"-".repeat(9), "", &"-".repeat(16), "------", "-----"]);
        for figure in &FIGURES {
            let Some(value) = self.value(figure.key) else { continue };
            let ratio = self.ratio(figure);
            let ratio =
                ratio.map_or_else(String::new, |it| format!("{it:.2} {}", figure.against.shown()));
            let verdict = match self.is_met(figure) {
                None => "",
                Some(true) => "ok",
                Some(false) => "below",
            };
            let shown = number(value);
            line([figure.what, &shown, figure.unit, &ratio, &figure.target.shown(), verdict]);
        }
        table
    }

    /// The file. `about` says where, when and on what.
    pub(crate) fn json(&self, about: Map<String, Value>) -> Value {
        let mut all = Map::new();
        let mut ratios = Map::new();
        let mut targets = Map::new();
        for figure in &FIGURES {
            all.insert(figure.key.to_owned(), json!(self.value(figure.key).map(rounded)));
            if let Some(ratio) = self.ratio(figure) {
                ratios.insert(figure.key.to_owned(), json!(rounded(ratio)));
            }
            if let Some(is_met) = self.is_met(figure) {
                targets.insert(figure.key.to_owned(), json!(is_met));
            }
        }
        let runs = self.runs.iter().map(|(key, runs)| {
            let runs: Vec<f64> = runs.iter().copied().map(rounded).collect();
            ((*key).to_owned(), json!(runs))
        });
        all.insert("ratios".to_owned(), Value::Object(ratios));
        all.insert("targets_met".to_owned(), Value::Object(targets));
        all.insert("runs".to_owned(), Value::Object(runs.collect()));
        all.insert("details".to_owned(), Value::Object(self.details.clone()));
        all.extend(about);
        Value::Object(all)
    }
}

/// Three places are more than any of this is good for.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// With commas between thousands, and with places only where they mean something.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len().saturating_sub(n)).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        for tps in [900.0, 1_000.0, 5_000.0] {
            report.add("pgbench_tps", tps);
        }
        report.add("engine_tps", 10_000.0);
        report.add("engine_hot_tps", 9_000.0);
        report.add("p99_ms", 8.5);
        report
    }

    #[test]
    fn ratios_are_of_medians() {
        let report = report();
        assert_eq!(report.value("pgbench_tps"), Some(1_000.0));
        let json = report.json(Map::new());
        assert_eq!(json["ratios"]["engine_tps"], 10.0);
        assert_eq!(json["ratios"]["engine_hot_tps"], 0.9);
        assert_eq!(json["targets_met"]["engine_tps"], true);
        assert_eq!(json["targets_met"]["engine_hot_tps"], false);
        assert_eq!(json["targets_met"]["p99_ms"], true);
        assert!(!report.is_good());
    }

    #[test]
    fn every_promised_key_is_in_the_file() {
        let json = Report::default().json(Map::new());
        for key in [
            "pgbench_tps",
            "engine_tps",
            "engine_hot_tps",
            "engine_grown_tps",
            "http_transfer_tps",
            "http_balance_tps",
            "http_bulk_tps",
            "p50_ms",
            "p99_ms",
            "p999_ms",
            "ledger_rss_mb",
            "bytes_per_transfer",
        ] {
            assert!(json.get(key).is_some_and(Value::is_null), "{key}");
        }
    }

    #[test]
    fn what_was_not_measured_is_neither_shown_nor_missed() {
        let report = Report::default();
        assert!(report.is_good());
        assert!(!report.table().contains("engine"));
    }

    #[test]
    fn the_table_says_what_is_below() {
        let table = report().table();
        let hot = table.lines().find(|line| line.contains("hot")).unwrap();
        assert!(hot.ends_with("below") && hot.contains("0.90 x engine"), "{hot}");
        let engine = table.lines().find(|line| line.contains("10,000 accounts")).unwrap();
        assert!(engine.ends_with("ok") && engine.contains("10.00 x pgbench"), "{engine}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(number(8.456), "8.46");
    }
}
