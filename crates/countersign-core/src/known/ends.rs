//! The sessions that ended within the life of an access token.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::session::{EndReason, EndedSession, SessionId, saturating_add};
use crate::user::UserId;

/// How much longer than an access token lives the end of its session is remembered: for clocks that
/// differ, and for a token that was being signed while its session ended.
pub(crate) const ALLOWANCE: Duration = Duration::from_mins(3);

/// Fewer are not worth looking through.
const FEW: usize = 1_024;

/// A session that ended lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecentEnd {
    pub(crate) user: UserId,
    pub(crate) reason: EndReason,
    pub(crate) at: Timestamp,
}

/// Ends, each for as long as a token of its session may live. Their number is bounded by how many
/// sessions end in that time.
#[derive(Debug)]
pub(crate) struct RecentEnds {
    retention: Duration,
    sessions: HashMap<SessionId, RecentEnd>,
    /// Ends are forgotten when there are so many.
    enough: usize,
    /// What would have been forgotten by then has been.
    forgotten_by: Timestamp,
}

impl RecentEnds {
    pub(super) fn new(retention: Duration) -> Self {
        Self {
            retention,
            sessions: HashMap::new(),
            enough: FEW,
            forgotten_by: Timestamp::MIN,
        }
    }

    /// Why a session ended, if it did lately.
    pub(crate) fn reason(&self, id: SessionId) -> Option<EndReason> {
        self.sessions.get(&id).map(|end| end.reason)
    }

    /// Those that a token may still be of, with the time until which one may.
    pub(crate) fn at(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (SessionId, RecentEnd, Timestamp)> {
        self.sessions
            .iter()
            .map(|(id, end)| (*id, *end, saturating_add(end.at, self.retention)))
            .filter(move |(_, _, until)| *until > now)
    }

    /// The time from which on ends matter at `now`.
    pub(super) fn reach_back_to(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(self.retention).unwrap_or(Timestamp::MIN)
    }

    /// Whether every end is here that matters at this time: not if the clock has been set back since
    /// some were forgotten.
    pub(super) fn reach_back_from(&self, now: Timestamp) -> bool {
        saturating_add(now, ALLOWANCE) >= self.forgotten_by
    }

    pub(super) fn note(&mut self, session: EndedSession, now: Timestamp) {
        let end = RecentEnd {
            user: session.user,
            reason: session.end.reason,
            at: session.end.at,
        };
        self.sessions.insert(session.id, end);
        if self.sessions.len() > self.enough {
            self.forget_old(now);
        }
    }

    /// Adds those that ended within the retention before `now`.
    pub(super) fn add(&mut self, ended: &[EndedSession], now: Timestamp) {
        self.forgotten_by = now;
        for session in ended {
            self.note(*session, now);
        }
    }

    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let retention = self.retention;
        self.sessions
            .retain(|_, end| saturating_add(end.at, retention) > now);
        self.forgotten_by = self.forgotten_by.max(now);
        self.enough = FEW.max(2 * self.sessions.len());
        self.sessions.shrink_to(self.enough);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandomness;
    use crate::session::{EndedBy, SessionEnd};

    #[test]
    fn however_many_sessions_end_only_those_of_the_retention_are_held() {
        let start = Timestamp::from_second(1_795_341_600).unwrap();
        let mut ends = RecentEnds::new(Duration::from_mins(1));
        for second in 0..3_600 {
            let at = start + jiff::SignedDuration::from_secs(second);
            for _ in 0..20 {
                let session = EndedSession {
                    id: SessionId::new(at, &SystemRandomness),
                    user: UserId(1),
                    end: SessionEnd {
                        reason: EndReason::Logout,
                        at,
                        by: EndedBy::Service,
                    },
                };
                ends.note(session, at);
            }
            assert!(ends.sessions.len() <= 2 * 60 * 20 + 20);
        }
    }
}
