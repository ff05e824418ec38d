//! Passwords that were found in breaches of other services.

use std::fmt;

use thiserror::Error;

/// The SHA-1 of a password's UTF-8: the form in which lists of breached passwords are passed on. It hides
/// nothing here and need not: it is only looked up.
pub type BreachedHash = [u8; 20];

/// A list of breached passwords, wherever it is kept. It is asked on a hashing thread, and may wait for the
/// disk.
pub trait BreachedPasswords: fmt::Debug + Send + Sync {
    /// Whether a password of this hash is on the list.
    ///
    /// # Errors
    /// [`BreachedUnavailable`] if that cannot be told: the password is not accepted then.
    fn contains(&self, hash: &BreachedHash) -> Result<bool, BreachedUnavailable>;
}

/// The list cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the list of breached passwords cannot be read: {0}")]
pub struct BreachedUnavailable(pub String);
