//! A password that is easy to type and not the same twice.

use countersign_core::clock::Randomness;

const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aeio";
/// Four words of two syllables, each syllable six bits: 48 bits, against somebody who may try a few times
/// a minute, at a service of this machine alone.
const WORDS: usize = 4;
const SYLLABLES: usize = 2;

/// Makes one, like `mavi-tore-kaso-pine`.
pub(crate) fn throw_away_password(randomness: &dyn Randomness) -> String {
    let mut bytes = [0; WORDS * SYLLABLES];
    randomness.fill(&mut bytes);
    let syllable = |byte: &u8| {
        let consonant = CONSONANTS[usize::from(byte & 0b1111)];
        let vowel = VOWELS[usize::from((byte >> 4) & 0b11)];
        [char::from(consonant), char::from(vowel)]
    };
    let word = |bytes: &[u8]| bytes.iter().flat_map(syllable).collect::<String>();
    bytes
        .chunks(SYLLABLES)
        .map(word)
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting;

    impl Randomness for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            for (byte, number) in bytes.iter_mut().zip(0..) {
                *byte = number * 0x11;
            }
        }
    }

    #[test]
    fn it_can_be_read_aloud() {
        assert_eq!(throw_away_password(&Counting), "bade-figo-haje-kilo");
    }

    #[test]
    fn no_two_are_the_same() {
        let make = || throw_away_password(&countersign_core::clock::SystemRandomness);
        assert_ne!(make(), make());
    }
}
