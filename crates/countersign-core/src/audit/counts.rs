//! How often what happened, since the process started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// An event's name, and what tells its kinds apart: a reason, a limit, a state. Both from this program's own
/// lists, so that there are no more of them than stand there.
type Kind = (&'static str, &'static str);

/// The process's counters. They are never set back.
static COUNTS: RwLock<BTreeMap<Kind, AtomicU64>> = RwLock::new(BTreeMap::new());

/// Counts an event so many times.
pub(super) fn add(event: &'static str, kind: &'static str, times: u64) {
    let counts = COUNTS.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(count) = counts.get(&(event, kind)) {
        count.fetch_add(times, Ordering::Relaxed);
        return;
    }
    drop(counts);
    let mut counts = COUNTS.write().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry((event, kind)).or_default();
    count.fetch_add(times, Ordering::Relaxed);
}

/// Refusals that were gathered and could not be kept.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Counts refusals that were gathered and could not be kept.
pub(crate) fn lose(refusals: u64) {
    LOST.fetch_add(refusals, Ordering::Relaxed);
}

/// How many refusals that were gathered could not be kept, because the store was away.
pub fn lost_entries() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// How often each event happened in this process, by its name and what tells its kinds apart: a reason, a
/// limit, a state, or nothing.
pub fn event_counts() -> Vec<(&'static str, &'static str, u64)> {
    let counts = COUNTS.read().unwrap_or_else(PoisonError::into_inner);
    counts
        .iter()
        .map(|((event, kind), count)| (*event, *kind, count.load(Ordering::Relaxed)))
        .collect()
}
