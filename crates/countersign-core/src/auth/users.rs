//! Users: made and changed from the command line and the admin site, and by themselves.

use super::{Auth, CurrentUser, DECISIONS, tell_ended};
use crate::audit::{Actor, Caller, Event, Trail};
use crate::error::{AuthError, StoreError};
use crate::mail::{Mail, Message, masked};
use crate::password::{EncodedPassword, Password, PasswordOwner, PolicyError};
use crate::session::EndedBy;
use crate::store::{AccountChange, AccountChangeKind, CreateUserError, EndedAt, UserQuery};
use crate::user::{Email, NewUser, PersonName, ProfileChange, User, UserId, Username};

/// How many users one transaction looks at for their names: some ten milliseconds, after which others have
/// their turn.
pub(super) const NAMES_AT_ONCE: u32 = 250;

/// An account to make.
#[derive(Debug)]
pub struct NewAccount {
    /// The name to sign in with.
    pub username: Username,
    /// The e-mail address; may be empty.
    pub email: Email,
    /// The password; without one nobody can sign in until one is set.
    pub password: Option<Password>,
    /// Whether the user may enter the admin site.
    pub is_staff: bool,
    /// Whether the user has every permission.
    pub is_superuser: bool,
}

impl Auth {
    /// Makes a user.
    ///
    /// # Errors
    /// [`AuthError::Validation`] if the policy refuses the password, [`AuthError::UsernameTaken`],
    /// [`AuthError::Overloaded`], or the store's.
    pub async fn create_user(
        &self,
        account: NewAccount,
        by: impl Into<Actor>,
    ) -> Result<User, AuthError> {
        let by = by.into();
        let owner = PasswordOwner {
            username: account.username.as_str(),
            email: account.email.as_str(),
            privileged: account.is_staff || account.is_superuser,
            ..PasswordOwner::default()
        };
        let password = match account.password {
            Some(password) => self.new_password(password, owner).await?,
            None => EncodedPassword::unusable(),
        };
        let new = NewUser {
            username: account.username,
            email: account.email,
            first_name: PersonName::default(),
            last_name: PersonName::default(),
            password,
            is_staff: account.is_staff,
            is_superuser: account.is_superuser,
            date_joined: self.clock.now(),
        };
        self.make(&new, &by).await
    }

    /// Makes a user in the store, and tells of it.
    pub(super) async fn make(&self, new: &NewUser, by: &Actor) -> Result<User, AuthError> {
        let trail = Trail::of_new_user(by, new.date_joined);
        let user = self.create(new, &trail).await?;
        Event::UserCreated { user: user.id }.tell();
        Ok(user)
    }

    /// Makes the user in the store, after the names of all others are known there.
    async fn create(&self, new: &NewUser, trail: &Trail) -> Result<User, AuthError> {
        for _ in 0..DECISIONS {
            match self.store.create_user(new, trail).await {
                Ok(user) => return Ok(user),
                Err(CreateUserError::UsernameTaken) => return Err(AuthError::UsernameTaken),
                Err(CreateUserError::Store(error)) => return Err(error.into()),
                Err(CreateUserError::NamesUnknown) => self.note_new_names().await?,
            }
        }
        let why = "users are being made faster than their names can be looked at";
        Err(StoreError::Unavailable(why.to_owned()).into())
    }

    /// Notes the names of all users whom other programs have made, in steps between which others write.
    /// Of a million users this takes a few seconds, once; upkeep does it at the start of the service.
    pub(super) async fn note_new_names(&self) -> Result<(), StoreError> {
        let mut noted = 0;
        loop {
            let step = self.store.note_names(None, NAMES_AT_ONCE).await?;
            noted += step.noted;
            if step.next.is_none() {
                break;
            }
        }
        if noted > 0 {
            tracing::debug!(event = "names_noted", noted);
        }
        Ok(())
    }

    /// The user with this username.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], or the store's.
    pub async fn find_user(&self, username: &str) -> Result<User, AuthError> {
        let found = self
            .store
            .find_credentials(&Username::normalise(username))
            .await?;
        found.map(|found| found.user).ok_or(AuthError::NoSuchUser)
    }

    /// The user of this number, unless deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn find_user_by_id(&self, id: UserId) -> Result<Option<User>, AuthError> {
        Ok(self.store.find_user(id).await?)
    }

    /// Users by id.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, AuthError> {
        Ok(self.store.list_users(query).await?)
    }

    /// Whether there is any user.
    ///
    /// # Errors
    /// The store's.
    pub async fn has_users(&self) -> Result<bool, StoreError> {
        self.store.has_users().await
    }

    /// Changes what users may change of themselves.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`] if the user was deleted meanwhile, or the store's.
    pub async fn update_profile(
        &self,
        current: &CurrentUser,
        change: &ProfileChange,
        caller: &Caller,
    ) -> Result<User, AuthError> {
        let id = current.user().id;
        let event = Event::ProfileChanged { user: id };
        let by = Some(EndedBy::User(id));
        let trail = Trail::of(caller).with(&event, self.clock.now(), by);
        let changed = self.store.update_profile(id, change, &trail).await?;
        let user = changed.ok_or(AuthError::NoSuchUser)?;
        event.tell();
        Ok(user)
    }

    /// Sets a user's password without asking for the old one; every session of the user ends, and what was
    /// attempted at the account counts no more.
    ///
    /// # Errors
    /// [`AuthError::Validation`], [`AuthError::NoSuchUser`], [`AuthError::Overloaded`], or the
    /// store's.
    pub async fn set_password(
        &self,
        user: &User,
        password: Password,
        by: impl Into<Actor>,
    ) -> Result<User, AuthError> {
        let by = by.into();
        let encoded = self.new_password(password, PasswordOwner::of(user)).await?;
        let mail = self.mail_to(user, Message::PasswordChanged { by: by.by });
        let event = Event::PasswordSet { user: user.id };
        let kind = AccountChangeKind::Password(encoded);
        let user = self.change(&event, user.id, kind, &by, mail).await?;
        self.forget_attempts_at(&user, None, &by.caller).await;
        Ok(user)
    }

    /// Lets a user sign in, or not; deactivation ends every session of the user.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], or the store's.
    pub async fn set_active(
        &self,
        user: UserId,
        active: bool,
        by: impl Into<Actor>,
    ) -> Result<User, AuthError> {
        let event = Event::ActiveSet { user, active };
        let kind = AccountChangeKind::Active(active);
        self.change(&event, user, kind, &by.into(), None).await
    }

    /// Gives or takes a user's powers; every session of the user ends if they change.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], or the store's.
    pub async fn set_roles(
        &self,
        user: UserId,
        is_staff: bool,
        is_superuser: bool,
        by: impl Into<Actor>,
    ) -> Result<User, AuthError> {
        let kind = AccountChangeKind::Roles {
            is_staff,
            is_superuser,
        };
        let event = Event::RolesSet {
            user,
            is_staff,
            is_superuser,
        };
        self.change(&event, user, kind, &by.into(), None).await
    }

    /// Gives a user another address, which is not proven; the one before is told of it.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], or the store's.
    pub async fn set_email(
        &self,
        user: &User,
        email: Email,
        by: impl Into<Actor>,
    ) -> Result<User, AuthError> {
        if user.email == email.as_str() {
            return Ok(user.clone());
        }
        let message = Message::EmailChanged {
            to: masked(email.as_str()),
        };
        let mail = self.mail_to(user, message);
        let event = Event::EmailChanged { user: user.id };
        let kind = AccountChangeKind::Email(email);
        self.change(&event, user.id, kind, &by.into(), mail).await
    }

    /// Deletes a user and ends every session of the user.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], or the store's.
    pub async fn delete_user(&self, user: UserId, by: impl Into<Actor>) -> Result<(), AuthError> {
        let Actor { by, caller } = by.into();
        let ending = EndedAt {
            at: self.clock.now(),
            by,
        };
        let event = Event::UserDeleted { user };
        let trail = Trail::of(&caller).with(&event, ending.at, Some(by));
        let ended = self.store.delete_user(user, ending, &trail).await?;
        let ended = ended.ok_or(AuthError::NoSuchUser)?;
        event.tell();
        tell_ended(&ended);
        Ok(())
    }

    /// Makes the change that an event tells of, and tells of it.
    async fn change(
        &self,
        event: &Event<'_>,
        user: UserId,
        kind: AccountChangeKind,
        by: &Actor,
        mail: Option<Mail>,
    ) -> Result<User, AuthError> {
        let ending = EndedAt {
            at: self.clock.now(),
            by: by.by,
        };
        let change = AccountChange {
            user,
            kind,
            ending,
            mail,
            trail: Trail::of(&by.caller).with(event, ending.at, Some(by.by)),
        };
        let changed = self.store.change_account(&change).await?;
        let changed = changed.ok_or(AuthError::NoSuchUser)?;
        event.tell();
        tell_ended(&changed.ended);
        Ok(changed.user)
    }

    pub(super) async fn new_password(
        &self,
        password: Password,
        owner: PasswordOwner<'_>,
    ) -> Result<EncodedPassword, AuthError> {
        self.check_new_password(&password, owner).await?;
        Ok(self.passwords.hash(password).await?)
    }

    /// Whether the policy accepts a new password, which is one for every way to set one.
    ///
    /// # Errors
    /// [`AuthError::Validation`] on `password`, [`AuthError::Overloaded`], or the store's if the list of
    /// breached passwords cannot be read: none is accepted then.
    pub(super) async fn check_new_password(
        &self,
        password: &Password,
        owner: PasswordOwner<'_>,
    ) -> Result<(), AuthError> {
        let policy = &self.settings.passwords;
        let subject = policy.subject(owner);
        let judged = self
            .passwords
            .judge(policy.clone(), password.clone(), subject)
            .await?;
        judged.map_err(|error| match error {
            PolicyError::Refused(refused) => AuthError::Validation(refused),
            PolicyError::Unavailable(why) => StoreError::Unavailable(why.to_string()).into(),
        })
    }
}
