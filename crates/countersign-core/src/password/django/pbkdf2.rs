//! `pbkdf2_sha256`, Django's default, and `pbkdf2_sha1` (RFC 8018).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Encoding, HASH_BYTES, plain_number, same};

/// The most that a stored hash may ask for: Django 6.1 asks for 1.5 million, more by a quarter with
/// every release, and these take about 0.6 s of one core.
pub(in crate::password) const MOST_ITERATIONS: u32 = 5_000_000;

/// The hash function inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digest {
    Sha256,
    Sha1,
}

impl Digest {
    pub(super) const fn encoding(self) -> Encoding {
        match self {
            Self::Sha256 => Encoding::Pbkdf2Sha256,
            Self::Sha1 => Encoding::Pbkdf2Sha1,
        }
    }

    /// How many bytes Django stores: as many as the function gives.
    const fn output_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha1 => 20,
        }
    }
}

/// A stored PBKDF2 hash, read and found within bounds.
#[derive(Clone)]
pub(in crate::password) struct Pbkdf2Hash {
    pub(super) digest: Digest,
    pub(super) iterations: u32,
    /// Text, and hashed as such.
    salt: String,
    hash: Zeroizing<Vec<u8>>,
}

impl Pbkdf2Hash {
    /// Reads what follows the encoding's name: `<iterations>$<salt>$<hash>`.
    pub(super) fn parse(digest: Digest, text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let iterations =
            plain_number(parts.next()?).filter(|number| (1..=MOST_ITERATIONS).contains(number))?;
        let salt = parts.next().filter(|salt| !salt.is_empty())?.to_owned();
        let hash = Zeroizing::new(STANDARD.decode(parts.next()?).ok()?);
        let fits = parts.next().is_none() && hash.len() == digest.output_bytes();
        fits.then_some(Self {
            digest,
            iterations,
            salt,
            hash,
        })
    }

    /// A hash with the bytes still to be computed. Django wants text for a salt, of 128 bits.
    pub(super) fn blank(iterations: u32, salt: &[u8]) -> Self {
        Self {
            digest: Digest::Sha256,
            iterations,
            salt: STANDARD_NO_PAD.encode(salt),
            hash: Zeroizing::new(vec![0; HASH_BYTES]),
        }
    }

    pub(super) fn with_bytes(mut self, bytes: [u8; HASH_BYTES]) -> Self {
        self.hash = Zeroizing::new(bytes.to_vec());
        self
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        same(&self.compute(password), &self.hash)
    }

    pub(super) fn fill(&mut self, password: &[u8]) {
        self.hash = self.compute(password);
    }

    fn compute(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut output = Zeroizing::new(vec![0; self.digest.output_bytes()]);
        let (salt, iterations) = (self.salt.as_bytes(), self.iterations);
        match self.digest {
            Digest::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut output),
            Digest::Sha1 => pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut output),
        }
        output
    }

    pub(super) fn encode(&self) -> String {
        let (name, iterations, salt) = (self.digest.encoding().name(), self.iterations, &self.salt);
        let hash = STANDARD.encode(&*self.hash);
        format!("{name}${iterations}${salt}${hash}")
    }
}
