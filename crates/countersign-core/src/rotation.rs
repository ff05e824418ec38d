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
/// The grace is a hard limit in both directions: a clock that stands further than that before the
/// rotation counts as one that stands further after it. A clock set back from after the grace into it
/// opens it again, but only to a token that was not shown meanwhile: one that was, ended the session.
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

    fn any_generation() -> impl Strategy<Value = u32> {
        let edges = prop::sample::select(vec![0, 1, u32::MAX - 1, u32::MAX]);
        prop_oneof![edges, 0..4_u32, any::<u32>()]
    }

    /// A generation and what is presented to it, more often than not from about there.
    fn any_generations() -> impl Strategy<Value = (u32, u32)> {
        let near = (any_generation(), prop_oneof![Just(-1), -3..3_i32])
            .prop_map(|(generation, step)| (generation, generation.saturating_add_signed(step)));
        prop_oneof![near, (any_generation(), any_generation())]
    }

    fn any_time() -> impl Strategy<Value = Timestamp> {
        let edges = prop::sample::select(vec![Timestamp::MIN, start(), Timestamp::MAX]);
        let nanoseconds = Timestamp::MIN.as_nanosecond()..=Timestamp::MAX.as_nanosecond();
        let anywhere = nanoseconds.prop_map(|time| Timestamp::from_nanosecond(time).unwrap());
        let near = (-40 * 24 * 3_600..40 * 24 * 3_600_i64).prop_map(after);
        prop_oneof![edges, anywhere, near, (-61..62_i64).prop_map(after)]
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        let edges = prop::sample::select(vec![Duration::ZERO, Duration::MAX]);
        prop_oneof![
            edges,
            any::<Duration>(),
            (0..90_u64).prop_map(Duration::from_secs)
        ]
    }

    fn any_limits() -> impl Strategy<Value = SessionLimits> {
        let durations = (any_duration(), any_duration(), any_duration());
        let any = durations.prop_map(|(idle, absolute, grace)| SessionLimits {
            idle,
            absolute,
            grace,
        });
        prop_oneof![Just(LIMITS), any]
    }

    prop_compose! {
        fn live_session(generation: u32)(
            opened_at in prop_oneof![Just(start()), any_time()],
            rotated_at in prop_oneof![Just(start()), any_time()],
        ) -> Session {
            Session { opened_at, rotated_at, ..session_at(generation) }
        }
    }

    prop_compose! {
        /// A live session with a presented generation.
        fn a_session_and_a_generation()((generation, presented) in any_generations())(
            session in live_session(generation),
            presented in Just(Generation(presented)),
        ) -> (Session, Generation) {
            (session, presented)
        }
    }

    /// How far a moment is from the last rotation, before or after it.
    fn distance(session: &Session, now: Timestamp) -> u128 {
        let distance = now.as_nanosecond() - session.rotated_at.as_nanosecond();
        distance.unsigned_abs()
    }

    /// Whether a limit has passed, by plain numbers: the calendar's end is the latest that there is.
    fn has_expired(session: &Session, now: Timestamp, limits: &SessionLimits) -> bool {
        let end = |from: Timestamp, limit: Duration| {
            let limit = i128::try_from(limit.as_nanos()).unwrap();
            let sum = from.as_nanosecond() + limit;
            sum.min(Timestamp::MAX.as_nanosecond())
        };
        let now = now.as_nanosecond();
        now >= end(session.rotated_at, limits.idle)
            || now >= end(session.opened_at, limits.absolute)
    }

    /// The moment at which a limit is reached, or a nanosecond from it.
    fn at_an_edge(
        session: &Session,
        limits: &SessionLimits,
        (edge, nanoseconds): (usize, i128),
    ) -> Timestamp {
        let [grace, idle, absolute] = [limits.grace, limits.idle, limits.absolute]
            .map(|limit| i128::try_from(limit.as_nanos()).unwrap());
        let rotated_at = session.rotated_at.as_nanosecond();
        let edges = [
            rotated_at - grace,
            rotated_at + grace,
            rotated_at + idle,
            session.opened_at.as_nanosecond() + absolute,
        ];
        let calendar = [Timestamp::MIN, Timestamp::MAX].map(Timestamp::as_nanosecond);
        let moment = (edges[edge] + nanoseconds).clamp(calendar[0], calendar[1]);
        Timestamp::from_nanosecond(moment).unwrap()
    }

    fn is_grant(decision: Decision) -> bool {
        matches!(decision, Decision::Rotate | Decision::Replay)
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

        #[test]
        fn every_session_is_decided_by_its_end_its_limits_its_generation_and_the_grace_in_this_order(
            (session, presented) in a_session_and_a_generation(),
            reason in prop::option::of(prop::sample::select(EndReason::ALL.to_vec())),
            limits in any_limits(),
            anywhere in any_time(),
            edge in prop::option::of((0..4_usize, -1..2_i128)),
        ) {
            let now = edge.map_or(anywhere, |edge| at_an_edge(&session, &limits, edge));
            let end = reason.map(|reason| SessionEnd { reason, at: start(), by: EndedBy::Service });
            let session = Session { end, ..session };
            let is_previous = u64::from(presented.0) + 1 == u64::from(session.generation.0);
            let expected = if let Some(reason) = reason {
                Decision::Ended(reason)
            } else if has_expired(&session, now, &limits) {
                Decision::Ended(EndReason::Expired)
            } else if presented == session.generation {
                Decision::Rotate
            } else if is_previous && distance(&session, now) <= limits.grace.as_nanos() {
                Decision::Replay
            } else {
                Decision::Reuse
            };
            prop_assert_eq!(decide(&session, presented, now, &limits), expected);
        }

        #[test]
        fn what_is_refused_is_refused_further_from_the_rotation(
            (session, presented) in a_session_and_a_generation(),
            now in any_time(),
            other in any_time(),
            limits in any_limits(),
        ) {
            let mut moments = [now, other];
            moments.sort_by_key(|moment| distance(&session, *moment));
            let [near, far] = moments.map(|moment| decide(&session, presented, moment, &limits));
            prop_assert!(near != Decision::Reuse || !is_grant(far), "{near:?}, then {far:?}");
        }

        #[test]
        fn what_has_expired_stays_expired_while_the_clock_runs_on(
            (session, presented) in a_session_and_a_generation(),
            now in any_time(),
            other in any_time(),
            limits in any_limits(),
        ) {
            let expired = Decision::Ended(EndReason::Expired);
            let [earlier, later] = [now.min(other), now.max(other)]
                .map(|moment| decide(&session, presented, moment, &limits));
            prop_assert!(earlier != expired || later == expired);
        }

        #[test]
        fn a_rotation_closes_all_that_came_before_whatever_the_clock_shows(
            (session, presented) in a_session_and_a_generation(),
            rotated_at in any_time(),
            now in any_time(),
            limits in any_limits(),
        ) {
            let is_old = presented < session.generation && session.generation.0 < u32::MAX;
            let generation = session.generation.next();
            let rotated = Session { generation, rotated_at, ..session };
            prop_assert!(!is_old || !is_grant(decide(&rotated, presented, now, &limits)));
        }

        #[test]
        fn whoever_has_rotated_and_lost_the_reply_is_answered_again(
            (session, _) in a_session_and_a_generation(),
            now in any_time(),
            limits in any_limits(),
        ) {
            let presented = session.generation;
            let is_rotated = decide(&session, presented, now, &limits) == Decision::Rotate;
            let rotated = Session { generation: presented.next(), rotated_at: now, ..session };
            if is_rotated && presented.0 < u32::MAX && !has_expired(&rotated, now, &limits) {
                prop_assert_eq!(decide(&rotated, presented, now, &limits), Decision::Replay);
            }
        }
    }
}
