//! Time and randomness, passed in rather than reached for, so that tests can hold the hands.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The present instant, cut to whole milliseconds: the precision that every store keeps.
    fn now(&self) -> Timestamp;

    /// How much time has passed since some moment of the past. Nobody sets this one.
    fn uptime(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that asks the machine"
        )]
        let now = Timestamp::now();
        whole_milliseconds(now)
    }
}

/// Cuts an instant to whole milliseconds.
pub fn whole_milliseconds(instant: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(instant.as_millisecond())
        .expect("a timestamp's own milliseconds are in range")
}

/// Gives unpredictable bytes.
pub trait Randomness: Send + Sync + 'static {
    /// Fills `bytes` with random bytes fit for keys.
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's generator, through `aws-lc-rs`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system's random generator answers or nothing can");
    }
}

#[cfg(any(test, feature = "testing"))]
pub use testing::ManualClock;

#[cfg(any(test, feature = "testing"))]
mod testing {
    use std::sync::Mutex;
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};

    use super::Clock;

    /// A clock that stands still until a test moves it.
    #[derive(Debug)]
    pub struct ManualClock {
        now: Mutex<Timestamp>,
        uptime: Mutex<Duration>,
    }

    impl ManualClock {
        /// A clock that shows `now`.
        pub fn at(now: Timestamp) -> Self {
            Self {
                now: Mutex::new(now),
                uptime: Mutex::new(Duration::ZERO),
            }
        }

        /// Lets time pass; a negative duration is no time, but sets the clock back.
        pub fn advance(&self, by: SignedDuration) {
            self.set(by);
            if let Ok(passed) = Duration::try_from(by) {
                *self.uptime.lock().expect("no holder of the clock panics") += passed;
            }
        }

        /// Sets the hands, with no time passing.
        pub fn set(&self, by: SignedDuration) {
            let mut now = self.now.lock().expect("no holder of the clock panics");
            *now = now.checked_add(by).expect("tests stay within the calendar");
        }
    }

    impl Default for ManualClock {
        /// Ten o'clock on a day in 2026, a whole second.
        fn default() -> Self {
            Self::at(Timestamp::from_second(1_795_341_600).expect("a date in 2026"))
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            *self.now.lock().expect("no holder of the clock panics")
        }

        fn uptime(&self) -> Duration {
            *self.uptime.lock().expect("no holder of the clock panics")
        }
    }
}
