//! The port to storage, cut by transition: each method is one transaction.
//!
//! A store that answers `Ok` to a transition has made it durable. A store that answers
//! [`StoreError::Unavailable`] to a transition has changed nothing, or cannot know (the disk failed
//! during the commit); every transition may be tried again.
//!
//! A new store implements [`Store`] and passes the suite in [`contract`].

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod memory;

use std::sync::Arc;

use async_trait::async_trait;
use countersign_token::Algorithm;
use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::broadcast;

use crate::error::StoreError;
use crate::password::EncodedPassword;
use crate::session::{EndReason, EndedBy, Generation, Session, SessionEnd, SessionId};
use crate::user::{Credentials, NewUser, ProfileChange, User, UserId};

pub use self::memory::MemoryStore;

/// What every store does.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Whether the store can be read and written now.
    async fn check(&self) -> Result<(), StoreError>;

    /// What changes, from now on: in this process at once, in others as soon as the store tells.
    ///
    /// A receiver that lags has lost changes and must read the store anew.
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// The user with this id.
    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// The user with exactly this username, with the stored password.
    async fn find_credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError>;

    /// Users by id, from after `query.after` on.
    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError>;

    /// Whether there is any user.
    async fn has_users(&self) -> Result<bool, StoreError>;

    /// Makes a user.
    async fn create_user(&self, user: &NewUser) -> Result<User, CreateUserError>;

    /// Changes what a user may change of themselves. `None`: no such user.
    async fn update_profile(
        &self,
        id: UserId,
        change: &ProfileChange,
    ) -> Result<Option<User>, StoreError>;

    /// Changes an account and, in the same transaction, ends the sessions that must end with it.
    /// `None`: no such user.
    async fn change_account(&self, change: &AccountChange) -> Result<Option<User>, StoreError>;

    /// Deletes a user and ends all of the user's sessions. False: no such user.
    async fn delete_user(&self, id: UserId, ending: EndedAt) -> Result<bool, StoreError>;

    /// Opens a session if the account still is as it was when the password was checked.
    async fn open_session(&self, opening: &OpenSession) -> Result<OpenOutcome, StoreError>;

    /// A session, ended or not, with its user unless deleted. `None`: no such session.
    async fn find_session(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Option<User>)>, StoreError>;

    /// Advances a live session from one generation to the next by a single compare-and-set.
    ///
    /// False: the session is not at that generation any more, has ended, or its user may not sign
    /// in. The caller reads again and decides again.
    async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError>;

    /// Ends a session. False: it had ended before, or there is none; the first end stands.
    async fn end_session(&self, id: SessionId, end: SessionEnd) -> Result<bool, StoreError>;

    /// The signing keys, newest first.
    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError>;

    /// Makes a key the current one, and the one that was, retired, if the current key still is
    /// `instead_of` (`None`: there is none). Gives the keys as they then stand, so that of several
    /// processes that start together all use the first one's.
    async fn install_signing_key(
        &self,
        key: &SealedSigningKey,
        instead_of: Option<&str>,
    ) -> Result<Vec<SealedSigningKey>, StoreError>;
}

/// Something that processes which keep a copy must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// A session ended.
    SessionEnded(SessionId),
    /// A user was changed or deleted.
    UserChanged(UserId),
    /// The key ring was changed.
    KeysChanged,
    /// Changes were lost, or are of a kind unknown here: read the store anew.
    Everything,
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

/// Why a user was not made.
#[derive(Debug, Clone, Error)]
pub enum CreateUserError {
    /// Another user has the name.
    #[error("username taken")]
    UsernameTaken,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

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
}

impl AccountChangeKind {
    /// Why the sessions of a user who still is as `before` end with this change, if they do.
    pub fn ends_sessions(&self, before: &User) -> Option<EndReason> {
        match self {
            Self::Password(_) => Some(EndReason::PasswordChanged),
            Self::Active(false) => Some(EndReason::UserDeactivated),
            Self::Active(true) => None,
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
}

/// What became of an [`OpenSession`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The session is open; here is the user as of now.
    Opened(User),
    /// The user was deactivated in the meantime.
    Inactive,
    /// The password was changed or the user deleted in the meantime.
    Changed,
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

/// Where a signing key stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Published, not signing yet.
    Next,
    /// Signing.
    Current,
    /// Not signing any more, still published for the tokens it signed.
    Retired,
}

impl KeyState {
    /// The stored word.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Retired => "retired",
        }
    }

    /// The state that a stored word names.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Next, Self::Current, Self::Retired]
            .into_iter()
            .find(|state| state.code() == code)
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
}

/// A store that many parts share.
pub type SharedStore = Arc<dyn Store>;

/// How many changes a receiver may fall behind before it has lost some.
pub const CHANGE_BACKLOG: usize = 4_096;
