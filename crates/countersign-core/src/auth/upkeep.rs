//! Upkeep: what has to be done from time to time, by one process at a time, so that nothing grows without
//! bound.

use std::convert::Infallible;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;

use super::Auth;
use super::users::NAMES_AT_ONCE;
use crate::audit::Event;
use crate::error::AuthError;
use crate::session::{SessionId, saturating_add};
use crate::store::SessionSweep;
use crate::user::UserId;

/// How often upkeep is done.
const INTERVAL: Duration = Duration::from_mins(1);

/// How long a turn lasts: less than the interval, so that the process that had it can have it again.
const TURN: Duration = Duration::from_secs(50);

/// Sessions that one transaction looks at: a millisecond's worth, after which others have their turn.
const BATCH: u32 = 500;

/// Batches in one round. A table of ten million sessions is looked through in three hours.
const BATCHES: u32 = 100;

/// How long it is known that a mailed token has expired, so that whoever follows its link is told.
const EXPIRED_TOKENS_KEPT: Duration = Duration::from_hours(7 * 24);

/// Batches of users' names in one round: a million users are looked through in three hours.
const NAME_BATCHES: u32 = 20;

/// The number that no user has a lower one than.
const BEFORE_ALL: UserId = UserId(i64::MIN);

/// How far the clock may differ from what has passed since the last round.
const JUMP: Duration = Duration::from_mins(1);

/// How long a clock that has jumped is not believed.
const DOUBT: Duration = Duration::from_hours(1);

/// What the clocks showed at the last round of upkeep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hands {
    clock: Timestamp,
    uptime: Duration,
    /// The uptime until which the clock is not believed.
    doubted_until: Option<Duration>,
}

/// What one round of upkeep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpkeepReport {
    /// Whether it was this process's turn.
    pub had_the_turn: bool,
    /// Sessions that ended because a limit had passed.
    pub sessions_expired: u32,
    /// Sessions that had ended long ago and were removed.
    pub sessions_removed: u32,
    /// Counters of attempts that were forgotten and removed.
    pub throttles_removed: u32,
    /// Entries of the audit log that were kept for long enough and removed.
    pub audit_removed: u32,
    /// Mailed tokens and registrations that had expired and were removed.
    pub mailed_tokens_removed: u32,
}

impl Auth {
    /// Does upkeep every minute, for as long as it is polled. A round that fails is told and tried
    /// again.
    ///
    /// A program that embeds the service spawns this once; of several processes on one store one at a
    /// time does the work.
    pub async fn run_upkeep(&self) -> Infallible {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = self.do_upkeep().await {
                tracing::warn!(event = "upkeep_failed", cause = %error);
            }
        }
    }

    /// Does one round of upkeep, if it is this process's turn: moves the signing keys on as their
    /// schedule says, notes the names of users whom others have made or renamed, ends sessions whose limit
    /// has passed, removes those that ended long ago, the counters of attempts that are forgotten, and old
    /// entries of the audit log.
    ///
    /// # Errors
    /// The store's; what was done is done, and the rest is for the next round.
    pub async fn do_upkeep(&self) -> Result<UpkeepReport, AuthError> {
        let now = self.clock.now();
        self.known.forget_old_ends(now);
        let turn_ends = saturating_add(now, TURN);
        if !self.store.take_upkeep_turn(now, turn_ends).await? {
            return Ok(UpkeepReport::default());
        }
        self.move_keys().await?;
        self.note_names().await?;
        if !self.is_believable(now) {
            return Ok(UpkeepReport {
                had_the_turn: true,
                ..UpkeepReport::default()
            });
        }
        let mut report = self.sweep_sessions(now).await?;
        report.throttles_removed = self.sweep_throttles(now).await?;
        report.audit_removed = self.sweep_audit(now).await?;
        report.mailed_tokens_removed = self.sweep_mailed_tokens(now).await?;
        if report.sessions_expired > 0 || report.sessions_removed > 0 {
            Event::SessionsSwept {
                expired: report.sessions_expired,
                removed: report.sessions_removed,
            }
            .tell();
        }
        Ok(report)
    }

    /// Whether the clock can be believed: what a sweep ends or removes does not come back. A clock that
    /// has jumped is believed when it has gone on for an hour.
    fn is_believable(&self, now: Timestamp) -> bool {
        let uptime = self.clock.uptime();
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *hands;
        let mut doubted_until = before.and_then(|before| before.doubted_until);
        if let Some(before) = before {
            let passed = uptime.saturating_sub(before.uptime);
            let expected = saturating_add(before.clock, passed);
            if now.duration_since(expected).unsigned_abs() > JUMP {
                tracing::warn!(event = "clock_jumped", %expected, %now);
                doubted_until = Some(uptime + DOUBT);
            }
        }
        doubted_until = doubted_until.filter(|doubted_until| uptime < *doubted_until);
        *hands = Some(Hands {
            clock: now,
            uptime,
            doubted_until,
        });
        doubted_until.is_none()
    }

    /// Goes on with the sweep of the sessions where the last round stopped.
    async fn sweep_sessions(&self, now: Timestamp) -> Result<UpkeepReport, AuthError> {
        let kept_since = now
            .saturating_sub(self.settings.keep_ended_sessions)
            .unwrap_or(Timestamp::MIN);
        // Not what a process that starts must still know.
        let forget_before = kept_since.min(self.known.reaches_back_to(now));
        let mut report = UpkeepReport {
            had_the_turn: true,
            ..UpkeepReport::default()
        };
        let mut after = self.swept_to();
        for _ in 0..BATCHES {
            let sweep = SessionSweep {
                after,
                limit: BATCH,
                limits: self.settings.sessions,
                now,
                forget_before,
            };
            let swept = self.store.sweep_sessions(&sweep).await?;
            report.sessions_expired += swept.expired;
            report.sessions_removed += swept.removed;
            after = swept.next;
            *self.swept_to.lock().unwrap_or_else(PoisonError::into_inner) = after;
            if after.is_none() {
                break;
            }
        }
        Ok(report)
    }

    /// Notes the names of new users, and goes on looking at all of them, for those that have been renamed.
    async fn note_names(&self) -> Result<(), AuthError> {
        self.note_new_names().await?;
        let mut after = self.named_to();
        for _ in 0..NAME_BATCHES {
            let step = self.store.note_names(Some(after), NAMES_AT_ONCE).await?;
            after = step.next.unwrap_or(BEFORE_ALL);
            *self.named_to.lock().unwrap_or_else(PoisonError::into_inner) = Some(after);
            if step.next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn named_to(&self) -> UserId {
        let named_to = self.named_to.lock().unwrap_or_else(PoisonError::into_inner);
        named_to.unwrap_or(BEFORE_ALL)
    }

    /// Removes the counters of attempts that say nothing any more.
    async fn sweep_throttles(&self, now: Timestamp) -> Result<u32, AuthError> {
        let mut removed = 0;
        for _ in 0..BATCHES {
            let batch = self.store.sweep_throttles(now, BATCH).await?;
            removed += batch;
            if batch < BATCH {
                break;
            }
        }
        Ok(removed)
    }

    /// Removes the mailed tokens and the registrations that have expired.
    async fn sweep_mailed_tokens(&self, now: Timestamp) -> Result<u32, AuthError> {
        // A little later than they expire: until then whoever shows one is told so.
        let expired_by = now
            .saturating_sub(EXPIRED_TOKENS_KEPT)
            .unwrap_or(Timestamp::MIN);
        let mut removed = 0;
        for _ in 0..BATCHES {
            let batch = self.store.sweep_mailed_tokens(expired_by, BATCH).await?;
            removed += batch;
            if batch < BATCH {
                break;
            }
        }
        Ok(removed)
    }

    fn swept_to(&self) -> Option<SessionId> {
        *self.swept_to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
