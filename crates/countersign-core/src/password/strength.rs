//! How many guesses a password takes, by zxcvbn.

use zxcvbn::feedback::Warning;

/// So many characters are looked at: the time that it takes grows with their square and worse.
const LOOKED_AT: usize = 32;

/// Signs that zxcvbn takes for letters. It tries all combinations of what they may stand for.
const SIGNS: &str = "@({[<!|$+%";

/// So many different ones are taken for letters, or one estimate could take a second. The worst that was
/// found with these takes less than a hash.
const MOST_SIGNS: usize = 3;

/// So few guesses anybody makes.
const TRIVIAL_GUESSES: f64 = 6.0;

/// So few characters are no password.
const TRIVIAL_CHARACTERS: usize = 6;

/// How strong a password is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Strength {
    /// From 0 to 4, as zxcvbn counts: from 2 on it takes more than a million guesses.
    pub(super) score: u8,
    guesses_log10: f64,
    /// What is wrong with it, where that can be said.
    pub(super) weakness: Option<&'static str>,
}

/// Estimates a password, whose owner is known by these words. Of a long one the better end counts.
pub(super) fn estimate(password: &str, words: &[&str]) -> Strength {
    let head = estimate_part(&password.chars().take(LOOKED_AT).collect::<String>(), words);
    let length = password.chars().count();
    if length <= LOOKED_AT {
        return head;
    }
    let tail: String = password.chars().skip(length - LOOKED_AT).collect();
    let tail = estimate_part(&tail, words);
    if tail.score > head.score { tail } else { head }
}

/// Whether this is too little to be a password by itself.
pub(super) fn is_trivial(rest: &str) -> bool {
    rest.chars().count() < TRIVIAL_CHARACTERS || estimate(rest, &[]).guesses_log10 < TRIVIAL_GUESSES
}

fn estimate_part(part: &str, words: &[&str]) -> Strength {
    let entropy = zxcvbn::zxcvbn(&with_few_signs(part), words);
    let warning = entropy
        .feedback()
        .and_then(zxcvbn::feedback::Feedback::warning);
    Strength {
        score: entropy.score().into(),
        guesses_log10: entropy.guesses_log10(),
        weakness: warning.map(sentence),
    }
}

/// The text with a sign that stands for nothing in place of those that are too many.
fn with_few_signs(text: &str) -> String {
    let mut taken: Vec<char> = Vec::with_capacity(MOST_SIGNS);
    text.chars()
        .map(|character| {
            if !SIGNS.contains(character) || taken.contains(&character) {
                return character;
            }
            if taken.len() == MOST_SIGNS {
                return '~';
            }
            taken.push(character);
            character
        })
        .collect()
}

/// What zxcvbn warns of, in our words.
fn sentence(warning: Warning) -> &'static str {
    match warning {
        Warning::StraightRowsOfKeysAreEasyToGuess
        | Warning::ShortKeyboardPatternsAreEasyToGuess => {
            "Keys that lie side by side are soon guessed."
        }
        Warning::RepeatsLikeAaaAreEasyToGuess
        | Warning::RepeatsLikeAbcAbcAreOnlySlightlyHarderToGuess => {
            "It repeats itself, which makes it hardly harder to guess."
        }
        Warning::ThisIsATop10Password
        | Warning::ThisIsATop100Password
        | Warning::ThisIsACommonPassword => "It is one that many people use.",
        Warning::ThisIsSimilarToACommonlyUsedPassword => {
            "It is close to one that many people use; other signs for letters do not help."
        }
        Warning::SequencesLikeAbcAreEasyToGuess => "Sequences like abc or 6543 are soon guessed.",
        Warning::RecentYearsAreEasyToGuess | Warning::DatesAreOftenEasyToGuess => {
            "Dates and years are soon guessed."
        }
        Warning::AWordByItselfIsEasyToGuess => "A word by itself is soon guessed.",
        Warning::NamesAndSurnamesByThemselvesAreEasyToGuess
        | Warning::CommonNamesAndSurnamesAreEasyToGuess => "Names are soon guessed.",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn of_a_long_password_either_end_may_make_it_strong() {
        let weak = "a".repeat(40);
        assert!(estimate(&weak, &[]).score < 2);
        assert!(estimate(&format!("{weak}kQzv7Wm1Xp0Lr4Tj9Bn2"), &[]).score >= 3);
        assert!(estimate(&format!("kQzv7Wm1Xp0Lr4Tj9Bn2{weak}"), &[]).score >= 3);
    }

    #[test]
    fn what_is_left_is_trivial_if_it_were_no_password() {
        for rest in ["", "2026", "xxxxxx", "123456789012", "password"] {
            assert!(is_trivial(rest), "{rest}");
        }
        assert!(!is_trivial("xkcdrq7"));
        assert!(!is_trivial("correct horse"));
    }

    #[test]
    fn few_different_signs_are_taken_for_letters() {
        assert_eq!(with_few_signs("p@$$w0rd+@!<("), "p@$$w0rd+@~~~");
        assert_eq!(with_few_signs("4@8({[<36"), "4@8({~~36");
        assert_eq!(with_few_signs("no signs, 12345"), "no signs, 12345");
    }

    #[test]
    fn the_estimate_is_bounded_whatever_is_written() {
        let signs = "4@8({[<3691!|0$5+7%2";
        for text in [
            signs.repeat(200),
            "(8|0439751@2{68".repeat(200),
            "a".repeat(4_000),
            "01011990".repeat(500),
            "\u{1f98a}".repeat(1_000),
        ] {
            let began = Instant::now();
            estimate(&text, &["anamaria"]);
            let took = began.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
    }
}
