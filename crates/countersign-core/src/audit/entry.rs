//! Entries of the audit log: what the store keeps of an outcome.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Actor, Caller, Event};
use crate::session::{EndedBy, EndedSession, SessionId};
use crate::user::UserId;

/// One outcome, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// The event's name. One that was read may be of a later version of this program.
    pub event: String,
    /// Whom it concerns. The number stays when the user is deleted.
    pub user: Option<UserId>,
    /// Which session.
    pub session: Option<SessionId>,
    /// Who did it; `None`: somebody who has not proved who they are.
    pub by: Option<EndedBy>,
    /// From where.
    pub caller: Caller,
    /// What else there is to say of the event.
    pub details: Map<String, Value>,
    /// How often it happened: more than once where entries are gathered.
    pub count: u32,
}

/// An entry with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEntry {
    /// Its number: none is given twice, and not every one is given.
    pub number: i64,
    /// The entry.
    pub entry: AuditEntry,
}

/// Which entries to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only those that concern this user.
    pub user: Option<UserId>,
    /// Only those of this session.
    pub session: Option<SessionId>,
    /// Only those of the event of this name.
    pub event: Option<String>,
    /// Only those from this instant on.
    pub since: Option<Timestamp>,
    /// Only those before this instant.
    pub until: Option<Timestamp>,
    /// Only those that come after this one in the list, which begins with the newest: the next page.
    pub after: Option<(Timestamp, i64)>,
    /// At most this many.
    pub limit: u32,
}

/// How far somebody has followed the log. Only the store that gave it understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditPosition {
    /// The transaction that wrote the last entry that was seen, where transactions do not end in the order
    /// of their numbers.
    pub transaction: i64,
    /// That entry's number.
    pub number: i64,
}

/// What a transition leaves in the audit log, in the same transaction: neither happens without the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trail {
    /// From where the transition was asked for.
    pub caller: Caller,
    /// What it leaves if it is made. Of one that makes a user an entry that concerns nobody concerns that
    /// user.
    ///
    /// What only the transaction knows is left by the store: an entry of each session that ends
    /// ([`Trail::of_end`]).
    pub entries: Vec<AuditEntry>,
}

impl Trail {
    /// Nothing yet but what the store knows.
    pub fn of(caller: &Caller) -> Self {
        Self {
            caller: caller.clone(),
            entries: Vec::new(),
        }
    }

    /// What the making of a user leaves, whose number only the store gives.
    pub fn of_new_user(by: &Actor, at: Timestamp) -> Self {
        let event = Event::UserCreated { user: UserId(0) };
        let entry = event.entry(at, Some(by.by), &by.caller);
        Self {
            caller: by.caller.clone(),
            entries: entry
                .map(|entry| AuditEntry {
                    user: None,
                    ..entry
                })
                .into_iter()
                .collect(),
        }
    }

    /// What the making of a user leaves who has registered and proven an address.
    pub fn of_registrant(caller: &Caller, at: Timestamp) -> Self {
        let user = UserId(0);
        let events = [Event::UserCreated { user }, Event::EmailVerified { user }];
        let entries = events.map(|event| event.entry(at, None, caller));
        Self {
            caller: caller.clone(),
            entries: entries
                .into_iter()
                .flatten()
                .map(|entry| AuditEntry {
                    user: None,
                    ..entry
                })
                .collect(),
        }
    }

    /// What an event leaves, too, if it is one that is kept.
    #[must_use]
    pub fn with(mut self, event: &Event<'_>, at: Timestamp, by: Option<EndedBy>) -> Self {
        self.entries.extend(event.entry(at, by, &self.caller));
        self
    }

    /// What a session that ends leaves.
    pub fn of_end(&self, ended: &EndedSession) -> AuditEntry {
        AuditEntry {
            at: ended.end.at,
            event: Event::SESSION_ENDED.to_owned(),
            user: Some(ended.user),
            session: Some(ended.id),
            by: Some(ended.end.by),
            caller: self.caller.clone(),
            details: Map::from_iter([("reason".to_owned(), ended.end.reason.code().into())]),
            count: 1,
        }
    }
}
