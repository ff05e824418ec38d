//! Login: a username and a password become a session.

use jiff::Timestamp;

use super::attempt::Attempt;
use super::{Auth, DECISIONS, Grant, tell_ended};
use crate::audit::{AuditQuery, Caller, Event, LoginRefusal, Trail};
use crate::error::AuthError;
use crate::mail::Mail;
use crate::notices::{LOOKED_AT, Noteworthy, SignIn};
use crate::password::{EncodedPassword, Overloaded, Password, Verdict};
use crate::session::{EndReason, EndedBy, Generation, Session, SessionId};
use crate::store::{OpenOutcome, OpenSession};
use crate::throttle::DeviceToken;
use crate::throttle::device::{DeviceTokens, KnownDevice};
use crate::throttle::keys::is_too_long;
use crate::user::{Credentials, Email, User, UserId, Username};

/// What a login presents.
#[derive(Debug)]
pub struct Login<'a> {
    /// The username as typed.
    pub username: &'a str,
    /// The password as typed.
    pub password: Password,
    /// Whether the cookies shall outlive the browser.
    pub remember: bool,
    /// The refresh token that the browser already had: its session ends, whatever it was.
    pub presented: Option<&'a str>,
    /// What shows that the device has been signed in from before.
    pub device: Option<&'a str>,
    /// The legacy token that the browser had: it is used up.
    pub legacy_token: Option<&'a str>,
}

/// What there is to tell of a sign-in.
struct News {
    /// So many were refused before it.
    failures: Option<u32>,
    mail: Option<Mail>,
}

impl Auth {
    /// Checks the password and opens a session.
    ///
    /// The user is named by username, or by an address that the user has proven.
    ///
    /// An unknown user and a wrong password cannot be told apart, in the answer or in time; nor can they by
    /// when they are throttled, since attempts are counted by the name as typed. Both names of a user are
    /// counted together as well: when that says to wait, the password is wrong whatever it is, and nobody is
    /// told why.
    ///
    /// # Errors
    /// [`AuthError::Throttled`] before anything is hashed, [`AuthError::InvalidCredentials`],
    /// [`AuthError::UserInactive`] (only after the right password), [`AuthError::Overloaded`], or the
    /// store's.
    pub async fn login(&self, login: Login<'_>, caller: Caller) -> Result<Grant, AuthError> {
        let found = self.find_typed(login.username).await?;
        let user = found.as_ref().map(|found| found.user.id);
        let device = self.known_device(login.device, user);
        let attempt = Attempt::Login {
            username: login.username,
            address: caller.address,
            device,
            user,
        };
        let reserved = self.attempt(attempt).await?;
        let outcome = if reserved.is_muted {
            self.refuse_muted(&login, &caller, user).await
        } else {
            self.try_repeatedly(&login, &caller, found, device).await
        };
        self.settle(reserved, &outcome).await;
        let grant = outcome?;
        let device_token = login
            .remember
            .then(|| self.device_token(device, grant.user.id));
        Ok(Grant {
            device_token,
            ..grant
        })
    }

    /// Refuses as for a wrong password, in the same time, without looking at the user's.
    async fn refuse_muted(
        &self,
        login: &Login<'_>,
        caller: &Caller,
        user: Option<UserId>,
    ) -> Result<Grant, AuthError> {
        self.passwords.verify(login.password.clone(), None).await?;
        let reason = LoginRefusal::TooManyAttempts;
        Err(self.refuse_login(user, reason, caller).await?)
    }

    async fn try_repeatedly(
        &self,
        login: &Login<'_>,
        caller: &Caller,
        mut found: Option<Credentials>,
        device: Option<KnownDevice>,
    ) -> Result<Grant, AuthError> {
        for _ in 1..DECISIONS {
            if let Some(grant) = self.try_to_log_in(login, caller, found, device).await? {
                return Ok(grant);
            }
            found = self.find_typed(login.username).await?;
        }
        let last = self.try_to_log_in(login, caller, found, device).await?;
        if let Some(grant) = last {
            return Ok(grant);
        }
        let reason = LoginRefusal::ChangedMeanwhile;
        Err(self.refuse_login(None, reason, caller).await?)
    }

    /// The user of a name as typed.
    async fn find_typed(&self, username: &str) -> Result<Option<Credentials>, AuthError> {
        // A name that no user can have, however it is composed, is not normalised: that takes time by
        // its length.
        if is_too_long(username) {
            return Ok(None);
        }
        let normal = Username::normalise(username);
        let named = self.store.find_credentials(&normal).await?;
        if !normal.contains('@') {
            return Ok(named);
        }
        // Looked up in any case, so that the time does not tell which of the two it is. Whoever has proven
        // to have exactly this address comes first: a name is no proof, and must not stand in the way of
        // one. Otherwise it is whose name it is.
        let by_address = match Email::parse_known(username) {
            Ok(address) => self.store.find_verified(&address).await?,
            Err(_) => None,
        };
        let is_exact = |found: &Credentials| found.user.email == normal;
        Ok(match by_address {
            Some(proven) if is_exact(&proven) => Some(proven),
            other => named.or(other),
        })
    }

    /// The device, if this user has signed in from it before.
    pub(super) fn known_device(
        &self,
        token: Option<&str>,
        user: Option<UserId>,
    ) -> Option<KnownDevice> {
        let device = self.device_tokens.read(token?, self.clock.now())?;
        (Some(device.user) == user).then_some(device)
    }

    /// What makes the device known as this user's from now on.
    fn device_token(&self, known: Option<KnownDevice>, user: UserId) -> DeviceToken {
        let device = known
            .filter(|known| known.user == user)
            .unwrap_or_else(|| DeviceTokens::new_device(user, &*self.randomness));
        self.device_tokens.sign(device, self.clock.now())
    }

    /// `None`: the stored password was replaced while it was being checked. Another login may have
    /// re-hashed the very same one.
    async fn try_to_log_in(
        &self,
        login: &Login<'_>,
        caller: &Caller,
        found: Option<Credentials>,
        device: Option<KnownDevice>,
    ) -> Result<Option<Grant>, AuthError> {
        let (user, stored) = found.map(|found| (found.user, found.password)).unzip();
        let verdict = self
            .passwords
            .verify(login.password.clone(), stored.clone())
            .await?;
        let user_id = user.as_ref().map(|user| user.id);
        let (Some(user), Some(stored), Verdict::Right | Verdict::RightAndUpgraded(_)) =
            (user, stored, &verdict)
        else {
            let reason = match user_id {
                Some(_) => LoginRefusal::WrongPassword,
                None => LoginRefusal::UnknownUser,
            };
            return Err(self.refuse_login(user_id, reason, caller).await?);
        };
        if !user.is_active {
            let reason = LoginRefusal::Inactive;
            return Err(self.refuse_login(user_id, reason, caller).await?);
        }
        let upgraded = match verdict {
            Verdict::RightAndUpgraded(upgraded) => Some(upgraded),
            Verdict::Right | Verdict::Wrong => None,
        };
        let now = self.clock.now();
        let replaced = login
            .presented
            .and_then(|token| self.genuine_refresh_token(token))
            .map(|presented| presented.session());
        let session = self.new_session(user.id, login.remember, caller.clone(), now);
        let news = self.news(&user, device, caller).await?;
        let grant = self
            .open_session(session, stored, upgraded, replaced, news, caller)
            .await?;
        if grant.is_some()
            && let Some(legacy) = login
                .legacy_token
                .and_then(|token| self.genuine_legacy_token(token))
        {
            self.use_up_legacy_token(&legacy, EndReason::ReplacedByLogin, caller)
                .await?;
        }
        Ok(grant)
    }

    /// Opens a session in the store: the one place where sessions begin. `None`: the stored password is
    /// not the one that was checked any more.
    async fn open_session(
        &self,
        session: Session,
        verified: EncodedPassword,
        upgraded: Option<EncodedPassword>,
        replaced: Option<SessionId>,
        news: News,
        caller: &Caller,
    ) -> Result<Option<Grant>, AuthError> {
        // The access token is signed with the keys as they stand.
        self.catch_up().await?;
        let powers = self.power_claims(session.user_id).await?;
        let (user, now) = (session.user_id, session.opened_at);
        let signed_in = Event::LoginSucceeded {
            user,
            session: session.id,
        };
        let after_failures = news.failures.map(|failures| Event::LoginAfterFailures {
            user,
            session: session.id,
            failures,
        });
        let events = std::iter::once(signed_in).chain(after_failures);
        let events = events.chain(upgraded.as_ref().map(|_| Event::PasswordUpgraded { user }));
        let trail = events.clone().fold(Trail::of(caller), |trail, event| {
            trail.with(&event, now, Some(EndedBy::User(user)))
        });
        let opening = OpenSession {
            session,
            verified,
            upgraded,
            replaced,
            most: self.settings.max_sessions_per_user,
            mail: news.mail,
            trail,
        };
        let outcome = self.store.open_session(&opening).await?;
        let session = opening.session;
        let (account, ended) = match outcome {
            OpenOutcome::Opened { user, ended } => (user, ended),
            OpenOutcome::Inactive => {
                let reason = LoginRefusal::Inactive;
                return Err(self.refuse_login(Some(user), reason, caller).await?);
            }
            OpenOutcome::Changed => return Ok(None),
        };
        events.for_each(|event| event.tell());
        tell_ended(&ended);
        Ok(Some(self.grant(&session, account, powers, now)))
    }

    /// What there is to tell of a sign-in that is about to succeed.
    ///
    /// Of two at the same moment each tells, although the second could know of the first if it were decided in
    /// their transactions: they are two sessions, of which one may be a stranger's, and a notice too many is
    /// better than that one of them goes without.
    async fn news(
        &self,
        user: &User,
        device: Option<KnownDevice>,
        caller: &Caller,
    ) -> Result<News, AuthError> {
        let latest = AuditQuery {
            user: Some(user.id),
            session: None,
            event: None,
            since: None,
            until: None,
            after: None,
            limit: LOOKED_AT,
        };
        let latest = self.store.list_audit(&latest).await?;
        let latest: Vec<_> = latest.into_iter().map(|recorded| recorded.entry).collect();
        let sign_in = SignIn {
            caller,
            device_is_known: device.is_some(),
            latest: &latest,
        };
        let Noteworthy { failures, message } = sign_in.noteworthy(self.settings.notices);
        Ok(News {
            failures,
            mail: message.and_then(|message| self.mail_to(user, message)),
        })
    }

    fn new_session(&self, user: UserId, remember: bool, caller: Caller, now: Timestamp) -> Session {
        Session {
            id: SessionId::new(now, &*self.randomness),
            user_id: user,
            generation: Generation::FIRST,
            opened_at: now,
            rotated_at: now,
            remember,
            address: caller.address,
            user_agent: caller.user_agent,
            end: None,
        }
    }

    /// Keeps and tells of a refusal, and gives what is answered. There are no more of them than throttling
    /// lets be attempted, and whoever is refused waits for the same in each case.
    async fn refuse_login(
        &self,
        user: Option<UserId>,
        reason: LoginRefusal,
        caller: &Caller,
    ) -> Result<AuthError, AuthError> {
        self.keep(&Event::LoginRefused { user, reason }, None, caller)
            .await?;
        Ok(match reason {
            LoginRefusal::Inactive => AuthError::UserInactive,
            LoginRefusal::UnknownUser
            | LoginRefusal::WrongPassword
            | LoginRefusal::ChangedMeanwhile
            | LoginRefusal::TooManyAttempts => AuthError::InvalidCredentials,
        })
    }
}

impl From<Overloaded> for AuthError {
    fn from(overloaded: Overloaded) -> Self {
        Self::Overloaded {
            retry_after: overloaded.retry_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::audit::Trail;
    use crate::auth::{Auth, AuthSettings};
    use crate::clock::{Clock as _, SystemClock, SystemRandomness};
    use crate::password::{EncodedPassword, HashingSettings};
    use crate::secrets::RootSecret;
    use crate::store::{MemoryStore, Store as _};
    use crate::user::{Email, NewUser, PersonName, Username};

    async fn service_with_a_user_of(password: EncodedPassword) -> Auth {
        let store = Arc::new(MemoryStore::default());
        let user = NewUser {
            username: Username::parse("ana").unwrap(),
            first_name: PersonName::default(),
            last_name: PersonName::default(),
            email: Email::default(),
            password,
            is_staff: false,
            is_superuser: false,
            date_joined: SystemClock.now(),
        };
        store.create_user(&user, &Trail::default()).await.unwrap();
        let settings = AuthSettings {
            hashing: HashingSettings::CHEAP,
            ..AuthSettings::default()
        };
        let secret = RootSecret::generate(&SystemRandomness);
        Auth::start(store, &secret, settings).await.unwrap()
    }

    #[tokio::test]
    async fn refusals_are_held_back_from_the_start_where_django_stored_passwords() {
        let djangos = "pbkdf2_sha256$1000$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let auth = service_with_a_user_of(EncodedPassword::new(djangos)).await;
        assert!(auth.passwords.floor() > Duration::ZERO);
        let auth = service_with_a_user_of(EncodedPassword::unusable()).await;
        assert_eq!(auth.passwords.floor(), Duration::ZERO);
    }
}
