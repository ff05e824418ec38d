//! What a statement can fail with, and what the caller is told of it.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use countersign_core::error::StoreError;
use deadpool::managed::PoolError;
use thiserror::Error;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::moving::MoveError;

/// PostgreSQL's own.
const DEFAULT_PORT: u16 = 5432;

/// Why something was not read or written.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// PostgreSQL refused, or cannot be reached.
    #[error("{}", told(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// There is no connection. Nothing was begun.
    #[error("{0}")]
    Unreachable(String),
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

    /// That a server could not be connected to: which, and why. A server that answers and refuses
    /// says why itself.
    pub(super) fn connecting(config: &Config, error: tokio_postgres::Error) -> Self {
        if error.as_db_error().is_some() {
            return error.into();
        }
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            let words = deeper.to_string();
            // Some repeat what is below them.
            if !why.ends_with(&words) {
                why = format!("{why}: {words}");
            }
            cause = deeper.source();
        }
        Self::Unreachable(format!("{} cannot be reached: {why}", servers(config)))
    }

    fn refusal(&self) -> Option<&DbError> {
        match self {
            Self::Sql(error) => error.as_db_error(),
            Self::Store(_) | Self::Late(_) | Self::Unreachable(_) => None,
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
            Self::Store(_) | Self::Unreachable(_) => false,
        }
    }

    /// Whether the connection is as good as before.
    pub(super) fn spares_the_connection(&self) -> bool {
        match self {
            Self::Store(_) => true,
            Self::Late(_) | Self::Unreachable(_) => false,
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
        let cause = error.source();
        // Other causes may quote a value.
        return match cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
    };
    let (message, code) = (refusal.message(), refusal.code().code());
    match remedy(refusal) {
        Some(remedy) => format!("{message} ({code}): {remedy}"),
        None => format!("{message} ({code})"),
    }
}

/// The servers that are tried: hosts and ports, and nothing else of the address.
fn servers(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate();
    let servers: Vec<_> = hosts
        .map(|(index, host)| {
            // One port is for all hosts.
            let port = ports.get(index).or(ports.first()).unwrap_or(&DEFAULT_PORT);
            match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(directory) => format!("{}/.s.PGSQL.{port}", directory.display()),
            }
        })
        .collect();
    servers.join(", ")
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
            Failure::Late(_) | Failure::Unreachable(_) => true,
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
