//! What a process knows without asking the store: which sessions have ended lately, who its users are,
//! and how far it can rely on that.
//!
//! The store's change feed keeps it current ([`Watcher`]): a session that ends here is known to have
//! ended before the transition that ended it is answered. When the feed is lost that is known too, and
//! then the store is asked.

mod ends;
mod users;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

pub(crate) use self::ends::{ALLOWANCE, RecentEnds};
pub(crate) use self::users::UserCache;
use crate::clock::Clock;
use crate::session::{EndReason, EndedSession, SessionId};
use crate::store::{Change, Watcher};

/// After so long a silence what is known is not relied upon: what others end must hold by then.
const LONGEST_SILENCE: Duration = Duration::from_millis(250);

/// How far what is known can be relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Everything has been heard.
    Current,
    /// Something was missed, or the keys were changed: read the store anew.
    Behind,
    /// What others change is not heard of: ask the store each time.
    Unheard,
}

/// What is known of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownSession {
    /// It has ended.
    Ended(EndReason),
    /// It has not ended, as far as a token of it can be alive.
    NotEnded,
    /// What is known cannot be relied upon: ask the store.
    Unknown,
}

/// How much of the feed has been heard, counted: what was read from the store before the count was taken
/// is as new as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    losses: u64,
    key_changes: u64,
}

/// What a process knows.
pub(crate) struct Known {
    pub(crate) users: UserCache,
    clock: Arc<dyn Clock>,
    ends: RwLock<RecentEnds>,
    unheard: AtomicBool,
    losses: AtomicU64,
    key_changes: AtomicU64,
    caught_up: RwLock<Option<Heard>>,
    /// Until when the store has last said that all was told: milliseconds after `started`, and one. 0: it
    /// never did.
    listening: AtomicU64,
    started: Instant,
    /// Counts the changes of what the revocation feed tells.
    revocations: watch::Sender<u64>,
    closing: AtomicBool,
}

impl Known {
    /// Nothing is known yet. Ends are remembered for `retention`.
    pub(crate) fn new(retention: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            users: UserCache::default(),
            clock,
            ends: RwLock::new(RecentEnds::new(retention)),
            unheard: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            key_changes: AtomicU64::new(0),
            caught_up: RwLock::new(None),
            listening: AtomicU64::new(0),
            started: Instant::now(),
            revocations: watch::Sender::new(0),
            closing: AtomicBool::new(false),
        }
    }

    /// How far what is known can be relied upon at this time.
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        self.standing_of(&self.ends(), now)
    }

    /// What is known of a session at this time.
    pub(crate) fn of_session(&self, session: SessionId, now: Timestamp) -> KnownSession {
        // One look at both: in between, ends may be forgotten that are read anew afterwards.
        let ends = self.ends();
        if self.standing_of(&ends, now) != Standing::Current {
            return KnownSession::Unknown;
        }
        ends.reason(session)
            .map_or(KnownSession::NotEnded, KnownSession::Ended)
    }

    fn standing_of(&self, ends: &RecentEnds, now: Timestamp) -> Standing {
        if self.unheard.load(Ordering::Acquire) || self.is_silent() {
            return Standing::Unheard;
        }
        let caught_up = *self
            .caught_up
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if caught_up == Some(self.heard()) && ends.reach_back_from(now) {
            Standing::Current
        } else {
            Standing::Behind
        }
    }

    /// Whether the store listens and has not said so for too long: this process stood still, and has not
    /// heard yet what others did meanwhile.
    fn is_silent(&self) -> bool {
        self.silent_for() > LONGEST_SILENCE
    }

    /// For how long the store has not said that all was told; nothing if it never does.
    pub(crate) fn silent_for(&self) -> Duration {
        let listened = self.listening.load(Ordering::Acquire);
        if listened == 0 {
            return Duration::ZERO;
        }
        let now = self.milliseconds_until(Instant::now());
        Duration::from_millis(now.saturating_sub(listened))
    }

    /// Milliseconds from the start until then, and one.
    fn milliseconds_until(&self, then: Instant) -> u64 {
        let passed = then.saturating_duration_since(self.started).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1
    }

    /// The time from which on ends matter at `now`.
    pub(crate) fn reaches_back_to(&self, now: Timestamp) -> Timestamp {
        self.ends().reach_back_to(now)
    }

    /// How much has been heard until now.
    pub(crate) fn heard(&self) -> Heard {
        Heard {
            losses: self.losses.load(Ordering::Acquire),
            key_changes: self.key_changes.load(Ordering::Acquire),
        }
    }

    /// Adds what was read from the store after `heard` was taken; then everything is known up to there.
    pub(crate) fn catch_up(&self, heard: Heard, ended: &[EndedSession], now: Timestamp) {
        self.ends_mut().add(ended, now);
        let mut caught_up = self
            .caught_up
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *caught_up = Some(heard);
        drop(caught_up);
        self.tell_of_revocations();
    }

    /// Adds what was seen in the store and has not been told: while nothing is heard, or before what
    /// another process did is.
    pub(crate) fn learn(&self, ended: &[EndedSession]) {
        let now = self.clock.now();
        let mut ends = self.ends_mut();
        let since = ends.reach_back_to(now);
        let unknown = ended
            .iter()
            .filter(|session| session.end.at > since && ends.reason(session.id).is_none());
        let unknown: Vec<_> = unknown.copied().collect();
        for session in &unknown {
            ends.note(*session, now);
        }
        drop(ends);
        if !unknown.is_empty() {
            self.tell_of_revocations();
        }
    }

    pub(crate) fn ends(&self) -> RwLockReadGuard<'_, RecentEnds> {
        self.ends.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the ends that no living token can be of.
    pub(crate) fn forget_old_ends(&self, now: Timestamp) {
        self.ends_mut().forget_old(now);
    }

    /// Hears when what the revocation feed tells changes.
    pub(crate) fn revocations(&self) -> watch::Receiver<u64> {
        self.revocations.subscribe()
    }

    /// Whether nobody shall wait any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Wakes those who wait for revocations, for the last time.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.tell_of_revocations();
    }

    fn ends_mut(&self) -> RwLockWriteGuard<'_, RecentEnds> {
        self.ends.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_of_revocations(&self) {
        self.revocations.send_modify(|changes| *changes += 1);
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Watcher for Known {
    fn hear(&self, change: Change) {
        match change {
            Change::SessionEnded(session) => {
                let now = self.clock.now();
                self.ends_mut().note(session, now);
                self.tell_of_revocations();
            }
            Change::UserChanged(id) => self.users.forget(id),
            Change::UsersChanged => self.users.forget_all(),
            Change::KeysChanged => {
                self.key_changes.fetch_add(1, Ordering::AcqRel);
                self.tell_of_revocations();
            }
            Change::Unheard => self.unheard.store(true, Ordering::Release),
            Change::Listening(until) => {
                let until = self.milliseconds_until(until);
                self.listening.store(until, Ordering::Release);
            }
            Change::Everything | Change::HeardAgain => {
                // Known to be behind before it is believed that everything is heard.
                self.losses.fetch_add(1, Ordering::AcqRel);
                self.users.forget_all();
                if change == Change::HeardAgain {
                    self.unheard.store(false, Ordering::Release);
                }
                self.tell_of_revocations();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::clock::ManualClock;
    use crate::session::{EndedBy, SessionEnd};
    use crate::user::UserId;

    const RETENTION: Duration = Duration::from_mins(7);

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_341_600).unwrap()
    }

    fn known() -> Known {
        Known::new(RETENTION, Arc::new(ManualClock::at(start())))
    }

    fn ended(at: Timestamp) -> EndedSession {
        EndedSession {
            id: SessionId(Uuid::nil()),
            user: UserId(1),
            end: SessionEnd {
                reason: EndReason::Logout,
                at,
                by: EndedBy::Service,
            },
        }
    }

    #[test]
    fn a_process_is_behind_until_it_has_read_the_store() {
        let known = known();
        assert_eq!(known.standing(start()), Standing::Behind);
        known.catch_up(known.heard(), &[], start());
        assert_eq!(known.standing(start()), Standing::Current);
    }

    #[test]
    fn what_is_missed_while_the_store_is_read_is_not_believed_to_be_known() {
        for change in [Change::Everything, Change::KeysChanged] {
            let known = known();
            let heard = known.heard();
            known.hear(change);
            known.catch_up(heard, &[], start());
            assert_eq!(known.standing(start()), Standing::Behind, "{change:?}");
        }
    }

    #[test]
    fn a_lost_feed_is_lost_until_everything_is_heard_and_read_again() {
        let known = known();
        known.catch_up(known.heard(), &[], start());
        known.hear(Change::Unheard);
        assert_eq!(known.standing(start()), Standing::Unheard);
        known.catch_up(known.heard(), &[], start());
        assert_eq!(known.standing(start()), Standing::Unheard);
        known.hear(Change::Everything);
        assert_eq!(known.standing(start()), Standing::Unheard);
        known.hear(Change::HeardAgain);
        assert_eq!(known.standing(start()), Standing::Behind);
        known.catch_up(known.heard(), &[], start());
        assert_eq!(known.standing(start()), Standing::Current);
    }

    #[test]
    fn a_process_that_stood_still_asks_until_the_store_says_that_it_listens() {
        let known = known();
        known.catch_up(known.heard(), &[], start());
        std::thread::sleep(Duration::from_millis(300));
        // A store that has no others to listen to never says so.
        assert_eq!(known.standing(start()), Standing::Current);
        let before = Instant::now();
        known.hear(Change::Listening(before));
        assert_eq!(known.standing(start()), Standing::Current);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(known.standing(start()), Standing::Unheard);
        // It looked before this process stood still, and said so only afterwards.
        known.hear(Change::Listening(before));
        assert_eq!(known.standing(start()), Standing::Unheard);
        known.hear(Change::Listening(Instant::now()));
        assert_eq!(known.standing(start()), Standing::Current);
    }

    #[test]
    fn an_end_is_known_at_once_and_watched_for() {
        let known = known();
        let mut watched = known.revocations();
        let session = ended(start());
        assert_eq!(known.ends().reason(session.id), None);
        known.hear(Change::SessionEnded(session));
        assert_eq!(known.ends().reason(session.id), Some(EndReason::Logout));
        assert!(watched.has_changed().unwrap());
        watched.mark_unchanged();
    }

    #[test]
    fn a_clock_that_was_set_back_makes_a_process_read_again_what_it_has_forgotten() {
        let known = known();
        let hour = jiff::SignedDuration::from_hours(1);
        let session = ended(start());
        known.catch_up(known.heard(), &[session], start());
        known.forget_old_ends(start() + hour);
        assert_eq!(known.ends().reason(session.id), None);
        assert_eq!(known.standing(start() + hour), Standing::Current);

        assert_eq!(known.standing(start()), Standing::Behind);
        known.catch_up(known.heard(), &[session], start());
        assert_eq!(known.standing(start()), Standing::Current);
        assert_eq!(known.ends().reason(session.id), Some(EndReason::Logout));
    }
}
