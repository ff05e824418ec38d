//! What is worth saying loudly, and not with every request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often it is said.
const INTERVAL: Duration = Duration::from_mins(1);

/// Something that is said once a minute at most.
#[derive(Debug)]
pub(crate) struct Notice {
    started: Instant,
    /// Seconds after `started` from which on it may be said again.
    quiet_until: AtomicU64,
}

impl Default for Notice {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            quiet_until: AtomicU64::new(0),
        }
    }
}

impl Notice {
    /// Whether to say it now. Of several at once one does.
    pub(crate) fn is_due(&self) -> bool {
        let now = self.started.elapsed().as_secs();
        let quiet_until = self.quiet_until.load(Ordering::Relaxed);
        let next = now + INTERVAL.as_secs();
        now >= quiet_until
            && self
                .quiet_until
                .compare_exchange(quiet_until, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
