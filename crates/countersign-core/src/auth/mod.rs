//! The use cases. A use case keeps its name on every storey: the route, the method here, the store's
//! transition, the test.
//!
//! Only this room opens sessions and signs tokens, through one function each.

mod login;
mod logout;
mod refresh;
mod users;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_token::{AccessClaims, VerifiedToken, Verifier};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::audit::Event;
use crate::clock::{Clock, Randomness, SystemClock, SystemRandomness};
use crate::csrf::{CsrfKey, CsrfToken};
use crate::error::{AuthError, StoreError};
use crate::keys::{AccessToken, KeyRing, PublicKeys, SigningAlgorithm};
use crate::password::{Argon2Cost, HashingSettings, PasswordHasher, PasswordPolicy};
use crate::refresh_token::{RefreshToken, RefreshTokens, unix_seconds};
use crate::secrets::RootSecret;
use crate::session::{EndReason, Session, SessionId, SessionLimits, saturating_add};
use crate::store::SharedStore;
use crate::user::User;

pub use self::login::Login;
pub use self::logout::Logout;
pub use self::users::NewAccount;

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
}

impl UserClaim {
    /// Every field there is.
    pub const ALL: [Self; 6] = [
        Self::Username,
        Self::Email,
        Self::FirstName,
        Self::LastName,
        Self::IsStaff,
        Self::IsSuperuser,
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
        }
    }

    fn value(self, user: &User) -> Value {
        match self {
            Self::Username => user.username.as_str().into(),
            Self::Email => user.email.as_str().into(),
            Self::FirstName => user.first_name.as_str().into(),
            Self::LastName => user.last_name.as_str().into(),
            Self::IsStaff => user.is_staff.into(),
            Self::IsSuperuser => user.is_superuser.into(),
        }
    }
}

/// Everything that governs the use cases.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// How tokens are made.
    pub tokens: TokenSettings,
    /// How long sessions last.
    pub sessions: SessionLimits,
    /// Which new passwords are accepted.
    pub passwords: PasswordPolicy,
    /// How passwords are hashed.
    pub hashing: HashingSettings,
}

impl Default for AuthSettings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            tokens: TokenSettings::default(),
            sessions: SessionLimits::default(),
            passwords: PasswordPolicy::default(),
            hashing: HashingSettings {
                cost: Argon2Cost::default(),
                threads,
                queue: 32 * threads,
            },
        }
    }
}

/// The service without its doors: every use case, over a store.
///
/// ```
/// # use std::sync::Arc;
/// use countersign_core::auth::{Auth, AuthSettings};
/// use countersign_core::clock::SystemRandomness;
/// use countersign_core::secrets::RootSecret;
/// use countersign_core::store::MemoryStore;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let secret = RootSecret::generate(&SystemRandomness);
/// let store = Arc::new(MemoryStore::default());
/// let auth = Auth::start(store, &secret, AuthSettings::default()).await?;
/// assert!(!auth.has_users().await?);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct Auth {
    store: SharedStore,
    settings: AuthSettings,
    passwords: PasswordHasher,
    keys: KeyRing,
    verifier: Verifier,
    refresh_tokens: RefreshTokens,
    csrf: CsrfKey,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
}

/// How many verified access tokens are remembered: about 1 KiB each.
const VERIFIED_TOKENS_REMEMBERED: usize = 4_096;

impl Auth {
    /// Opens the service over a store, and makes the first signing key if there is none.
    ///
    /// # Errors
    /// The store's, or that the stored signing keys cannot be opened with this root secret.
    pub async fn start(
        store: SharedStore,
        root: &RootSecret,
        settings: AuthSettings,
    ) -> Result<Self, StoreError> {
        Self::start_with(
            store,
            root,
            settings,
            Arc::new(SystemClock),
            Arc::new(SystemRandomness),
        )
        .await
    }

    /// The same with a clock and a source of randomness of the caller's.
    ///
    /// # Errors
    /// As [`Auth::start`].
    pub async fn start_with(
        store: SharedStore,
        root: &RootSecret,
        settings: AuthSettings,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Self, StoreError> {
        let tokens = &settings.tokens;
        let keys =
            KeyRing::open(&*store, root, &tokens.algorithm, clock.now(), &*randomness).await?;
        let verifier = tokens
            .audience
            .iter()
            .fold(Verifier::builder(&tokens.issuer), |builder, name| {
                builder.audience(name)
            })
            .leeway(tokens.leeway)
            .keys(keys.verifying_keys())
            .cache_capacity(VERIFIED_TOKENS_REMEMBERED)
            .build();
        Ok(Self {
            passwords: PasswordHasher::start(settings.hashing, Arc::clone(&randomness)),
            refresh_tokens: RefreshTokens::new(root, &tokens.issuer),
            csrf: CsrfKey::derive(root),
            keys,
            verifier,
            store,
            settings,
            clock,
            randomness,
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    /// The public keys, as served to resource servers.
    pub fn public_keys(&self) -> &PublicKeys {
        self.keys.public()
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// The store's.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    /// Who an access token speaks for, as of now: the token is verified, its session has not ended
    /// and its user may sign in.
    ///
    /// # Errors
    /// [`AuthError::AccessToken`], [`AuthError::SessionEnded`], or the store's.
    pub async fn authenticate(&self, access_token: &str) -> Result<CurrentUser, AuthError> {
        let token = self.verify(access_token)?;
        let id = session_of(&token)?;
        let Some((session, user)) = self.store.find_session(id).await? else {
            return Err(AuthError::SessionEnded(EndReason::Expired));
        };
        let user = live_user(&session, user)?;
        Ok(CurrentUser {
            user,
            session: id,
            token,
        })
    }

    fn verify(&self, access_token: &str) -> Result<VerifiedToken, AuthError> {
        self.verifier
            .verify_at(access_token, unix_seconds(self.clock.now()))
            .inspect_err(|error| {
                Event::AccessTokenRefused {
                    reason: error.reason(),
                }
                .tell();
            })
            .map_err(AuthError::AccessToken)
    }

    /// The CSRF token for whoever presents this refresh token; without a genuine one, a token that
    /// belongs to no session.
    pub fn csrf_token(&self, refresh_token: Option<&str>) -> CsrfToken {
        refresh_token
            .and_then(|token| self.refresh_tokens.read(token, self.clock.now()).ok())
            .map_or_else(
                || CsrfToken::anonymous(&*self.randomness),
                |presented| self.csrf.token(presented.session()),
            )
    }

    /// Checks what a request shows against the CSRF token of the session it speaks for.
    ///
    /// # Errors
    /// [`AuthError::CsrfMissing`] or [`AuthError::CsrfInvalid`].
    pub fn check_csrf(&self, session: SessionId, shown: Option<&str>) -> Result<(), AuthError> {
        let problem = match shown {
            None => AuthError::CsrfMissing,
            Some(shown) if self.csrf.token(session).matches(shown) => return Ok(()),
            Some(_) => AuthError::CsrfInvalid,
        };
        Event::CsrfRefused { session }.tell();
        Err(problem)
    }

    /// Signs an access token and derives the other two: the one place where tokens are made.
    fn grant(&self, session: &Session, user: User, now: Timestamp) -> Grant {
        let settings = &self.settings;
        let expires_at = saturating_add(now, settings.tokens.access_lifetime)
            .min(session.absolute_limit(&settings.sessions));
        let csrf_token = self.csrf.token(session.id);
        let mut token_id = [0; 16];
        self.randomness.fill(&mut token_id);
        let claims = AccessClaims {
            iss: settings.tokens.issuer.clone(),
            sub: user.id.to_string(),
            user_id: user.id.0,
            aud: settings.tokens.audience.clone(),
            iat: unix_seconds(now),
            exp: unix_seconds(expires_at),
            jti: countersign_token::base64url::encode(&token_id),
            sid: session.id.to_string(),
            csrf: csrf_token.claim(),
            extra: self.user_claims(&user),
        };
        let expires_in = Duration::from_secs(claims.exp.get().saturating_sub(claims.iat.get()));
        let refresh_token = self.refresh_tokens.derive(session, &settings.sessions);
        let refresh_expires_at = session.refresh_expires_at(&settings.sessions);
        let cookies_live = session
            .remember
            .then(|| refresh_expires_at.duration_since(now).unsigned_abs());
        Grant {
            access_token: self.keys.sign(&claims),
            expires_in,
            csrf_token,
            refresh_token,
            cookies_live,
            user,
        }
    }

    fn user_claims(&self, user: &User) -> Map<String, Value> {
        let claims = self.settings.tokens.user_claims.iter();
        claims
            .map(|claim| (claim.name().to_owned(), claim.value(user)))
            .collect()
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Auth")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Who calls, after proof. Only [`Auth::authenticate`] makes one.
#[derive(Debug, Clone)]
pub struct CurrentUser {
    user: User,
    session: SessionId,
    token: VerifiedToken,
}

impl CurrentUser {
    /// The user as of now.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The session that the token belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The token's claims.
    pub fn claims(&self) -> &AccessClaims {
        &self.token
    }
}

/// What a login or a refresh hands out.
#[must_use = "the tokens are gone if they are not sent"]
#[derive(Debug)]
pub struct Grant {
    /// For the body, and then the page's memory.
    pub access_token: AccessToken,
    /// How long the access token lives.
    pub expires_in: Duration,
    /// For the body and the readable cookie.
    pub csrf_token: CsrfToken,
    /// For the HttpOnly cookie and nowhere else.
    pub refresh_token: RefreshToken,
    /// How long the cookies live; `None`: as long as the browser runs.
    pub cookies_live: Option<Duration>,
    /// Whose they are.
    pub user: User,
}

/// The session that a token of ours names.
fn session_of(token: &AccessClaims) -> Result<SessionId, AuthError> {
    // We sign no other: a name that is none belongs to a session that is no more.
    token
        .sid
        .parse()
        .map_err(|_| AuthError::SessionEnded(EndReason::Expired))
}

/// The user of a session, if both are alive.
fn live_user(session: &Session, user: Option<User>) -> Result<User, AuthError> {
    if let Some(end) = session.end {
        return Err(AuthError::SessionEnded(end.reason));
    }
    match user {
        None => Err(AuthError::SessionEnded(EndReason::UserDeleted)),
        Some(user) if !user.is_active => Err(AuthError::SessionEnded(EndReason::UserDeactivated)),
        Some(user) => Ok(user),
    }
}
