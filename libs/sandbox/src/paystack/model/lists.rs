//! Lists: what a query asks for, and which part of the list answers it.
//!
//! Newest first. A page is counted from the start, or follows a cursor, which is the id it stops
//! at in a form nobody is meant to read; new things do not shift what a cursor leads to.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::answers::{self, Answer};
use super::fields;

const PER_PAGE: u64 = 50;

/// Parameters of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(pub BTreeMap<String, String>);

impl Parameters {
    /// What a parameter says; empty ones count as absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|it| !it.is_empty())
    }

    /// Some clients write it `True`.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.text(name).is_some_and(|it| it.eq_ignore_ascii_case("true"))
    }

    pub(crate) fn positive(&self, name: &str, default: u64) -> Result<u64, Answer> {
        match self.text(name).map(str::parse::<u64>) {
            None => Ok(default),
            Some(Ok(number)) if number > 0 => Ok(number),
            Some(_) => {
                Err(answers::invalid_params(&format!("\"{name}\" must be a positive number")))
            }
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Answer> {
        let read = self.text(name).map(str::parse::<u64>).transpose();
        read.map_err(|_| answers::invalid_params(&format!("\"{name}\" must be a number")))
    }

    /// Microseconds since 1970 between `from` and `to`.
    pub(crate) fn period(&self) -> Result<std::ops::RangeInclusive<i64>, Answer> {
        let time = |name: &str, default: i64| match self.text(name).map(fields::moment) {
            None => Ok(default),
            Some(Some(at)) => Ok(at.micros()),
            Some(None) => {
                let message = format!("\"{name}\" must be in ISO 8601 date format");
                Err(answers::invalid_params(&message))
            }
        };
        Ok(time("from", i64::MIN)?..=time("to", i64::MAX)?)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Parameters {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Paging {
    /// The page of this number, from 1.
    Offset { page: u64, per_page: u64 },
    /// What is older than one id, or newer than one.
    Cursor { older_than: Option<u64>, newer_than: Option<u64>, per_page: u64 },
}

impl Paging {
    pub(crate) fn read(parameters: &Parameters) -> Result<Self, Answer> {
        let per_page = parameters.positive("perPage", PER_PAGE)?;
        if !parameters.is_true("use_cursor") {
            return Ok(Self::Offset { page: parameters.positive("page", 1)?, per_page });
        }
        Self::cursor(parameters, per_page)
    }

    pub(crate) fn cursor(parameters: &Parameters, per_page: u64) -> Result<Self, Answer> {
        let id = |name: &str| match parameters.text(name) {
            None => Ok(None),
            Some(text) => match decode(text) {
                Some(id) => Ok(Some(id)),
                None => Err(answers::invalid_params(&format!("\"{name}\" is no cursor"))),
            },
        };
        Ok(Self::Cursor { older_than: id("next")?, newer_than: id("previous")?, per_page })
    }

    /// Cuts the part out of `all`, which is newest first, and says where it lies.
    pub(crate) fn cut<T>(self, all: Vec<T>, id: impl Fn(&T) -> u64) -> (Vec<T>, Value) {
        match self {
            Self::Offset { page, per_page } => {
                let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
                let skipped = page.saturating_sub(1).saturating_mul(per_page);
                let shown = all.into_iter().skip(count(skipped)).take(count(per_page)).collect();
                let meta = json!({
                    "total": total,
                    "skipped": skipped,
                    "perPage": per_page,
                    "page": page,
                    "pageCount": total.div_ceil(per_page),
                });
                (shown, meta)
            }
            Self::Cursor { older_than, newer_than, per_page } => {
                let after = |it: &T| older_than.is_none_or(|than| id(it) < than);
                let before = |it: &T| newer_than.is_none_or(|than| id(it) > than);
                let (newest, oldest) = (all.first().map(&id), all.last().map(&id));
                let mut shown: Vec<T> =
                    all.into_iter().filter(|it| after(it) && before(it)).collect();
                // Back from a cursor is the page that ends there, not the first of all.
                if newer_than.is_some() && older_than.is_none() {
                    let beyond = shown.len().saturating_sub(count(per_page));
                    shown.drain(..beyond);
                }
                shown.truncate(count(per_page));
                let more = |end: Option<u64>, last: Option<u64>| match (end, last) {
                    (Some(end), Some(last)) if end != last => Some(encode(last)),
                    (Some(_), Some(_)) | (Some(_), None) | (None, _) => None,
                };
                let meta = json!({
                    "next": more(oldest, shown.last().map(&id)),
                    "previous": more(newest, shown.first().map(&id)),
                    "perPage": per_page,
                });
                (shown, meta)
            }
        }
    }
}

fn encode(id: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("after:{id}"))
}

fn decode(text: &str) -> Option<u64> {
    // What is not ours is no cursor.
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    std::str::from_utf8(&bytes).ok()?.strip_prefix("after:")?.parse().ok()
}

fn count(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
