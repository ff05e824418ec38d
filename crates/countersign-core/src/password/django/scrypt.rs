//! `scrypt` (RFC 7914).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scrypt::Params;
use zeroize::Zeroizing;

use super::{plain_number, same};

/// How many bytes Django stores.
const HASH_BYTES: usize = 64;

/// The most memory that a stored hash may ask for. Django asks for 16 MiB.
const MOST_MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// The most work, in blocks of 128 bytes: about a second of one core. Django asks for a sixth of it.
const MOST_WORK: u64 = 1 << 22;

/// A stored scrypt hash, read and found within bounds.
#[derive(Clone)]
pub(in crate::password) struct ScryptHash {
    params: Params,
    /// Text, and hashed as such.
    salt: String,
    hash: Zeroizing<Vec<u8>>,
}

impl ScryptHash {
    /// Reads what follows `scrypt$`: `<n>$<salt>$<r>$<p>$<hash>`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let n = plain_number(parts.next()?).filter(|n| n.is_power_of_two() && *n > 1)?;
        let salt = parts.next().filter(|salt| !salt.is_empty())?.to_owned();
        let r = plain_number(parts.next()?)?;
        let p = plain_number(parts.next()?)?;
        let hash = Zeroizing::new(STANDARD.decode(parts.next()?).ok()?);
        let memory = 128_u64.checked_mul(n.into())?.checked_mul(r.into())?;
        let is_bounded = memory <= MOST_MEMORY_BYTES && work(n, r, p)? <= MOST_WORK;
        let fits = is_bounded && parts.next().is_none() && hash.len() == HASH_BYTES;
        // Its own checks, which refuse nought, come after ours.
        let params = fits.then(|| Params::new(u8::try_from(n.ilog2()).ok()?, r, p).ok());
        Some(Self {
            params: params??,
            salt,
            hash,
        })
    }

    pub(super) fn work(&self) -> u64 {
        let (n, r, p) = (self.params.n(), self.params.r(), self.params.p());
        n * u64::from(r) * u64::from(p)
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let mut output = Zeroizing::new([0; HASH_BYTES]);
        scrypt::scrypt(password, self.salt.as_bytes(), &self.params, &mut *output)
            .expect("64 bytes are a length that scrypt gives");
        same(&*output, &self.hash)
    }
}

fn work(n: u32, r: u32, p: u32) -> Option<u64> {
    u64::from(n).checked_mul(r.into())?.checked_mul(p.into())
}
