//! The use cases. A use case keeps its name on every storey: the route, the method here, the store's
//! transition, the test.
//!
//! Only this room opens sessions and signs tokens, through one function each.

mod attempt;
mod audit;
mod authenticate;
mod email;
mod keys;
mod knowing;
mod login;
mod logout;
mod mail;
mod mailed_tokens;
mod password;
mod powers;
mod refresh;
mod register;
mod reset_password;
mod revocations;
mod sessions;
mod settings;
mod takeover;
mod upkeep;
mod users;

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use countersign_token::{AccessClaims, Verifier};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::audit::{Caller, Event, Tally};
use crate::clock::{Clock, Randomness, SystemClock, SystemRandomness};
use crate::csrf::{CsrfKey, CsrfToken};
use crate::error::{AuthError, StoreError};
use crate::keys::{AccessToken, KeyKeeper, KeyRing, KeySchedule};
use crate::known::{self, Known, Standing};
use crate::mail::MailWaiting;
use crate::mailed_token::MailedTokens;
use crate::password::PasswordHasher;
use crate::refresh_token::{LegacyTokens, RefreshToken, RefreshTokens, unix_seconds};
use crate::secrets::RootSecrets;
use crate::session::{EndedSession, Session, SessionId, saturating_add};
use crate::store::{SharedStore, Watcher};
use crate::throttle::DeviceToken;
use crate::throttle::device::DeviceTokens;
use crate::throttle::keys::ThrottleKeys;
use crate::throttle::local::LocalCounters;
use crate::throttle::refusals::Refusals;
use crate::user::{User, UserId};

pub use self::authenticate::CurrentUser;
pub use self::email::ChangeEmail;
pub use self::keys::{KeyRotation, SigningKeyStatus};
pub use self::login::Login;
pub use self::logout::{LoggedOut, Logout, LogoutScope};
pub use self::mail::MailReport;
pub use self::password::ChangePassword;
pub use self::register::{NewRegistration, Registered};
pub use self::revocations::RevocationFeed;
pub use self::settings::{
    AuthSettings, KeyTimes, MailedTokenSettings, RegistrationSettings, TokenSettings, UserClaim,
};
pub use self::takeover::{LegacyCarrier, LegacyCredential};
use self::upkeep::Hands;
pub use self::upkeep::UpkeepReport;
pub use self::users::NewAccount;

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
    key_keeper: KeyKeeper,
    keys: RwLock<Arc<KeyRing>>,
    verifier: Verifier,
    refresh_tokens: RefreshTokens,
    legacy_tokens: Option<LegacyTokens>,
    csrf: CsrfKey,
    mailed_tokens: MailedTokens,
    throttle_keys: ThrottleKeys,
    device_tokens: DeviceTokens,
    local_counters: LocalCounters,
    refusals: Refusals,
    tally: Tally,
    known: Arc<Known>,
    /// Held by the one who reads the store anew, so that the others need not.
    catching_up: Mutex<()>,
    revocation_feed: RwLock<Option<Arc<RevocationFeed>>>,
    /// The session after which the next round of upkeep goes on.
    swept_to: std::sync::Mutex<Option<SessionId>>,
    /// The user after whom the next round of upkeep goes on looking for new names.
    named_to: std::sync::Mutex<Option<UserId>>,
    /// How many mails waited when this process delivered some last.
    mail_waiting: std::sync::Mutex<Option<MailWaiting>>,
    /// What the clocks showed at the last round of upkeep.
    hands: std::sync::Mutex<Option<Hands>>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
}

/// How many verified access tokens are remembered: about 1 KiB each.
const VERIFIED_TOKENS_REMEMBERED: usize = 4_096;

/// How many stored passwords are looked at from either end of the users, for how they are encoded:
/// those of the oldest users and of the newest.
const PASSWORDS_SAMPLED: u32 = 250;

/// How often something is decided anew, from things as they stand, that others were in the way of: whoever
/// makes the same change, a login that re-hashes a password, users who appear.
const DECISIONS: usize = 4;

impl Auth {
    /// Opens the service over a store, and makes the first signing key if there is none.
    ///
    /// # Errors
    /// The store's, or that the stored signing keys cannot be opened with these root secrets, or that
    /// the store lacks the tables of [`UserClaim::Groups`] or [`UserClaim::Permissions`].
    pub async fn start(
        store: SharedStore,
        roots: impl Into<RootSecrets>,
        settings: AuthSettings,
    ) -> Result<Self, StoreError> {
        Self::start_with(
            store,
            roots,
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
        roots: impl Into<RootSecrets>,
        settings: AuthSettings,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Self, StoreError> {
        // Boxed: it is large, and so would be whatever waits for it.
        Box::pin(Self::open(store, roots.into(), settings, clock, randomness)).await
    }

    async fn open(
        store: SharedStore,
        roots: RootSecrets,
        settings: AuthSettings,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Self, StoreError> {
        let mut settings = settings;
        let issuer = settings.tokens.issuer.clone();
        settings.passwords.add_words_of_url(&issuer);
        let settings = settings;
        let tokens = &settings.tokens;
        let schedule = KeySchedule {
            rotate_every: settings.keys.rotate_every,
            publish_before: settings.keys.publish_before,
            access_lifetime: tokens.access_lifetime,
        };
        let key_keeper = KeyKeeper::new(&roots, tokens.algorithm.clone(), schedule);
        powers::require_tables(&*store, &tokens.user_claims).await?;
        let keys = keys::open(&*store, &key_keeper, clock.now(), &*randomness).await?;
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
        let retention = tokens.access_lifetime + tokens.leeway + known::ALLOWANCE;
        let known = Arc::new(Known::new(retention, Arc::clone(&clock)));
        let watcher: Arc<dyn Watcher> = known.clone();
        store.watch(&watcher);
        let auth = Self {
            passwords: PasswordHasher::start(
                settings.hashing,
                Arc::clone(&clock),
                Arc::clone(&randomness),
            ),
            refresh_tokens: RefreshTokens::new(&roots, &tokens.issuer),
            legacy_tokens: open_legacy_tokens(&settings, clock.now()),
            csrf: CsrfKey::derive(&roots),
            mailed_tokens: MailedTokens::derive(&roots),
            throttle_keys: ThrottleKeys::derive(&roots.current),
            device_tokens: DeviceTokens::derive(&roots),
            local_counters: LocalCounters::new(),
            refusals: Refusals::new(),
            tally: Tally::new(),
            key_keeper,
            keys: RwLock::new(Arc::new(keys)),
            verifier,
            known,
            catching_up: Mutex::new(()),
            revocation_feed: RwLock::new(None),
            swept_to: std::sync::Mutex::new(None),
            named_to: std::sync::Mutex::new(None),
            mail_waiting: std::sync::Mutex::new(None),
            hands: std::sync::Mutex::new(None),
            store,
            settings,
            clock,
            randomness,
        };
        auth.catch_up().await?;
        let stored = auth.store.sample_passwords(PASSWORDS_SAMPLED).await?;
        auth.passwords.learn(&stored);
        Ok(auth)
    }

    /// The settings in force.
    pub fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    /// How busy this process is, for who watches it. Costs next to nothing.
    pub fn load(&self) -> Load {
        let (hashing_busy, hashing_waiting) = self.passwords.load();
        let now = self.clock.now();
        Load {
            hashing_threads: self.settings.hashing.threads.max(1),
            hashing_busy,
            hashing_waiting,
            hears_changes: self.known.standing(now) != Standing::Unheard,
            silent_for: self.known.silent_for(),
            refusals_remembered: self.refusals.remembered(now),
            mail: *self.mail_waiting(),
        }
    }

    /// How many mails waited when this process looked last; `None`: it delivers none.
    fn mail_waiting(&self) -> MutexGuard<'_, Option<MailWaiting>> {
        let waiting = self.mail_waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// The store's.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await?;
        self.catch_up().await.map(drop)
    }

    /// The CSRF token for whoever presents this refresh token, or else this legacy one; without a genuine
    /// one, a token that belongs to no session.
    pub fn csrf_token(&self, refresh_token: Option<&str>, legacy_token: Option<&str>) -> CsrfToken {
        refresh_token
            .and_then(|token| self.genuine_refresh_token(token))
            .map(|presented| self.csrf.token(presented.session()))
            .or_else(|| self.legacy_csrf_token(legacy_token?))
            .unwrap_or_else(|| CsrfToken::anonymous(&*self.randomness))
    }

    /// Checks what a request shows against the CSRF token of the session it speaks for.
    ///
    /// # Errors
    /// [`AuthError::CsrfMissing`] or [`AuthError::CsrfInvalid`].
    pub fn check_csrf(
        &self,
        session: SessionId,
        shown: Option<&str>,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let problem = match shown {
            None => AuthError::CsrfMissing,
            Some(shown) if self.csrf.accepts(session, shown) => return Ok(()),
            Some(_) => AuthError::CsrfInvalid,
        };
        self.gather(&Event::CsrfRefused { session }, caller.address);
        Err(problem)
    }

    /// Signs an access token and derives the other two: the one place where tokens are made.
    fn grant(
        &self,
        session: &Session,
        user: User,
        power_claims: Map<String, Value>,
        now: Timestamp,
    ) -> Grant {
        let settings = &self.settings;
        let refresh_expires_at = session.refresh_expires_at(&settings.sessions);
        let expires_at =
            saturating_add(now, settings.tokens.access_lifetime).min(refresh_expires_at);
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
            extra: self.user_claims(&user, power_claims),
        };
        let expires_in = Duration::from_secs(claims.exp.get().saturating_sub(claims.iat.get()));
        let refresh_token = self.refresh_tokens.derive(session, &settings.sessions);
        let cookies_live = session
            .remember
            .then(|| refresh_expires_at.duration_since(now).unsigned_abs());
        Grant {
            access_token: self.keys().sign(&claims),
            expires_in,
            csrf_token,
            refresh_token,
            cookies_live,
            device_token: None,
            user,
        }
    }

    /// The key ring as last read from the store.
    fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn user_claims(&self, user: &User, mut power_claims: Map<String, Value>) -> Map<String, Value> {
        let mut claims = Map::new();
        for claim in &self.settings.tokens.user_claims {
            let name = claim.name();
            let value = claim.value(user).or_else(|| power_claims.remove(name));
            claims.extend(value.map(|value| (name.to_owned(), value)));
        }
        claims
    }
}

/// A reader of the site's tokens, which count for no longer than the sessions that they opened last or
/// are remembered.
fn open_legacy_tokens(settings: &AuthSettings, now: Timestamp) -> Option<LegacyTokens> {
    let longest = settings.sessions.absolute.min(settings.keep_ended_sessions);
    let legacy = settings.legacy_tokens.as_ref()?;
    let legacy = LegacyTokens::new(legacy, longest);
    if legacy.are_over(now) {
        tracing::warn!(
            event = "legacy_tokens_over",
            "take django.tokens, django.tokens_until and django.secret_key out"
        );
    }
    Some(legacy)
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Auth")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// How busy a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Threads that hash passwords.
    pub hashing_threads: usize,
    /// Those that hash one now.
    pub hashing_busy: usize,
    /// Passwords that wait for a thread.
    pub hashing_waiting: usize,
    /// Whether what other processes change is heard of.
    pub hears_changes: bool,
    /// For how long the store has not said that all has been told; nothing where there is nobody else.
    pub silent_for: Duration,
    /// Refused attempts that are remembered, so that the store is not asked again.
    pub refusals_remembered: usize,
    /// Mails that wait, as of the last few seconds; `None`: this process delivers none.
    pub mail: Option<MailWaiting>,
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
    /// After a login that shall be remembered: for the cookie by which the device is known again.
    pub device_token: Option<DeviceToken>,
    /// Whose they are.
    pub user: User,
}

/// Tells of sessions that ended, one event each.
fn tell_ended(ended: &[EndedSession]) {
    for session in ended {
        Event::SessionEnded {
            user: session.user,
            session: session.id,
            reason: session.end.reason,
        }
        .tell();
    }
}
