//! Points in time, in the 100-nanosecond resolution of the wire formats.
//!
//! Never reads a clock: the present is always an argument.

use std::fmt;
use std::time::Duration;

const TICKS_PER_SECOND: i64 = 10_000_000;

/// A point in time: 100-nanosecond ticks since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// `0001-01-01T00:00:00Z`, which on the wire means "never".
    pub const NEVER: Timestamp = Timestamp(-62_135_596_800 * TICKS_PER_SECOND);

    /// From 100-nanosecond ticks since 1970.
    pub const fn from_ticks(ticks: i64) -> Self {
        Self(ticks)
    }

    /// 100-nanosecond ticks since 1970.
    pub const fn ticks(self) -> i64 {
        self.0
    }

    /// From whole seconds since 1970; saturates far outside of any calendar.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(TICKS_PER_SECOND))
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND)
    }

    /// Whole milliseconds since 1970, rounded down.
    pub const fn milliseconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND / 1000)
    }

    /// This point plus a duration; saturates.
    pub fn plus(self, duration: Duration) -> Self {
        let ticks = i64::try_from(duration.as_nanos() / 100).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(ticks))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        let ticks = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_nanos(u64::try_from(ticks).unwrap_or(0).saturating_mul(100))
    }

    /// Parses RFC 3339 (`2025-11-20T09:12:44.1234567Z`, offsets allowed) from year 1 on; a text without an offset is UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let parsed: jiff::Timestamp = text
            .parse()
            .or_else(|_| {
                text.parse::<jiff::civil::DateTime>()
                    .and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC))
                    .map(|z| z.timestamp())
            })
            .ok()?;
        // Years before the first cannot be printed in the same form.
        i64::try_from(parsed.as_nanosecond() / 100).ok().map(Self).filter(|at| *at >= Self::NEVER)
    }
}

/// RFC 3339 in UTC with seven fractional digits, as the service prints it (S 4.1); "never" has none.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let Ok(at) = jiff::Timestamp::from_second(self.seconds()) else {
            return f.write_str("9999-12-31T23:59:59.9999999Z");
        };
        let civil = jiff::tz::Offset::UTC.to_datetime(at);
        // By hand: every property of every twin shows one, and `write!` takes longer than all the rest of it.
        let mut text = *b"0000-00-00T00:00:00.0000000Z";
        let fields = [
            (0..4, u64::from(civil.year().unsigned_abs())),
            (5..7, civil.month() as u64),
            (8..10, civil.day() as u64),
            (11..13, civil.hour() as u64),
            (14..16, civil.minute() as u64),
            (17..19, civil.second() as u64),
            (20..27, self.0.rem_euclid(TICKS_PER_SECOND) as u64),
        ];
        for (place, mut number) in fields {
            for digit in text[place].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        let text = std::str::from_utf8(&text).map_err(|_| fmt::Error)?;
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        let check = |text: &str, printed: &str| {
            assert_eq!(Timestamp::parse(text).expect(text).to_string(), printed);
        };
        check("2025-11-20T09:12:44.1234567Z", "2025-11-20T09:12:44.1234567Z");
        check("2025-11-20T09:12:44Z", "2025-11-20T09:12:44.0000000Z");
        check("2025-11-20T10:12:44+01:00", "2025-11-20T09:12:44.0000000Z");
        check("2025-11-20T09:12:44", "2025-11-20T09:12:44.0000000Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::parse("0001-01-01T00:00:00Z"), Some(Timestamp::NEVER));
        assert_eq!(Timestamp::parse("yesterday"), None);
        assert_eq!(Timestamp::parse("-0010001111"), None, "a year before the first");
        // The ends of the range print something and do not panic.
        assert!(!Timestamp::from_ticks(i64::MIN).to_string().is_empty());
        assert!(!Timestamp::from_ticks(i64::MAX).to_string().is_empty());
    }

    #[test]
    fn differences_saturate() {
        let a = Timestamp::from_seconds(10);
        assert_eq!(a.plus(Duration::from_secs(5)).since(a), Duration::from_secs(5));
        assert_eq!(a.since(a.plus(Duration::from_secs(5))), Duration::ZERO);
        assert_eq!(Timestamp::from_ticks(i64::MAX).plus(Duration::MAX).ticks(), i64::MAX);
    }
}
