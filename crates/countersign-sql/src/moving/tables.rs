//! What moves: the tables, their columns, and values that belong to no database.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

/// A table that moves, row by row.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What its rows are called, for people.
    pub(crate) called: &'static str,
    /// The first is the key, in whose order the rows are read.
    pub(crate) columns: &'static [Column],
    /// Whether the database gives the keys, and must not give one again.
    pub(crate) is_numbered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Truth,
    Text,
    Bytes,
    /// The id of a session or a mail.
    Id,
    /// Django's dates and times; ours are numbers.
    Date,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}

/// Every table that moves, in this order. What another column or table needs stands here.
pub(crate) const TABLES: [Table; 9] = [
    Table {
        name: "auth_user",
        called: "users",
        columns: &[
            column("id", Kind::Number),
            column("password", Kind::Text),
            column("last_login", Kind::Date),
            column("is_superuser", Kind::Truth),
            column("username", Kind::Text),
            column("last_name", Kind::Text),
            column("email", Kind::Text),
            column("is_staff", Kind::Truth),
            column("is_active", Kind::Truth),
            column("date_joined", Kind::Date),
            column("first_name", Kind::Text),
        ],
        is_numbered: true,
    },
    Table {
        name: "countersign_session",
        called: "sessions",
        columns: &[
            column("id", Kind::Id),
            column("user_id", Kind::Number),
            column("generation", Kind::Number),
            column("opened_at", Kind::Number),
            column("rotated_at", Kind::Number),
            column("remember", Kind::Truth),
            column("address", Kind::Text),
            column("user_agent", Kind::Text),
            column("ended_at", Kind::Number),
            column("end_reason", Kind::Text),
            column("ended_by", Kind::Text),
        ],
        is_numbered: false,
    },
    Table {
        name: "countersign_signing_key",
        called: "signing keys",
        columns: &[
            column("number", Kind::Number),
            column("kid", Kind::Text),
            column("algorithm", Kind::Text),
            column("state", Kind::Text),
            column("sealed", Kind::Bytes),
            column("created_at", Kind::Number),
            column("state_since", Kind::Number),
        ],
        is_numbered: true,
    },
    Table {
        name: "countersign_outbox",
        called: "mails",
        columns: &[
            column("id", Kind::Id),
            column("recipient", Kind::Text),
            column("username", Kind::Text),
            column("message", Kind::Text),
            column("queued_at", Kind::Number),
            column("due_at", Kind::Number),
            column("attempts", Kind::Number),
        ],
        is_numbered: false,
    },
    Table {
        name: "countersign_cut_off",
        called: "cut-offs",
        columns: &[column("user_id", Kind::Number), column("at", Kind::Number)],
        is_numbered: false,
    },
    Table {
        name: "countersign_mailed_token",
        called: "mailed tokens",
        columns: &[
            column("id", Kind::Id),
            column("purpose", Kind::Text),
            column("user_id", Kind::Number),
            column("email", Kind::Text),
            column("binding", Kind::Bytes),
            column("created_at", Kind::Number),
            column("expires_at", Kind::Number),
        ],
        is_numbered: false,
    },
    Table {
        name: "countersign_registration",
        called: "registrations",
        columns: &[
            column("id", Kind::Id),
            column("username", Kind::Text),
            column("small", Kind::Bytes),
            column("capital", Kind::Bytes),
            column("email", Kind::Text),
            column("folded_email", Kind::Text),
            column("password", Kind::Text),
            column("first_name", Kind::Text),
            column("last_name", Kind::Text),
            column("created_at", Kind::Number),
            column("expires_at", Kind::Number),
        ],
        is_numbered: false,
    },
    Table {
        name: "countersign_email",
        called: "proven addresses",
        columns: &[
            column("user_id", Kind::Number),
            column("address", Kind::Text),
            column("folded", Kind::Text),
            column("verified_at", Kind::Number),
        ],
        is_numbered: false,
    },
    Table {
        name: "countersign_audit",
        called: "audit entries",
        columns: &[
            column("number", Kind::Number),
            column("at", Kind::Number),
            column("event", Kind::Text),
            column("user_id", Kind::Number),
            column("session", Kind::Id),
            column("actor", Kind::Text),
            column("address", Kind::Text),
            column("user_agent", Kind::Text),
            column("request_id", Kind::Text),
            column("details", Kind::Text),
            column("count", Kind::Number),
        ],
        is_numbered: true,
    },
];

/// Tables of ours that stay: the change feed tells of one database what only its processes ask, attempts
/// are counted anew, what names look like is noted anew from the users, and of `countersign_meta` the day it
/// was made moves, by a statement of its own.
pub(crate) const STAYING: [&str; 4] = [
    "countersign_change",
    "countersign_meta",
    "countersign_name",
    "countersign_throttle",
];

impl Table {
    /// The columns' names, as statements list them.
    pub(crate) fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| column.name).collect();
        names.join(", ")
    }

    /// The statement that reads all of it, in the order of the keys.
    pub(crate) fn select(&self) -> String {
        let key = self.columns[0].name;
        format!(
            "SELECT {} FROM {} ORDER BY {key}",
            self.column_list(),
            self.name
        )
    }
}

/// A row, its values in the order of the table's columns.
pub(crate) type Row = Vec<Value>;

/// A value that belongs to no database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Absent,
    Number(i64),
    Truth(bool),
    Text(String),
    Bytes(Vec<u8>),
    Id(Uuid),
    Date(Timestamp),
}

/// As a key is told to people.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Id(id) => id.fmt(formatter),
            _ => formatter.write_str("(no key)"),
        }
    }
}

/// What a column of the target can hold, beyond its kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The most characters of a text.
    pub(crate) characters: Option<usize>,
    /// Whether numbers have 32 bits.
    pub(crate) is_narrow: bool,
    pub(crate) is_required: bool,
}

impl Limit {
    /// Why the target cannot keep a value exactly as it stands, if it cannot.
    pub(crate) fn refusal(&self, value: &Value) -> Option<String> {
        match value {
            Value::Absent if self.is_required => Some("has no value, and needs one".to_owned()),
            Value::Number(number) if self.is_narrow && i32::try_from(*number).is_err() => {
                Some("is a number of more than 32 bits".to_owned())
            }
            Value::Text(text) if text.contains('\0') => {
                Some("holds a NUL character, which PostgreSQL cannot keep".to_owned())
            }
            Value::Text(text) => {
                let limit = self.characters?;
                // No text has more characters than bytes.
                (text.len() > limit && text.chars().count() > limit)
                    .then(|| format!("is longer than {limit} characters"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_column_cannot_keep_is_refused() {
        let text = |text: &str| Value::Text(text.to_owned());
        let short = Limit {
            characters: Some(3),
            is_narrow: true,
            is_required: true,
        };
        for value in [
            text("ana"),
            text("äöü"),
            Value::Number(i64::from(i32::MAX)),
            Value::Truth(true),
        ] {
            assert_eq!(short.refusal(&value), None, "{value:?}");
        }
        for value in [
            text("anna"),
            text("a\0"),
            Value::Number(i64::from(i32::MAX) + 1),
            Value::Absent,
        ] {
            assert!(short.refusal(&value).is_some(), "{value:?}");
        }
        let wide = Limit::default();
        for value in [text("anna"), Value::Number(i64::MAX), Value::Absent] {
            assert_eq!(wide.refusal(&value), None, "{value:?}");
        }
        assert!(wide.refusal(&text("\0")).is_some());
    }
}
