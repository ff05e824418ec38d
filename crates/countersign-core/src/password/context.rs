//! Words that lie at hand: the user's own data, and what the service is called.
//!
//! Who guesses tries them first, in either case, with signs that stand for letters, with separators in
//! between, twice over, and with a little before or behind. So they are taken out of the password, and what
//! is left must be one.

use unicode_normalization::UnicodeNormalization as _;

use super::strength;

/// Shorter ones stand in too many passwords by chance.
const LEAST_CHARACTERS: usize = 3;

/// More words than anybody's data holds are not looked for.
const MOST_WORDS: usize = 64;

/// Whose word it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The user's own.
    User,
    /// The service's.
    Service,
}

/// A word that a password must not rely on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    reduced: Vec<char>,
    origin: Origin,
}

/// Words, longest first, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words(Vec<Word>);

impl Words {
    /// Adds a word and, of several in one, each of them.
    pub(super) fn add(&mut self, text: &str, origin: Origin) {
        let parts = text.split(|character: char| !character.is_alphanumeric());
        for part in std::iter::once(text).chain(parts) {
            let reduced: Vec<char> = reduce(part, Signs::AreLetters)
                .map(|(reduced, _)| reduced)
                .collect();
            let is_number = part.chars().all(|character| character.is_ascii_digit());
            let is_known = self.0.iter().any(|word| word.reduced == reduced);
            if reduced.len() >= LEAST_CHARACTERS
                && !is_number
                && !is_known
                && self.0.len() < MOST_WORDS
            {
                let text = part.nfkc().flat_map(char::to_lowercase).collect();
                self.0.push(Word {
                    text,
                    reduced,
                    origin,
                });
            }
        }
        self.0
            .sort_by_key(|word| std::cmp::Reverse(word.reduced.len()));
    }

    /// The words as they are, in lower case.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|word| word.text.as_str()).collect()
    }

    /// Whose words a password relies on, if it is little more than those.
    pub(super) fn relied_on_by(&self, password: &str) -> Option<Origin> {
        // `!` is an `i` or a separator: it is tried as either.
        [Signs::AreLetters, Signs::AreSeparators]
            .into_iter()
            .find_map(|signs| self.relied_on(reduce(password, signs).collect()))
    }

    fn relied_on(&self, mut password: Vec<(char, char)>) -> Option<Origin> {
        let mut first = None;
        for word in &self.0 {
            if take_out(&mut password, &word.reduced) {
                first = first.or(Some(word.origin));
            }
        }
        let rest: String = password.into_iter().map(|(_, written)| written).collect();
        first.filter(|_| strength::is_trivial(&rest))
    }
}

/// The words in the host name of a URL: all of its labels but the last, if there are several.
pub(super) fn words_of_url(url: &str) -> Vec<String> {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let host = host.split(':').next().unwrap_or("");
    let labels: Vec<_> = host.split('.').filter(|label| !label.is_empty()).collect();
    let kept = match labels.as_slice() {
        [several @ .., _] if !several.is_empty() => several,
        one => one,
    };
    kept.iter().map(|label| (*label).to_owned()).collect()
}

/// What signs are that may stand for letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signs {
    AreLetters,
    AreSeparators,
}

/// A text without case, separators and signs for letters; each character with how it was written.
fn reduce(text: &str, signs: Signs) -> impl Iterator<Item = (char, char)> {
    text.nfkc()
        .flat_map(char::to_lowercase)
        .filter_map(move |written| {
            let letter = match written {
                '0' => 'o',
                '1' | 'l' => 'i',
                '2' => 'z',
                '3' => 'e',
                '4' => 'a',
                '5' => 's',
                '6' | '9' => 'g',
                '7' => 't',
                '8' => 'b',
                other if other.is_alphanumeric() => other,
                sign if signs == Signs::AreLetters => letter_of(sign)?,
                _ => return None,
            };
            Some((letter, written))
        })
}

/// The letter that a sign stands for.
fn letter_of(sign: char) -> Option<char> {
    Some(match sign {
        '@' => 'a',
        '(' | '{' | '[' | '<' => 'c',
        '\u{20ac}' => 'e',
        '!' | '|' => 'i',
        '$' => 's',
        '+' => 't',
        _ => return None,
    })
}

/// Takes a word out wherever it stands. Gives whether it did.
fn take_out(password: &mut Vec<(char, char)>, word: &[char]) -> bool {
    let mut kept = Vec::with_capacity(password.len());
    let mut at = 0;
    while let Some(character) = password.get(at) {
        let here = password[at..].iter().map(|(reduced, _)| reduced);
        if here.take(word.len()).eq(word) {
            at += word.len();
        } else {
            kept.push(*character);
            at += 1;
        }
    }
    let was_there = kept.len() < password.len();
    *password = kept;
    was_there
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let mut words = Words::default();
        words.add("acme", Origin::Service);
        words.add("ana.maria", Origin::User);
        words
    }

    #[test]
    fn what_reduces_to_a_word_relies_on_it() {
        for (password, origin) in [
            ("anamaria2026", Origin::User),
            ("AnaMaria-2026", Origin::User),
            ("@n4_M4r!4 99", Origin::User),
            ("a.n.a.m.a.r.i.a", Origin::User),
            ("xx-maria-xx", Origin::User),
            ("acme4cm3-ACME-@cme", Origin::Service),
            ("acme123456789012", Origin::Service),
            ("acme!maria!acme", Origin::User),
            ("[[acme]]", Origin::Service),
        ] {
            assert_eq!(words().relied_on_by(password), Some(origin), "{password}");
        }
    }

    #[test]
    fn a_word_among_others_does_no_harm() {
        for password in [
            "maria likes kvittens",
            "correct horse acme staple",
            "acme-xkcdrq7vv",
            "kvittens",
            "73059164827305916482",
        ] {
            assert_eq!(words().relied_on_by(password), None, "{password}");
        }
    }

    #[test]
    fn the_words_of_a_url_are_those_of_its_host() {
        let words = |url| words_of_url(url).join(" ");
        assert_eq!(words("https://auth.acme.example:8443/x"), "auth acme");
        assert_eq!(words("https://ana@acme.example"), "acme");
        assert_eq!(words("http://localhost:8000"), "localhost");
        assert_eq!(words("acme.example"), "acme");
        assert_eq!(words(""), "");
        let mut none = Words::default();
        for word in words_of_url("http://127.0.0.1:8000") {
            none.add(&word, Origin::Service);
        }
        assert_eq!(none, Words::default(), "numbers are no words");
    }

    #[test]
    fn no_more_words_are_looked_for_than_somebody_may_have() {
        let mut many = Words::default();
        for number in 0..1_000 {
            many.add(&format!("word{number}"), Origin::User);
        }
        assert_eq!(many.texts().len(), MOST_WORDS);
    }
}
