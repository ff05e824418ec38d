//! What a verifier knows to have ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::revocation::{RevocationList, RevokedUser};
use crate::{AccessClaims, UnixSeconds};

/// The entries of all lists so far that are still of consequence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revoked {
    sessions: HashMap<Box<str>, UnixSeconds>,
    users: HashMap<Box<str>, EarlierTokens>,
    keys: HashMap<Box<str>, UnixSeconds>,
}

/// Which tokens of a user ended, and until when that matters.
#[derive(Debug, Clone, Copy)]
struct EarlierTokens {
    not_before: UnixSeconds,
    until: UnixSeconds,
}

impl Revoked {
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.users.is_empty() && self.keys.is_empty()
    }

    /// Whether the session of these claims, or its user's earlier sessions, ended.
    pub(crate) fn has_ended(&self, claims: &AccessClaims) -> bool {
        self.sessions.contains_key(claims.sid.as_str())
            || self
                .users
                .get(claims.sub.as_str())
                .is_some_and(|earlier| claims.iat < earlier.not_before)
    }

    pub(crate) fn has_key(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// Adds what `list` names. What an earlier list said about the same is never shortened: a list
    /// that is behind the one before, from a lagging node or a cache, brings nothing back to life.
    pub(crate) fn add(&mut self, list: &RevocationList) {
        for session in &list.sessions {
            lengthen(&mut self.sessions, &session.sid, session.until);
        }
        for user in &list.users {
            self.add_user(user);
        }
        for key in &list.keys {
            lengthen(&mut self.keys, &key.kid, key.until);
        }
    }

    fn add_user(&mut self, user: &RevokedUser) {
        let earlier = self
            .users
            .entry(user.sub.as_str().into())
            .or_insert(EarlierTokens {
                not_before: user.not_before,
                until: user.until,
            });
        earlier.not_before = earlier.not_before.max(user.not_before);
        earlier.until = earlier.until.max(user.until);
    }

    /// Forgets what was of consequence only until a time that `is_over`. A key that is still
    /// `in_use` is not forgotten: whoever stole it makes new tokens with it.
    pub(crate) fn forget(
        &mut self,
        is_over: impl Fn(UnixSeconds) -> bool,
        in_use: impl Fn(&str) -> bool,
    ) {
        self.sessions.retain(|_, until| !is_over(*until));
        self.users.retain(|_, earlier| !is_over(earlier.until));
        self.keys
            .retain(|kid, until| !is_over(*until) || in_use(kid));
    }

    /// Whether a key is revoked here that `earlier` did not know of.
    pub(crate) fn revokes_more_keys_than(&self, earlier: &Self) -> bool {
        self.keys.keys().any(|kid| !earlier.has_key(kid))
    }
}

fn lengthen(entries: &mut HashMap<Box<str>, UnixSeconds>, name: &str, until: UnixSeconds) {
    match entries.entry(name.into()) {
        Entry::Occupied(mut known) => {
            let known = known.get_mut();
            *known = until.max(*known);
        }
        Entry::Vacant(unknown) => {
            unknown.insert(until);
        }
    }
}
