//! Decisions that are nearly right. Each is what a careless change could leave behind; the checker
//! must tell it from the real one.

use countersign_core::rotation::{Decision, decide};
use countersign_core::session::{Generation, Session, SessionLimits};
use jiff::Timestamp;

/// The previous generation is answered however late.
pub(crate) fn without_a_limit(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    match decide(session, presented, now, limits) {
        Decision::Reuse if presented.next() == session.generation => Decision::Replay,
        decision => decision,
    }
}

/// A clock that stands before the rotation counts as within the grace, however far before.
pub(crate) fn open_to_the_past(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    match decide(session, presented, now, limits) {
        Decision::Reuse if presented.next() == session.generation && now < session.rotated_at => {
            Decision::Replay
        }
        decision => decision,
    }
}

/// The grace is over a moment too early.
pub(crate) fn less_than_the_grace(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    let since_rotation = now.duration_since(session.rotated_at).unsigned_abs();
    match decide(session, presented, now, limits) {
        Decision::Replay if since_rotation == limits.grace => Decision::Reuse,
        decision => decision,
    }
}

/// There is no grace.
pub(crate) fn without_a_grace(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    match decide(session, presented, now, limits) {
        Decision::Replay => Decision::Reuse,
        decision => decision,
    }
}

/// The one before the previous is answered as well.
pub(crate) fn one_more_back(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    match decide(session, presented, now, limits) {
        Decision::Reuse if presented.next().next() == session.generation => {
            decide(session, presented.next(), now, limits)
        }
        decision => decision,
    }
}

/// The grace stays open after the successor has been rotated: every older one is answered in it.
pub(crate) fn open_after_the_successor(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    let since_rotation = now.duration_since(session.rotated_at).unsigned_abs();
    match decide(session, presented, now, limits) {
        Decision::Reuse if presented < session.generation && since_rotation <= limits.grace => {
            Decision::Replay
        }
        decision => decision,
    }
}

/// The previous one rotates the session once more, instead of being sent what there is.
pub(crate) fn rotating_for_the_previous(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    match decide(session, presented, now, limits) {
        Decision::Replay => Decision::Rotate,
        decision => decision,
    }
}

/// The end is not looked at.
pub(crate) fn blind_to_the_end(
    session: &Session,
    presented: Generation,
    now: Timestamp,
    limits: &SessionLimits,
) -> Decision {
    let session = Session {
        end: None,
        ..session.clone()
    };
    decide(&session, presented, now, limits)
}
