//! Why a command did not do what was asked, in words for people, and the exit status that says so to
//! programs.

use std::fmt;
use std::process::ExitCode;

use countersign_core::error::{AuthError, StoreError};

use crate::config::Problems;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried. Exit status 1.
    Failed(String),
    /// It was asked for in a way that cannot be. Exit status 2.
    WrongUse(String),
    /// The settings cannot be. Exit status 78, `EX_CONFIG` of BSD's sysexits.
    SettingsRefused(Problems),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::WrongUse(_) => 2,
            Self::SettingsRefused(_) => 78,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::WrongUse(message) => formatter.write_str(message),
            Self::SettingsRefused(problems) => problems.fmt(formatter),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::SettingsRefused(problems)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Failed(match error {
            StoreError::Unavailable(why) => format!("the database cannot be used: {why}"),
            StoreError::Corrupt(why) => format!(
                "the database holds what cannot be: {why}. Check database.url and the root secret, or restore a backup"
            ),
        })
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Store(error) => error.into(),
            AuthError::Validation(refusal) => Self::Failed(refusal.to_string()),
            AuthError::UsernameTaken => {
                let message =
                    "another user has this name, or one that looks like it: choose another one";
                Self::Failed(message.to_owned())
            }
            AuthError::NoSuchUser => {
                Self::Failed("there is no such user: `countersign user list` lists all".to_owned())
            }
            other => Self::Failed(other.to_string()),
        }
    }
}
