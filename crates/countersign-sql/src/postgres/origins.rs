//! Who wrote a row of the change feed: this store, which has told its own watchers, or another.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use countersign_core::clock::Randomness;

/// How many connections of a store are told apart.
const LINKS: i64 = 1 << 24;

/// Gives each connection a number of its own, of which 40 bits are the store's and random.
///
/// What a connection was lost over may be done or not. If it was, the watchers here have not been
/// told, and must hear of it as they hear of others' changes: so that connection's rows are not our
/// own from then on.
#[derive(Debug)]
pub(super) struct Origins {
    store: i64,
    next: AtomicI64,
    disowned: Mutex<HashSet<i64>>,
}

impl Origins {
    pub(super) fn new(randomness: &dyn Randomness) -> Self {
        let mut bytes = [0; 8];
        randomness.fill(&mut bytes);
        Self {
            store: i64::from_be_bytes(bytes) & !(LINKS - 1),
            next: AtomicI64::new(0),
            disowned: Mutex::default(),
        }
    }

    /// A number for a new connection.
    pub(super) fn give(&self) -> i64 {
        self.store | (self.next.fetch_add(1, Ordering::Relaxed) & (LINKS - 1))
    }

    /// Notes that the watchers were not told of what this connection may have done last.
    pub(super) fn disown(&self, origin: i64) {
        self.disowned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(origin);
    }

    /// Whether the watchers here have been told by the one who wrote it.
    pub(super) fn have_told(&self, origin: i64) -> bool {
        origin & !(LINKS - 1) == self.store
            && !self
                .disowned
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&origin)
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::clock::SystemRandomness;

    use super::*;

    #[test]
    fn what_a_lost_connection_did_is_news_here() {
        let (ours, theirs) = (
            Origins::new(&SystemRandomness),
            Origins::new(&SystemRandomness),
        );
        let (first, second) = (ours.give(), ours.give());
        assert!(ours.have_told(first) && ours.have_told(second));
        assert!(!theirs.have_told(first));
        ours.disown(first);
        assert!(!ours.have_told(first) && ours.have_told(second));
    }
}
