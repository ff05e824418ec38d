//! CSRF tokens: 32 characters of `[A-Za-z0-9]`, also in Django's masked form.
//!
//! A session has one CSRF token; its access tokens carry the token's hash in the claim `csrf`. A
//! resource server therefore checks the header `X-CSRFToken` without asking anyone:
//!
//! ```
//! use countersign_token::csrf;
//!
//! let claim = csrf::claim("jzD5y661LHEw9LrcNlPC2rPCNlzRC3BV"); // what the issuer signed
//!
//! assert!(csrf::matches_claim("jzD5y661LHEw9LrcNlPC2rPCNlzRC3BV", &claim));
//! // the same token as Django's `{% csrf_token %}` writes it, different on every page
//! let masked = "wdMp6u4reXBIcaMtu7pM1vc7A1eNsM6FFCfkuq0iPu54bL3v7i4eTMRzdcDuUFxq";
//! assert!(csrf::matches_claim(masked, &claim));
//! assert!(!csrf::matches_claim("", &claim));
//! ```

use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use crate::base64url;

/// How many characters a CSRF token has; as Django's `CSRF_SECRET_LENGTH`.
pub const TOKEN_LENGTH: usize = 32;

/// The characters of a token, in Django's order (`string.ascii_letters + string.digits`), on which
/// the arithmetic of the mask rests.
const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// The claim `csrf` for a session's CSRF token: base64url of its SHA-256.
#[must_use]
pub fn claim(token: &str) -> String {
    base64url::encode(digest(&SHA256, token.as_bytes()).as_ref())
}

/// The token in what a client presented: 32 characters of the alphabet as they are, or 64 in
/// Django's masked form (32 of mask, then 32 of cipher). `None` for anything else.
#[must_use]
pub fn unmask(presented: &str) -> Option<[u8; TOKEN_LENGTH]> {
    let mut token = [0; TOKEN_LENGTH];
    match presented.len() {
        TOKEN_LENGTH => {
            for (character, presented) in token.iter_mut().zip(presented.bytes()) {
                *character = ALPHABET[index(presented)?];
            }
        }
        MASKED_LENGTH => {
            let (mask, cipher) = presented.as_bytes().split_at(TOKEN_LENGTH);
            for ((character, mask), cipher) in token.iter_mut().zip(mask).zip(cipher) {
                let shifted = index(*cipher)? + ALPHABET.len() - index(*mask)?;
                *character = ALPHABET[shifted % ALPHABET.len()];
            }
        }
        _ => return None,
    }
    Some(token)
}

const MASKED_LENGTH: usize = 2 * TOKEN_LENGTH;

/// The place of a character in [`ALPHABET`].
fn index(character: u8) -> Option<usize> {
    let place = match character {
        b'a'..=b'z' => character - b'a',
        b'A'..=b'Z' => character - b'A' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        _ => return None,
    };
    Some(usize::from(place))
}

/// Whether `presented` is the token whose hash is `claim`, the `csrf` of a verified access token.
/// The comparison takes the same time wherever they differ.
#[must_use]
pub fn matches_claim(presented: &str, claim: &str) -> bool {
    let Some(token) = unmask(presented) else {
        return false;
    };
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &token).as_ref());
    base64url::encode_32(&hash).ct_eq(claim.as_bytes()).into()
}

/// Whether `presented` is `expected_token`, for who knows the session's token itself. The
/// comparison takes the same time wherever they differ.
#[must_use]
pub fn matches(presented: &str, expected_token: &str) -> bool {
    unmask(presented).is_some_and(|token| token.ct_eq(expected_token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of token and masked form that Django 5.2 unmasks so. The last two masks are the ones
    /// that shift nothing and everything.
    const DJANGO: [(&str, &str); 5] = [
        (
            "jzD5y661LHEw9LrcNlPC2rPCNlzRC3BV",
            "wdMp6u4reXBIcaMtu7pM1vc7A1eNsM6FFCfkuq0iPu54bL3v7i4eTMRzdcDuUFxq",
        ),
        (
            "jzD5y661LHEw9LrcNlPC2rPCNlzRC3BV",
            "PPfUCsVPuwS86w3cL0zNnLjO6jhW90HuYeIP0oRG53mu57keobeff2YgJuGDBT8f",
        ),
        (
            "zmzRidSkWW0pqx0iE3osVa6GgkBpGjmX",
            "5kLajzHSDYd1dWPcMtmt8U1wMI6d7RA4uwaRrCp2pK3gtjFkgmALTUX2SSxsD0MR",
        ),
        (
            "zmzRidSkWW0pqx0iE3osVa6GgkBpGjmX",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaazmzRidSkWW0pqx0iE3osVa6GgkBpGjmX",
        ),
        (
            "zmzRidSkWW0pqx0iE3osVa6GgkBpGjmX",
            "99999999999999999999999999999999ylyQhcRjVVZopwZhD2nrU95FfjAoFilW",
        ),
    ];

    /// What Django's `_mask_cipher_secret` does, with nothing of the code above.
    fn mask_as_django(mask: &[char], token: &[char]) -> String {
        let characters: Vec<char> = characters().collect();
        let index = |character| characters.iter().position(|c| c == character).unwrap();
        let cipher = mask
            .iter()
            .zip(token)
            .map(|(mask, token)| characters[(index(mask) + index(token)) % characters.len()]);
        mask.iter().copied().chain(cipher).collect()
    }

    fn characters() -> impl Iterator<Item = char> + Clone {
        ('a'..='z').chain('A'..='Z').chain('0'..='9')
    }

    #[test]
    fn djangos_masked_form_is_unmasked_as_django_does() {
        for (token, masked) in DJANGO {
            assert_eq!(unmask(masked).unwrap(), token.as_bytes());
            assert!(matches(masked, token));
            assert!(matches_claim(masked, &claim(token)));
        }
    }

    #[test]
    fn every_character_is_unmasked_under_every_mask_in_every_place() {
        let run_from = |start| -> Vec<char> {
            characters()
                .cycle()
                .skip(start)
                .take(TOKEN_LENGTH)
                .collect()
        };
        for mask in 0..62 {
            for token in 0..62 {
                let (mask, token) = (run_from(mask), run_from(token));
                let masked = mask_as_django(&mask, &token);
                let token: String = token.into_iter().collect();
                assert_eq!(unmask(&masked).unwrap(), token.as_bytes(), "{masked}");
            }
        }
        for (token, masked) in DJANGO {
            let chars: Vec<char> = masked.chars().chain(token.chars()).collect();
            assert_eq!(mask_as_django(&chars[..32], &chars[64..]), masked);
        }
    }

    #[test]
    fn a_plain_token_is_taken_as_it_is() {
        for (token, _) in DJANGO {
            assert_eq!(unmask(token).unwrap(), token.as_bytes());
            assert!(matches(token, token));
            assert!(matches_claim(token, &claim(token)));
        }
    }

    #[test]
    fn another_token_does_not_match() {
        let (token, masked) = DJANGO[0];
        let (other, other_masked) = DJANGO[2];
        for presented in [other, other_masked] {
            assert!(!matches(presented, token));
            assert!(!matches_claim(presented, &claim(token)));
        }
        for expected in ["", masked, &token[..31]] {
            assert!(!matches(token, expected));
            assert!(!matches_claim(token, expected));
        }
    }

    #[test]
    fn what_is_neither_32_nor_64_characters_of_the_alphabet_is_no_token() {
        let (token, masked) = DJANGO[0];
        for wrong in [
            String::new(),
            token[..31].to_owned(),
            format!("{token}a"),
            masked[..63].to_owned(),
            format!("{masked}a"),
            token.replace('L', " "),
            token.replace('L', "-"),
            token.replace('L', "\0"),
            masked.replacen('w', "_", 1),
            masked.replace("xq", "x "),
            "é".repeat(16),
            "é".repeat(32),
        ] {
            assert_eq!(unmask(&wrong), None, "{wrong:?}");
            assert!(!matches(&wrong, &wrong), "{wrong:?}");
        }
    }

    #[test]
    fn the_claim_is_base64url_of_sha_256() {
        // printf %s aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | openssl dgst -sha256 -binary | basenc --base64url
        assert_eq!(
            claim(&"a".repeat(32)),
            "O6P19DuSYCaDwZruYqIDQrCE3Vlx3dM4CNgaMoh5pUc"
        );
    }
}
