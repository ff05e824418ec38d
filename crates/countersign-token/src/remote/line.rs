//! How well something is heard from the issuer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::client::FetchError;

/// Kept by a follower, read by every verification: the silence is an age that grows by itself, so
/// that a follower that has died is noticed like an issuer that has.
#[derive(Debug)]
pub(super) struct Line {
    opened: Instant,
    /// Milliseconds after `opened`, plus one; 0 for never.
    heard: AtomicU64,
    failing: Mutex<Option<(Instant, FetchError)>>,
}

/// How one thing that is followed was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineHealth {
    /// How long ago the issuer last gave a good answer; `None` if it never did.
    pub heard_ago: Option<Duration>,
    /// What has been going wrong since then, if anything has.
    pub failing: Option<Failing>,
}

/// What keeps going wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failing {
    /// How long it has been so.
    pub lasting: Duration,
    /// What went wrong the last time.
    pub why: FetchError,
}

impl Line {
    pub(super) fn open() -> Self {
        Self {
            opened: Instant::now(),
            heard: AtomicU64::new(0),
            failing: Mutex::new(None),
        }
    }

    pub(super) fn heard(&self) {
        let milliseconds = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.heard.store(milliseconds + 1, Ordering::Release);
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn failed(&self, why: FetchError) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let since = failing
            .as_ref()
            .map_or_else(Instant::now, |(since, _)| *since);
        *failing = Some((since, why));
    }

    /// How long ago there was a good answer.
    pub(super) fn heard_ago(&self) -> Option<Duration> {
        let heard = self.heard.load(Ordering::Acquire).checked_sub(1)?;
        Some(
            self.opened
                .elapsed()
                .saturating_sub(Duration::from_millis(heard)),
        )
    }

    pub(super) fn health(&self) -> LineHealth {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        LineHealth {
            heard_ago: self.heard_ago(),
            failing: failing.as_ref().map(|(since, why)| Failing {
                lasting: since.elapsed(),
                why: why.clone(),
            }),
        }
    }
}
