//! Attempts, counted before they are made: here for what may guess a secret or costs a hash, by all
//! processes together; and in memory, by this process alone, for what costs little.

use std::net::IpAddr;
use std::time::Duration;

use super::Auth;
use crate::audit::Event;
use crate::error::AuthError;
use crate::session::SessionId;
use crate::throttle::device::KnownDevice;
use crate::throttle::keys::{Subject, account_name, network};
use crate::throttle::{
    AttemptOutcome, Limit, LocalAction, Refund, Reservation, ThrottleSettings, Wait,
};
use crate::user::UserId;
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
        /// The user, if there is one: for the event, and for nothing else.
        user: Option<UserId>,
    },
    /// A proof of the password in force by a user who is signed in.
    ///
    /// It has a counter of its own: strangers who try to sign in must not keep the user from changing the
    /// password.
    ChangePassword(UserId, Option<IpAddr>),
}

/// An attempt that was reserved. What succeeds gives it back ([`Auth::give_back`]).
#[must_use = "what succeeds gives the attempt back"]
pub(super) struct ReservedAttempt(Vec<Refund>);

impl Auth {
    /// Reserves an attempt, before anything of it is looked at.
    ///
    /// # Errors
    /// [`AuthError::Throttled`]; or the store's: what cannot be counted is not done.
    pub(super) async fn attempt(&self, attempt: Attempt<'_>) -> Result<ReservedAttempt, AuthError> {
        let settings = &self.settings.throttle;
        if settings.insecure_off {
            return Ok(ReservedAttempt(Vec::new()));
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
            AttemptOutcome::Reserved(refunds) => Ok(ReservedAttempt(refunds)),
            AttemptOutcome::Wait(Wait { retry_after, key }) => {
                let (user, address) = match attempt {
                    Attempt::Login { user, address, .. } => (user, address),
                    Attempt::ChangePassword(user, address) => (Some(user), address),
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
            let key = self.throttle_keys.key(subject);
            (name, Reservation { key, limit })
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
                username, address, ..
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
                let address = address.map(Subject::Address);
                all.extend(address.map(|address| counted(address, limit)));
                all
            }
            Attempt::ChangePassword(user, _) => {
                let limit = ("change_password", settings.change_password);
                vec![counted(Subject::PasswordOf(user), limit)]
            }
        }
    }

    /// Gives back exactly what an attempt has reserved, because it succeeded.
    pub(super) async fn give_back(&self, ReservedAttempt(refunds): ReservedAttempt) {
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

    /// Counts what costs little and needs no proof, by address and in this process alone.
    ///
    /// # Errors
    /// [`AuthError::Throttled`].
    pub fn admit(&self, action: LocalAction, address: Option<IpAddr>) -> Result<(), AuthError> {
        let settings = &self.settings.throttle;
        let (limit, name) = match action {
            LocalAction::Csrf => (settings.csrf, "csrf"),
            LocalAction::Revocations => (settings.revocations, "revocations"),
        };
        self.count(name, network(address), &limit, address)
    }

    /// Counts a refresh of a session, in this process alone: a page that has run away is held back before
    /// it reaches the store.
    pub(super) fn count_refresh(
        &self,
        session: SessionId,
        address: Option<IpAddr>,
    ) -> Result<(), AuthError> {
        let limit = self.settings.throttle.refresh;
        self.count("refresh", session.0.into_bytes(), &limit, address)
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
        match self.count("refused_tokens", network(address), &limit, address) {
            Ok(()) => refusal,
            Err(throttled) => throttled,
        }
    }

    fn count(
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
