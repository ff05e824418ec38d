//! An attempt: one at each of several counters, or at none.

use std::time::Duration;

use jiff::Timestamp;

use super::keys::ThrottleKey;
use super::limit::{Counter, Decision, Limit, Taken};

/// One attempt at one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Which counter.
    pub key: ThrottleKey,
    /// How often it may be attempted.
    pub limit: Limit,
    /// Whether nobody is told when it says to wait. Then the attempt is counted at the others, and has no
    /// [`Refund`] for this one.
    pub is_silent: bool,
}

/// An attempt at one counter, to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// Which counter.
    pub key: ThrottleKey,
    /// What was taken from it.
    pub taken: Taken,
}

/// What became of an attempt.
#[must_use = "an attempt that must wait must not be made"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It may be made, and is counted; this gives it back.
    Reserved(Vec<Refund>),
    /// It may not be made, and is not counted anywhere.
    Wait(Wait),
}

/// For how long an attempt has to wait, and which counter has it wait longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// This much later it may be made.
    pub retry_after: Duration,
    /// The counter.
    pub key: ThrottleKey,
}

/// What to do about an attempt, with the counters as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptDecision {
    /// Write these counters; the refunds belong to them, in the same order.
    Reserve(Vec<(ThrottleKey, Counter)>, Vec<Refund>),
    /// Write nothing.
    Wait(Wait),
}

/// Decides about an attempt: the one place where every store does.
pub fn decide(
    reservations: &[Reservation],
    standing: impl Fn(ThrottleKey) -> Option<Counter>,
    now: Timestamp,
) -> AttemptDecision {
    let mut counters = Vec::with_capacity(reservations.len());
    let mut refunds = Vec::with_capacity(reservations.len());
    let mut longest: Option<Wait> = None;
    for Reservation {
        key,
        limit,
        is_silent,
    } in reservations
    {
        match limit.reserve(standing(*key), now) {
            Decision::Reserved { counter, taken } => {
                counters.push((*key, counter));
                refunds.push(Refund { key: *key, taken });
            }
            Decision::Wait(_) if *is_silent => {}
            Decision::Wait(retry_after) => {
                if longest.is_none_or(|longest| longest.retry_after < retry_after) {
                    longest = Some(Wait {
                        retry_after,
                        key: *key,
                    });
                }
            }
        }
    }
    match longest {
        None => AttemptDecision::Reserve(counters, refunds),
        Some(wait) => AttemptDecision::Wait(wait),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SHORT: Limit = Limit::growing(1, Duration::from_secs(10), Duration::from_secs(10));
    const LONG: Limit = Limit::growing(1, Duration::from_mins(1), Duration::from_mins(1));

    #[test]
    fn of_several_full_counters_the_one_that_keeps_waiting_longest_is_told() {
        let [short, long, free] = [1, 2, 3].map(|number| ThrottleKey([number; 16]));
        let at = |key, limit| Reservation {
            key,
            limit,
            is_silent: false,
        };
        let now = Timestamp::UNIX_EPOCH;
        let full = [at(short, SHORT), at(long, LONG)];
        let AttemptDecision::Reserve(counters, _) = decide(&full, |_| None, now) else {
            panic!("the first attempt waits for nothing");
        };
        let counters: HashMap<_, _> = counters.into_iter().collect();
        let standing = |key| counters.get(&key).copied();
        for order in [[short, long], [long, short]] {
            let [first, second] = order.map(|key| at(key, if key == long { LONG } else { SHORT }));
            let decision = decide(&[at(free, LONG), first, second], standing, now);
            let retry_after = Duration::from_mins(1);
            assert_eq!(
                decision,
                AttemptDecision::Wait(Wait {
                    retry_after,
                    key: long
                })
            );
        }
        let decision = decide(&[at(free, LONG), at(short, SHORT)], standing, now);
        let retry_after = Duration::from_secs(10);
        assert_eq!(
            decision,
            AttemptDecision::Wait(Wait {
                retry_after,
                key: short
            })
        );
    }

    /// A counter that is silent keeps nothing from being counted elsewhere, and says of itself only by having
    /// nothing to give back.
    #[test]
    fn a_silent_counter_has_nobody_wait() {
        let (told, silent) = (ThrottleKey([1; 16]), ThrottleKey([2; 16]));
        let now = Timestamp::UNIX_EPOCH;
        let at = |key, is_silent| Reservation {
            key,
            limit: SHORT,
            is_silent,
        };
        let full = decide(&[at(silent, true)], |_| None, now);
        let AttemptDecision::Reserve(counters, refunds) = full else {
            panic!("the first attempt waits for nothing");
        };
        assert_eq!(refunds.len(), 1);
        let counters: HashMap<_, _> = counters.into_iter().collect();
        let standing = |key| counters.get(&key).copied();
        let decision = decide(&[at(told, false), at(silent, true)], standing, now);
        let AttemptDecision::Reserve(counters, refunds) = decision else {
            panic!("{decision:?}");
        };
        assert_eq!((counters.len(), counters[0].0), (1, told));
        assert_eq!((refunds.len(), refunds[0].key), (1, told));
    }
}
