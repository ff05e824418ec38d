//! A store that works, until a test says otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use countersign::core::audit::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry, Trail};
use countersign::core::error::StoreError;
use countersign::core::mail::{ClaimedMail, Mail, MailAnswer, MailClaim, MailOutcome, MailWaiting};
use countersign::core::mailed_token::{MailedTokenId, Registration, StoredToken};
use countersign::core::password::EncodedPassword;
use countersign::core::session::{EndedSession, Session, SessionEnd, SessionId};
use countersign::core::store::{
    AccountChange, AccountChanged, Change, CreateUserError, EmailOutcome, EmailProof, EndedAt,
    IssueToken, MemoryStore, NotedNames, OpenOutcome, OpenSession, PasswordChange, PasswordOutcome,
    PasswordReset, Powers, Register, RegisterOutcome, RegistrationOutcome, ResetOutcome, Rotation,
    SealedSigningKey, SessionQuery, SessionSweep, Store, Swept, TakeOver, TakeOverOutcome,
    UserQuery, Watcher, Watchers,
};
use countersign::core::throttle::{AttemptOutcome, Refund, Reservation, ThrottleKey};
use countersign::core::user::{Credentials, Email, NewUser, ProfileChange, User, UserId};
use jiff::Timestamp;
use tokio::sync::Barrier;

/// What is the matter with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It cannot be reached.
    Unavailable,
    /// It can be read and not written, as when the disk is full.
    ReadOnly,
    /// It opens no sessions, as when somebody holds a lock on their table.
    OpensNothing,
    /// It holds what cannot be.
    Corrupt,
    /// It never answers.
    Hangs,
    /// It has a bug.
    Panics,
}

/// What the store's errors and panics quote, and nobody outside may read.
pub(crate) const INNERMOST: &str = "/var/lib/innermost.db: SELECT password FROM auth_user";

/// The store that forgets, with troubles.
#[derive(Debug, Default)]
pub(crate) struct TroubledStore {
    inner: Arc<MemoryStore>,
    feed: Arc<Feed>,
    reads: AtomicUsize,
    trouble: Mutex<Option<Trouble>>,
    before_rotating: Mutex<Option<Arc<Barrier>>>,
    after_finding_a_user: Mutex<Option<Arc<Barrier>>>,
    rotations: AtomicUsize,
}

/// What one process hears of the tables: all, or nothing while it has lost its feed.
#[derive(Debug, Default)]
struct Feed {
    watchers: Watchers,
    is_lost: AtomicBool,
}

impl Watcher for Feed {
    fn hear(&self, change: Change) {
        if !self.is_lost.load(Ordering::SeqCst) {
            self.watchers.tell(change);
        }
    }
}

impl TroubledStore {
    /// Another process's way to the same tables, with troubles of its own.
    pub(crate) fn beside(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            ..Self::default()
        }
    }

    pub(crate) fn have(&self, trouble: Trouble) {
        *lock(&self.trouble) = Some(trouble);
        if !matches!(trouble, Trouble::ReadOnly | Trouble::OpensNothing) {
            self.lose_the_feed();
        }
    }

    /// It works, and nothing is heard of what changes.
    pub(crate) fn lose_the_feed(&self) {
        self.feed.watchers.tell(Change::Unheard);
        self.feed.is_lost.store(true, Ordering::SeqCst);
    }

    pub(crate) fn recover(&self) {
        *lock(&self.trouble) = None;
        self.feed.is_lost.store(false, Ordering::SeqCst);
        self.feed.watchers.tell(Change::HeardAgain);
    }

    /// How many reads there have been.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// The next rotations wait until so many callers have come as far, and again until as many let
    /// them go on.
    pub(crate) fn gather_before_rotating(&self, callers: usize) -> Arc<Barrier> {
        let barrier = Arc::new(Barrier::new(callers));
        *lock(&self.before_rotating) = Some(Arc::clone(&barrier));
        barrier
    }

    /// The next one who looks for a user is held up on the way back, until another has come there twice:
    /// once to know that the user was read, and once to let the reader go on.
    pub(crate) fn hold_up_after_finding_a_user(&self) -> Arc<Barrier> {
        let barrier = Arc::new(Barrier::new(2));
        *lock(&self.after_finding_a_user) = Some(Arc::clone(&barrier));
        barrier
    }

    /// How many rotations have succeeded.
    pub(crate) fn rotations(&self) -> usize {
        self.rotations.load(Ordering::SeqCst)
    }

    async fn read(&self) -> Result<(), StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let trouble = *lock(&self.trouble);
        match trouble {
            None | Some(Trouble::ReadOnly | Trouble::OpensNothing) => Ok(()),
            Some(Trouble::Unavailable) => Err(StoreError::Unavailable(INNERMOST.to_owned())),
            Some(Trouble::Corrupt) => Err(StoreError::Corrupt(INNERMOST.to_owned())),
            Some(Trouble::Hangs) => std::future::pending().await,
            Some(Trouble::Panics) => panic!("{INNERMOST}"),
        }
    }

    async fn write(&self) -> Result<(), StoreError> {
        self.read().await?;
        match *lock(&self.trouble) {
            Some(Trouble::ReadOnly) => Err(StoreError::Unavailable(INNERMOST.to_owned())),
            _ => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for TroubledStore {
    async fn check(&self) -> Result<(), StoreError> {
        self.write().await?;
        self.inner.check().await
    }

    fn watch(&self, watcher: &Arc<dyn Watcher>) {
        // Listened to from the first watcher on, and only once.
        if Arc::weak_count(&self.feed) == 0 {
            let feed: Arc<dyn Watcher> = self.feed.clone();
            self.inner.watch(&feed);
        }
        self.feed.watchers.add(watcher);
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.read().await?;
        let found = self.inner.find_user(id).await;
        let barrier = lock(&self.after_finding_a_user).take();
        if let Some(barrier) = barrier {
            barrier.wait().await;
            barrier.wait().await;
        }
        found
    }

    async fn find_credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError> {
        self.read().await?;
        self.inner.find_credentials(username).await
    }

    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError> {
        self.read().await?;
        self.inner.list_users(query).await
    }

    async fn sample_passwords(&self, ends: u32) -> Result<Vec<EncodedPassword>, StoreError> {
        self.read().await?;
        self.inner.sample_passwords(ends).await
    }

    fn is_named_by_email(&self) -> bool {
        self.inner.is_named_by_email()
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        self.read().await?;
        self.inner.has_users().await
    }

    async fn create_user(&self, user: &NewUser, trail: &Trail) -> Result<User, CreateUserError> {
        self.write().await?;
        self.inner.create_user(user, trail).await
    }

    async fn note_names(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<NotedNames, StoreError> {
        self.write().await?;
        self.inner.note_names(after, limit).await
    }

    async fn update_profile(
        &self,
        id: UserId,
        change: &ProfileChange,
        trail: &Trail,
    ) -> Result<Option<User>, StoreError> {
        self.write().await?;
        self.inner.update_profile(id, change, trail).await
    }

    async fn change_account(
        &self,
        change: &AccountChange,
    ) -> Result<Option<AccountChanged>, StoreError> {
        self.write().await?;
        self.inner.change_account(change).await
    }

    async fn change_password(
        &self,
        change: &PasswordChange,
    ) -> Result<PasswordOutcome, StoreError> {
        self.write().await?;
        self.inner.change_password(change).await
    }

    async fn delete_user(
        &self,
        id: UserId,
        ending: EndedAt,
        trail: &Trail,
    ) -> Result<Option<Vec<EndedSession>>, StoreError> {
        self.write().await?;
        self.inner.delete_user(id, ending, trail).await
    }

    async fn open_session(&self, opening: &OpenSession) -> Result<OpenOutcome, StoreError> {
        self.write().await?;
        if *lock(&self.trouble) == Some(Trouble::OpensNothing) {
            return Err(StoreError::Unavailable(INNERMOST.to_owned()));
        }
        self.inner.open_session(opening).await
    }

    async fn take_over(&self, takeover: &TakeOver) -> Result<TakeOverOutcome, StoreError> {
        self.write().await?;
        self.inner.take_over(takeover).await
    }

    async fn find_powers(&self, user: UserId, most: u32) -> Result<Powers, StoreError> {
        self.read().await?;
        self.inner.find_powers(user, most).await
    }

    async fn find_session(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Option<User>)>, StoreError> {
        self.read().await?;
        self.inner.find_session(id).await
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        self.write().await?;
        let barrier = lock(&self.before_rotating).clone();
        if let Some(barrier) = barrier {
            barrier.wait().await;
            barrier.wait().await;
        }
        let rotated = self.inner.rotate(rotation).await?;
        self.rotations.fetch_add(rotated.into(), Ordering::SeqCst);
        Ok(rotated)
    }

    async fn list_sessions(&self, query: &SessionQuery) -> Result<Vec<Session>, StoreError> {
        self.read().await?;
        self.inner.list_sessions(query).await
    }

    async fn ended_since(&self, since: Timestamp) -> Result<Vec<EndedSession>, StoreError> {
        self.read().await?;
        self.inner.ended_since(since).await
    }

    async fn end_sessions(
        &self,
        user: UserId,
        spared: Option<SessionId>,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<Vec<EndedSession>, StoreError> {
        self.write().await?;
        self.inner.end_sessions(user, spared, end, trail).await
    }

    async fn end_session(
        &self,
        id: SessionId,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<bool, StoreError> {
        self.write().await?;
        self.inner.end_session(id, end, trail).await
    }

    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError> {
        self.read().await?;
        self.inner.signing_keys().await
    }

    async fn swap_signing_keys(
        &self,
        seen: &[SealedSigningKey],
        new: &[SealedSigningKey],
        trail: &Trail,
    ) -> Result<Vec<SealedSigningKey>, StoreError> {
        self.write().await?;
        self.inner.swap_signing_keys(seen, new, trail).await
    }

    async fn take_upkeep_turn(&self, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.write().await?;
        self.inner.take_upkeep_turn(now, until).await
    }

    async fn claim_mail(&self, claim: &MailClaim) -> Result<Vec<ClaimedMail>, StoreError> {
        self.write().await?;
        self.inner.claim_mail(claim).await
    }

    async fn settle_mail(
        &self,
        claimed: &ClaimedMail,
        outcome: MailOutcome,
    ) -> Result<bool, StoreError> {
        self.write().await?;
        self.inner.settle_mail(claimed, outcome).await
    }

    async fn find_verified(&self, address: &Email) -> Result<Option<Credentials>, StoreError> {
        self.read().await?;
        self.inner.find_verified(address).await
    }

    async fn find_by_email(
        &self,
        address: &Email,
        most: u32,
    ) -> Result<Vec<Credentials>, StoreError> {
        self.read().await?;
        self.inner.find_by_email(address, most).await
    }

    async fn count_mail(&self) -> Result<MailWaiting, StoreError> {
        self.read().await?;
        self.inner.count_mail().await
    }

    async fn queue_mail(&self, mail: &Mail, trail: &Trail) -> Result<(), StoreError> {
        self.write().await?;
        self.inner.queue_mail(mail, trail).await
    }

    async fn answer_mail(
        &self,
        claimed: &ClaimedMail,
        answers: &[MailAnswer],
    ) -> Result<bool, StoreError> {
        self.write().await?;
        self.inner.answer_mail(claimed, answers).await
    }

    async fn issue_token(&self, issue: &IssueToken) -> Result<bool, StoreError> {
        self.write().await?;
        self.inner.issue_token(issue).await
    }

    async fn find_mailed_token(
        &self,
        id: MailedTokenId,
    ) -> Result<Option<StoredToken>, StoreError> {
        self.read().await?;
        self.inner.find_mailed_token(id).await
    }

    async fn reset_password(&self, reset: &PasswordReset) -> Result<ResetOutcome, StoreError> {
        self.write().await?;
        self.inner.reset_password(reset).await
    }

    async fn verify_email(&self, proof: &EmailProof) -> Result<EmailOutcome, StoreError> {
        self.write().await?;
        self.inner.verify_email(proof).await
    }

    async fn register(&self, register: &Register) -> Result<RegisterOutcome, StoreError> {
        self.write().await?;
        self.inner.register(register).await
    }

    async fn find_registrations(
        &self,
        address: &Email,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        self.read().await?;
        self.inner.find_registrations(address, now, most).await
    }

    async fn complete_registration(
        &self,
        id: MailedTokenId,
        now: Timestamp,
        trail: &Trail,
    ) -> Result<RegistrationOutcome, StoreError> {
        self.write().await?;
        self.inner.complete_registration(id, now, trail).await
    }

    async fn sweep_mailed_tokens(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.write().await?;
        self.inner.sweep_mailed_tokens(now, most).await
    }

    async fn sweep_sessions(&self, sweep: &SessionSweep) -> Result<Swept, StoreError> {
        self.write().await?;
        self.inner.sweep_sessions(sweep).await
    }
    async fn reserve_attempt(
        &self,
        reservations: &[Reservation],
        now: Timestamp,
    ) -> Result<AttemptOutcome, StoreError> {
        self.write().await?;
        self.inner.reserve_attempt(reservations, now).await
    }

    async fn refund_attempt(&self, refunds: &[Refund], now: Timestamp) -> Result<(), StoreError> {
        self.write().await?;
        self.inner.refund_attempt(refunds, now).await
    }

    async fn forget_attempts(&self, keys: &[ThrottleKey], trail: &Trail) -> Result<(), StoreError> {
        self.write().await?;
        self.inner.forget_attempts(keys, trail).await
    }

    async fn sweep_throttles(&self, now: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.write().await?;
        self.inner.sweep_throttles(now, most).await
    }

    async fn record_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.write().await?;
        self.inner.record_audit(entries).await
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<RecordedEntry>, StoreError> {
        self.read().await?;
        self.inner.list_audit(query).await
    }

    async fn audit_end(&self) -> Result<AuditPosition, StoreError> {
        self.read().await?;
        self.inner.audit_end().await
    }

    async fn follow_audit(
        &self,
        from: AuditPosition,
        most: u32,
    ) -> Result<Vec<(AuditPosition, RecordedEntry)>, StoreError> {
        self.read().await?;
        self.inner.follow_audit(from, most).await
    }

    async fn sweep_audit(&self, before: Timestamp, most: u32) -> Result<u32, StoreError> {
        self.write().await?;
        self.inner.sweep_audit(before, most).await
    }
}
