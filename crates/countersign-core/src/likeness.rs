//! What a username looks like, so that no second one is made that looks the same.
//!
//! By the skeletons of UTS #39: two names whose skeletons are equal can be taken for each other. Case does
//! not count, and so a name is looked at in small letters and in capitals: `Iana` looks like `lana` because
//! its capital does, and `ana` and `bob` look like the same in Cyrillic letters, the one in small letters, the
//! other in capitals.

use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::confusable_detection::skeleton;

/// What a username looks like in small letters and in capitals, as digests: however long a name is, what is
/// kept and looked up is short.
///
/// Two names are alike if either look of the one is a look of the other ([`Likeness::is_alike`]). A store
/// keeps both looks of each user and asks for either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Likeness {
    /// In small letters.
    pub small: [u8; Likeness::BYTES],
    /// In capitals.
    pub capital: [u8; Likeness::BYTES],
}

impl Likeness {
    /// How long a digest is. A collision costs somebody a name, so half of SHA-256 is plenty.
    pub const BYTES: usize = 16;

    /// The looks of a name, which need not be one that we would accept.
    pub fn of(username: &str) -> Self {
        let name: String = username.nfkc().collect();
        let capitals: String = name.chars().flat_map(char::to_uppercase).collect();
        Self {
            small: digest(&in_small_letters(&capitals)),
            capital: digest(&capitals),
        }
    }

    /// Whether the two can be taken for each other.
    pub fn is_alike(&self, other: &Self) -> bool {
        [self.small, self.capital]
            .iter()
            .any(|look| *look == other.small || *look == other.capital)
    }
}

/// From capitals, which makes `ß` an `ss` and both small sigmas one.
fn in_small_letters(capitals: &str) -> String {
    capitals.chars().flat_map(char::to_lowercase).collect()
}

fn digest(text: &str) -> [u8; Likeness::BYTES] {
    // The skeleton of `0` is `O`: whether it stands in small letters or in capitals is all the same.
    let look: String = skeleton(text)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    let digest = Sha256::digest(look);
    let mut short = [0; Likeness::BYTES];
    for (short, byte) in short.iter_mut().zip(digest) {
        *short = byte;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_alike(one: &str, other: &str) -> bool {
        let (one, other) = (Likeness::of(one), Likeness::of(other));
        assert_eq!(one.is_alike(&other), other.is_alike(&one));
        one.is_alike(&other)
    }

    #[test]
    fn names_that_can_be_taken_for_each_other_are_alike() {
        for (one, other) in [
            ("ana", "ana"),
            ("ana", "ANA"),
            ("Straße", "STRASSE"),
            ("ΟΔΟΣ", "οδος"),
            // Full width, which NFKC undoes.
            ("ana", "\u{ff41}\u{ff4e}\u{ff41}"),
            // Cyrillic, in small letters and in capitals.
            ("ana", "\u{430}n\u{430}"),
            ("bob", "\u{412}\u{41e}\u{412}"),
            // Greek omicron.
            ("bob", "b\u{3bf}b"),
            ("lana", "Iana"),
            ("lana", "1ana"),
            ("bob", "b0b"),
            ("modern", "rnodem"),
            // What is not seen.
            ("ana", "an\u{200b}a"),
        ] {
            assert!(are_alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn names_that_are_told_apart_at_sight_are_not() {
        for (one, other) in [
            ("ana", "anna"),
            ("ana", "ana2"),
            ("ana", "\u{e5}na"),
            ("ana.maria", "ana-maria"),
            ("ana.maria", "anamaria"),
            ("user2", "user3"),
            ("\u{438}\u{432}\u{430}\u{43d}", "ivan"),
        ] {
            assert!(!are_alike(one, other), "{one} {other}");
        }
    }
}
