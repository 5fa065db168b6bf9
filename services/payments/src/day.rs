//! Days in UTC, and which of them are to be reconciled when. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use primitives::Timestamp;
use time::Date;
use time::macros::format_description;

/// How many whole days back is made up for: what is older than a week is a person's to ask for.
const BACK_DAYS_MAX: usize = 7;
/// The same as time, with the day that is not over.
pub const BACK_MAX: Duration = Duration::from_hours(8 * 24);

/// A day from midnight to midnight in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// The text is no day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a day is a date such as 2026-11-20")]
pub struct DayError;

impl Day {
    /// The day that a moment lies in.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(at.to_datetime().date())
    }

    /// The day of a date.
    #[must_use]
    pub const fn from_date(date: Date) -> Self {
        Self(date)
    }

    /// Reads `2026-11-20`.
    ///
    /// # Errors
    /// [`DayError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, DayError> {
        let format = format_description!("[year]-[month]-[day]");
        Date::parse(text, format).map(Self).map_err(|_| DayError)
    }

    /// Its date.
    #[must_use]
    pub const fn date(self) -> Date {
        self.0
    }

    /// Its first moment.
    #[must_use]
    pub fn start(self) -> Timestamp {
        Timestamp::from_datetime(self.0.midnight().assume_utc())
    }

    /// The first moment after it.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.start().plus(Duration::from_hours(24))
    }

    /// Whether a moment lies in it.
    #[must_use]
    pub fn has(self, at: Timestamp) -> bool {
        (self.start()..self.end()).contains(&at)
    }

    /// The day before; the first day there is has none.
    #[must_use]
    pub fn previous(self) -> Option<Self> {
        self.0.previous_day().map(Self)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The next moment after `now` that is `after_midnight` into a day; `after_midnight` is less than
/// a day.
#[must_use]
pub fn next_at(now: Timestamp, after_midnight: Duration) -> Timestamp {
    let today = Day::of(now);
    let at = today.start().plus(after_midnight);
    if now < at { at } else { today.end().plus(after_midnight) }
}

/// The days to be reconciled at `now`, oldest first: yesterday, and of the days before those that
/// were missed since the first that ever was. `reconciled` are the days that were.
#[must_use]
pub fn missing(now: Timestamp, reconciled: &BTreeSet<Day>) -> Vec<Day> {
    let whole = std::iter::successors(Day::of(now).previous(), |it| it.previous());
    let mut days: Vec<Day> = whole
        .take(BACK_DAYS_MAX)
        .enumerate()
        .filter(|(n_back, day)| *n_back == 0 || reconciled.first().is_some_and(|it| it < day))
        .map(|(_, day)| day)
        .filter(|day| !reconciled.contains(day))
        .collect();
    days.reverse();
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn days(texts: &[&str]) -> Vec<Day> {
        texts.iter().map(|it| Day::parse(it).unwrap()).collect()
    }

    #[test]
    fn a_day_is_from_midnight_to_midnight() {
        let day = Day::parse("2026-02-28").unwrap();
        assert_eq!(day.to_string(), "2026-02-28");
        assert_eq!(day.start(), at("2026-02-28T00:00:00Z"));
        assert_eq!(day.end(), at("2026-03-01T00:00:00Z"));
        assert!(day.has(day.start()) && !day.has(day.end()));
        assert_eq!(Day::of(at("2026-03-01T00:59:59+01:00")), day);
        for bad in ["", "2026-02-30", "yesterday", "2026-2-28", "2026-02-28T00:00:00Z"] {
            assert_eq!(Day::parse(bad), Err(DayError), "{bad}");
        }
    }

    #[test]
    fn the_next_night_is_today_or_tomorrow() {
        let night = Duration::from_mins(150);
        for (now, next) in [
            ("2026-11-20T00:00:00Z", "2026-11-20T02:30:00Z"),
            ("2026-11-20T02:29:59.999999Z", "2026-11-20T02:30:00Z"),
            ("2026-11-20T02:30:00Z", "2026-11-21T02:30:00Z"),
            ("2026-12-31T23:00:00Z", "2027-01-01T02:30:00Z"),
        ] {
            assert_eq!(next_at(at(now), night), at(next), "{now}");
        }
    }

    #[test]
    fn missed_days_are_made_up_for_a_week_back_and_never_before_the_first() {
        let now = at("2026-11-20T02:30:00Z");
        let check = |reconciled: &[&str], expected: &[&str]| {
            let reconciled = days(reconciled).into_iter().collect();
            assert_eq!(missing(now, &reconciled), days(expected), "{reconciled:?}");
        };
        check(&[], &["2026-11-19"]);
        check(&["2026-11-18"], &["2026-11-19"]);
        check(&["2026-11-19"], &[]);
        check(&["2026-11-16", "2026-11-18"], &["2026-11-17", "2026-11-19"]);
        check(&["2026-11-19", "2026-11-17"], &["2026-11-18"]);
        let week: Vec<String> = (13..=19).map(|day| format!("2026-11-{day}")).collect();
        let week: Vec<&str> = week.iter().map(String::as_str).collect();
        check(&["2026-10-01"], &week);
    }
}
