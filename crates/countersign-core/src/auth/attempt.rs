//! Attempts, counted before they are made: here for what may guess a secret or costs a hash, by all
//! processes together; and in memory, by this process alone, for what costs little.

use std::net::IpAddr;
use std::time::Duration;

use super::Auth;
use crate::audit::{Caller, Event, Trail};
use crate::error::AuthError;
use crate::mail::Mail;
use crate::mailed_token::MailedTokenId;
use crate::session::SessionId;
use crate::throttle::device::KnownDevice;
use crate::throttle::keys::{Subject, Whoever, account_name, network};
use crate::throttle::{
    AttemptOutcome, Limit, LocalAction, Refund, Reservation, ThrottleSettings, Wait,
};
use crate::user::{Email, User, UserId};
use countersign_token::VerifyError;

/// What is attempted, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attempt<'a> {
    /// A sign-in.
    Login {
        /// The name as typed, whether there is such a user or not.
        username: &'a str,
        /// Where it comes from.
        address: Option<IpAddr>,
        /// The device, if the user has signed in from it before.
        device: Option<KnownDevice>,
        /// The user, if there is one: for the event, and for what is counted of a user's names together,
        /// of which nobody is told.
        user: Option<UserId>,
    },
    /// A proof of the password in force by a user who is signed in.
    ///
    /// It has a counter of its own: strangers who try to sign in must not keep the user from changing the
    /// password.
    ChangePassword(UserId, Option<IpAddr>),
    /// A proof of the password that was chosen at a registration, by whoever has its token.
    CompleteRegistration(MailedTokenId, Option<IpAddr>),
    /// A registration, from wherever it comes.
    Register(Option<IpAddr>),
    /// A wish for letters, from wherever it comes.
    AskForLetters(Option<IpAddr>),
    /// A wish of a user for another address.
    ChangeEmail(UserId, Option<IpAddr>),
}

/// An attempt that was reserved. What succeeds gives it back ([`Auth::settle`]).
#[derive(Default)]
#[must_use = "what succeeds gives the attempt back"]
pub(super) struct ReservedAttempt {
    refunds: Vec<Refund>,
    /// Whether it must fail whatever it shows, because a counter is full of which nobody is told.
    pub(super) is_muted: bool,
}

impl Auth {
    /// Reserves an attempt, before anything of it is looked at.
    ///
    /// # Errors
    /// [`AuthError::Throttled`]; or the store's: what cannot be counted is not done.
    pub(super) async fn attempt(&self, attempt: Attempt<'_>) -> Result<ReservedAttempt, AuthError> {
        let settings = &self.settings.throttle;
        if settings.insecure_off {
            return Ok(ReservedAttempt::default());
        }
        let reservations = self.reservations(attempt, settings);
        let now = self.clock.now();
        let (limits, reservations): (Vec<_>, Vec<_>) = reservations.into_iter().unzip();
        let outcome = match self.refusals.recall(&reservations, now) {
            Err(wait) => AttemptOutcome::Wait(wait),
            Ok(before) => {
                let outcome = self.store.reserve_attempt(&reservations, now).await?;
                if let AttemptOutcome::Wait(wait) = outcome {
                    self.refusals.remember(wait, &reservations, &before, now);
                }
                outcome
            }
        };
        match outcome {
            AttemptOutcome::Reserved(refunds) => Ok(ReservedAttempt {
                is_muted: refunds.len() < reservations.len(),
                refunds,
            }),
            AttemptOutcome::Wait(Wait { retry_after, key }) => {
                let (user, address) = match attempt {
                    Attempt::Login { user, address, .. } => (user, address),
                    Attempt::ChangePassword(user, address)
                    | Attempt::ChangeEmail(user, address) => (Some(user), address),
                    Attempt::CompleteRegistration(_, address)
                    | Attempt::Register(address)
                    | Attempt::AskForLetters(address) => (None, address),
                };
                let mut counted = limits.into_iter().zip(&reservations);
                let full = counted.find(|(_, reservation)| reservation.key == key);
                let limit = full.map_or("unknown", |(limit, _)| limit);
                self.gather(&Event::Throttled { limit, user }, address);
                Err(AuthError::Throttled { retry_after })
            }
        }
    }

    /// Whose counters an attempt is counted by, and the name of the limit of each.
    fn reservations(
        &self,
        attempt: Attempt<'_>,
        settings: &ThrottleSettings,
    ) -> Vec<(&'static str, Reservation)> {
        let counted = |subject, (name, limit)| {
            let reservation = Reservation {
                key: self.throttle_keys.key(subject),
                limit,
                is_silent: false,
            };
            (name, reservation)
        };
        match attempt {
            Attempt::Login {
                device: Some(device),
                ..
            } => {
                // Whoever knew the password once may have any number of devices.
                let (this, all) = (
                    Subject::Device(device.user, device.id),
                    Subject::DevicesOf(device.user),
                );
                vec![
                    counted(this, ("login_device", settings.login_device)),
                    counted(all, ("login_account", settings.login_account)),
                ]
            }
            Attempt::Login {
                username,
                address,
                user,
                ..
            } => {
                let account = account_name(username);
                let from_address = Subject::AccountFromAddress(&account, address);
                let mut all = vec![
                    counted(
                        from_address,
                        (
                            "login_account_from_address",
                            settings.login_account_from_address,
                        ),
                    ),
                    counted(
                        Subject::Account(&account),
                        ("login_account", settings.login_account),
                    ),
                ];
                let limit = ("login_address", settings.login_address);
                let from = address.map(Subject::Address);
                all.extend(from.map(|address| counted(address, limit)));
                // A user has a name and perhaps an address to sign in with: whoever takes turns guesses no
                // more often in all. Nobody is told when this one is full, or it would tell that the two are
                // one user's.
                let whoever = user.map_or(Whoever::Nobody(&account), Whoever::User);
                let limit = ("login_account", settings.login_account);
                let (name, reservation) = counted(Subject::Anybody(whoever), limit);
                let reservation = Reservation {
                    is_silent: true,
                    ..reservation
                };
                all.push((name, reservation));
                all
            }
            Attempt::ChangePassword(user, _) => {
                let limit = ("change_password", settings.change_password);
                vec![counted(Subject::PasswordOf(user), limit)]
            }
            Attempt::CompleteRegistration(registration, _) => {
                let limit = ("change_password", settings.change_password);
                vec![counted(
                    Subject::PasswordOfRegistration(registration),
                    limit,
                )]
            }
            Attempt::Register(address) => {
                let limit = ("register", settings.register);
                vec![counted(Subject::RegistrationsFrom(address), limit)]
            }
            Attempt::AskForLetters(address) => {
                let limit = ("mail_request", settings.mail_request);
                vec![counted(Subject::LettersFrom(address), limit)]
            }
            Attempt::ChangeEmail(user, _) => {
                let limit = ("change_email", settings.change_email);
                vec![counted(Subject::EmailOf(user), limit)]
            }
        }
    }

    /// Counts what succeeds as well as what fails, since each success has its price.
    ///
    /// # Errors
    /// As [`Auth::attempt`].
    pub(super) async fn count(&self, attempt: Attempt<'_>) -> Result<(), AuthError> {
        self.attempt(attempt).await.map(|_counted| ())
    }

    /// A mail to somebody who has not asked for it, unless the mailbox has been sent so many lately that it
    /// is only a nuisance. Whether it was is not told: whoever asks for letters to others learns nothing.
    ///
    /// Each kind of letter has a count of its own, so that wishes for one keep no other from its reader.
    pub(super) async fn unless_flooded(
        &self,
        email: &Email,
        mail: Option<Mail>,
        address: Option<IpAddr>,
    ) -> Result<Option<Mail>, AuthError> {
        let reserved = self.reserve_letter(email, mail, address).await?;
        Ok(reserved.map(|(mail, _counted)| mail))
    }

    /// The same for a mail that may turn out not to be sent: then its place is given back.
    pub(super) async fn reserve_letter(
        &self,
        email: &Email,
        mail: Option<Mail>,
        address: Option<IpAddr>,
    ) -> Result<Option<(Mail, ReservedAttempt)>, AuthError> {
        let settings = &self.settings.throttle;
        let Some(mail) = mail else {
            return Ok(None);
        };
        if settings.insecure_off {
            return Ok(Some((mail, ReservedAttempt::default())));
        }
        let mailbox = Subject::Mailbox(mail.message.kind(), &email.folded());
        let reservation = Reservation {
            key: self.throttle_keys.key(mailbox),
            limit: settings.mail_recipient,
            is_silent: false,
        };
        let now = self.clock.now();
        match self.store.reserve_attempt(&[reservation], now).await? {
            AttemptOutcome::Reserved(refunds) => {
                let is_muted = false;
                Ok(Some((mail, ReservedAttempt { refunds, is_muted })))
            }
            AttemptOutcome::Wait(_) => {
                let (limit, user) = ("mail_recipient", None);
                self.gather(&Event::Throttled { limit, user }, address);
                Ok(None)
            }
        }
    }

    /// Gives an attempt back that succeeded, or that was not looked at or kept from its end by the store.
    /// Every other stays counted.
    pub(super) async fn settle<T>(
        &self,
        reserved: ReservedAttempt,
        outcome: &Result<T, AuthError>,
    ) {
        if outcome.as_ref().err().is_none_or(AuthError::is_no_guess) {
            self.give_back(reserved).await;
        }
    }

    /// Gives back exactly what an attempt has reserved.
    pub(super) async fn give_back(&self, reserved: ReservedAttempt) {
        let refunds = reserved.refunds;
        if refunds.is_empty() {
            return;
        }
        let now = self.clock.now();
        // What was done is done: it stays counted, and the rest waits a little longer.
        if let Err(error) = self.store.refund_attempt(&refunds, now).await {
            tracing::warn!(event = "attempt_not_given_back", cause = %error);
        }
        let given_back = refunds.iter().map(|refund| refund.key);
        self.refusals.forget(given_back);
    }

    /// Forgets what was attempted at an account by whichever of its user's names, since another password
    /// takes the place of the one that was guessed at: whoever sets it would otherwise wait for what others
    /// attempted, or for their own attempts to remember the old one from this address and device.
    ///
    /// What is counted by address alone stays.
    pub(super) async fn forget_attempts_at(
        &self,
        user: &User,
        device: Option<KnownDevice>,
        caller: &Caller,
    ) {
        let email = user.email_verified.then_some(user.email.as_str());
        let names = std::iter::once(user.username.as_str()).chain(email);
        let names: Vec<_> = names.map(account_name).collect();
        let by_name = names.iter().flat_map(|name| {
            let from_address = Subject::AccountFromAddress(name, caller.address);
            [Subject::Account(name), from_address]
        });
        let whoever = [
            Subject::Anybody(Whoever::User(user.id)),
            Subject::DevicesOf(user.id),
            Subject::PasswordOf(user.id),
        ];
        let device = device.map(|device| Subject::Device(device.user, device.id));
        let subjects = by_name.chain(whoever).chain(device);
        let keys: Vec<_> = subjects.map(|it| self.throttle_keys.key(it)).collect();
        // The password is set: what is left to do then is to wait.
        if let Err(error) = self.store.forget_attempts(&keys, &Trail::default()).await {
            tracing::warn!(event = "attempts_not_forgotten", cause = %error);
        }
        self.refusals.forget(keys.into_iter());
    }

    /// Counts what costs little and needs no proof, by address and in this process alone.
    ///
    /// # Errors
    /// [`AuthError::Throttled`].
    pub fn admit(&self, action: LocalAction, address: Option<IpAddr>) -> Result<(), AuthError> {
        let settings = &self.settings.throttle;
        let (limit, name) = match action {
            LocalAction::MailedToken => (settings.mailed_tokens, "mailed_tokens"),
            LocalAction::Csrf => (settings.csrf, "csrf"),
            LocalAction::Revocations => (settings.revocations, "revocations"),
        };
        self.count_here(name, network(address), &limit, address)
    }

    /// Counts a refresh of a session, in this process alone: a page that has run away is held back before
    /// it reaches the store.
    pub(super) fn count_refresh(
        &self,
        session: SessionId,
        address: Option<IpAddr>,
    ) -> Result<(), AuthError> {
        let limit = self.settings.throttle.refresh;
        self.count_here("refresh", session.0.into_bytes(), &limit, address)
    }

    /// What whoever showed a token that was refused is answered: with the refusal, or, when too many have
    /// come from the address, that they wait. Counted in this process alone.
    ///
    /// Genuine tokens from the same address pass, however many were refused. One that has merely expired
    /// is no guess: every page shows some.
    #[must_use = "it is what is answered"]
    pub fn count_refused(&self, refusal: AuthError, address: Option<IpAddr>) -> AuthError {
        let is_guess = match &refusal {
            AuthError::RefreshInvalid => true,
            AuthError::AccessToken(error) => *error != VerifyError::Expired,
            _ => false,
        };
        if !is_guess {
            return refusal;
        }
        let limit = self.settings.throttle.refused_tokens;
        match self.count_here("refused_tokens", network(address), &limit, address) {
            Ok(()) => refusal,
            Err(throttled) => throttled,
        }
    }

    fn count_here(
        &self,
        name: &'static str,
        whose: [u8; 16],
        limit: &Limit,
        address: Option<IpAddr>,
    ) -> Result<(), AuthError> {
        if self.settings.throttle.insecure_off {
            return Ok(());
        }
        let now = self.clock.now();
        self.local_counters
            .reserve((name, whose), limit, now)
            .map_err(|retry_after: Duration| {
                let (limit, user) = (name, None);
                self.gather(&Event::Throttled { limit, user }, address);
                AuthError::Throttled { retry_after }
            })
    }
}
