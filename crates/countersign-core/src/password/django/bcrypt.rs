//! `bcrypt_sha256` and `bcrypt` (Provos and Mazières, 1999).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Encoding, plain_number, same};

const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);

/// Django asks for 12, which takes about a quarter of a second; each more doubles it.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// bcrypt reads no more of a password.
const MOST_BYTES: usize = 72;

const SALT_BYTES: usize = 16;
/// bcrypt computes 24 and stores 23 of them.
const HASH_BYTES: usize = 23;

/// A stored bcrypt hash, read and found within bounds.
#[derive(Clone)]
pub(in crate::password) struct BcryptHash {
    /// Whether it is of the password's SHA-256, in hexadecimal digits, so that every byte counts.
    of_sha256: bool,
    /// The binary logarithm of the number of rounds.
    pub(super) cost: u32,
    salt: [u8; SALT_BYTES],
    hash: Zeroizing<[u8; HASH_BYTES]>,
}

impl BcryptHash {
    /// Reads what follows the encoding's name and its `$`: `$2b$12$<salt><hash>`. `2a` and `2y` are
    /// other programs' names for the same; `2x` was a mistake in one of them.
    pub(super) fn parse(text: &str, of_sha256: bool) -> Option<Self> {
        let mut parts = text.split('$');
        let version = parts.next().filter(|empty| empty.is_empty());
        let version = version.and_then(|_| parts.next())?;
        if !["2a", "2b", "2y"].contains(&version) {
            return None;
        }
        let digits = parts.next().filter(|digits| digits.len() == 2)?;
        let cost = plain_number(digits).filter(|cost| COSTS.contains(cost))?;
        let (salt, hash) = parts.next()?.split_at_checked(22)?;
        let fits = parts.next().is_none();
        fits.then_some(Self {
            of_sha256,
            cost,
            salt: BASE64.decode(salt).ok()?.try_into().ok()?,
            hash: Zeroizing::new(BASE64.decode(hash).ok()?.try_into().ok()?),
        })
    }

    pub(super) const fn encoding(&self) -> Encoding {
        if self.of_sha256 {
            Encoding::BcryptSha256
        } else {
            Encoding::Bcrypt
        }
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        if self.of_sha256 {
            return self.matches_bytes(hexadecimal(&Sha256::digest(password)).as_slice());
        }
        // Whoever typed more than bcrypt reads did not type this password; older versions of Python's
        // bcrypt would have let them in. The work is done all the same.
        let read = &password[..password.len().min(MOST_BYTES)];
        self.matches_bytes(read) && read.len() == password.len()
    }

    fn matches_bytes(&self, password: &[u8]) -> bool {
        let mut terminated = Zeroizing::new([0; MOST_BYTES]);
        terminated[..password.len()].copy_from_slice(password);
        let length = MOST_BYTES.min(password.len() + 1);
        let mut output = ::bcrypt::bcrypt(self.cost, self.salt, &terminated[..length]);
        let matches = same(&output[..HASH_BYTES], &*self.hash);
        output.zeroize();
        matches
    }
}

fn hexadecimal(digest: &[u8]) -> Zeroizing<Vec<u8>> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let halves = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Zeroizing::new(halves.map(|half| DIGITS[usize::from(half)]).collect())
}
