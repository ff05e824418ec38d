//! Instants as Django writes them to SQLite: the text of Python's `datetime.isoformat(" ")`, in UTC
//! and without saying so.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// `2026-11-22 10:00:00`, or with `.000001` to the microsecond if there is a fraction.
pub(super) fn write(instant: Timestamp) -> String {
    let civil = Offset::UTC.to_datetime(instant);
    let (year, month, day) = (civil.year(), civil.month(), civil.day());
    let (hour, minute, second) = (civil.hour(), civil.minute(), civil.second());
    let microseconds = civil.subsec_nanosecond() / 1_000;
    let whole = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    if microseconds == 0 {
        whole
    } else {
        format!("{whole}.{microseconds:06}")
    }
}

/// Reads what [`write()`] or Django wrote. `None` if it is anything else.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let whole: &[u8; 19] = whole.as_bytes().try_into().ok()?;
    let punctuation = [whole[4], whole[7], whole[10], whole[13], whole[16]];
    if punctuation != *b"-- ::" {
        return None;
    }
    let two = |from: usize| i8::try_from(digits(&whole[from..from + 2])?).ok();
    let year = i16::try_from(digits(&whole[..4])?).ok()?;
    let nanosecond = match fraction.map(str::as_bytes) {
        None => 0,
        Some(fraction @ ([_] | [_, ..])) if fraction.len() <= 6 => {
            let missing = 9 - u32::try_from(fraction.len()).ok()?;
            i32::try_from(digits(fraction)?).ok()? * 10_i32.pow(missing)
        }
        Some(_) => return None,
    };
    let civil = DateTime::new(
        year,
        two(5)?,
        two(8)?,
        two(11)?,
        two(14)?,
        two(17)?,
        nanosecond,
    );
    Offset::UTC.to_timestamp(civil.ok()?).ok()
}

/// The number that decimal digits, and nothing but digits, write.
fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |number: u32, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_django_writes_them() {
        for (microseconds, written) in [
            (1_795_341_600_000_000, "2026-11-22 10:00:00"),
            (1_795_341_600_000_001, "2026-11-22 10:00:00.000001"),
            (1_795_341_600_123_000, "2026-11-22 10:00:00.123000"),
            (-1, "1969-12-31 23:59:59.999999"),
            (-62_135_596_800_000_000, "0001-01-01 00:00:00"),
        ] {
            let instant = Timestamp::from_microsecond(microseconds).unwrap();
            assert_eq!(write(instant), written);
            assert_eq!(read(written), Some(instant));
        }
    }

    #[test]
    fn a_short_fraction_is_a_fraction() {
        let half = Timestamp::from_millisecond(1_795_341_600_500).unwrap();
        assert_eq!(read("2026-11-22 10:00:00.5"), Some(half));
        assert_eq!(read("2026-11-22 10:00:00.500"), Some(half));
    }

    #[test]
    fn what_is_no_instant_is_not_read() {
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-11-22 10:00:00.",
            "2026-11-22 10:00:00.1234567",
            "2026-11-22 10:00:00+00:00",
            "2026-11-22 10:00:00 ",
            "2026-02-30 10:00:00",
            "2026-11-22 24:00:00",
            "2026-11-22 10:00:+1",
            "２026-11-22 10:00",
        ] {
            assert_eq!(read(text), None, "{text:?} was read");
        }
    }
}
