//! Throttling: how often who may attempt what.
//!
//! What costs a hash, or could guess a secret, is counted in the store, by all processes together, and
//! *before* it is done: an attempt is reserved and, if it succeeds, given back ([`Limit`], and
//! [`Store::reserve_attempt`](crate::store::Store::reserve_attempt)). What costs little is counted in
//! memory, by each process alone (`local`). Whom a counter is about is told by `keys`, and how an owner
//! is told from strangers by `device`.

mod attempt;
pub(crate) mod device;
pub(crate) mod keys;
mod limit;
pub(crate) mod local;
pub(crate) mod refusals;

use std::time::Duration;

pub use self::attempt::{AttemptDecision, AttemptOutcome, Refund, Reservation, Wait, decide};
pub use self::device::{DEVICE_LIFETIME, DeviceToken};
pub use self::keys::{ThrottleKey, network};
pub use self::limit::{Counter, Decision, Limit, Taken};

/// How often what may be attempted.
///
/// NIST SP 800-63B (section 5.2.2) wants no more than a hundred failures in a row on one account, and
/// names growing delays as the way; OWASP warns of locks, with which a stranger shuts out the owner. By
/// these defaults a hundred guesses at one account take most of a day however many addresses they come
/// from, and a single address is held back long before it exhausts the account for everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// Nothing is throttled: for benchmarks and load tests.
    pub insecure_off: bool,
    /// Sign-ins to one account from one address.
    pub login_account_from_address: Limit,
    /// Sign-ins to one account from all addresses together: more than one address can use up.
    pub login_account: Limit,
    /// Sign-ins from one address to whichever account: many people may share it.
    pub login_address: Limit,
    /// Sign-ins from a device that the account's user has signed in from before.
    pub login_device: Limit,
    /// Proofs of the password in force by a user who is signed in.
    pub change_password: Limit,
    /// Registrations from one address: each costs a hash and reserves a name.
    pub register: Limit,
    /// Wishes for letters from one address: to reset a password, or to prove an address.
    pub mail_request: Limit,
    /// Letters that strangers can have sent to one mailbox, of each kind so many.
    pub mail_recipient: Limit,
    /// Wishes of one user for another address.
    pub change_email: Limit,
    /// Refreshes of one session; in each process.
    pub refresh: Limit,
    /// Refused access and refresh tokens from one address; in each process.
    pub refused_tokens: Limit,
    /// Mailed tokens shown from one address; in each process.
    pub mailed_tokens: Limit,
    /// Questions for a CSRF token from one address; in each process.
    pub csrf: Limit,
    /// Questions for the revocation feed from one address; in each process.
    pub revocations: Limit,
}

impl Default for ThrottleSettings {
    fn default() -> Self {
        let guesses =
            |burst| Limit::growing(burst, Duration::from_secs(30), Duration::from_mins(15));
        Self {
            insecure_off: false,
            login_account_from_address: guesses(5),
            login_account: guesses(20),
            login_address: Limit::steady(20, Duration::from_secs(30)),
            login_device: guesses(5),
            change_password: guesses(5),
            register: Limit::steady(20, Duration::from_mins(1)),
            mail_request: Limit::steady(20, Duration::from_secs(30)),
            mail_recipient: Limit::growing(5, Duration::from_mins(5), Duration::from_hours(1)),
            change_email: Limit::growing(5, Duration::from_mins(5), Duration::from_hours(1)),
            refresh: Limit::steady(300, Duration::from_millis(200)),
            refused_tokens: Limit::steady(300, Duration::from_secs(1)),
            mailed_tokens: Limit::steady(60, Duration::from_secs(1)),
            csrf: Limit::steady(300, Duration::from_millis(200)),
            revocations: Limit::steady(600, Duration::from_millis(50)),
        }
    }
}

/// What is counted in memory, by each process alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalAction {
    /// A mailed token that is shown.
    MailedToken,
    /// A question for a CSRF token.
    Csrf,
    /// A question for the revocation feed.
    Revocations,
}
