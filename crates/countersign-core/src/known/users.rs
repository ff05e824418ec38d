//! Users as last read from the store, until the feed says that they changed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use crate::user::{User, UserId};

/// How many users are kept: about half a KiB each.
const CAPACITY: usize = 16_384;

/// How many counters tell whether a user changed: each is shared by the users whose numbers are the same
/// modulo this.
const COUNTERS: usize = 256;

/// Users by id.
///
/// A user read from the store before a change and put here after it would be stale for ever: therefore
/// each is put with the [`Stamp`] that was taken before it was read, and counts only while the stamp is
/// the last one.
pub(crate) struct UserCache {
    users: Cache<UserId, (Stamp, Arc<User>)>,
    changes: Box<[AtomicU64]>,
}

/// How many changes had been heard of when a user was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Default for UserCache {
    fn default() -> Self {
        Self {
            users: Cache::new(CAPACITY),
            changes: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl UserCache {
    /// The user, if nothing has changed since.
    pub(crate) fn get(&self, id: UserId) -> Option<Arc<User>> {
        let (stamp, user) = self.users.get(&id)?;
        (stamp == self.stamp(id)).then_some(user)
    }

    /// To be taken before the user is read from the store.
    pub(crate) fn stamp(&self, id: UserId) -> Stamp {
        Stamp(self.counter(id).load(Ordering::Acquire))
    }

    /// Keeps a user that was read after `stamp` was taken.
    pub(crate) fn put(&self, stamp: Stamp, user: &Arc<User>) {
        self.users.insert(user.id, (stamp, Arc::clone(user)));
    }

    pub(super) fn forget(&self, id: UserId) {
        self.counter(id).fetch_add(1, Ordering::AcqRel);
        self.users.remove(&id);
    }

    pub(super) fn forget_all(&self) {
        for counter in &self.changes {
            counter.fetch_add(1, Ordering::AcqRel);
        }
        self.users.clear();
    }

    fn counter(&self, id: UserId) -> &AtomicU64 {
        let index = id.0.unsigned_abs() % COUNTERS as u64;
        &self.changes[usize::try_from(index).unwrap_or_default()]
    }
}

impl fmt::Debug for UserCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("UserCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn ana() -> Arc<User> {
        Arc::new(User {
            id: UserId(7),
            username: "ana".to_owned(),
            email: String::new(),
            email_verified: false,
            first_name: String::new(),
            last_name: String::new(),
            is_active: true,
            is_staff: false,
            is_superuser: false,
            last_login: None,
            date_joined: Timestamp::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_user_is_kept_until_a_change_is_told() {
        let (users, ana) = (UserCache::default(), ana());
        users.put(users.stamp(ana.id), &ana);
        assert_eq!(users.get(ana.id), Some(Arc::clone(&ana)));
        users.forget(UserId(8));
        assert!(users.get(ana.id).is_some());
        users.forget(ana.id);
        assert_eq!(users.get(ana.id), None);
        users.put(users.stamp(ana.id), &ana);
        users.forget_all();
        assert_eq!(users.get(ana.id), None);
    }

    #[test]
    fn a_user_read_before_a_change_and_put_after_it_is_not_believed() {
        let (users, ana) = (UserCache::default(), ana());
        let stamp = users.stamp(ana.id);
        users.forget(ana.id);
        users.put(stamp, &ana);
        assert_eq!(users.get(ana.id), None);
        let stamp = users.stamp(ana.id);
        users.forget_all();
        users.put(stamp, &ana);
        assert_eq!(users.get(ana.id), None);
    }
}
