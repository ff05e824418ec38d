//! Durations as people write them: `30s`, `5m`, `7d`.

use std::time::Duration;

/// Reads a duration and holds it between two limits, both included.
pub(crate) fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| "write a duration with its unit, like 30s, 5m, 12h or 7d".to_owned())?;
    if duration < least || duration > most {
        let (least, most) = (show(least), show(most));
        return Err(format!(
            "{} is not between {least} and {most}",
            show(duration)
        ));
    }
    Ok(duration)
}

/// The way durations are shown: in the largest unit that says them whole.
pub(crate) fn show(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 || seconds == 0 {
        return humantime::format_duration(duration).to_string();
    }
    let whole = UNITS
        .iter()
        .find(|(length, _)| seconds.is_multiple_of(*length));
    whole.map_or_else(String::new, |(length, unit)| {
        format!("{}{unit}", seconds / length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_the_largest_whole_unit() {
        for (seconds, shown) in [
            (0, "0s"),
            (90, "90s"),
            (300, "5m"),
            (604_800, "7d"),
            (5_400, "90m"),
        ] {
            assert_eq!(show(Duration::from_secs(seconds)), shown);
        }
        assert_eq!(show(Duration::from_millis(1_500)), "1s 500ms");
    }

    #[test]
    fn limits_are_included() {
        let limits = |text| between(text, Duration::from_secs(10), Duration::from_hours(1));
        assert_eq!(limits("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(limits("1h"), Ok(Duration::from_hours(1)));
        assert_eq!(limits("2h").unwrap_err(), "2h is not between 10s and 1h");
        assert!(limits("300").unwrap_err().contains("unit"));
        assert!(limits("-5m").is_err());
    }
}
