//! How often something may be attempted: pure arithmetic on two instants.
//!
//! It is the generic cell rate algorithm of ATM traffic management (ITU-T I.371) with one addition: beyond
//! the burst the wait doubles. A counter is a bucket that drains at a steady rate, one attempt in
//! [`Limit::longest`]. Whoever finds less than [`Limit::burst`] in it goes on at once; whoever finds more
//! waits, and the longer the more there is in it. So delays grow, shrink again in a quiet time, and never
//! become a lock that somebody must open.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How often something may be attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many attempts are free.
    pub burst: NonZeroU32,
    /// How long the first one beyond them waits after the last; each further one waits twice as long.
    pub interval: Duration,
    /// The longest wait; and after each such time one attempt is forgotten.
    pub longest: Duration,
}

/// What has been attempted, as two instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// When everything will be forgotten: each attempt puts it off by [`Limit::longest`].
    pub drained_at: Timestamp,
    /// When the last attempt was made.
    pub last_at: Timestamp,
}

impl Counter {
    /// Whether it says nothing any more.
    pub fn is_drained(&self, now: Timestamp) -> bool {
        self.drained_at <= now
    }
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be made, and is counted.
    Reserved {
        /// The counter from now on.
        counter: Counter,
        /// What gives the attempt back.
        taken: Taken,
    },
    /// It may not be made, and is not counted; this much later it may.
    Wait(Duration),
}

/// What one attempt took from a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// When.
    at: Timestamp,
    /// The last attempt before it.
    before: Option<Timestamp>,
    /// By how much it put off that everything is forgotten.
    debt: Duration,
}

impl Limit {
    /// `burst` attempts, then one after `interval`, the next after twice that, and so on up to `longest`.
    pub const fn growing(burst: u32, interval: Duration, longest: Duration) -> Self {
        let burst = match NonZeroU32::new(burst) {
            Some(burst) => burst,
            None => NonZeroU32::MIN,
        };
        Self {
            burst,
            interval,
            longest,
        }
    }

    /// `burst` attempts, then one each `interval`.
    pub const fn steady(burst: u32, interval: Duration) -> Self {
        Self::growing(burst, interval, interval)
    }

    /// Decides about one attempt.
    pub fn reserve(&self, counter: Option<Counter>, now: Timestamp) -> Decision {
        let last_at = counter.map(|counter| counter.last_at.min(now));
        let debt = self.debt(counter, now);
        let since_last = last_at.map_or(Duration::MAX, |last| between(last, now));
        let wait = self.wait(debt, since_last);
        if !wait.is_zero() {
            return Decision::Wait(wait);
        }
        let new_debt = debt.saturating_add(self.step()).min(self.highest());
        Decision::Reserved {
            counter: Counter {
                drained_at: later(now, new_debt),
                last_at: now,
            },
            taken: Taken {
                at: now,
                before: last_at,
                debt: new_debt.saturating_sub(debt),
            },
        }
    }

    /// How much of a counter is not forgotten yet, as the time that it takes. For a clock that was set back
    /// no time has passed since the last attempt.
    fn debt(&self, counter: Option<Counter>, now: Timestamp) -> Duration {
        counter.map_or(Duration::ZERO, |counter| {
            between(now.max(counter.last_at), counter.drained_at).min(self.highest())
        })
    }

    /// How long until an attempt is allowed. The debt is forgotten meanwhile, and with it the wait
    /// becomes shorter: the first instant at which the one is as long ago as the other asks for.
    fn wait(&self, debt: Duration, since_last: Duration) -> Duration {
        let longest = self.step();
        let mut level = levels(debt, longest);
        let mut wait = Duration::MAX;
        loop {
            let sinks_in = debt.saturating_sub(times(longest, level));
            let delay = self.delay(level).saturating_sub(since_last);
            wait = wait.min(sinks_in.max(delay));
            if level < self.burst.get() {
                return wait;
            }
            level -= 1;
        }
    }

    /// How long after the last attempt the next one waits, with so many in the counter.
    fn delay(&self, level: u32) -> Duration {
        let Some(beyond) = level.checked_sub(self.burst.get()) else {
            return Duration::ZERO;
        };
        let doubled = 2_u32.checked_pow(beyond);
        let delay = doubled.and_then(|factor| self.interval.checked_mul(factor));
        delay.unwrap_or(Duration::MAX).min(self.step())
    }

    /// The most that a counter holds: more would not make anybody wait longer, only for longer.
    fn highest(&self) -> Duration {
        let longest = self.step();
        let burst = self.burst.get();
        let doublings = (0..32).find(|beyond| self.delay(burst.saturating_add(*beyond)) == longest);
        times(longest, burst.saturating_add(doublings.unwrap_or(32)))
    }

    /// The time in which one attempt is forgotten: no less than what stores can tell apart.
    fn step(&self) -> Duration {
        self.longest.max(Duration::from_millis(1))
    }
}

impl Taken {
    /// The counter without this attempt; what others have taken since stays. `None`: nothing is left.
    pub fn give_back(&self, counter: Counter, now: Timestamp) -> Option<Counter> {
        let drained_at = earlier(counter.drained_at, self.debt);
        let last_at = match self.before {
            Some(before) if counter.last_at == self.at => before,
            _ => counter.last_at,
        };
        let left = Counter {
            drained_at,
            last_at,
        };
        (!left.is_drained(now)).then_some(left)
    }
}

pub(super) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

fn later(instant: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    instant.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(instant: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    instant.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// How many attempts a debt is, the begun one included.
fn levels(debt: Duration, longest: Duration) -> u32 {
    let levels = debt.as_nanos().div_ceil(longest.as_nanos());
    u32::try_from(levels).unwrap_or(u32::MAX)
}

fn times(duration: Duration, factor: u32) -> Duration {
    duration.checked_mul(factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Limit = Limit::growing(5, Duration::from_secs(30), Duration::from_mins(15));

    /// Somebody who tries, and a clock.
    struct Trier {
        limit: Limit,
        counter: Option<Counter>,
        now: Timestamp,
    }

    impl Trier {
        fn new(limit: Limit) -> Self {
            Self {
                limit,
                counter: None,
                now: Timestamp::from_second(1_795_341_600).unwrap(),
            }
        }

        fn attempt(&mut self) -> Result<Taken, Duration> {
            match self.limit.reserve(self.counter, self.now) {
                Decision::Reserved { counter, taken } => {
                    self.counter = Some(counter);
                    Ok(taken)
                }
                Decision::Wait(wait) => Err(wait),
            }
        }

        fn give_back(&mut self, taken: Taken) {
            self.counter = taken.give_back(self.counter.unwrap(), self.now);
        }

        fn pass(&mut self, time: Duration) {
            self.now = later(self.now, time);
        }

        /// Attempts as often as it is let, for this long; how often that was.
        fn press(&mut self, time: Duration) -> u32 {
            let until = later(self.now, time);
            let mut made = 0;
            while self.now < until {
                match self.attempt() {
                    Ok(_) => made += 1,
                    Err(wait) => self.pass(wait),
                }
            }
            made
        }
    }

    #[test]
    fn the_burst_is_free_and_then_the_wait_doubles_up_to_the_longest() {
        let mut trier = Trier::new(LIMIT);
        for _ in 0..5 {
            trier.attempt().unwrap();
        }
        // The first is forgotten after a quarter of an hour: sooner than the last of these waits would end.
        for seconds in [30, 60, 120, 240, 450] {
            assert_eq!(trier.attempt(), Err(Duration::from_secs(seconds)));
            trier.pass(Duration::from_secs(seconds - 1));
            assert_eq!(trier.attempt(), Err(Duration::from_secs(1)));
            trier.pass(Duration::from_secs(1));
            trier.attempt().unwrap();
        }
        let day = trier.press(Duration::from_hours(24));
        assert!((94..=98).contains(&day), "{day} attempts in a day");
    }

    #[test]
    fn a_quiet_time_is_forgotten_as_slowly_as_it_was_filled() {
        let mut trier = Trier::new(LIMIT);
        trier.press(Duration::from_hours(48));
        while trier.attempt().is_ok() {}
        // One is forgotten each quarter of an hour: of ten, six in an hour and a half.
        trier.pass(Duration::from_mins(90));
        trier.attempt().unwrap();
        trier.pass(Duration::from_hours(3));
        assert!(trier.counter.unwrap().is_drained(trier.now));
        for _ in 0..5 {
            trier.attempt().unwrap();
        }
    }

    #[test]
    fn a_steady_limit_lets_one_through_each_interval() {
        let mut trier = Trier::new(Limit::steady(20, Duration::from_secs(30)));
        for _ in 0..20 {
            trier.attempt().unwrap();
        }
        assert_eq!(trier.attempt(), Err(Duration::from_secs(30)));
        let hour = trier.press(Duration::from_hours(1));
        assert_eq!(hour, 119);
    }

    #[test]
    fn what_is_given_back_is_as_if_it_had_not_been() {
        let mut trier = Trier::new(LIMIT);
        for _ in 0..4 {
            trier.attempt().unwrap();
        }
        trier.pass(Duration::from_secs(7));
        let before = trier.counter;
        for _ in 0..100 {
            let taken = trier.attempt().unwrap();
            trier.give_back(taken);
            assert_eq!(trier.counter, before);
        }
        trier.attempt().unwrap();
        assert_eq!(trier.attempt(), Err(Duration::from_secs(30)));
    }

    #[test]
    fn nothing_of_a_lone_attempt_is_left_when_it_is_given_back() {
        let mut trier = Trier::new(LIMIT);
        let taken = trier.attempt().unwrap();
        trier.give_back(taken);
        assert_eq!(trier.counter, None);
    }

    #[test]
    fn what_others_took_meanwhile_is_not_given_back() {
        let mut trier = Trier::new(LIMIT);
        let mine = trier.attempt().unwrap();
        trier.pass(Duration::from_secs(1));
        for _ in 0..4 {
            trier.attempt().unwrap();
        }
        trier.give_back(mine);
        trier.attempt().unwrap();
        assert_eq!(trier.attempt(), Err(Duration::from_secs(30)));
    }

    #[test]
    fn for_a_clock_set_back_no_time_has_passed() {
        let mut trier = Trier::new(LIMIT);
        for _ in 0..4 {
            trier.attempt().unwrap();
        }
        trier.now = earlier(trier.now, Duration::from_hours(24 * 365));
        trier.attempt().unwrap();
        assert_eq!(trier.attempt(), Err(Duration::from_secs(30)));
        trier.pass(Duration::from_secs(30));
        trier.attempt().unwrap();
    }

    proptest! {
        /// Whatever the times between attempts: a wait that is told is the shortest that lets one
        /// through, and never longer than the longest.
        #[test]
        fn a_wait_is_exact(
            burst in 1..8_u32,
            interval in 1..100_u64,
            more in 0..2_000_u64,
            pauses in prop::collection::vec(0..500_u64, 1..60),
        ) {
            let limit = Limit::growing(
                burst, Duration::from_secs(interval), Duration::from_secs(interval + more));
            let mut trier = Trier::new(limit);
            for pause in pauses {
                trier.pass(Duration::from_secs(pause));
                let Err(wait) = trier.attempt() else { continue };
                prop_assert!(wait <= limit.longest);
                let early = later(trier.now, wait.saturating_sub(Duration::from_millis(1)));
                prop_assert!(matches!(limit.reserve(trier.counter, early), Decision::Wait(_)));
                trier.pass(wait);
                prop_assert!(trier.attempt().is_ok());
            }
        }

        /// Nobody gets more through than the burst and one for each longest wait, but for the few whose
        /// waits are still growing.
        #[test]
        fn pressing_on_gains_nothing(
            burst in 1..20_u32,
            interval in 1..100_u64,
            doublings in 0..8_u32,
            hours in 1..48_u64,
        ) {
            let longest = Duration::from_secs(interval) * 2_u32.pow(doublings);
            let limit = Limit::growing(burst, Duration::from_secs(interval), longest);
            let time = Duration::from_hours(hours);
            let made = Trier::new(limit).press(time);
            let most = u64::from(burst + doublings + 1) + time.as_secs() / longest.as_secs();
            prop_assert!(u64::from(made) <= most, "{made} of {most}");
        }
    }
}
