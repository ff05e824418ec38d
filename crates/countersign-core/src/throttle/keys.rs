//! Whom a counter is about, as sixteen bytes that tell nobody.
//!
//! What people type as a username, and where they call from, is not for a table to keep: a key is an
//! HMAC-SHA-256 of it, under a key derived from the root secret for this purpose alone, cut to 128 bits.
//! It has one size whatever was typed.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::hmac;
use uuid::Uuid;

use crate::mailed_token::MailedTokenId;
use crate::secrets::{Purpose, RootSecret};
use crate::user::{MAX_USERNAME_CHARACTERS, UserId, Username};

/// The bytes of a key: of 2^64 counters two share one by chance.
const KEY_BYTES: usize = 16;

/// The bits of an IPv6 address that name a network: whoever has one address has the other 2^64, too.
const NETWORK_BITS: u32 = 64;

/// Names a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThrottleKey(pub [u8; KEY_BYTES]);

/// Whom a counter is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// Everybody who signs in to an account, which may not exist.
    Account(&'a str),
    /// Everybody at an address.
    Address(IpAddr),
    /// Whoever signs in to this account from this address.
    AccountFromAddress(&'a str, Option<IpAddr>),
    /// Everybody who signs in as somebody, by whichever of the user's names.
    Anybody(Whoever<'a>),
    /// A device that the user has signed in from before.
    Device(UserId, Uuid),
    /// All devices that the user has signed in from before.
    DevicesOf(UserId),
    /// A user who is signed in and shows the password in force.
    PasswordOf(UserId),
    /// Whoever has the token of a registration and shows its password.
    PasswordOfRegistration(MailedTokenId),
    /// Everybody at an address who registers.
    RegistrationsFrom(Option<IpAddr>),
    /// Everybody at an address who wants letters sent.
    LettersFrom(Option<IpAddr>),
    /// Whoever reads a mailbox, by the kind of letter and the folded address.
    Mailbox(&'static str, &'a str),
    /// A user who wants another address.
    EmailOf(UserId),
}

/// Who somebody wants to sign in as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whoever<'a> {
    /// A user, by whichever name.
    User(UserId),
    /// Nobody, by this name. It is counted all the same, so that the time does not tell.
    Nobody(&'a str),
}

/// Makes the keys of counters.
pub(crate) struct ThrottleKeys(hmac::Key);

impl ThrottleKeys {
    /// With the key derived from the root secret for this purpose. Another secret begins to count anew.
    pub(crate) fn derive(root: &RootSecret) -> Self {
        Self(root.mac_key(Purpose::ThrottleKey))
    }

    pub(crate) fn key(&self, subject: Subject<'_>) -> ThrottleKey {
        let mut context = hmac::Context::with_key(&self.0);
        // Every field but the last has one size, so that no two subjects are the same bytes.
        match subject {
            Subject::Account(name) => {
                context.update(b"account:");
                context.update(name.as_bytes());
            }
            Subject::Address(address) => {
                context.update(b"address:");
                context.update(&network(Some(address)));
            }
            Subject::AccountFromAddress(name, address) => {
                context.update(b"account from address:");
                context.update(&network(address));
                context.update(name.as_bytes());
            }
            Subject::Anybody(Whoever::User(user)) => {
                context.update(b"anybody as user:");
                context.update(&user.0.to_be_bytes());
            }
            Subject::Anybody(Whoever::Nobody(name)) => {
                context.update(b"anybody as nobody:");
                context.update(name.as_bytes());
            }
            Subject::Device(user, device) => {
                context.update(b"device:");
                context.update(device.as_bytes());
                context.update(&user.0.to_be_bytes());
            }
            Subject::DevicesOf(user) => {
                context.update(b"devices of:");
                context.update(&user.0.to_be_bytes());
            }
            Subject::PasswordOf(user) => {
                context.update(b"password of:");
                context.update(&user.0.to_be_bytes());
            }
            Subject::PasswordOfRegistration(registration) => {
                context.update(b"password of registration:");
                context.update(registration.0.as_bytes());
            }
            Subject::RegistrationsFrom(address) => {
                context.update(b"registrations from:");
                context.update(&network(address));
            }
            Subject::LettersFrom(address) => {
                context.update(b"letters from:");
                context.update(&network(address));
            }
            Subject::Mailbox(kind, address) => {
                context.update(b"mailbox:");
                // No kind has a colon.
                context.update(kind.as_bytes());
                context.update(b":");
                context.update(address.as_bytes());
            }
            Subject::EmailOf(user) => {
                context.update(b"e-mail of:");
                context.update(&user.0.to_be_bytes());
            }
        }
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&context.sign().as_ref()[..KEY_BYTES]);
        ThrottleKey(key)
    }
}

impl fmt::Debug for ThrottleKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ThrottleKeys(redacted)")
    }
}

/// The name under which attempts at an account are counted, whether it exists or not: without regard to
/// case, so that no spelling of a name has a counter of its own.
pub(crate) fn account_name(typed: &str) -> Cow<'_, str> {
    // What no user can be called is not normalised: that takes time by its length.
    if is_too_long(typed) {
        return Cow::Borrowed(typed);
    }
    Cow::Owned(Username::normalise(typed).to_lowercase())
}

/// Whether no user can have this name, however it is composed.
pub(crate) fn is_too_long(typed: &str) -> bool {
    typed.chars().nth(4 * MAX_USERNAME_CHARACTERS).is_some()
}

/// The network that an address stands for: itself with IPv4, in whichever form it came, and the /64 with
/// IPv6.
pub fn network(address: Option<IpAddr>) -> [u8; 16] {
    let bits = match address.map(|address| address.to_canonical()) {
        None => 0,
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped().to_bits(),
        Some(IpAddr::V6(address)) => address.to_bits() >> NETWORK_BITS << NETWORK_BITS,
    };
    Ipv6Addr::from_bits(bits).octets()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemRandomness;

    fn keys() -> ThrottleKeys {
        ThrottleKeys::derive(&RootSecret::generate(&SystemRandomness))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_one_key_however_it_is_written() {
        let keys = keys();
        let key = |text| keys.key(Subject::Address(ip(text)));
        assert_eq!(key("1.2.3.4"), key("::ffff:1.2.3.4"));
        assert_ne!(key("1.2.3.4"), key("1.2.3.5"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1:2:3"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        // 0.0.0.0/96 is no IPv4.
        assert_ne!(key("1.2.3.4"), key("::1.2.3.4"));
    }

    #[test]
    fn a_name_has_one_counter_however_it_is_spelt() {
        assert_eq!(account_name("Alice"), account_name("aLICE"));
        assert_eq!(account_name("\u{ff41}lice"), account_name("alice"));
        assert_ne!(account_name("alice"), account_name("alice "));
        let long = "a".repeat(60_000);
        assert_eq!(account_name(&long), long);
    }

    #[test]
    fn no_two_subjects_share_a_key() {
        let keys = keys();
        let device = Uuid::from_u128(7);
        let subjects = [
            Subject::Account("alice"),
            Subject::Account("bob"),
            Subject::Account(""),
            Subject::Address(ip("1.2.3.4")),
            Subject::AccountFromAddress("alice", Some(ip("1.2.3.4"))),
            Subject::AccountFromAddress("alice", None),
            Subject::AccountFromAddress("bob", Some(ip("1.2.3.4"))),
            Subject::Device(UserId(1), device),
            Subject::Device(UserId(2), device),
            Subject::DevicesOf(UserId(1)),
            Subject::DevicesOf(UserId(2)),
            Subject::PasswordOf(UserId(1)),
            Subject::PasswordOf(UserId(2)),
            Subject::PasswordOfRegistration(MailedTokenId(device)),
            Subject::RegistrationsFrom(Some(ip("1.2.3.4"))),
            Subject::RegistrationsFrom(None),
            Subject::LettersFrom(Some(ip("1.2.3.4"))),
            Subject::LettersFrom(None),
            Subject::Mailbox("reset_asked", "alice"),
            Subject::Mailbox("register", "alice"),
            Subject::EmailOf(UserId(1)),
            Subject::EmailOf(UserId(2)),
            Subject::Anybody(Whoever::User(UserId(1))),
            Subject::Anybody(Whoever::Nobody("alice")),
        ];
        let mut all: Vec<_> = subjects.iter().map(|subject| keys.key(*subject)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), subjects.len());
    }

    #[test]
    fn another_secret_has_other_keys() {
        let subject = Subject::Account("alice");
        assert_ne!(keys().key(subject), keys().key(subject));
    }
}
