//! Time as tokens tell it, and as bodies do.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Whole seconds since 1970-01-01T00:00:00Z: the `NumericDate` of [RFC 7519, section 2], without
/// the fractions that it would allow.
///
/// Read strictly: a negative number, a fraction (even `1.0`), a string, `null`, or a time after the
/// year 9999 is an error.
///
/// [RFC 7519, section 2]: https://www.rfc-editor.org/rfc/rfc7519#section-2
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UnixSeconds(u64);

impl UnixSeconds {
    /// The last second that RFC 3339 can write, 9999-12-31T23:59:59Z. A token that claims a later
    /// time is not from a clock.
    const LAST: u64 = 253_402_300_799;

    /// The time `seconds` after the epoch.
    #[must_use]
    pub const fn new(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The time `duration` later, in whole seconds (fractions are dropped), at most the largest
    /// time there is.
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// The time `duration` earlier, in whole seconds (fractions are dropped), at least the epoch.
    #[must_use]
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }

    /// Reads a time in UTC as [RFC 3339] writes it, `2026-11-24T10:00:00Z`, with a fraction or
    /// without. A fraction is rounded up: what ends at 10:00:00.5 has not ended at 10:00:00.
    ///
    /// ```
    /// use countersign_token::UnixSeconds;
    ///
    /// let time = UnixSeconds::from_rfc3339("2026-11-24T10:00:00.5Z");
    /// assert_eq!(time, Some(UnixSeconds::new(1_795_514_401)));
    /// ```
    ///
    /// `None` for everything else: an offset (even `+00:00`), small letters, a space for the `T`, a
    /// date that is not in the calendar, a leap second, a time before 1970.
    ///
    /// [RFC 3339]: https://www.rfc-editor.org/rfc/rfc3339#section-5.6
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let (date_time, fraction) = text.strip_suffix('Z')?.as_bytes().split_at_checked(19)?;
        let is_begun = match fraction {
            [] => false,
            [b'.', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                digits.iter().any(|digit| *digit != b'0')
            }
            _ => return None,
        };
        if ![(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')]
            .iter()
            .all(|(index, mark)| date_time[*index] == *mark)
        {
            return None;
        }
        let number = |from: usize, digits: usize| {
            date_time[from..from + digits]
                .iter()
                .try_fold(0, |number, byte| {
                    let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
                    Some(number * 10 + digit)
                })
        };
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
        let in_calendar = year >= 1970 && (1..=days_in_month(year, month)).contains(&day);
        if !in_calendar || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = days_before_year(year) + days_before_month(year, month) + (day - 1);
        let time = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
        let time = time + u64::from(is_begun);
        (time <= Self::LAST).then_some(Self(time))
    }

    /// Writes the time as `2026-11-24T10:00:00Z`; what is later than the year 9999 as the last
    /// second of it.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let time = self.0.min(Self::LAST);
        let (mut days, second) = (time / SECONDS_PER_DAY, time % SECONDS_PER_DAY);
        // Never later than the year sought, and in the year 9999 only 16 years short of it.
        let mut year = 1970 + days / 366;
        while days_before_year(year + 1) <= days {
            year += 1;
        }
        days -= days_before_year(year);
        let mut month = 1;
        while days >= days_in_month(year, month) {
            days -= days_in_month(year, month);
            month += 1;
        }
        format!(
            "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
            days + 1,
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The days of a month that counts from 1; none if there is no such month.
const fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

fn days_before_month(year: u64, month: u64) -> u64 {
    (1..month).map(|month| days_in_month(year, month)).sum()
}

/// The days from 1970 to the beginning of `year`, which is no earlier.
const fn days_before_year(year: u64) -> u64 {
    /// Leap days before the beginning of `year`, of all years there ever were.
    const fn leap_days(year: u64) -> u64 {
        let last = year - 1;
        last / 4 - last / 100 + last / 400
    }
    (year - 1970) * 365 + leap_days(year) - leap_days(1970)
}

/// For `#[serde(with = "rfc3339")]`: times in bodies, where tokens have bare numbers.
pub(crate) mod rfc3339 {
    use serde::de::{Error as _, Unexpected};
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::UnixSeconds;
    use crate::json::Text;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub(crate) fn serialize<S: Serializer>(
        time: &UnixSeconds,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<UnixSeconds, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        UnixSeconds::from_rfc3339(&text).ok_or_else(|| {
            D::Error::invalid_value(Unexpected::Str(&text), &"a time like 2026-11-24T10:00:00Z")
        })
    }
}

impl From<SystemTime> for UnixSeconds {
    /// Drops the fraction; a time before the epoch becomes the epoch.
    fn from(time: SystemTime) -> Self {
        Self(
            time.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        )
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for UnixSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;

        impl Visitor<'_> for Seconds {
            type Value = UnixSeconds;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("whole seconds since 1970")
            }

            // Every other type of number falls through to the visitor's refusal.
            fn visit_u64<E: Error>(self, seconds: u64) -> Result<UnixSeconds, E> {
                if seconds > UnixSeconds::LAST {
                    return Err(E::invalid_value(Unexpected::Unsigned(seconds), &self));
                }
                Ok(UnixSeconds(seconds))
            }
        }

        deserializer.deserialize_u64(Seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_seconds_between_1970_and_9999_are_read() {
        let read = |json: &str| serde_json::from_str::<UnixSeconds>(json).map(UnixSeconds::get);

        assert_eq!(read("0").unwrap(), 0);
        assert_eq!(read("1800000000").unwrap(), 1_800_000_000);
        assert_eq!(read("253402300799").unwrap(), 253_402_300_799);

        for wrong in [
            "253402300800",
            "18446744073709551615",
            "1208925819614629174706176",
            "-1",
            "-0",
            "1.0",
            "1.8e9",
            "1e400",
            "\"1800000000\"",
            "null",
            "true",
            "[1]",
            "{}",
        ] {
            assert!(read(wrong).is_err(), "{wrong} was read as a time");
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let hour = Duration::from_hours(1);
        assert_eq!(
            UnixSeconds::new(10).saturating_add(hour),
            UnixSeconds::new(3610)
        );
        assert_eq!(
            UnixSeconds::new(10).saturating_sub(hour),
            UnixSeconds::new(0)
        );
        assert_eq!(
            UnixSeconds::new(u64::MAX).saturating_add(hour),
            UnixSeconds::new(u64::MAX)
        );
    }

    #[test]
    fn the_system_clock_is_cut_to_whole_seconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_999);
        assert_eq!(UnixSeconds::from(time), UnixSeconds::new(1));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(UnixSeconds::from(before), UnixSeconds::new(0));
    }

    #[test]
    fn a_time_in_words_is_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-12-31T23:59:59Z", 31_535_999),
            ("1972-02-29T00:00:00Z", 68_169_600),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2000-12-31T23:59:59Z", 978_307_199),
            ("2001-09-09T01:46:40Z", 1_000_000_000),
            ("2026-11-24T10:00:00Z", 1_795_514_400),
            ("2038-01-19T03:14:08Z", 2_147_483_648),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            let time = UnixSeconds::new(seconds);
            assert_eq!(UnixSeconds::from_rfc3339(text), Some(time), "{text}");
            assert_eq!(time.to_rfc3339(), text);
        }
        assert_eq!(
            UnixSeconds::new(u64::MAX).to_rfc3339(),
            "9999-12-31T23:59:59Z"
        );
    }

    #[test]
    fn every_day_is_written_as_the_one_after_the_day_before() {
        // The calendar repeats itself after 400 years (146,097 days).
        let mut expected = (1970, 1, 1);
        for day in 0..146_097 {
            let (year, month, of_month) = expected;
            let noon = UnixSeconds::new(day * SECONDS_PER_DAY + 43_200);
            let text = format!("{year:04}-{month:02}-{of_month:02}T12:00:00Z");
            assert_eq!(noon.to_rfc3339(), text);
            assert_eq!(UnixSeconds::from_rfc3339(&text), Some(noon));
            expected = match expected {
                (year, 12, 31) => (year + 1, 1, 1),
                (year, month, last) if last == days_in_month(year, month) => (year, month + 1, 1),
                (year, month, of_month) => (year, month, of_month + 1),
            };
        }
        assert_eq!(expected, (2370, 1, 1));
    }

    #[test]
    fn a_begun_second_counts_as_over() {
        let read = |fraction: &str| {
            UnixSeconds::from_rfc3339(&format!("1970-01-01T00:00:59{fraction}Z"))
                .map(UnixSeconds::get)
        };
        for whole in ["", ".0", ".000000000000000000000"] {
            assert_eq!(read(whole), Some(59), "{whole}");
        }
        for begun in [".1", ".999999999", ".000000000000000000001"] {
            assert_eq!(read(begun), Some(60), "{begun}");
        }
        for wrong in [".", ".-1", ".1.", ". 1", ",5", ".1e1", "5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_time_in_utc_or_not_in_the_calendar_is_refused() {
        for wrong in [
            "",
            "Z",
            "2026-11-24",
            "2026-11-24T10:00:00",
            "2026-11-24T10:00Z",
            "2026-11-24T10:00:00z",
            "2026-11-24t10:00:00Z",
            "2026-11-24 10:00:00Z",
            "2026-11-24T10:00:00+00:00",
            "2026-11-24T10:00:00-00:00Z",
            " 2026-11-24T10:00:00Z",
            "2026-11-24T10:00:00Z ",
            "2026-11-24T10:00:00ZZ",
            "20261124T100000Z",
            "+026-11-24T10:00:00Z",
            "2026-1-24T10:00:00.0Z",
            "2026-11-24T1\u{0660}:00:0Z",
            "2026-00-24T10:00:00Z",
            "2026-13-24T10:00:00Z",
            "2026-11-00T10:00:00Z",
            "2026-11-31T10:00:00Z",
            "2026-02-29T10:00:00Z",
            "2100-02-29T10:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:60:00Z",
            "2016-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.1Z",
        ] {
            assert_eq!(UnixSeconds::from_rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_is_written_as_a_bare_number() {
        assert_eq!(serde_json::to_string(&UnixSeconds::new(42)).unwrap(), "42");
    }
}
