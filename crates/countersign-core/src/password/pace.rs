//! How soon a refused password is answered.
//!
//! Where there is no such user, a dummy of today's cost is checked; a password that Django stored may
//! take ten times as long, or no time at all. That difference would tell strangers who has an account.
//! So "wrong" is answered no sooner than the slowest check that is known would have been, which is
//! waited for and not computed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::django::Cost;

/// The longest that an answer is held back, whatever a check took on a busy machine.
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// Not quite as long, which stands for "not known yet".
const LONGEST_KNOWN: Duration = Duration::from_millis(1_999);

/// By this part more is waited for than the slowest check took: those of one cost vary by less, unless
/// the machine is busy, and so all are answered at the same time.
const MARGIN: u32 = 8;

/// How many different costs are remembered: a site that has hashed for many years has seen a dozen.
const MOST_COSTS: usize = 64;

/// A quicker check than expected draws the expectation down by this part of the difference: one that
/// the machine was too busy for is forgotten after some twenty.
const FORGETTING: u32 = 8;

/// What checks cost, and how long those of each cost take here.
#[derive(Debug)]
pub(super) struct Pace {
    todays: Cost,
    known: Mutex<BTreeMap<Cost, Duration>>,
}

impl Pace {
    pub(super) fn new(todays: Cost) -> Self {
        Self {
            todays,
            known: Mutex::default(),
        }
    }

    /// Of the costs of stored passwords, those to be measured: the dearest of each encoding, and
    /// today's. None, if all are of today's cost.
    pub(super) fn to_measure<'a, T>(
        &self,
        costs: impl Iterator<Item = (Cost, &'a T)>,
    ) -> BTreeMap<Cost, &'a T> {
        let mut dearest = BTreeMap::new();
        for (cost, stored) in costs.filter(|(cost, _)| *cost != self.todays) {
            let best = dearest.entry(cost.encoding).or_insert((cost, stored));
            if best.0 < cost {
                *best = (cost, stored);
            }
        }
        dearest.into_values().collect()
    }

    /// Passwords of this cost are stored; how long one takes is not known yet.
    pub(super) fn expect(&self, cost: Cost) {
        let mut known = self.known();
        self.make_room(&mut known, cost);
        known.entry(cost).or_insert(LONGEST);
    }

    /// A check of this cost took so long. The first one replaces what was merely expected.
    pub(super) fn note(&self, cost: Cost, took: Duration) {
        let mut known = self.known();
        let before = known.get(&cost).copied().filter(|before| *before < LONGEST);
        let now = settle(before, took);
        self.make_room(&mut known, cost);
        known.insert(cost, now);
    }

    /// How long after its beginning a check may be answered with "wrong".
    pub(super) fn floor(&self) -> Duration {
        let known = self.known();
        let all_cost_the_same = known.keys().all(|cost| *cost == self.todays);
        if all_cost_the_same {
            return Duration::ZERO;
        }
        if !known.contains_key(&self.todays) {
            return LONGEST;
        }
        let slowest = known.values().copied().max().unwrap_or_default();
        LONGEST.min(slowest + slowest / MARGIN)
    }

    /// Forgets the quickest if there are too many: it has no say in the floor.
    fn make_room(&self, known: &mut BTreeMap<Cost, Duration>, cost: Cost) {
        if known.len() < MOST_COSTS || known.contains_key(&cost) {
            return;
        }
        let others = known.iter().filter(|(cost, _)| **cost != self.todays);
        let quickest = others.min_by_key(|(_, took)| **took).map(|(cost, _)| *cost);
        if let Some(quickest) = quickest {
            known.remove(&quickest);
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Cost, Duration>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is expected of the next check, after one that took so long.
fn settle(before: Option<Duration>, took: Duration) -> Duration {
    let expected = match before {
        Some(before) => took.max(before.saturating_sub(before.saturating_sub(took) / FORGETTING)),
        None => took,
    };
    expected.min(LONGEST_KNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::Encoding;

    const fn cost(encoding: Encoding, work: u64) -> Cost {
        Cost { encoding, work }
    }

    const TODAYS: Cost = cost(Encoding::Argon2, 38_912);
    const DJANGOS: Cost = cost(Encoding::Pbkdf2Sha256, 1_500_000);
    const OLD: Cost = cost(Encoding::Md5, 1);

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn where_all_passwords_cost_the_same_nothing_is_held_back() {
        let pace = Pace::new(TODAYS);
        assert_eq!(pace.floor(), Duration::ZERO);
        pace.note(TODAYS, ms(20));
        assert_eq!(pace.floor(), Duration::ZERO);
    }

    #[test]
    fn wrong_is_answered_no_sooner_than_the_slowest_check_that_is_known() {
        let pace = Pace::new(TODAYS);
        pace.note(TODAYS, ms(20));
        pace.note(DJANGOS, ms(160));
        assert_eq!(pace.floor(), ms(180), "and a margin");
    }

    #[test]
    fn a_quick_encoding_is_held_back_as_long_as_nobody_takes() {
        let pace = Pace::new(TODAYS);
        pace.note(OLD, Duration::from_micros(3));
        assert_eq!(pace.floor(), LONGEST, "until it is known how long that is");
        pace.note(TODAYS, ms(16));
        assert_eq!(pace.floor(), ms(18));
    }

    #[test]
    fn what_is_not_measured_yet_is_taken_for_the_slowest_there_may_be() {
        let pace = Pace::new(TODAYS);
        pace.expect(TODAYS);
        pace.expect(DJANGOS);
        assert_eq!(pace.floor(), LONGEST);
        pace.note(TODAYS, ms(20));
        pace.note(DJANGOS, ms(160));
        assert_eq!(pace.floor(), ms(180));
        pace.expect(DJANGOS);
        assert_eq!(pace.floor(), ms(180), "what is known is not unlearned");
    }

    #[test]
    fn one_check_on_a_busy_machine_is_soon_forgotten_and_never_outlasts_the_limit() {
        let pace = Pace::new(TODAYS);
        pace.note(TODAYS, ms(20));
        pace.note(DJANGOS, ms(9_000));
        assert_eq!(pace.floor(), LONGEST);
        for _ in 0..40 {
            pace.note(DJANGOS, ms(160));
        }
        assert!(pace.floor() < ms(200), "{:?}", pace.floor());
        assert!(pace.floor() >= ms(180), "{:?}", pace.floor());
    }

    #[test]
    fn of_too_many_costs_the_quickest_are_forgotten() {
        let pace = Pace::new(TODAYS);
        pace.note(TODAYS, ms(20));
        for thousands in 1..=500 {
            pace.note(cost(Encoding::Pbkdf2Sha256, thousands), ms(thousands));
        }
        assert!(pace.known().len() <= MOST_COSTS);
        assert_eq!(pace.floor(), ms(500) + ms(500) / MARGIN);
    }

    #[test]
    fn the_dearest_of_each_encoding_is_measured() {
        let pace = Pace::new(TODAYS);
        let costs = [TODAYS, DJANGOS, cost(Encoding::Pbkdf2Sha256, 260_000), OLD];
        let measured = pace.to_measure(costs.iter().map(|cost| (*cost, cost)));
        assert_eq!(measured.keys().copied().collect::<Vec<_>>(), [DJANGOS, OLD]);
        assert!(pace.to_measure([(TODAYS, &TODAYS)].into_iter()).is_empty());
    }
}
