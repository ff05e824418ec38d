//! Django's encodings of passwords, as they stand in `auth_user.password`: `<encoding>$<the rest>`.
//!
//! One file for each way of hashing. Every number in a stored password is bounded when it is read,
//! before any work is done with it: whoever can write to the table can keep one hashing thread busy
//! for about a second a login, and no longer.

mod argon2;
mod bcrypt;
mod md5;
mod pbkdf2;
mod scrypt;

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub use self::argon2::Argon2Cost;
use self::argon2::Argon2Hash;
pub(super) use self::argon2::Argon2Memory;
use self::bcrypt::BcryptHash;
use self::md5::Md5Hash;
pub(super) use self::pbkdf2::MOST_ITERATIONS;
use self::pbkdf2::{Digest, Pbkdf2Hash};
use self::scrypt::ScryptHash;
use super::{HashingSettings, WriteAs};

/// Django's column holds 128 characters, and what other versions of it wrote is not much longer.
const LONGEST_ENCODED: usize = 512;

/// The salt of a new hash, and its bytes.
pub(super) const SALT_BYTES: usize = 16;
pub(super) const HASH_BYTES: usize = 32;

/// A password as it is stored. Neither `Debug` nor an error message shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedPassword(Zeroizing<String>);

impl EncodedPassword {
    /// Takes the column's text as it stands.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// One that no password matches. Django reads the leading `!` the same way.
    pub fn unusable() -> Self {
        Self::new("!")
    }

    /// The column's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its owner has no password, by Django's convention.
    pub fn is_unusable(&self) -> bool {
        self.0.starts_with('!')
    }

    /// How it is encoded, if it can be verified. `None`: no password will ever match it.
    pub fn encoding(&self) -> Option<Encoding> {
        StoredHash::parse(self).map(|stored| stored.cost().encoding)
    }
}

impl fmt::Debug for EncodedPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EncodedPassword(redacted)")
    }
}

/// Every encoding that is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// Argon2id and Argon2i.
    Argon2,
    /// PBKDF2 with HMAC-SHA-256, Django's own default.
    Pbkdf2Sha256,
    /// PBKDF2 with HMAC-SHA-1.
    Pbkdf2Sha1,
    /// bcrypt of the password's SHA-256.
    BcryptSha256,
    /// bcrypt of the password.
    Bcrypt,
    /// scrypt.
    Scrypt,
    /// MD5 with a salt: computed in no time, by whoever steals it too.
    Md5,
}

impl Encoding {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Argon2,
        Self::Pbkdf2Sha256,
        Self::Pbkdf2Sha1,
        Self::BcryptSha256,
        Self::Bcrypt,
        Self::Scrypt,
        Self::Md5,
    ];

    /// Django's name, which begins the stored password.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Argon2 => "argon2",
            Self::Pbkdf2Sha256 => "pbkdf2_sha256",
            Self::Pbkdf2Sha1 => "pbkdf2_sha1",
            Self::BcryptSha256 => "bcrypt_sha256",
            Self::Bcrypt => "bcrypt",
            Self::Scrypt => "scrypt",
            Self::Md5 => "md5",
        }
    }
}

/// What a check costs. Of one encoding, more work takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cost {
    pub(super) encoding: Encoding,
    pub(super) work: u64,
}

/// A stored password, read and found within bounds.
#[derive(Clone)]
pub(super) enum StoredHash {
    Argon2(Argon2Hash),
    Pbkdf2(Pbkdf2Hash),
    Bcrypt(BcryptHash),
    Scrypt(ScryptHash),
    Md5(Md5Hash),
}

impl StoredHash {
    /// `None` if it is unusable, of an encoding that is not read, malformed or out of bounds; such a
    /// password matches nothing.
    pub(super) fn parse(encoded: &EncodedPassword) -> Option<Self> {
        let text = Some(encoded.as_str()).filter(|text| text.len() <= LONGEST_ENCODED)?;
        let (name, rest) = text.split_once('$')?;
        let encoding = Encoding::ALL
            .into_iter()
            .find(|encoding| encoding.name() == name)?;
        match encoding {
            Encoding::Argon2 => Argon2Hash::parse(rest).map(Self::Argon2),
            Encoding::Pbkdf2Sha256 => Pbkdf2Hash::parse(Digest::Sha256, rest).map(Self::Pbkdf2),
            Encoding::Pbkdf2Sha1 => Pbkdf2Hash::parse(Digest::Sha1, rest).map(Self::Pbkdf2),
            Encoding::BcryptSha256 => BcryptHash::parse(rest, true).map(Self::Bcrypt),
            Encoding::Bcrypt => BcryptHash::parse(rest, false).map(Self::Bcrypt),
            Encoding::Scrypt => ScryptHash::parse(rest).map(Self::Scrypt),
            Encoding::Md5 => Md5Hash::parse(rest).map(Self::Md5),
        }
    }

    /// What checking a password against it costs.
    pub(super) fn cost(&self) -> Cost {
        let (encoding, work) = match self {
            Self::Argon2(hash) => (Encoding::Argon2, hash.cost.kib_passes()),
            Self::Pbkdf2(hash) => (hash.digest.encoding(), hash.iterations.into()),
            Self::Bcrypt(hash) => (hash.encoding(), 1 << hash.cost),
            Self::Scrypt(hash) => (Encoding::Scrypt, hash.work()),
            Self::Md5(_) => (Encoding::Md5, 1),
        };
        Cost { encoding, work }
    }

    /// Whether this is its password. Constant time in what is compared.
    pub(super) fn matches(&self, password: &[u8], memory: &mut Argon2Memory) -> bool {
        match self {
            Self::Argon2(hash) => hash.matches(password, memory),
            Self::Pbkdf2(hash) => hash.matches(password),
            Self::Bcrypt(hash) => hash.matches(password),
            Self::Scrypt(hash) => hash.matches(password),
            Self::Md5(hash) => hash.matches(password),
        }
    }

    /// Whether a password that matched is hashed anew.
    ///
    /// Written as Argon2id, everything that is not exactly of today's cost is. Written as
    /// `pbkdf2_sha256`, only what is weaker is: an Argon2, scrypt or bcrypt hash is no worse than what
    /// would take its place, and more iterations than asked for are not taken back.
    pub(super) fn is_outdated(&self, settings: &HashingSettings) -> bool {
        match (settings.write_as, self) {
            (WriteAs::Argon2, Self::Argon2(hash)) => !hash.is_todays(settings.cost),
            (WriteAs::Pbkdf2Sha256 { iterations }, Self::Pbkdf2(hash)) => {
                matches!(hash.digest, Digest::Sha1) || hash.iterations < iterations
            }
            (WriteAs::Argon2, _) | (WriteAs::Pbkdf2Sha256 { .. }, Self::Md5(_)) => true,
            (WriteAs::Pbkdf2Sha256 { .. }, Self::Argon2(_) | Self::Bcrypt(_) | Self::Scrypt(_)) => {
                false
            }
        }
    }
}

/// A hash by today's settings with the bytes still to be computed.
pub(super) enum NewHash {
    Argon2(Argon2Hash),
    Pbkdf2(Pbkdf2Hash),
}

impl NewHash {
    pub(super) fn new(settings: &HashingSettings, salt: Vec<u8>) -> Self {
        match settings.write_as {
            WriteAs::Argon2 => Self::Argon2(Argon2Hash::blank(settings.cost, salt)),
            WriteAs::Pbkdf2Sha256 { iterations } => {
                Self::Pbkdf2(Pbkdf2Hash::blank(iterations, &salt))
            }
        }
    }

    /// The hash of a password, in Django's encoding.
    pub(super) fn of(self, password: &[u8], memory: &mut Argon2Memory) -> EncodedPassword {
        EncodedPassword::new(match self {
            Self::Argon2(mut hash) => {
                hash.fill(password, memory);
                hash.encode()
            }
            Self::Pbkdf2(mut hash) => {
                hash.fill(password);
                hash.encode()
            }
        })
    }

    /// What is checked where there is no stored password. Nothing hashes to bytes that are chosen at
    /// random: it costs what checking a real one does, and never succeeds.
    pub(super) fn dummy(self, random: [u8; HASH_BYTES]) -> StoredHash {
        match self {
            Self::Argon2(hash) => StoredHash::Argon2(hash.with_bytes(random)),
            Self::Pbkdf2(hash) => StoredHash::Pbkdf2(hash.with_bytes(random)),
        }
    }
}

/// A number in plain decimal: no sign, no space, nothing but digits.
fn plain_number(digits: &str) -> Option<u32> {
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

/// Whether two hashes are the same. Constant time.
fn same(computed: &[u8], stored: &[u8]) -> bool {
    computed.ct_eq(stored).into()
}

#[cfg(test)]
mod tests;
