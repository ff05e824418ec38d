//! What governs the use cases.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::Value;

#[cfg(doc)]
use super::Auth;
use crate::keys::{KeySchedule, SigningAlgorithm};
use crate::notices::NoticeSettings;
use crate::password::{Argon2Cost, HashingSettings, PasswordPolicy, WriteAs};
use crate::refresh_token::LegacyTokenSettings;
use crate::session::SessionLimits;
use crate::throttle::ThrottleSettings;
use crate::user::User;

/// How tokens are made.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The `iss` of every token: the service's public URL.
    pub issuer: String,
    /// The `aud` of access tokens; none if empty.
    pub audience: Vec<String>,
    /// The algorithm that signs access tokens.
    pub algorithm: SigningAlgorithm,
    /// How long an access token lives.
    pub access_lifetime: Duration,
    /// How far the issuer's own clock may be off when it checks its tokens.
    pub leeway: Duration,
    /// The user's fields that access tokens carry.
    pub user_claims: Vec<UserClaim>,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            issuer: "http://127.0.0.1:8000".to_owned(),
            audience: Vec::new(),
            algorithm: SigningAlgorithm::default(),
            access_lifetime: Duration::from_mins(5),
            leeway: Duration::ZERO,
            user_claims: Vec::new(),
        }
    }
}

/// A field of the user that access tokens can carry, under the field's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserClaim {
    /// The username.
    Username,
    /// The e-mail address.
    Email,
    /// The given name.
    FirstName,
    /// The family name.
    LastName,
    /// Whether the user may enter the admin site.
    IsStaff,
    /// Whether the user has every permission.
    IsSuperuser,
    /// The names of the user's groups, as the Django site's tables have them.
    Groups,
    /// The permissions of the user and of those groups. A superuser's are only those given one by one.
    Permissions,
}

impl UserClaim {
    /// Every field there is.
    pub const ALL: [Self; 8] = [
        Self::Username,
        Self::Email,
        Self::FirstName,
        Self::LastName,
        Self::IsStaff,
        Self::IsSuperuser,
        Self::Groups,
        Self::Permissions,
    ];

    /// The claim's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Email => "email",
            Self::FirstName => "first_name",
            Self::LastName => "last_name",
            Self::IsStaff => "is_staff",
            Self::IsSuperuser => "is_superuser",
            Self::Groups => "groups",
            Self::Permissions => "permissions",
        }
    }

    /// Whether it says what the user may do, for which other tables are read.
    pub(super) const fn is_power(self) -> bool {
        matches!(self, Self::Groups | Self::Permissions)
    }

    /// What the user's own row says of it.
    pub(super) fn value(self, user: &User) -> Option<Value> {
        Some(match self {
            Self::Username => user.username.as_str().into(),
            Self::Email => user.email.as_str().into(),
            Self::FirstName => user.first_name.as_str().into(),
            Self::LastName => user.last_name.as_str().into(),
            Self::IsStaff => user.is_staff.into(),
            Self::IsSuperuser => user.is_superuser.into(),
            Self::Groups | Self::Permissions => return None,
        })
    }
}

/// How long signing keys live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTimes {
    /// How long a key signs.
    pub rotate_every: Duration,
    /// How long before that it is published; at least [`KeySchedule::LEAST_PUBLISH_BEFORE`], or
    /// resource servers meet tokens of a key that they do not know.
    pub publish_before: Duration,
}

impl Default for KeyTimes {
    fn default() -> Self {
        let KeySchedule {
            rotate_every,
            publish_before,
            ..
        } = KeySchedule::default();
        Self {
            rotate_every,
            publish_before,
        }
    }
}

/// How long mailed tokens work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailedTokenSettings {
    /// Those that set a new password.
    pub reset_lifetime: Duration,
    /// Those that prove an address; as long a registration reserves its name.
    pub verify_lifetime: Duration,
}

impl Default for MailedTokenSettings {
    /// OWASP ASVS 6.4.1 wants them short-lived: an hour for what opens an account, a day for what opens
    /// none.
    fn default() -> Self {
        Self {
            reset_lifetime: Duration::from_hours(1),
            verify_lifetime: Duration::from_hours(24),
        }
    }
}

/// Who may make an account for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrationSettings {
    /// Whether anybody may.
    pub enabled: bool,
    /// Whether the address must be proven first: until then there is no user.
    pub verify_email: bool,
}

impl Default for RegistrationSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            verify_email: true,
        }
    }
}

/// Everything that governs the use cases.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// How tokens are made.
    pub tokens: TokenSettings,
    /// How long signing keys live.
    pub keys: KeyTimes,
    /// How long sessions last.
    pub sessions: SessionLimits,
    /// How many sessions a user may have at once; `None`: any number.
    pub max_sessions_per_user: Option<NonZeroU32>,
    /// How long an ended session is kept, to tell its client and its user why it ended.
    pub keep_ended_sessions: Duration,
    /// How long an entry of the audit log is kept; `None`: for good.
    pub keep_audit: Option<Duration>,
    /// Which new passwords are accepted.
    pub passwords: PasswordPolicy,
    /// How passwords are hashed.
    pub hashing: HashingSettings,
    /// How often what may be attempted.
    pub throttle: ThrottleSettings,
    /// Which refresh tokens of a Django site are exchanged for sessions; `None`: none.
    pub legacy_tokens: Option<LegacyTokenSettings>,
    /// How long mailed tokens work.
    pub mailed_tokens: MailedTokenSettings,
    /// Who may make an account for themselves.
    pub registration: RegistrationSettings,
    /// Whether people are told by mail what happens to their accounts. Only where somebody delivers it
    /// ([`Auth::run_mail`]): nothing else empties the queue.
    pub queue_mail: bool,
    /// Of what they are told.
    pub notices: NoticeSettings,
}

impl Default for AuthSettings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            tokens: TokenSettings::default(),
            keys: KeyTimes::default(),
            sessions: SessionLimits::default(),
            max_sessions_per_user: None,
            keep_ended_sessions: Duration::from_hours(30 * 24),
            keep_audit: Some(Duration::from_hours(365 * 24)),
            passwords: PasswordPolicy::default(),
            hashing: HashingSettings {
                write_as: WriteAs::Argon2,
                cost: Argon2Cost::default(),
                threads,
                queue: 32 * threads,
            },
            throttle: ThrottleSettings::default(),
            legacy_tokens: None,
            mailed_tokens: MailedTokenSettings::default(),
            registration: RegistrationSettings::default(),
            queue_mail: false,
            notices: NoticeSettings::default(),
        }
    }
}
