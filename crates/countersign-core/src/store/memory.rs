//! The store that forgets: for tests, examples and throw-away services.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{
    AccountChange, AccountChangeKind, CHANGE_BACKLOG, Change, CreateUserError, EndedAt, KeyState,
    OpenOutcome, OpenSession, Rotation, SealedSigningKey, Store, UserQuery,
};
use crate::error::StoreError;
use crate::password::EncodedPassword;
use crate::session::{EndReason, Session, SessionEnd, SessionId};
use crate::user::{Credentials, NewUser, ProfileChange, User, UserId};

/// Everything in memory, behind one lock. Nothing outlives the process.
#[derive(Debug)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct Tables {
    last_user_id: i64,
    users: BTreeMap<UserId, (User, EncodedPassword)>,
    sessions: HashMap<SessionId, Session>,
    keys: Vec<SealedSigningKey>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let (changes, _) = broadcast::channel(CHANGE_BACKLOG);
        Self {
            tables: Mutex::default(),
            changes,
        }
    }
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // No transition panics half-way: the tables are whole even after a poisoned lock.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            let _nobody_listens = self.changes.send(change);
        }
    }
}

impl Tables {
    fn end(&mut self, id: SessionId, end: SessionEnd) -> Option<Change> {
        let session = self
            .sessions
            .get_mut(&id)
            .filter(|session| session.end.is_none())?;
        session.end = Some(end);
        Some(Change::SessionEnded(id))
    }

    fn end_all(&mut self, user: UserId, end: SessionEnd) -> Vec<Change> {
        let of_user: Vec<SessionId> = self
            .sessions
            .values()
            .filter(|session| session.user_id == user)
            .map(|session| session.id)
            .collect();
        of_user
            .into_iter()
            .filter_map(|id| self.end(id, end))
            .collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.tables().users.get(&id).map(|(user, _)| user.clone()))
    }

    async fn find_credentials(&self, username: &str) -> Result<Option<Credentials>, StoreError> {
        let tables = self.tables();
        let found = tables
            .users
            .values()
            .find(|(user, _)| user.username == username);
        Ok(found.map(|(user, password)| Credentials {
            user: user.clone(),
            password: password.clone(),
        }))
    }

    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError> {
        let search = query.search.as_ref().map(|search| search.to_lowercase());
        let matches = |user: &User| {
            search.as_ref().is_none_or(|search| {
                user.username.to_lowercase().contains(search)
                    || user.email.to_lowercase().contains(search)
            })
        };
        let tables = self.tables();
        let users = tables.users.values().map(|(user, _)| user);
        Ok(users
            .filter(|user| query.after.is_none_or(|after| user.id > after) && matches(user))
            .take(query.limit as usize)
            .cloned()
            .collect())
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        Ok(!self.tables().users.is_empty())
    }

    async fn create_user(&self, new: &NewUser) -> Result<User, CreateUserError> {
        let mut tables = self.tables();
        if tables
            .users
            .values()
            .any(|(user, _)| user.username == new.username.as_str())
        {
            return Err(CreateUserError::UsernameTaken);
        }
        tables.last_user_id += 1;
        let user = User {
            id: UserId(tables.last_user_id),
            username: new.username.as_str().to_owned(),
            email: new.email.as_str().to_owned(),
            first_name: String::new(),
            last_name: String::new(),
            is_active: true,
            is_staff: new.is_staff,
            is_superuser: new.is_superuser,
            last_login: None,
            date_joined: new.date_joined,
        };
        tables
            .users
            .insert(user.id, (user.clone(), new.password.clone()));
        drop(tables);
        self.tell([Change::UserChanged(user.id)]);
        Ok(user)
    }

    async fn update_profile(
        &self,
        id: UserId,
        change: &ProfileChange,
    ) -> Result<Option<User>, StoreError> {
        let mut tables = self.tables();
        let Some((user, _)) = tables.users.get_mut(&id) else {
            return Ok(None);
        };
        if let Some(first_name) = &change.first_name {
            first_name.as_str().clone_into(&mut user.first_name);
        }
        if let Some(last_name) = &change.last_name {
            last_name.as_str().clone_into(&mut user.last_name);
        }
        let user = user.clone();
        drop(tables);
        self.tell([Change::UserChanged(id)]);
        Ok(Some(user))
    }

    async fn change_account(&self, change: &AccountChange) -> Result<Option<User>, StoreError> {
        let mut tables = self.tables();
        let Some((user, password)) = tables.users.get_mut(&change.user) else {
            return Ok(None);
        };
        let reason = change.kind.ends_sessions(user);
        match &change.kind {
            AccountChangeKind::Password(new) => *password = new.clone(),
            AccountChangeKind::Active(active) => user.is_active = *active,
            AccountChangeKind::Roles {
                is_staff,
                is_superuser,
            } => (user.is_staff, user.is_superuser) = (*is_staff, *is_superuser),
        }
        let user = user.clone();
        let ended = reason.map(|reason| tables.end_all(user.id, change.ending.because(reason)));
        drop(tables);
        self.tell(ended.into_iter().flatten());
        self.tell([Change::UserChanged(user.id)]);
        Ok(Some(user))
    }

    async fn delete_user(&self, id: UserId, ending: EndedAt) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        if tables.users.remove(&id).is_none() {
            return Ok(false);
        }
        let ended = tables.end_all(id, ending.because(EndReason::UserDeleted));
        drop(tables);
        self.tell(ended);
        self.tell([Change::UserChanged(id)]);
        Ok(true)
    }

    async fn open_session(&self, opening: &OpenSession) -> Result<OpenOutcome, StoreError> {
        let mut tables = self.tables();
        let session = &opening.session;
        let found = tables.users.get_mut(&session.user_id);
        let Some((user, password)) = found.filter(|(_, password)| *password == opening.verified)
        else {
            return Ok(OpenOutcome::Changed);
        };
        if !user.is_active {
            return Ok(OpenOutcome::Inactive);
        }
        if let Some(upgraded) = &opening.upgraded {
            *password = upgraded.clone();
        }
        user.last_login = Some(session.opened_at);
        let user = user.clone();
        let replaced = opening.replaced.and_then(|replaced| {
            let ended = EndedAt {
                at: session.opened_at,
                by: crate::session::EndedBy::User(session.user_id),
            };
            tables.end(replaced, ended.because(EndReason::ReplacedByLogin))
        });
        tables.sessions.insert(session.id, session.clone());
        drop(tables);
        self.tell(replaced);
        Ok(OpenOutcome::Opened(user))
    }

    async fn find_session(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Option<User>)>, StoreError> {
        let tables = self.tables();
        let Some(session) = tables.sessions.get(&id) else {
            return Ok(None);
        };
        let user = tables
            .users
            .get(&session.user_id)
            .map(|(user, _)| user.clone());
        Ok(Some((session.clone(), user)))
    }

    async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let tables = &mut *tables;
        let Some(session) = tables.sessions.get_mut(&rotation.session) else {
            return Ok(false);
        };
        let active = tables
            .users
            .get(&session.user_id)
            .is_some_and(|(user, _)| user.is_active);
        if !active || session.end.is_some() || session.generation != rotation.from {
            return Ok(false);
        }
        session.generation = rotation.from.next();
        session.rotated_at = rotation.at;
        Ok(true)
    }

    async fn end_session(&self, id: SessionId, end: SessionEnd) -> Result<bool, StoreError> {
        let change = self.tables().end(id, end);
        self.tell(change);
        Ok(change.is_some())
    }

    async fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, StoreError> {
        Ok(self.tables().keys.clone())
    }

    async fn install_signing_key(
        &self,
        key: &SealedSigningKey,
        instead_of: Option<&str>,
    ) -> Result<Vec<SealedSigningKey>, StoreError> {
        let mut tables = self.tables();
        let current = tables
            .keys
            .iter_mut()
            .find(|key| key.state == KeyState::Current);
        if current.as_ref().map(|key| key.kid.as_str()) != instead_of {
            return Ok(tables.keys.clone());
        }
        if let Some(current) = current {
            current.state = KeyState::Retired;
        }
        tables.keys.insert(
            0,
            SealedSigningKey {
                state: KeyState::Current,
                ..key.clone()
            },
        );
        let keys = tables.keys.clone();
        drop(tables);
        self.tell([Change::KeysChanged]);
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryStore;

    crate::store_contract!(async || Arc::new(MemoryStore::default()));
}
