//! The audit log: read, followed, and kept short.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::Auth;
use crate::audit::{AuditEntry, AuditPosition, AuditQuery, Caller, Event, RecordedEntry};
use crate::error::{AuthError, StoreError};
use crate::session::EndedBy;

/// How often what was gathered is kept.
const INTERVAL: Duration = Duration::from_mins(1);

/// Entries that one transaction keeps: a few milliseconds' worth, after which others have their turn.
const BATCH: usize = 128;

/// Old entries that one transaction removes.
const SWEPT: u32 = 500;

/// Transactions that remove old entries in one round of upkeep: fifty thousand entries a minute, which is more
/// than come.
const SWEEPS: u32 = 100;

impl Auth {
    /// Entries of the audit log, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<RecordedEntry>, AuthError> {
        Ok(self.store.list_audit(query).await?)
    }

    /// Where the audit log ends now, to be followed from there. A few entries from just before may come after
    /// it; none from then on is missed.
    ///
    /// # Errors
    /// The store's.
    pub async fn audit_end(&self) -> Result<AuditPosition, AuthError> {
        Ok(self.store.audit_end().await?)
    }

    /// The next entries after a position, at most so many, each with the position to go on from.
    ///
    /// # Errors
    /// The store's.
    pub async fn follow_audit(
        &self,
        from: AuditPosition,
        most: u32,
    ) -> Result<Vec<(AuditPosition, RecordedEntry)>, AuthError> {
        Ok(self.store.follow_audit(from, most).await?)
    }

    /// Keeps and tells that the service started with these settings: the SHA-256 of what is in force, and the
    /// names of those that somebody has set.
    ///
    /// # Errors
    /// The store's.
    pub async fn note_settings(&self, digest: &str, set: &[&str]) -> Result<(), AuthError> {
        let event = Event::SettingsInForce { digest, set };
        self.keep(&event, Some(EndedBy::Service), &Caller::default())
            .await
    }

    /// Tells of a refusal that is decided at the door.
    pub fn note_refused_origin(&self, caller: &Caller) {
        self.gather(&Event::OriginRefused, caller.address);
    }

    /// Keeps what was gathered every minute, until `stop` holds true or nobody is left who could say so; then
    /// once more.
    pub async fn run_audit(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let stopping = stop.wait_for(|stopping| *stopping);
            let is_over = tokio::time::timeout(INTERVAL, stopping).await.is_ok();
            if let Err(error) = self.keep_gathered().await {
                tracing::warn!(event = "audit_failed", cause = %error);
            }
            if is_over {
                return;
            }
        }
    }

    /// Keeps what was gathered: refusals that cost nothing, as an entry for many alike.
    ///
    /// # Errors
    /// The store's. What was not kept then is lost, and counted by [`lost_entries`](crate::audit::lost_entries);
    /// each refusal has been told to the log.
    pub async fn keep_gathered(&self) -> Result<(), StoreError> {
        let gathered = self.tally.take();
        let mut left = gathered.chunks(BATCH);
        while let Some(batch) = left.next() {
            if let Err(error) = self.store.record_audit(batch).await {
                let lost = batch.iter().chain(left.flatten());
                crate::audit::lose(lost.map(|entry| u64::from(entry.count)).sum());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Tells of a refusal that costs nothing, and gathers it.
    pub(super) fn gather(&self, event: &Event<'_>, address: Option<IpAddr>) {
        event.tell();
        self.tally.add(event, address, self.clock.now());
    }

    /// Keeps and tells of what happened without a transition.
    pub(super) async fn keep(
        &self,
        event: &Event<'_>,
        by: Option<EndedBy>,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let entry: Option<AuditEntry> = event.entry(self.clock.now(), by, caller);
        self.store.record_audit(entry.as_slice()).await?;
        event.tell();
        Ok(())
    }

    /// Removes entries that have been kept for long enough.
    pub(super) async fn sweep_audit(&self, now: Timestamp) -> Result<u32, AuthError> {
        let Some(keep) = self.settings.keep_audit else {
            return Ok(0);
        };
        let before = now.saturating_sub(keep).unwrap_or(Timestamp::MIN);
        let mut removed = 0;
        for _ in 0..SWEEPS {
            let swept = self.store.sweep_audit(before, SWEPT).await?;
            removed += swept;
            if swept < SWEPT {
                break;
            }
        }
        Ok(removed)
    }
}
