//! What to do with a presented refresh token. Pure: no clock, no store, no randomness.
//!
//! ```
//! use countersign_core::rotation::{Decision, decide};
//! use countersign_core::session::Generation;
//! # use countersign_core::session::{Session, SessionId, SessionLimits};
//! # let now = jiff::Timestamp::from_second(1_795_341_600).unwrap();
//! # let limits = SessionLimits::default();
//! # let session = Session {
//! #     id: SessionId(uuid::Uuid::nil()), user_id: countersign_core::user::UserId(1),
//! #     generation: Generation(4), opened_at: now, rotated_at: now, remember: true,
//! #     address: None, user_agent: None, end: None,
//! # };
//! assert_eq!(decide(&session, Generation(4), now, &limits), Decision::Rotate);
//! assert_eq!(decide(&session, Generation(3), now, &limits), Decision::Replay);
//! assert_eq!(decide(&session, Generation(2), now, &limits), Decision::Reuse);
//! ```

use jiff::Timestamp;

use crate::session::{EndReason, Generation, Session, SessionLimits};

/// The four things that can be done with a refresh token whose signature is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is the current one: advance the session by one generation.
    Rotate,
    /// It is the one before, within the grace: answer with the current generation, the same bytes
    /// that the winner of the race was sent.
    Replay,
    /// It was superseded: assume theft and end the session.
    Reuse,
    /// The session is over.
    Ended(EndReason),
}

/// Decides by the session's generation, and by the clock only for limits.
///
/// The grace is a hard limit in both directions: a clock that has jumped back by more than the grace
/// does not reopen it.
pub fn decide(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    if let Some(reason) = session.ended(now, limits) {
        return Decision::Ended(reason);
    }
    if presented == session.generation {
        return Decision::Rotate;
    }
    let since_rotation = now.duration_since(session.rotated_at).unsigned_abs();
    if presented.next() == session.generation && since_rotation <= limits.grace {
        return Decision::Replay;
    }
    Decision::Reuse
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::session::{EndedBy, SessionEnd, SessionId};
    use crate::user::UserId;

    const LIMITS: SessionLimits = SessionLimits {
        idle: Duration::from_hours(7 * 24),
        absolute: Duration::from_hours(30 * 24),
        grace: Duration::from_secs(30),
    };

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    fn after(seconds: i64) -> Timestamp {
        start() + SignedDuration::from_secs(seconds)
    }

    fn session_at(generation: u32) -> Session {
        Session {
            id: SessionId(Uuid::nil()),
            user_id: UserId(1),
            generation: Generation(generation),
            opened_at: start(),
            rotated_at: start(),
            remember: true,
            address: None,
            user_agent: None,
            end: None,
        }
    }

    fn decide_at(session: &Session, presented: u32, seconds: i64) -> Decision {
        decide(session, Generation(presented), after(seconds), &LIMITS)
    }

    #[test]
    fn the_current_generation_is_rotated() {
        assert_eq!(decide_at(&session_at(0), 0, 0), Decision::Rotate);
        assert_eq!(decide_at(&session_at(7), 7, 3_600), Decision::Rotate);
    }

    #[test]
    fn the_previous_generation_is_replayed_until_the_grace_is_over() {
        assert_eq!(decide_at(&session_at(7), 6, 0), Decision::Replay);
        assert_eq!(decide_at(&session_at(7), 6, 30), Decision::Replay);
        assert_eq!(decide_at(&session_at(7), 6, 31), Decision::Reuse);
    }

    #[test]
    fn older_and_unborn_generations_are_reuse_even_within_the_grace() {
        assert_eq!(decide_at(&session_at(7), 5, 0), Decision::Reuse);
        assert_eq!(decide_at(&session_at(7), 8, 0), Decision::Reuse);
        assert_eq!(decide_at(&session_at(0), u32::MAX, 0), Decision::Reuse);
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_reopen_the_grace() {
        assert_eq!(decide_at(&session_at(7), 6, -3_600), Decision::Reuse);
        assert_eq!(decide_at(&session_at(7), 7, -3_600), Decision::Rotate);
    }

    #[test]
    fn the_idle_and_the_absolute_limit_end_a_session() {
        let week = 7 * 24 * 3_600;
        let expired = Decision::Ended(EndReason::Expired);
        assert_eq!(decide_at(&session_at(7), 7, week - 1), Decision::Rotate);
        assert_eq!(decide_at(&session_at(7), 7, week), expired);

        let mut busy = session_at(7);
        busy.rotated_at = after(29 * 24 * 3_600);
        assert_eq!(decide_at(&busy, 7, 30 * 24 * 3_600 - 1), Decision::Rotate);
        assert_eq!(decide_at(&busy, 7, 30 * 24 * 3_600), expired);
    }

    #[test]
    fn an_ended_session_tells_its_reason_before_anything_else() {
        let mut session = session_at(7);
        session.end = Some(SessionEnd {
            reason: EndReason::Logout,
            at: start(),
            by: EndedBy::User(UserId(1)),
        });
        for presented in [0, 6, 7, 8] {
            assert_eq!(
                decide_at(&session, presented, 0),
                Decision::Ended(EndReason::Logout)
            );
        }
    }

    proptest! {
        #[test]
        fn exactly_one_generation_rotates_and_at_most_one_is_replayed(
            generation in 0..1_000_u32,
            presented in 0..1_000_u32,
            seconds in -100_000..100_000_i64,
        ) {
            let decision = decide_at(&session_at(generation), presented, seconds);
            prop_assert_eq!(decision == Decision::Rotate, presented == generation);
            if decision == Decision::Replay {
                prop_assert_eq!(presented + 1, generation);
                prop_assert!(seconds.abs() <= 30);
            }
        }
    }
}
