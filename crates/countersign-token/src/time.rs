//! Time as tokens tell it.

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
    fn a_time_is_written_as_a_bare_number() {
        assert_eq!(serde_json::to_string(&UnixSeconds::new(42)).unwrap(), "42");
    }
}
