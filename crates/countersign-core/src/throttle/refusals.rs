//! What one process remembers of its latest refusals.
//!
//! Whoever is told to wait and goes on asking would have the store decide the same again each time, before
//! everybody else's transitions. So a refusal is remembered for a moment. Only ever a refusal: whether an
//! attempt may be made, the store alone says.
//!
//! What is remembered can be wrong in one way: somebody gives an attempt back. This process forgets what
//! it knows of a counter when it does so itself; of what another one gives back it hears nothing, and
//! therefore remembers for no longer than the shortest wait that anybody is told.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::{Reservation, Wait};
use super::keys::ThrottleKey;
use super::limit::between;

/// For how long: `Retry-After` says no less than a second.
const MEMORY: Duration = Duration::from_secs(1);

/// Rows, each with a lock of its own.
const ROWS: usize = 1_024;

/// Places in a row.
const PLACES: usize = 4;

/// The latest refusals of one process.
pub(crate) struct Refusals {
    rows: Box<[Mutex<Row>]>,
    /// Nobody can choose whom to share a row with.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Row {
    places: [Option<Refusal>; PLACES],
    /// How often something in this row was given back.
    given_back: u64,
}

#[derive(Debug, Clone, Copy)]
struct Refusal {
    key: ThrottleKey,
    refused_at: Timestamp,
    wait: Duration,
}

impl Refusal {
    /// How much longer to wait, as far as it still counts.
    fn left(&self, now: Timestamp) -> Option<Duration> {
        // A clock that was set back makes it no younger.
        let age = (self.refused_at <= now).then(|| between(self.refused_at, now))?;
        (age < MEMORY.min(self.wait)).then(|| self.wait.saturating_sub(age))
    }
}

/// How things stood before the store was asked.
pub(crate) struct Before(Vec<u64>);

impl Refusals {
    pub(crate) fn new() -> Self {
        Self {
            rows: (0..ROWS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// What one of these counters has said a moment ago; or what to come back with when the store has said
    /// something.
    pub(crate) fn recall(
        &self,
        reservations: &[Reservation],
        now: Timestamp,
    ) -> Result<Before, Wait> {
        let mut longest: Option<Wait> = None;
        let mut before = Vec::with_capacity(reservations.len());
        for Reservation { key, .. } in reservations {
            let row = self.row(*key);
            before.push(row.given_back);
            let own = row.places.iter().flatten().find(|place| place.key == *key);
            if let Some(retry_after) = own.and_then(|own| own.left(now))
                && longest.is_none_or(|longest| longest.retry_after < retry_after)
            {
                longest = Some(Wait {
                    retry_after,
                    key: *key,
                });
            }
        }
        longest.map_or(Ok(Before(before)), Err)
    }

    /// Remembers what the store has said, unless something has been given back meanwhile.
    pub(crate) fn remember(
        &self,
        wait: Wait,
        reservations: &[Reservation],
        before: &Before,
        now: Timestamp,
    ) {
        let Wait { retry_after, key } = wait;
        let asked = reservations.iter().zip(&before.0);
        let Some((_, given_back)) = asked.into_iter().find(|(asked, _)| asked.key == key) else {
            return;
        };
        let mut row = self.row(key);
        if row.given_back != *given_back {
            return;
        }
        let place = place_for(&row, key);
        row.places[place] = Some(Refusal {
            key,
            refused_at: now,
            wait: retry_after,
        });
    }

    /// Forgets what these counters have said: something is given back to them.
    pub(crate) fn forget(&self, keys: impl Iterator<Item = ThrottleKey>) {
        for key in keys {
            let mut row = self.row(key);
            row.given_back = row.given_back.wrapping_add(1);
            for place in &mut row.places {
                if place.is_some_and(|refusal| refusal.key == key) {
                    *place = None;
                }
            }
        }
    }

    /// How many are remembered at this time.
    pub(crate) fn remembered(&self, now: Timestamp) -> usize {
        let count = |row: &Mutex<Row>| {
            let row = row.lock().unwrap_or_else(PoisonError::into_inner);
            let places = row.places.iter().flatten();
            places.filter(|place| place.left(now).is_some()).count()
        };
        self.rows.iter().map(count).sum()
    }

    fn row(&self, key: ThrottleKey) -> MutexGuard<'_, Row> {
        // The remainder by 1,024 fits wherever it is counted.
        let index = usize::try_from(self.hasher.hash_one(key) % ROWS as u64).unwrap_or_default();
        self.rows[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its own place, or an empty one, or the oldest refusal's.
fn place_for(row: &Row, key: ThrottleKey) -> usize {
    let rank = |place: &Option<Refusal>| {
        place.map(|refusal| (refusal.key != key).then_some(refusal.refused_at))
    };
    let own = |place: &Option<Refusal>| place.is_some_and(|refusal| refusal.key == key);
    let places = row.places.iter().enumerate();
    let oldest = places.min_by_key(|(_, place)| rank(place));
    let chosen = row.places.iter().position(own);
    chosen
        .or(oldest.map(|(index, _)| index))
        .unwrap_or_default()
}

impl fmt::Debug for Refusals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Refusals")
    }
}

#[cfg(test)]
mod tests {
    use super::super::limit::Limit;
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    fn later(milliseconds: i64) -> Timestamp {
        now() + jiff::SignedDuration::from_millis(milliseconds)
    }

    fn key(number: u64) -> ThrottleKey {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ThrottleKey(bytes)
    }

    fn asked(number: u64) -> [Reservation; 1] {
        [Reservation {
            key: key(number),
            is_silent: false,
            limit: Limit::steady(1, Duration::from_secs(1)),
        }]
    }

    fn wait(number: u64, retry_after: Duration) -> Wait {
        Wait {
            retry_after,
            key: key(number),
        }
    }

    fn refuse(refusals: &Refusals, number: u64, retry_after: Duration) {
        let before = refusals.recall(&asked(number), now()).ok().unwrap();
        refusals.remember(wait(number, retry_after), &asked(number), &before, now());
    }

    #[test]
    fn a_refusal_is_remembered_for_a_moment_and_counts_down() {
        let refusals = Refusals::new();
        refuse(&refusals, 7, Duration::from_secs(30));
        let recalled = refusals.recall(&asked(7), later(400)).err();
        assert_eq!(recalled, Some(wait(7, Duration::from_millis(29_600))));
        assert!(refusals.recall(&asked(8), later(400)).is_ok());
        assert_eq!(refusals.remembered(later(400)), 1);
        assert_eq!(refusals.remembered(later(1_000)), 0);
        assert!(refusals.recall(&asked(7), later(1_000)).is_ok());
        assert!(refusals.recall(&asked(7), later(-1)).is_ok());
    }

    #[test]
    fn it_is_over_no_later_than_the_wait() {
        let refusals = Refusals::new();
        refuse(&refusals, 7, Duration::from_millis(200));
        assert!(refusals.recall(&asked(7), later(199)).is_err());
        assert!(refusals.recall(&asked(7), later(200)).is_ok());
    }

    #[test]
    fn what_is_given_back_is_not_remembered_also_if_the_store_was_asked_before() {
        let refusals = Refusals::new();
        refuse(&refusals, 7, Duration::from_secs(30));
        refusals.forget([key(7)].into_iter());
        let before = refusals.recall(&asked(7), now()).ok().unwrap();
        refusals.forget([key(7)].into_iter());
        refusals.remember(wait(7, Duration::from_secs(30)), &asked(7), &before, now());
        assert!(refusals.recall(&asked(7), now()).is_ok());
    }

    #[test]
    fn of_several_the_longest_is_told() {
        let refusals = Refusals::new();
        refuse(&refusals, 1, Duration::from_secs(10));
        refuse(&refusals, 2, Duration::from_secs(20));
        for order in [[1, 2, 3], [3, 2, 1]] {
            let asked: Vec<_> = order.into_iter().flat_map(asked).collect();
            let recalled = refusals.recall(&asked, now()).err();
            assert_eq!(recalled, Some(wait(2, Duration::from_secs(20))));
        }
    }

    #[test]
    fn it_does_not_grow() {
        let refusals = Refusals::new();
        for number in 0..100_000 {
            refuse(&refusals, number, Duration::from_secs(30));
        }
        refuse(&refusals, 100_000, Duration::from_secs(30));
        assert!(refusals.recall(&asked(100_000), now()).is_err());
    }
}
