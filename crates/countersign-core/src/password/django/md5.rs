//! `md5`: the MD5 of salt and password, from before 2011, or from a test suite's settings.
//!
//! Read so that nobody is locked out, and replaced at the first login. The forms without a salt, which
//! one table computed once tells for all sites, are not read.

use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::same;

const HASH_BYTES: usize = 16;

/// A stored MD5 hash.
#[derive(Clone)]
pub(in crate::password) struct Md5Hash {
    /// Text, and hashed as such.
    salt: String,
    hash: Zeroizing<[u8; HASH_BYTES]>,
}

impl Md5Hash {
    /// Reads what follows `md5$`: `<salt>$<hexadecimal digits>`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (salt, digits) = text.split_once('$')?;
        let hash = read_hexadecimal(digits)?;
        (!salt.is_empty()).then(|| Self {
            salt: salt.to_owned(),
            hash: Zeroizing::new(hash),
        })
    }

    pub(super) fn matches(&self, password: &[u8]) -> bool {
        let computed = Md5::new()
            .chain_update(self.salt.as_bytes())
            .chain_update(password)
            .finalize();
        same(&computed, &*self.hash)
    }
}

/// Lower case alone: Django compares texts.
fn read_hexadecimal(digits: &str) -> Option<[u8; HASH_BYTES]> {
    let digits: &[u8; 2 * HASH_BYTES] = digits.as_bytes().try_into().ok()?;
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; HASH_BYTES];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(hash)
}
