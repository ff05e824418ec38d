//! How long after a session has ended its access token is refused.

use std::thread;
use std::time::{Duration, Instant};

use crate::figures::median;

/// How long the one who shows the token pauses between two answers, and leaves the cores to others.
const PAUSE: Duration = Duration::from_micros(100);

/// Longer than any of this may take.
const NEVER: Duration = Duration::from_secs(10);

/// What was seen of one end.
pub(crate) struct Seen {
    /// Whether the token was accepted at first.
    accepted: bool,
    refused_after: Duration,
}

/// Shows the token until it is refused. The first time without a pause.
pub(crate) fn until_refused(ended: Instant, mut is_refused: impl FnMut() -> bool) -> Seen {
    let mut accepted = false;
    while !is_refused() {
        accepted = true;
        assert!(ended.elapsed() < NEVER, "it is never refused");
        thread::sleep(PAUSE);
    }
    Seen {
        accepted,
        refused_after: ended.elapsed(),
    }
}

/// How long it took each time.
#[derive(Default)]
pub(crate) struct Delays {
    milliseconds: Vec<f64>,
    pub(crate) accepted: u32,
}

impl Delays {
    pub(crate) fn note(&mut self, seen: &Seen) {
        self.milliseconds
            .push(seen.refused_after.as_secs_f64() * 1e3);
        self.accepted += u32::from(seen.accepted);
    }

    pub(crate) fn print(mut self, what: &str) {
        self.milliseconds.sort_by(f64::total_cmp);
        let all = self.milliseconds.len();
        // The smallest that is no smaller than 99 of 100.
        let p99 = self.milliseconds[(all * 99).div_ceil(100) - 1];
        let max = self.milliseconds[all - 1];
        let accepted = self.accepted;
        println!(
            "{what:<40} p50 {:>6.2}  p99 {p99:>6.2}  max {max:>6.2}; accepted at first: {accepted} of {all}",
            median(self.milliseconds),
        );
    }
}
