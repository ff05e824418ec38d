//! The database's clock: all nodes decide by one time, whatever their own clocks show.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use countersign_core::clock::{Clock, whole_milliseconds};
use jiff::Timestamp;

/// Goes on by this machine's steady clock, which nobody sets, from what the database last told.
#[derive(Debug)]
pub(super) struct DatabaseClock {
    started: Instant,
    /// What the database's clock showed then, in microseconds since 1970.
    shown_at_start: AtomicI64,
}

impl DatabaseClock {
    /// A clock that shows what the database told, after it was asked at `asked`.
    pub(super) fn new(told: Timestamp, asked: Instant) -> Self {
        let clock = Self {
            started: asked,
            shown_at_start: AtomicI64::new(told.as_microsecond()),
        };
        clock.correct(told, asked, asked.elapsed());
        clock
    }

    /// Corrects it by what the database told, after it was asked at `asked` and within `took`: it
    /// looked at its clock at some time in between, and only what lies outside is wrong.
    pub(super) fn correct(&self, told: Timestamp, asked: Instant, took: Duration) {
        let since_start = microseconds(asked.saturating_duration_since(self.started));
        let latest = told.as_microsecond().saturating_sub(since_start);
        let earliest = latest.saturating_sub(microseconds(took));
        // Only the feed corrects, so nobody else has written in between.
        let shown = self.shown_at_start.load(Ordering::Relaxed);
        self.shown_at_start
            .store(shown.clamp(earliest, latest), Ordering::Relaxed);
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let shown = self.shown_at_start.load(Ordering::Relaxed);
        let now = shown.saturating_add(microseconds(self.started.elapsed()));
        // Neither end of the calendar is met by a clock that works.
        let clamped = now.clamp(
            Timestamp::MIN.as_microsecond(),
            Timestamp::MAX.as_microsecond(),
        );
        Timestamp::from_microsecond(clamped).map_or(Timestamp::UNIX_EPOCH, whole_milliseconds)
    }
}

fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_moves_the_clock_only_as_far_as_it_proves() {
        let asked = Instant::now();
        let at = |microseconds: i64| {
            Timestamp::from_microsecond(1_795_341_600_000_000 + microseconds).unwrap()
        };
        let clock = DatabaseClock::new(at(0), asked);
        clock
            .shown_at_start
            .store(at(0).as_microsecond(), Ordering::Relaxed);
        let shows = || clock.shown_at_start.load(Ordering::Relaxed) - at(0).as_microsecond();
        let took = Duration::from_micros(400);
        // Told between 0 and 400 microseconds ago: right as it is.
        for told in [0, 100, 400] {
            clock.correct(at(told), asked, took);
            assert_eq!(shows(), 0);
        }
        // It is ahead by 600 at least, or by 1,000 at most.
        clock.correct(at(1_000), asked, took);
        assert_eq!(shows(), 600);
        clock.correct(at(-5_000), asked, took);
        assert_eq!(shows(), -5_000);
    }
}
