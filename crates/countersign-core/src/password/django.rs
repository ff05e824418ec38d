//! Django's encoding of password hashes, as it stands in `auth_user.password`.
//!
//! `argon2$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`: the hasher's name, then a PHC string. Every
//! number in it is bounded here, before any work is done with it.

use std::fmt;

use argon2::{Algorithm, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

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
}

impl fmt::Debug for EncodedPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EncodedPassword(redacted)")
    }
}

/// What Argon2id is asked to spend on one password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes; computed one after the other here.
    pub lanes: u32,
}

impl Argon2Cost {
    /// The least that OWASP's password storage cheat sheet accepts for new hashes: 7 MiB in five
    /// passes, or any of its other rows, all of which spend at least this product.
    pub const FLOOR_KIB_PASSES: u64 = 7 * 1024 * 5;

    /// The most that a stored hash may ask for: 256 MiB at once (Django's own default is 100 MiB),
    /// 1 GiB over all passes, about a second of one core.
    pub const MAX_MEMORY_KIB: u32 = 256 * 1024;
    /// See [`Self::MAX_MEMORY_KIB`].
    pub const MAX_KIB_PASSES: u64 = 1024 * 1024;
    /// The most lanes that a stored hash may ask for.
    pub const MAX_LANES: u32 = 16;

    /// Memory times passes: what one hash costs.
    pub fn kib_passes(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Whether a stored hash may ask for this much.
    pub fn is_bounded(self) -> bool {
        (1..=Self::MAX_LANES).contains(&self.lanes)
            && (8 * self.lanes..=Self::MAX_MEMORY_KIB).contains(&self.memory_kib)
            && self.passes >= 1
            && self.kib_passes() <= Self::MAX_KIB_PASSES
    }

    pub(super) fn params(self, output_bytes: usize) -> Option<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(output_bytes)).ok()
    }
}

impl Default for Argon2Cost {
    /// The first row of OWASP's password storage cheat sheet: 19 MiB, two passes, one lane.
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            passes: 2,
            lanes: 1,
        }
    }
}

/// A stored Argon2 hash, read and found within bounds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Argon2Hash {
    pub(super) algorithm: Algorithm,
    pub(super) cost: Argon2Cost,
    pub(super) salt: Vec<u8>,
    pub(super) hash: Zeroizing<Vec<u8>>,
}

impl Argon2Hash {
    /// Reads a stored password. `None` if it is unusable, of another hasher, malformed, or asks for
    /// more than [`Argon2Cost::is_bounded`] allows; such a password matches nothing.
    pub(super) fn parse(encoded: &EncodedPassword) -> Option<Self> {
        // Django's column holds 128 characters; argon2 hashes with long salts a few more.
        let text = Some(encoded.as_str()).filter(|text| text.len() <= 512)?;
        let mut parts = text.strip_prefix("argon2$")?.split('$');
        let algorithm = match parts.next()? {
            "argon2id" => Algorithm::Argon2id,
            "argon2i" => Algorithm::Argon2i,
            _ => return None,
        };
        if parts.next()? != "v=19" {
            return None;
        }
        let cost = parse_cost(parts.next()?)?;
        let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let hash = Zeroizing::new(STANDARD_NO_PAD.decode(parts.next()?).ok()?);
        let sizes_fit = (8..=64).contains(&salt.len()) && (16..=64).contains(&hash.len());
        (parts.next().is_none() && sizes_fit && cost.is_bounded()).then_some(Self {
            algorithm,
            cost,
            salt,
            hash,
        })
    }

    pub(super) fn encode(&self) -> EncodedPassword {
        let Argon2Cost {
            memory_kib,
            passes,
            lanes,
        } = self.cost;
        let algorithm = self.algorithm.as_str();
        let version = u32::from(Version::V0x13);
        let salt = STANDARD_NO_PAD.encode(&self.salt);
        let hash = STANDARD_NO_PAD.encode(&*self.hash);
        EncodedPassword::new(format!(
            "argon2${algorithm}$v={version}$m={memory_kib},t={passes},p={lanes}${salt}${hash}"
        ))
    }
}

/// `m=19456,t=2,p=1`, in this order, each number plain decimal.
fn parse_cost(text: &str) -> Option<Argon2Cost> {
    let mut parts = text.split(',');
    let mut number = |prefix: &str| -> Option<u32> {
        let digits = parts.next()?.strip_prefix(prefix)?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    let cost = Argon2Cost {
        memory_kib: number("m=")?,
        passes: number("t=")?,
        lanes: number("p=")?,
    };
    parts.next().is_none().then_some(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "argon2$argon2id$v=19$m=102400,t=2,p=8$\
                        c2FsdHNhbHRzYWx0c2FsdA$BG5n1MOckbYY5XZT5rmHyg";

    #[test]
    fn a_hash_in_djangos_encoding_is_read_and_written_the_same() {
        let encoded = EncodedPassword::new(GOOD);
        let hash = Argon2Hash::parse(&encoded).unwrap();
        assert_eq!(
            hash.cost,
            Argon2Cost {
                memory_kib: 102_400,
                passes: 2,
                lanes: 8
            }
        );
        assert_eq!(hash.encode(), encoded);
    }

    #[test]
    fn hashes_that_ask_for_too_much_are_not_read() {
        for (good, hostile) in [
            ("m=102400", "m=4294967295"),
            ("m=102400", "m=262145"),
            ("m=102400", "m=63"),
            ("m=102400", "m=+102400"),
            ("t=2", "t=4294967295"),
            ("t=2", "t=0"),
            ("t=2", "t=11"),
            ("p=8", "p=0"),
            ("p=8", "p=17"),
            ("v=19", "v=16"),
            ("argon2id", "argon2x"),
            ("t=2,p=8", "t=2,p=8,data=AAAA"),
        ] {
            let text = GOOD.replacen(good, hostile, 1);
            assert_ne!(text, GOOD);
            assert!(
                Argon2Hash::parse(&EncodedPassword::new(&*text)).is_none(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_argon2_hash_is_not_read() {
        for text in [
            "",
            "!",
            "!argon2$",
            "argon2$",
            "argon2$argon2id$v=19$m=8,t=1,p=1$$",
            "md5$a$b",
        ] {
            assert!(
                Argon2Hash::parse(&EncodedPassword::new(text)).is_none(),
                "{text}"
            );
        }
        assert!(Argon2Hash::parse(&EncodedPassword::new("argon2$".repeat(10_000))).is_none());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", EncodedPassword::new(GOOD)),
            "EncodedPassword(redacted)"
        );
    }
}
