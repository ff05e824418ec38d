//! Registration: people make an account for themselves.
//!
//! Where the address must be proven first, there is no user until it is: the name is reserved, and a letter
//! goes to the address. What the answer says, and when, is the same whoever has the address already; only
//! the letter says so, to its owner.

use super::attempt::Attempt;
use super::{Auth, DECISIONS};
use crate::audit::{Actor, Caller, Event, Trail};
use crate::error::{AuthError, StoreError};
use crate::mail::Message;
use crate::mailed_token::{MailedTokenId, Registration};
use crate::password::{Password, PasswordOwner, Verdict};
use crate::session::{EndedBy, saturating_add};
use crate::store::{Register, RegisterOutcome, RegistrationOutcome};
use crate::user::{Email, NewUser, PersonName, User, Username};
use crate::validation::FieldError;

/// What somebody who registers gives.
#[derive(Debug)]
pub struct NewRegistration {
    /// The name to sign in with. `None`: the address.
    pub username: Option<Username>,
    /// The address.
    pub email: Email,
    /// The password.
    pub password: Password,
    /// The given name; may be empty.
    pub first_name: PersonName,
    /// The family name; may be empty.
    pub last_name: PersonName,
}

/// What became of a registration.
#[derive(Debug)]
pub enum Registered {
    /// The address is to be proven first.
    Pending {
        /// The name that is reserved.
        username: Username,
        /// The address.
        email: Email,
    },
    /// There is a user now.
    Made(User),
}

impl Auth {
    /// Makes a user, or reserves the name until the address is proven
    /// ([`RegistrationSettings`](super::RegistrationSettings)).
    ///
    /// # Errors
    /// [`AuthError::RegistrationClosed`], [`AuthError::Validation`], [`AuthError::Throttled`],
    /// [`AuthError::UsernameTaken`], [`AuthError::Overloaded`], or the store's.
    pub async fn register(
        &self,
        new: NewRegistration,
        caller: &Caller,
    ) -> Result<Registered, AuthError> {
        let settings = self.settings.registration;
        if !settings.enabled {
            return Err(AuthError::RegistrationClosed);
        }
        let username = registered_name(&new, self.store.is_named_by_email())?;
        let owner = PasswordOwner {
            username: username.as_str(),
            email: new.email.as_str(),
            first_name: new.first_name.as_str(),
            last_name: new.last_name.as_str(),
            privileged: false,
        };
        // Before the policy is asked, which costs more than it looks, and so do its answers.
        self.count(Attempt::Register(caller.address)).await?;
        self.check_new_password(&new.password, owner).await?;
        let password = self.passwords.hash(new.password).await?;
        let now = self.clock.now();
        if !settings.verify_email {
            let user = NewUser {
                username,
                email: new.email,
                first_name: new.first_name,
                last_name: new.last_name,
                password,
                is_staff: false,
                is_superuser: false,
                date_joined: now,
            };
            let by = Actor {
                by: EndedBy::Service,
                caller: caller.clone(),
            };
            return Ok(Registered::Made(self.make(&user, &by).await?));
        }
        let id = MailedTokenId::new(now, &*self.randomness);
        let registration = Registration {
            id,
            username: username.as_str().to_owned(),
            email: new.email.as_str().to_owned(),
            password,
            first_name: new.first_name.as_str().to_owned(),
            last_name: new.last_name.as_str().to_owned(),
            created_at: now,
            expires_at: saturating_add(now, self.settings.mailed_tokens.verify_lifetime),
        };
        let message = Message::Register { registration: id };
        let mail = self.mail_to_address(&new.email, message);
        let reserved = self
            .reserve_letter(&new.email, mail, caller.address)
            .await?;
        let (mail, letter) = reserved.unzip();
        let event = Event::RegistrationAsked;
        let register = Register {
            registration,
            mail,
            trail: Trail::of(caller).with(&event, now, None),
        };
        let kept = self.keep_registration(&register).await;
        // Names that are taken must not use a mailbox up.
        if let (Err(_), Some(letter)) = (&kept, letter) {
            self.give_back(letter).await;
        }
        kept?;
        event.tell();
        let email = new.email;
        Ok(Registered::Pending { username, email })
    }

    async fn keep_registration(&self, register: &Register) -> Result<(), AuthError> {
        for _ in 0..DECISIONS {
            match self.store.register(register).await? {
                RegisterOutcome::Pending => return Ok(()),
                RegisterOutcome::UsernameTaken => return Err(AuthError::UsernameTaken),
                RegisterOutcome::NameIsNotTheAddress => return Err(name_is_not_the_address()),
                RegisterOutcome::NamesUnknown => self.note_new_names().await?,
            }
        }
        Err(names_unknown())
    }

    /// Makes sure that whoever shows the token of a registration has its password, too. Guesses are counted
    /// before anything is hashed, and use no token up.
    pub(super) async fn prove_registrant(
        &self,
        registration: &Registration,
        password: Option<&Password>,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let Some(password) = password else {
            let detail = "Enter the password that you chose when you registered.";
            return Err(invalid("password", "required", detail));
        };
        let attempt = Attempt::CompleteRegistration(registration.id, caller.address);
        let reserved = self.attempt(attempt).await?;
        let stored = Some(registration.password.clone());
        let verdict = self.passwords.verify(password.clone(), stored).await;
        let outcome = match verdict {
            Ok(Verdict::Right | Verdict::RightAndUpgraded(_)) => Ok(()),
            Ok(Verdict::Wrong) => Err(AuthError::WrongRegistrationPassword),
            Err(overloaded) => Err(overloaded.into()),
        };
        self.settle(reserved, &outcome).await;
        if let Err(AuthError::WrongRegistrationPassword) = outcome {
            let reason = "wrong_password";
            self.gather(&Event::MailedTokenRefused { reason }, caller.address);
        }
        outcome
    }

    /// Makes the user of a registration whose token was shown.
    pub(super) async fn complete_registration(
        &self,
        registration: &Registration,
        caller: &Caller,
    ) -> Result<(), AuthError> {
        let now = self.clock.now();
        let trail = Trail::of_registrant(caller, now);
        for _ in 0..DECISIONS {
            let completed = self
                .store
                .complete_registration(registration.id, now, &trail);
            match completed.await? {
                RegistrationOutcome::Made(user) => {
                    Event::UserCreated { user: user.id }.tell();
                    Event::EmailVerified { user: user.id }.tell();
                    return Ok(());
                }
                RegistrationOutcome::UsernameTaken => return Err(AuthError::UsernameTaken),
                RegistrationOutcome::EmailTaken => return Err(AuthError::EmailTaken),
                RegistrationOutcome::Dead => return Err(AuthError::MailedTokenInvalid),
                RegistrationOutcome::NamesUnknown => self.note_new_names().await?,
            }
        }
        Err(names_unknown())
    }
}

/// The name that somebody registers: no e-mail address, or the answer that it is taken would tell who has one,
/// and it could be what somebody else signs in with. Where the table of users has no other names, nobody can be
/// asked for one, and the registrant's own address is the name.
fn registered_name(new: &NewRegistration, is_named_by_email: bool) -> Result<Username, AuthError> {
    if new.email.as_str().is_empty() {
        let detail = "Enter your e-mail address.";
        return Err(invalid("email", "required", detail));
    }
    match &new.username {
        None if is_named_by_email => Username::parse(new.email.as_str())
            .map_err(|refusal| AuthError::Validation(refusal.about("email"))),
        None => Err(invalid("username", "required", "Enter a username.")),
        Some(username) if !username.as_str().contains('@') => Ok(username.clone()),
        Some(username)
            if is_named_by_email && Email::fold(username.as_str()) == new.email.folded() =>
        {
            Ok(username.clone())
        }
        Some(_) => {
            let detail = "Leave the @ out: you can sign in by your e-mail address as well.";
            Err(invalid("username", "is_an_address", detail))
        }
    }
}

fn names_unknown() -> AuthError {
    let why = "users are being made faster than their names can be looked at";
    StoreError::Unavailable(why.to_owned()).into()
}

fn name_is_not_the_address() -> AuthError {
    let detail = "Your username is your e-mail address here: leave this out.";
    invalid("username", "not_your_address", detail)
}

fn invalid(field: &'static str, code: &'static str, detail: &'static str) -> AuthError {
    AuthError::Validation(FieldError::new(field, code, detail).into())
}
