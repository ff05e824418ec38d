//! The port to storage, cut by transition: each method is one transaction.
//!
//! A store that answers `Ok` to a transition has made it durable. A store that answers
//! [`StoreError::Unavailable`] to a transition has changed nothing, or cannot know (the disk failed
//! during the commit); every transition may be tried again.
//!
//! A transition that ends all sessions of a user, or all but one, also notes when: legacy tokens that were
//! issued to the user up to then open no session any more ([`TakeOverOutcome::CutOff`]). The note never
//! moves backwards.
//!
//! A transition carries what it leaves in the audit log ([`Trail`]). The store keeps that in the same
//! transaction if the transition is made, and one entry more of each session that ends with it
//! ([`Trail::of_end`]); if it is not made, it leaves nothing.
//!
//! A new store implements [`Store`] and passes the suite in [`contract`].

mod changes;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod memory;

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_token::Algorithm;
use jiff::Timestamp;
use thiserror::Error;

use crate::audit::{AuditEntry, AuditPosition, AuditQuery, RecordedEntry, Trail};
use crate::error::StoreError;
use crate::mail::{ClaimedMail, Mail, MailAnswer, MailClaim, MailOutcome, MailWaiting};
use crate::mailed_token::{MailedToken, MailedTokenId, Registration, StoredToken};
use crate::password::EncodedPassword;
use crate::session::{
    EndReason, EndedBy, EndedSession, Generation, Session, SessionEnd, SessionId, SessionLimits,
};
use crate::throttle::{AttemptOutcome, Refund, Reservation, ThrottleKey};
use crate::user::{Credentials, Email, NewUser, ProfileChange, User, UserId};

#[cfg(any(test, feature = "testing"))]
pub use self::changes::Listener;
pub use self::changes::{Change, Watcher, Watchers};
pub use self::memory::MemoryStore;

/// What every store does.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether the store can be read and written now.
    async fn check(&self) -> Result<(), StoreError>;

    /// Tells this watcher what changes from now on: what this store's own transitions change before
    /// they are answered, what other processes change as soon as the store hears of it.
    fn watch(&self, watcher: &Arc<dyn Watcher>);

    /// The user with this id.
    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// The user with exactly this username, with the stored password.
    async fn find_credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError>;

    /// The user who has proven to read this address, and still has it. It is compared as
    /// [`Email::folded`](crate::user::Email::folded) says.
    async fn find_verified(&self, address: &Email) -> Result<Option<Credentials>, StoreError>;

    /// Users who have this address, proven or not; `most` of them, those who have proven it first. Compared
    /// without regard to case, of which a database may know less than we: who was found has the address by
    /// [`Email::fold`](crate::user::Email::fold), and who differs in the case of letters beyond ASCII may be
    /// missed.
    async fn find_by_email(
        &self,
        address: &Email,
        most: u32,
    ) -> Result<Vec<Credentials>, StoreError>;

    /// Users by id, from after `query.after` on.
    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError>;

    /// The stored passwords of some users, each once: of so many with the lowest numbers, and of as many
    /// with the highest.
    async fn sample_passwords(&self, ends: u32) -> Result<Vec<EncodedPassword>, StoreError>;

    /// Whether, in this table of users, the name to sign in with is the e-mail address.
    fn is_named_by_email(&self) -> bool;

    /// Whether there is any user.
    async fn has_users(&self) -> Result<bool, StoreError>;

    /// Makes a user, unless there is one whose name is alike
    /// ([`Likeness::is_alike`](crate::user::Likeness::is_alike)). Exact, however many are made at once.
    async fn create_user(&self, user: &NewUser, trail: &Trail) -> Result<User, CreateUserError>;

    /// Notes what the names of the next few users look like, from `after` on or, without it, from after the
    /// last that has been noted in this order, and forgets the names of those who are no more.
    ///
    /// Users whom other programs make or rename become known by this. One transaction, which looks at
    /// `limit` users at most.
    async fn note_names(&self, after: Option<UserId>, limit: u32)
    -> Result<NotedNames, StoreError>;

    /// Changes what a user may change of themselves. `None`: no such user.
    async fn update_profile(
        &self,
        id: UserId,
        change: &ProfileChange,
        trail: &Trail,
    ) -> Result<Option<User>, StoreError>;

    /// Changes an account and, in the same transaction, ends the sessions that must end with it.
    /// `None`: no such user.
    async fn change_account(
        &self,
        change: &AccountChange,
    ) -> Result<Option<AccountChanged>, StoreError>;

    /// Changes a user's own password and, in the same transaction, ends the user's other sessions; if
    /// the password still is the one that was checked and the session that asks is alive.
    async fn change_password(&self, change: &PasswordChange)
    -> Result<PasswordOutcome, StoreError>;

    /// Deletes a user and ends all of the user's sessions; gives those that it ended. `None`: no such
    /// user.
    async fn delete_user(
        &self,
        id: UserId,
        ending: EndedAt,
        trail: &Trail,
    ) -> Result<Option<Vec<EndedSession>>, StoreError>;

    /// Opens a session if the account still is as it was when the password was checked.
    async fn open_session(&self, opening: &OpenSession) -> Result<OpenOutcome, StoreError>;

    /// Records the session that a legacy token is exchanged for, unless the token has been used, the site
    /// has revoked it, or all sessions of its user have been ended since it was issued.
    async fn take_over(&self, takeover: &TakeOver) -> Result<TakeOverOutcome, StoreError>;

    /// What the site's own tables say that a user may do: the names of the user's groups and the
    /// permissions, as `app_label.codename`, of the user and of those groups; `most` of both together,
    /// and one more if there are more.
    ///
    /// [`StoreError::Unavailable`] if there are no such tables, which says what to do.
    async fn find_powers(&self, user: UserId, most: u32) -> Result<Powers, StoreError>;

    /// A session, ended or not, with its user unless deleted. `None`: no such session.
    async fn find_session(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Option<User>)>, StoreError>;

    /// Sessions by id, which is the order in which they were opened, from after `query.after` on.
    async fn list_sessions(&self, query: &SessionQuery) -> Result<Vec<Session>, StoreError>;

    /// The sessions that ended later than this, in any order.
    async fn ended_since(&self, since: Timestamp) -> Result<Vec<EndedSession>, StoreError>;

    /// Advances a live session from one generation to the next by a single compare-and-set.
    ///
    /// False: the session is not at that generation any more, has ended, or its user may not sign
    /// in. The caller reads again and decides again.
    async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError>;

    /// Ends a session. False: it had ended before, or there is none; the first end stands.
    ///
    /// Here and in every other transition that ends sessions the end is noted as
    /// [`Session::end_at`] says: never before the last rotation.
    async fn end_session(
        &self,
        id: SessionId,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<bool, StoreError>;

    /// Ends every live session of a user but `spared`; gives those that it ended. Also if there are none,
    /// legacy tokens issued until then are refused.
    async fn end_sessions(
        &self,
        user: UserId,
        spared: Option<SessionId>,
        end: SessionEnd,
        trail: &Trail,
    ) -> Result<Vec<EndedSession>, StoreError>;

    /// The signing keys, newest first.
    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError>;

    /// Replaces the whole ring of signing keys by a compare-and-set: only if it still is as `seen`.
    /// Gives the keys as they then stand, so that of several processes that decide at once all go on
    /// with the first one's decision.
    async fn swap_signing_keys(
        &self,
        seen: &[SealedSigningKey],
        new: &[SealedSigningKey],
        trail: &Trail,
    ) -> Result<Vec<SealedSigningKey>, StoreError>;

    /// Takes the turn of doing upkeep until an instant. False: another process has it now.
    async fn take_upkeep_turn(&self, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Claims mails that are due: until `claim.until` nobody else is given them.
    async fn claim_mail(&self, claim: &MailClaim) -> Result<Vec<ClaimedMail>, StoreError>;

    /// Notes what has become of a claimed mail. False: the claim has run out and somebody else has the
    /// mail, or had it and settled it; nothing is changed.
    async fn settle_mail(
        &self,
        claimed: &ClaimedMail,
        outcome: MailOutcome,
    ) -> Result<bool, StoreError>;

    /// How many mails wait. Of very many it counts some hundred thousand.
    async fn count_mail(&self) -> Result<MailWaiting, StoreError>;

    /// Keeps a mail that no other transition carries.
    async fn queue_mail(&self, mail: &Mail, trail: &Trail) -> Result<(), StoreError>;

    /// Puts letters in the place of a claimed wish for some, with the tokens that they carry. False: the
    /// claim has run out and somebody else has the wish, or had it and answered it; nothing is changed.
    async fn answer_mail(
        &self,
        claimed: &ClaimedMail,
        answers: &[MailAnswer],
    ) -> Result<bool, StoreError>;

    /// Keeps a token, and the mail that carries it, if the session that asks is alive. False: it is not.
    ///
    /// Here and in [`answer_mail`](Self::answer_mail), of more than
    /// [`MOST_MAILED_TOKENS`](crate::mailed_token::MOST_MAILED_TOKENS) of one purpose for one user the
    /// oldest are removed.
    async fn issue_token(&self, issue: &IssueToken) -> Result<bool, StoreError>;

    /// What stands behind the name of a token, expired or not. A deleted user has none.
    async fn find_mailed_token(&self, id: MailedTokenId)
    -> Result<Option<StoredToken>, StoreError>;

    /// Uses up a token to set a new password, and in the same transaction ends all sessions of its user; if
    /// the account still is as it was when the token was found genuine.
    async fn reset_password(&self, reset: &PasswordReset) -> Result<ResetOutcome, StoreError>;

    /// Uses up a token that proves an address: the user's own or, if the user has another, the new one that
    /// takes its place. An address is proven for one user at a time.
    async fn verify_email(&self, proof: &EmailProof) -> Result<EmailOutcome, StoreError>;

    /// Reserves a name for somebody who has to prove an address first, unless somebody has the name or has
    /// reserved it. Where the address is the name ([`is_named_by_email`](Self::is_named_by_email)) that would
    /// tell who has an account: then nothing is reserved and nobody refused, and of several who prove the
    /// address the first has it.
    async fn register(&self, register: &Register) -> Result<RegisterOutcome, StoreError>;

    /// The registrations that wait for this address to be proven; `most` of them, the newest first.
    async fn find_registrations(
        &self,
        address: &Email,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<Registration>, StoreError>;

    /// Makes a user of a registration whose address has been proven, and uses it up.
    async fn complete_registration(
        &self,
        id: MailedTokenId,
        now: Timestamp,
        trail: &Trail,
    ) -> Result<RegistrationOutcome, StoreError>;

    /// Removes at most so many mailed tokens and registrations that have expired; gives how many.
    async fn sweep_mailed_tokens(&self, now: Timestamp, most: u32) -> Result<u32, StoreError>;

    /// Looks at the next few sessions by id: ends those past their limits, and removes those that
    /// ended long ago.
    async fn sweep_sessions(&self, sweep: &SessionSweep) -> Result<Swept, StoreError>;

    /// Reserves an attempt at each of these counters, or, if one of them says to wait, at none.
    ///
    /// Exact, however many attempt at once and in however many processes:
    /// [`throttle::decide`](crate::throttle::decide) decides about the counters as they stand, and nobody
    /// comes between that and their being written. No two of the reservations have the same key.
    async fn reserve_attempt(
        &self,
        reservations: &[Reservation],
        now: Timestamp,
    ) -> Result<AttemptOutcome, StoreError>;

    /// Gives back what an attempt reserved, and nothing that others have reserved since.
    async fn refund_attempt(&self, refunds: &[Refund], now: Timestamp) -> Result<(), StoreError>;

    /// Removes these counters, whatever they say: what was attempted so far counts no more.
    async fn forget_attempts(&self, keys: &[ThrottleKey], trail: &Trail) -> Result<(), StoreError>;

    /// Removes at most so many counters that say nothing any more; gives how many.
    async fn sweep_throttles(&self, now: Timestamp, most: u32) -> Result<u32, StoreError>;

    /// Keeps entries of what happened without a transition.
    async fn record_audit(&self, entries: &[AuditEntry]) -> Result<(), StoreError>;

    /// Entries of the audit log, newest first.
    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<RecordedEntry>, StoreError>;

    /// Where the audit log ends now, to be followed from there. Where transactions overlap, a few entries from
    /// just before may come after it; none from then on is missed.
    async fn audit_end(&self) -> Result<AuditPosition, StoreError>;

    /// The next entries after a position, at most so many, each with the position to go on from. Whoever
    /// goes on like this misses none, in whichever order transactions end.
    async fn follow_audit(
        &self,
        from: AuditPosition,
        most: u32,
    ) -> Result<Vec<(AuditPosition, RecordedEntry)>, StoreError>;

    /// Removes at most so many entries from before an instant; gives how many.
    async fn sweep_audit(&self, before: Timestamp, most: u32) -> Result<u32, StoreError>;
}

/// Which users to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserQuery {
    /// Only users whose username or e-mail contains this, in either case.
    pub search: Option<String>,
    /// Only users after this one.
    pub after: Option<UserId>,
    /// At most this many.
    pub limit: u32,
}

/// Which sessions to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionQuery {
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only those that have not ended.
    pub live: bool,
    /// Only sessions after this one.
    pub after: Option<SessionId>,
    /// At most this many.
    pub limit: u32,
}

/// Why a user was not made.
#[derive(Debug, Clone, Error)]
pub enum CreateUserError {
    /// Another user has the name, or one that is alike.
    #[error("username taken")]
    UsernameTaken,
    /// It is not known yet whether somebody has a name that is alike: others have made more users than one
    /// transaction can look at. [`Store::note_names`] goes on with that.
    #[error("the names of other users have not been looked at yet")]
    NamesUnknown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far the names of the users are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotedNames {
    /// After whom to go on. `None`: that was all of them.
    pub next: Option<UserId>,
    /// How many names were not known, or not as they are now.
    pub noted: u32,
}

/// So many numbers below the highest that is known are looked at once more for users who appeared since: of
/// two that are made at once, the one with the higher number may be there first.
pub const NAMES_OVERLAP: i64 = 256;

/// Where there are as many users above that, more have come from elsewhere than the making of one looks at.
pub const MOST_NEW_NAMES: u32 = 750;

/// When something ended, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedAt {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: EndedBy,
}

impl EndedAt {
    /// An end for this reason.
    pub const fn because(self, reason: EndReason) -> SessionEnd {
        SessionEnd {
            reason,
            at: self.at,
            by: self.by,
        }
    }
}

/// A change of an account that may cost it its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountChange {
    /// Whose account.
    pub user: UserId,
    /// What changes.
    pub kind: AccountChangeKind,
    /// When and by whom.
    pub ending: EndedAt,
    /// Who is told of it, kept in the same transaction.
    pub mail: Option<Mail>,
    /// What it leaves in the audit log.
    pub trail: Trail,
}

/// What changes about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountChangeKind {
    /// A new password; all sessions end.
    Password(EncodedPassword),
    /// Whether the user may sign in; all sessions end when not.
    Active(bool),
    /// The user's powers; all sessions end when they change.
    Roles {
        /// Whether the user may enter the admin site.
        is_staff: bool,
        /// Whether the user has every permission.
        is_superuser: bool,
    },
    /// Another address, which is not proven.
    Email(Email),
}

impl AccountChangeKind {
    /// Why the sessions of a user who still is as `before` end with this change, if they do.
    pub fn ends_sessions(&self, before: &User) -> Option<EndReason> {
        match self {
            Self::Password(_) => Some(EndReason::PasswordChanged),
            Self::Active(false) => Some(EndReason::UserDeactivated),
            Self::Active(true) | Self::Email(_) => None,
            Self::Roles {
                is_staff,
                is_superuser,
            } => {
                let changed = (before.is_staff, before.is_superuser) != (*is_staff, *is_superuser);
                changed.then_some(EndReason::RolesChanged)
            }
        }
    }
}

/// An account as changed, and what that cost it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountChanged {
    /// The user as of now.
    pub user: User,
    /// The sessions that ended with the change.
    pub ended: Vec<EndedSession>,
}

/// A user's change of their own password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordChange {
    /// Whose.
    pub user: UserId,
    /// The session that asks for it, which must be alive and goes on.
    pub session: SessionId,
    /// The stored password that was checked: only if it still is the user's is it changed.
    pub verified: EncodedPassword,
    /// The new one.
    pub new: EncodedPassword,
    /// When and by whom.
    pub ending: EndedAt,
    /// Who is told of it, kept in the same transaction.
    pub mail: Option<Mail>,
    /// What it leaves in the audit log.
    pub trail: Trail,
}

/// What became of a [`PasswordChange`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordOutcome {
    /// It was changed, and these other sessions ended.
    Changed(Vec<EndedSession>),
    /// The password had been changed in the meantime, or the user was deleted.
    Outdated,
    /// The session that asked has ended in the meantime.
    SessionOver,
}

/// A token to be mailed, asked for by somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueToken {
    /// The token.
    pub token: MailedToken,
    /// The session that asks for it, which must be alive.
    pub session: SessionId,
    /// The letter that carries it; `None`: so many have been sent there lately that this one is not.
    pub mail: Option<Mail>,
    /// What it leaves in the audit log.
    pub trail: Trail,
}

/// A new password in exchange for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordReset {
    /// The token, which is used up.
    pub token: MailedTokenId,
    /// Whose it is.
    pub user: UserId,
    /// The stored password as it was when the token was found genuine.
    pub before: EncodedPassword,
    /// The address as it was then, which the token proves.
    pub email: String,
    /// The new password.
    pub new: EncodedPassword,
    /// When and by whom.
    pub ending: EndedAt,
    /// Who is told of it, kept in the same transaction.
    pub mail: Option<Mail>,
    /// What it leaves in the audit log.
    pub trail: Trail,
    /// What it leaves there, too, if the address was not proven before and is now.
    pub proof: Trail,
}

/// What became of a [`PasswordReset`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResetOutcome {
    /// The password is the new one.
    Reset {
        /// The sessions that ended.
        ended: Vec<EndedSession>,
        /// Whether the address is proven only now.
        proven: bool,
    },
    /// The token has been used, or the account has changed since it was mailed.
    Dead,
}

/// An address that a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmailProof {
    /// The token, which is used up.
    pub token: MailedTokenId,
    /// Whose it is.
    pub user: UserId,
    /// The stored password as it was when the token was found genuine.
    pub before: EncodedPassword,
    /// The address that the user had then.
    pub from: String,
    /// The address that is proven.
    pub to: String,
    /// When.
    pub at: Timestamp,
    /// Who is told of it, kept in the same transaction.
    pub mail: Option<Mail>,
    /// What it leaves in the audit log.
    pub trail: Trail,
}

/// What became of an [`EmailProof`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmailOutcome {
    /// The address is the user's, and proven.
    Proven,
    /// Somebody else has proven it.
    Taken,
    /// The token has been used, or the account has changed since it was mailed.
    Dead,
}

/// A registration to keep until the address is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The registration.
    pub registration: Registration,
    /// The letter that carries its token; `None`: so many have been sent there lately that this one is not.
    /// Then nothing is kept of the registration, which nobody can complete, and the outcome is the same.
    pub mail: Option<Mail>,
    /// What it leaves in the audit log.
    pub trail: Trail,
}

/// What became of a [`Register`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// The name is reserved, if there is a letter.
    Pending,
    /// Somebody has the name or one that is alike, or has reserved it.
    UsernameTaken,
    /// It is not known yet whether somebody has one that is alike; see [`CreateUserError::NamesUnknown`].
    NamesUnknown,
    /// In this table of users the name is the address, and another was given.
    NameIsNotTheAddress,
}

/// What became of a registration whose address has been proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationOutcome {
    /// The user is made.
    Made(User),
    /// Somebody has been made with that name meanwhile, or with one that is alike.
    UsernameTaken,
    /// It is not known yet whether somebody has; see [`CreateUserError::NamesUnknown`].
    NamesUnknown,
    /// Somebody has proven that address meanwhile.
    EmailTaken,
    /// It has been completed, or has expired.
    Dead,
}

/// A session to open after a password was found right.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// The session as it starts.
    pub session: Session,
    /// The stored password that was checked: the session opens only if it still is the user's.
    pub verified: EncodedPassword,
    /// The same password by today's cost, to be stored instead.
    pub upgraded: Option<EncodedPassword>,
    /// The session that the same browser had, which ends.
    pub replaced: Option<SessionId>,
    /// How many sessions the user may have at once, this one among them: of more, those used least
    /// recently end.
    pub most: Option<NonZeroU32>,
    /// What the user is told of it, kept in the same transaction.
    pub mail: Option<Mail>,
    /// What it leaves in the audit log.
    pub trail: Trail,
}

/// What became of an [`OpenSession`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The session is open.
    Opened {
        /// The user as of now.
        user: User,
        /// The sessions that ended for it.
        ended: Vec<EndedSession>,
    },
    /// The user was deactivated in the meantime.
    Inactive,
    /// The password was changed or the user deleted in the meantime.
    Changed,
}

/// A session to record in exchange for a legacy token, from which its id is derived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The session as it starts; or ended, if the token is not to be exchanged but to be used up.
    pub session: Session,
    /// The name by which the site may have revoked the token: it is looked up in the tables of
    /// simplejwt's blacklist, where there are any.
    pub token_id: Option<String>,
    /// How many sessions the user may have at once; as [`OpenSession::most`].
    pub most: Option<NonZeroU32>,
    /// What it leaves in the audit log.
    pub trail: Trail,
}

/// What became of a [`TakeOver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeOverOutcome {
    /// The session is recorded.
    TakenOver {
        /// The user as of now.
        user: User,
        /// The sessions that ended for it.
        ended: Vec<EndedSession>,
    },
    /// There is such a session: the token has been used before.
    Used,
    /// The site has revoked the token.
    Revoked,
    /// All sessions of the user were ended when the token had been issued already, or within the same
    /// second, for it tells no finer when it was issued. A token that is to be used up is recorded all
    /// the same.
    CutOff,
    /// The user may not sign in.
    Inactive,
    /// There is no such user.
    NoSuchUser,
}

/// What a user may do, by the site's own tables. Each list in the order of its names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Powers {
    /// The names of the user's groups.
    pub groups: Vec<String>,
    /// The permissions of the user and of the user's groups. Of a superuser only those that are given
    /// one by one.
    pub permissions: Vec<String>,
}

/// One step of a session's refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Which session.
    pub session: SessionId,
    /// The generation it is believed to be at.
    pub from: Generation,
    /// When.
    pub at: Timestamp,
}

/// Where a sweep of the sessions goes on, and what it does with which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSweep {
    /// Only sessions after this one.
    pub after: Option<SessionId>,
    /// At most this many are looked at.
    pub limit: u32,
    /// Live sessions that are past these by `now` end.
    pub limits: SessionLimits,
    /// The present.
    pub now: Timestamp,
    /// Sessions that ended before this are removed.
    pub forget_before: Timestamp,
}

/// What one step of a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// The last session looked at, after which the next step goes on. `None`: that was all of them.
    pub next: Option<SessionId>,
    /// How many ended, because a limit had passed.
    pub expired: u32,
    /// How many were removed.
    pub removed: u32,
}

/// Where a signing key stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Published, not signing yet.
    Next,
    /// Signing.
    Current,
    /// Not signing any more, still published for the tokens it signed.
    Retired,
    /// Known to others, or feared to be: neither signing nor published, and its tokens are refused.
    Revoked,
}

impl KeyState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Next, Self::Current, Self::Retired, Self::Revoked];

    /// The stored word.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        }
    }

    /// The state that a stored word names.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// A signing key as it is stored: its private part sealed under a key derived from the root secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSigningKey {
    /// The RFC 7638 thumbprint of the public key.
    pub kid: String,
    /// The algorithm it signs with.
    pub algorithm: Algorithm,
    /// Where it stands in its life.
    pub state: KeyState,
    /// Nonce, ciphertext and tag of its PKCS#8 form.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is in its state.
    pub state_since: Timestamp,
}

/// A store that many parts share.
pub type SharedStore = Arc<dyn Store>;
