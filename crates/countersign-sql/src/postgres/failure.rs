//! What a statement can fail with, and what the caller is told of it.

use std::time::Duration;

use countersign_core::error::StoreError;
use deadpool::managed::PoolError;
use thiserror::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::moving::MoveError;

/// Why something was not read or written.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// PostgreSQL refused, or cannot be reached.
    #[error("{}", told(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// We did.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There was no answer in time.
    #[error("the database has not answered within {0:?}")]
    Late(Duration),
}

impl Failure {
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::Store(StoreError::Unavailable(why.into()))
    }

    pub(super) fn corrupt(why: impl Into<String>) -> Self {
        Self::Store(StoreError::Corrupt(why.into()))
    }

    fn refusal(&self) -> Option<&DbError> {
        match self {
            Self::Sql(error) => error.as_db_error(),
            Self::Store(_) | Self::Late(_) => None,
        }
    }

    /// Whether PostgreSQL undid it because of what others did at the same time.
    pub(super) fn was_in_the_way(&self) -> bool {
        self.refusal().is_some_and(|refusal| {
            [
                SqlState::T_R_SERIALIZATION_FAILURE,
                SqlState::T_R_DEADLOCK_DETECTED,
            ]
            .contains(refusal.code())
        })
    }

    /// Whether it may have been done nevertheless. A backend that is told to end can do so between
    /// the commit and the answer.
    pub(super) fn leaves_unknown(&self) -> bool {
        match self {
            Self::Sql(_) => self
                .refusal()
                .is_none_or(|refusal| !matches!(refusal.parsed_severity(), Some(Severity::Error))),
            Self::Late(_) => true,
            Self::Store(_) => false,
        }
    }

    /// Whether the connection is as good as before.
    pub(super) fn spares_the_connection(&self) -> bool {
        match self {
            Self::Store(_) => true,
            Self::Late(_) => false,
            Self::Sql(_) => self.refusal().is_some_and(|refusal| {
                let code = refusal.code().code();
                matches!(refusal.parsed_severity(), Some(Severity::Error))
                    && ["22", "23", "40", "53", "57"].contains(&&code[..2])
            }),
        }
    }
}

/// Without the detail and the hint, which may quote what was written.
fn told(error: &tokio_postgres::Error) -> String {
    let Some(refusal) = error.as_db_error() else {
        return error.to_string();
    };
    let (message, code) = (refusal.message(), refusal.code().code());
    match remedy(refusal) {
        Some(remedy) => format!("{message} ({code}): {remedy}"),
        None => format!("{message} ({code})"),
    }
}

/// What to do about it, where PostgreSQL's own words do not say.
fn remedy(refusal: &DbError) -> Option<&'static str> {
    const POOLER: &str = "is there a pooler such as PgBouncer in between? Then say so";
    match refusal.code().code() {
        // `prepared statement "s1" does not exist`, and `already exists`.
        "26000" | "42P05" => Some(POOLER),
        "08P01" if refusal.message().contains("startup parameter") => Some(POOLER),
        "25006" => Some("is this the primary?"),
        "42501" => Some(
            "the tables are made and used by one role, which must be allowed to create tables in \
             its schema",
        ),
        _ => None,
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        let is_unavailable = match &failure {
            Failure::Store(error) => return error.clone(),
            Failure::Late(_) => true,
            Failure::Sql(error) => error
                .as_db_error()
                .is_none_or(|refusal| is_unavailable(refusal.code().code())),
        };
        if is_unavailable {
            Self::Unavailable(message)
        } else {
            // What is left is a damaged database, or one whose tables are not those that our
            // statements were written for.
            Self::Corrupt(message)
        }
    }
}

/// Whether a code of PostgreSQL's means that trying again later is sensible, or that whoever runs
/// the database can help.
fn is_unavailable(code: &str) -> bool {
    const CLASSES: [&str; 10] = [
        "08", // connection
        "25", // state of the transaction, among them a read-only server
        "26", // prepared statements, which a pooler mixes up
        "28", // authorization
        "3D", // no such database
        "40", // rolled back
        "53", // resources
        "54", // limits
        "55", // not in the right state, among them locks
        "57", // an operator, among them a statement's time limit
    ];
    const CODES: [&str; 4] = [
        "23503", // somebody else's table refers to the row
        "42501", // not allowed
        "42P05", // prepared statements, as above
        "58030", // input and output
    ];
    CLASSES.contains(&&code[..2]) || CODES.contains(&code)
}

impl From<Failure> for MoveError {
    fn from(failure: Failure) -> Self {
        StoreError::from(failure).into()
    }
}

impl From<PoolError<Failure>> for Failure {
    fn from(error: PoolError<Failure>) -> Self {
        match error {
            PoolError::Backend(failure) => failure,
            PoolError::Timeout(_) => {
                Self::unavailable("no connection to the database became free in time")
            }
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Self::unavailable(error.to_string())
            }
        }
    }
}
