//! The revocation feed: what ended before its time, for whoever verifies our tokens without asking us.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_token::base64url;
use countersign_token::revocation::{RevokedKey, RevokedSession, RevokedUser};
use countersign_token::{RevocationList, UnixSeconds};
use jiff::Timestamp;

use super::Auth;
use crate::error::AuthError;
use crate::known::Standing;
use crate::refresh_token::unix_seconds;
use crate::session::EndReason;
use crate::store::KeyState;

/// How long an answer that was waited for is held back for what ends right after: of many ends at once
/// each follower hears in one answer, and still well within a second.
const GATHERING: Duration = Duration::from_millis(50);

/// The feed as served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationFeed {
    /// The [`RevocationList`] in JSON.
    pub json: String,
    /// Names what is listed, in quotes: the same on every node that lists the same.
    pub etag: String,
    /// Which change it was made after.
    version: u64,
    /// When the first entry is of no use any more.
    stale_at: UnixSeconds,
}

impl Auth {
    /// What has ended within the life of an access token.
    ///
    /// # Errors
    /// The store's, if something was missed and it cannot be read anew: half a list would say that
    /// the other half had not ended.
    pub async fn revocations(&self) -> Result<Arc<RevocationFeed>, AuthError> {
        let standing = self.catch_up().await?;
        let now = self.clock.now();
        if standing == Standing::Unheard {
            // Nobody tells of what others end.
            let since = self.known.reaches_back_to(now);
            let ended = self.store.ended_since(since).await?;
            self.known.learn(&ended);
        }
        let version = *self.known.revocations().borrow();
        let held = self
            .revocation_feed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(held) = held
            && held.version == version
            && unix_seconds(now) < held.stale_at
        {
            return Ok(held);
        }
        let feed = Arc::new(self.make_revocation_feed(version, now));
        let mut held = self
            .revocation_feed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Some(Arc::clone(&feed));
        Ok(feed)
    }

    /// The same as soon as it is no longer the one that `is_known` knows, or when the wait is over.
    ///
    /// # Errors
    /// As [`Auth::revocations`].
    pub async fn revocations_after(
        &self,
        is_known: impl Fn(&RevocationFeed) -> bool,
        wait: Duration,
    ) -> Result<Arc<RevocationFeed>, AuthError> {
        let mut changes = self.known.revocations();
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            changes.mark_unchanged();
            let feed = self.revocations().await?;
            if !is_known(&feed) || wait.is_zero() || self.known.is_closing() {
                return Ok(feed);
            }
            let woken = tokio::time::timeout_at(deadline, changes.changed()).await;
            if !matches!(woken, Ok(Ok(()))) {
                // There may be something new that nobody told of.
                return self.revocations().await;
            }
            if !self.known.is_closing() {
                tokio::time::sleep(GATHERING).await;
            }
        }
    }

    /// Answers everybody who waits for something new, and lets nobody wait from now on: for a process
    /// that is about to stop.
    pub fn let_nobody_wait(&self) {
        self.known.close();
    }

    fn make_revocation_feed(&self, version: u64, now: Timestamp) -> RevocationFeed {
        let mut list = RevocationList::empty(unix_seconds(now));
        for (id, end, until) in self.known.ends().at(now) {
            let until = rounded_up(until);
            list.sessions.push(RevokedSession {
                sid: id.to_string(),
                until,
            });
            if matches!(
                end.reason,
                EndReason::UserDeactivated | EndReason::UserDeleted
            ) {
                list.users.push(RevokedUser {
                    sub: end.user.to_string(),
                    not_before: rounded_up(end.at),
                    until,
                });
            }
        }
        list.sessions.sort_unstable_by(|a, b| a.sid.cmp(&b.sid));
        // Of a user with several sessions, the last end.
        list.users
            .sort_unstable_by(|a, b| (&a.sub, b.not_before).cmp(&(&b.sub, a.not_before)));
        list.users.dedup_by(|later, first| later.sub == first.sub);
        for key in self.keys().stored() {
            let until = self.key_keeper.matters_until(key);
            if key.state == KeyState::Revoked && until > now {
                list.keys.push(RevokedKey {
                    kid: key.kid.clone(),
                    until: rounded_up(until),
                });
            }
        }
        let ends = list.sessions.iter().map(|session| session.until);
        let stale_at = ends.chain(list.keys.iter().map(|key| key.until)).min();
        let json = serde_json::to_string(&list).expect("a list is strings");
        // When it was made is no part of what it says.
        list.issued_at = UnixSeconds::new(0);
        let said = serde_json::to_vec(&list).expect("a list is strings");
        let name = base64url::encode(&digest(&SHA256, &said).as_ref()[..16]);
        RevocationFeed {
            json,
            etag: format!("\"{name}\""),
            version,
            stale_at: stale_at.unwrap_or(UnixSeconds::new(u64::MAX)),
        }
    }
}

/// Whole seconds, never too few.
fn rounded_up(instant: Timestamp) -> UnixSeconds {
    let seconds = unix_seconds(instant);
    if instant.subsec_nanosecond() == 0 {
        seconds
    } else {
        seconds.saturating_add(Duration::from_secs(1))
    }
}
