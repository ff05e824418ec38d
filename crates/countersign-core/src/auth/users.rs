//! Users: made and changed from the command line and the admin site, and by themselves.

use super::{Auth, CurrentUser, tell_ended};
use crate::audit::Event;
use crate::error::{AuthError, StoreError};
use crate::mail::{Mail, Message, masked};
use crate::password::{EncodedPassword, Password, PasswordOwner};
use crate::session::EndedBy;
use crate::store::{AccountChange, AccountChangeKind, CreateUserError, EndedAt, UserQuery};
use crate::user::{Email, NewUser, PersonName, ProfileChange, User, UserId, Username};

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
    pub async fn create_user(&self, account: NewAccount) -> Result<User, AuthError> {
        let owner = PasswordOwner {
            username: account.username.as_str(),
            email: account.email.as_str(),
            privileged: account.is_staff || account.is_superuser,
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
        self.make(&new).await
    }

    /// Makes a user in the store.
    pub(super) async fn make(&self, new: &NewUser) -> Result<User, AuthError> {
        let made = self.store.create_user(new).await;
        let user = made.map_err(|error| match error {
            CreateUserError::UsernameTaken => AuthError::UsernameTaken,
            CreateUserError::Store(error) => AuthError::Store(error),
        })?;
        Event::UserCreated { user: user.id }.tell();
        Ok(user)
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
    ) -> Result<User, AuthError> {
        let id = current.user().id;
        let changed = self.store.update_profile(id, change).await?;
        let user = changed.ok_or(AuthError::NoSuchUser)?;
        Event::ProfileChanged { user: id }.tell();
        Ok(user)
    }

    /// Sets a user's password without asking for the old one; every session of the user ends.
    ///
    /// # Errors
    /// [`AuthError::Validation`], [`AuthError::NoSuchUser`], [`AuthError::Overloaded`], or the
    /// store's.
    pub async fn set_password(
        &self,
        user: &User,
        password: Password,
        by: EndedBy,
    ) -> Result<User, AuthError> {
        let encoded = self.new_password(password, PasswordOwner::of(user)).await?;
        let mail = self.mail_to(user, Message::PasswordChanged { by });
        let changed = self
            .change(user.id, AccountChangeKind::Password(encoded), by, mail)
            .await?;
        Event::PasswordSet { user: user.id }.tell();
        Ok(changed)
    }

    /// Lets a user sign in, or not; deactivation ends every session of the user.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], or the store's.
    pub async fn set_active(
        &self,
        user: UserId,
        active: bool,
        by: EndedBy,
    ) -> Result<User, AuthError> {
        let changed = self
            .change(user, AccountChangeKind::Active(active), by, None)
            .await?;
        Event::ActiveSet { user, active }.tell();
        Ok(changed)
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
        by: EndedBy,
    ) -> Result<User, AuthError> {
        let kind = AccountChangeKind::Roles {
            is_staff,
            is_superuser,
        };
        let changed = self.change(user, kind, by, None).await?;
        Event::RolesSet {
            user,
            is_staff,
            is_superuser,
        }
        .tell();
        Ok(changed)
    }

    /// Gives a user another address, which is not proven; the one before is told of it.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], or the store's.
    pub async fn set_email(
        &self,
        user: &User,
        email: Email,
        by: EndedBy,
    ) -> Result<User, AuthError> {
        let message = Message::EmailChanged {
            to: masked(email.as_str()),
        };
        let is_another = user.email != email.as_str();
        let mail = is_another.then(|| self.mail_to(user, message)).flatten();
        let kind = AccountChangeKind::Email(email);
        let changed = self.change(user.id, kind, by, mail).await?;
        if is_another {
            Event::EmailChanged { user: user.id }.tell();
        }
        Ok(changed)
    }

    /// Deletes a user and ends every session of the user.
    ///
    /// # Errors
    /// [`AuthError::NoSuchUser`], or the store's.
    pub async fn delete_user(&self, user: UserId, by: EndedBy) -> Result<(), AuthError> {
        let ending = EndedAt {
            at: self.clock.now(),
            by,
        };
        let ended = self.store.delete_user(user, ending).await?;
        let ended = ended.ok_or(AuthError::NoSuchUser)?;
        Event::UserDeleted { user }.tell();
        tell_ended(&ended);
        Ok(())
    }

    async fn change(
        &self,
        user: UserId,
        kind: AccountChangeKind,
        by: EndedBy,
        mail: Option<Mail>,
    ) -> Result<User, AuthError> {
        let ending = EndedAt {
            at: self.clock.now(),
            by,
        };
        let change = AccountChange {
            user,
            kind,
            ending,
            mail,
        };
        let changed = self.store.change_account(&change).await?;
        let changed = changed.ok_or(AuthError::NoSuchUser)?;
        tell_ended(&changed.ended);
        Ok(changed.user)
    }

    pub(super) async fn new_password(
        &self,
        password: Password,
        owner: PasswordOwner<'_>,
    ) -> Result<EncodedPassword, AuthError> {
        self.settings.passwords.check(&password, owner)?;
        Ok(self.passwords.hash(password).await?)
    }
}
