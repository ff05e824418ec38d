//! The passwords that everybody tries first.

use unicode_normalization::UnicodeNormalization as _;

/// One a line, folded, in the order of their bytes. Where it comes from stands beside it, in `common/`.
const LIST: &[u8] = include_bytes!("common/list.txt");

/// Whether a password is one of the common ones, in whichever case and with whatever blanks around it.
pub(super) fn is_common(password: &str) -> bool {
    let folded: String = password.nfkc().flat_map(char::to_lowercase).collect();
    contains(LIST, folded.trim().as_bytes())
}

/// Looks a line up in sorted lines, where they stand.
fn contains(list: &[u8], wanted: &[u8]) -> bool {
    let (mut low, mut high) = (0, list.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let is_break = |byte: &u8| *byte == b'\n';
        let start = list[low..middle]
            .iter()
            .rposition(is_break)
            .map_or(low, |before| low + before + 1);
        let end = list[middle..high]
            .iter()
            .position(is_break)
            .map_or(high, |after| middle + after);
        match list[start..end].cmp(wanted) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    false
}

/// All of them, for tests.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    std::str::from_utf8(LIST).expect("it is text").lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_as_the_look_up_needs_it() {
        assert!(all().is_sorted_by(|one, other| one.as_bytes() < other.as_bytes()));
        assert!(all().all(|word| word.chars().count() >= 8 && word == word.trim()));
        // ASVS 6.2.4 asks for 3,000 of the length that the policy asks for.
        assert!(all().count() > 8_000);
    }

    #[test]
    fn each_of_them_is_found_in_either_case() {
        for word in all() {
            assert!(is_common(word), "{word}");
            assert!(is_common(&word.to_uppercase()), "{word}");
        }
        assert!(is_common(" Password1\t"));
        assert!(is_common("\u{ff50}\u{ff41}ssword1"), "in full width");
    }

    #[test]
    fn whatever_stands_between_before_and_after_them_is_not() {
        for word in all() {
            assert!(!contains(LIST, format!("{word}\0").as_bytes()), "{word}");
        }
        for other in ["", "\n", "0", "\u{10ffff}", "correct horse", "passwor"] {
            assert!(!is_common(other), "{other:?}");
        }
    }

    #[test]
    fn short_lists_are_looked_up_to_their_ends() {
        for list in ["", "b", "b\n", "b\nd", "b\nd\n", "b\nd\nf\n"] {
            for letter in ["a", "b", "c", "d", "e", "f", "g", ""] {
                let expected = list.lines().any(|line| line == letter);
                assert_eq!(contains(list.as_bytes(), letter.as_bytes()), expected);
            }
        }
    }
}
