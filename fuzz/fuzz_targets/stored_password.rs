//! Whatever stands in the column of passwords, it is read without harm, and only the right password opens it.
//!
//! An input is a password, a line feed, and what is stored. What asks for much work is read and not computed:
//! how much is ever computed is for the tests.
#![no_main]

use countersign_core::password::{EncodedPassword, Password, matches_cheaply};
use libfuzzer_sys::{Corpus, fuzz_target};

/// Half a millisecond's worth of the slowest way of hashing.
const MOST_WORK: u64 = 64;

/// Of more, bcrypt sees nothing.
const BCRYPT_SEES: usize = 72;

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((password, stored)) = std::str::from_utf8(input)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return Corpus::Reject;
    };
    let Ok(typed) = Password::new(password.to_owned()) else {
        return Corpus::Reject;
    };
    let encoded = EncodedPassword::new(stored);
    let Some(matches) = matches_cheaply(&typed, &encoded, MOST_WORK) else {
        return Corpus::Keep;
    };
    assert!(!(matches && encoded.is_unusable()), "an unusable one opens");
    assert_eq!(
        matches_cheaply(&typed, &encoded, MOST_WORK),
        Some(matches),
        "it opens now and then"
    );
    if matches && password.len() < BCRYPT_SEES {
        let Ok(longer) = Password::new(format!("{password}x")) else {
            return Corpus::Keep;
        };
        let opens = matches_cheaply(&longer, &encoded, MOST_WORK);
        assert_eq!(opens, Some(false), "two passwords open it");
    }
    Corpus::Keep
});
