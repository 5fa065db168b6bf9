//! Time as Postgres keeps it: whole microseconds since 1970 in UTC.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment, in microseconds since 1970-01-01T00:00:00Z; so what is stored equals what was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is no RFC 3339 time, or lies outside the years 0001–9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is RFC 3339, such as 2026-01-15T09:15:02Z")]
pub struct TimestampError;

impl Timestamp {
    /// Reads the clock: the only place in the tree that does. Rules take `now` as an argument.
    #[must_use]
    pub fn now() -> Self {
        Self::from_datetime(OffsetDateTime::now_utc())
    }

    /// A moment from microseconds since 1970.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, as JWT claims count.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// A moment from whole seconds since 1970; saturates beyond what fits.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Truncates to microseconds.
    #[must_use]
    pub fn from_datetime(at: OffsetDateTime) -> Self {
        let micros = at.unix_timestamp_nanos().div_euclid(1_000);
        Self(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// As the `time` crate and sqlx want it; moments outside the years 0001–9999 become 1970.
    #[must_use]
    pub fn to_datetime(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0).saturating_mul(1_000))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The moment `duration` later; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The moment `duration` earlier; saturates.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Reads RFC 3339 with any offset; parts below a microsecond are cut off.
    ///
    /// # Errors
    /// [`TimestampError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        OffsetDateTime::parse(text, &Rfc3339).map(Self::from_datetime).map_err(|_| TimestampError)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with `Z` and at most microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_reads() {
        for text in ["2026-01-15T09:15:02Z", "2026-01-15T09:15:02.123456Z", "1970-01-01T00:00:00Z"]
        {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_offset_becomes_utc() {
        let at = Timestamp::parse("2026-01-15T10:15:02.5+01:00").unwrap();
        assert_eq!(at.to_string(), "2026-01-15T09:15:02.5Z");
    }

    #[test]
    fn a_duration_before_is_zero() {
        let early = Timestamp::from_seconds(10);
        assert_eq!(early.since(Timestamp::from_seconds(20)), Duration::ZERO);
        assert_eq!(early.plus(Duration::from_secs(10)).since(early), Duration::from_secs(10));
    }
}
