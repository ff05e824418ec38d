//! Counters that one process keeps in memory, for what costs little and must not wait for the store.
//!
//! A table of a fixed size: each key belongs to one row of a few places. When all of a row are taken, the
//! counter that will be forgotten first makes room. So a flood from very many addresses is counted less
//! exactly, and takes no memory.

use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::limit::{Counter, Decision, Limit};

/// Rows, each with a lock of its own.
const ROWS: usize = 4_096;

/// Places in a row: 32,768 counters in all, 40 bytes each.
const PLACES: usize = 8;

/// The counters of one process.
pub(crate) struct LocalCounters {
    rows: Box<[Mutex<Row>]>,
    hasher: RandomState,
}

type Row = [Option<Place>; PLACES];

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Keyed by the hasher, so that nobody can choose whom to collide with.
    hash: u64,
    counter: Counter,
}

impl LocalCounters {
    pub(crate) fn new() -> Self {
        Self {
            rows: (0..ROWS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Counts an attempt, or says how long to wait.
    pub(crate) fn reserve(
        &self,
        key: impl Hash,
        limit: &Limit,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let hash = self.hasher.hash_one(key);
        // The remainder by 4,096 fits wherever it is counted.
        let index = usize::try_from(hash % ROWS as u64).unwrap_or_default();
        let mut row = self.rows[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = row
            .iter()
            .position(|place| place.is_some_and(|place| place.hash == hash));
        let counter = own.and_then(|own| row[own]).map(|place| place.counter);
        match limit.reserve(counter, now) {
            Decision::Wait(wait) => Err(wait),
            Decision::Reserved { counter, .. } => {
                let place = own.unwrap_or_else(|| most_forgettable(&row));
                row[place] = Some(Place { hash, counter });
                Ok(())
            }
        }
    }
}

/// An empty place, or the one whose counter is forgotten first.
fn most_forgettable(row: &Row) -> usize {
    let forgotten_at = |place: &Option<Place>| place.map(|place| place.counter.drained_at);
    let places = row.iter().map(forgotten_at).enumerate();
    let first = places.min_by_key(|(_, forgotten_at)| *forgotten_at);
    first.map_or(0, |(index, _)| index)
}

impl fmt::Debug for LocalCounters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LocalCounters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit::steady(3, Duration::from_secs(1));

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    #[test]
    fn each_key_has_its_own_counter() {
        let counters = LocalCounters::new();
        for key in 0..1_000 {
            for _ in 0..3 {
                assert_eq!(counters.reserve(key, &LIMIT, now()), Ok(()));
            }
            assert!(counters.reserve(key, &LIMIT, now()).is_err());
        }
    }

    #[test]
    fn of_many_at_once_exactly_the_burst_passes() {
        let counters = LocalCounters::new();
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let attempts = 0..100;
                        let pass = |_: &i32| counters.reserve("key", &LIMIT, now()).is_ok();
                        attempts.filter(pass).count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(passed, 3);
    }

    #[test]
    fn a_full_table_takes_new_keys_and_grows_no_further() {
        let counters = LocalCounters::new();
        for key in 0..200_000 {
            assert_eq!(counters.reserve(key, &LIMIT, now()), Ok(()));
        }
        let taken = |row: &Mutex<Row>| row.lock().unwrap().iter().flatten().count();
        let all: usize = counters.rows.iter().map(taken).sum();
        assert_eq!(all, ROWS * PLACES);
    }

    #[test]
    fn who_has_attempted_most_is_forgotten_last() {
        let counters = LocalCounters::new();
        for _ in 0..3 {
            counters.reserve("greedy", &LIMIT, now()).unwrap();
        }
        for key in 0..200_000 {
            counters.reserve(key, &LIMIT, now()).unwrap();
        }
        assert!(counters.reserve("greedy", &LIMIT, now()).is_err());
    }
}
