//! What a statement can fail with, and what the caller is told of it.

use countersign_core::error::StoreError;
use rusqlite::{ErrorCode, ffi};
use thiserror::Error;

use crate::moving::MoveError;

/// Why something was not read or written.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// SQLite refused.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// We did.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure {
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::Store(StoreError::Unavailable(why.into()))
    }

    pub(super) fn corrupt(why: impl Into<String>) -> Self {
        Self::Store(StoreError::Corrupt(why.into()))
    }

    /// SQLite's code, if it was SQLite that refused.
    pub(super) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sql(error) => error.sqlite_error_code(),
            Self::Store(_) => None,
        }
    }

    /// Whether another connection held the lock for too long.
    pub(super) fn is_busy(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        )
    }

    /// Whether the connection is as good as before. After trouble with the file it is not: it may
    /// have been opened read-only because the file was, or hold a file that is not there any more.
    pub(super) fn spares_the_connection(&self) -> bool {
        matches!(self, Self::Store(_))
            || matches!(
                self.code(),
                Some(
                    ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::DiskFull
                        | ErrorCode::ConstraintViolation
                        | ErrorCode::TooBig
                )
            )
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Store(error) => return error,
            Failure::Sql(error) => error,
        };
        // A trigger of a database that is closed, because all has moved.
        let is_closed = error
            .sqlite_error()
            .is_some_and(|refusal| refusal.extended_code == ffi::SQLITE_CONSTRAINT_TRIGGER);
        match error.sqlite_error_code() {
            _ if is_closed => Self::Unavailable(error.to_string()),
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NoLargeFileSupport
                | ErrorCode::OperationInterrupted
                | ErrorCode::OperationAborted
                | ErrorCode::TooBig,
            ) => Self::Unavailable(error.to_string()),
            // What is left is a file that is no database, a damaged one, or one whose tables are
            // not those that our statements were written for.
            _ => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<Failure> for MoveError {
    fn from(failure: Failure) -> Self {
        StoreError::from(failure).into()
    }
}
