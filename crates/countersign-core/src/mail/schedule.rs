//! When a mail that was not delivered is tried again, and when it is given up.

use std::time::Duration;

use jiff::Timestamp;

use crate::session::saturating_add;

/// How long after the first attempt the second comes; each further one comes after twice as long.
const FIRST_DELAY: Duration = Duration::from_mins(1);

/// The longest between two attempts.
const LONGEST_DELAY: Duration = Duration::from_hours(4);

/// How old a mail becomes. Mail servers that are away are back in less, and what is told later helps
/// nobody (RFC 5321 section 4.5.4.1 has queues give up after four or five days).
const OLDEST: Duration = Duration::from_hours(48);

/// When a mail is tried again after so many attempts. `None`: it is given up.
pub fn next_attempt(queued_at: Timestamp, attempts: u32, now: Timestamp) -> Option<Timestamp> {
    let doublings = attempts.saturating_sub(1).min(16);
    let delay = FIRST_DELAY
        .saturating_mul(1 << doublings)
        .min(LONGEST_DELAY);
    let next = saturating_add(now, delay);
    (next <= saturating_add(queued_at, OLDEST)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_further_and_further_apart_until_it_is_given_up() {
        let queued_at = Timestamp::from_second(1_795_341_600).unwrap();
        let (mut now, mut attempts, mut delays) = (queued_at, 1, Vec::new());
        while let Some(next) = next_attempt(queued_at, attempts, now) {
            delays.push(next.duration_since(now).as_secs() / 60);
            (now, attempts) = (next, attempts + 1);
        }
        assert_eq!(delays[..9], [1, 2, 4, 8, 16, 32, 64, 128, 240]);
        assert!(
            delays[9..].iter().all(|minutes| *minutes == 240),
            "{delays:?}"
        );
        let hours = now.duration_since(queued_at).as_hours();
        assert!((44..=48).contains(&hours), "{hours}");
        assert_eq!(
            next_attempt(queued_at, u32::MAX, queued_at),
            next_attempt(queued_at, 9, queued_at)
        );
    }

    #[test]
    fn what_cannot_be_tried_in_time_is_given_up() {
        let queued_at = Timestamp::from_second(1_795_341_600).unwrap();
        let late = saturating_add(queued_at, OLDEST);
        assert_eq!(next_attempt(queued_at, 1, late), None);
        assert_eq!(next_attempt(queued_at, 1, Timestamp::MAX), None);
    }
}
