//! Passwords that real Djangos stored, and some that nobody did.
//!
//! The rows were printed by `make_password(password, hasher=…)` of Django 3.2.25, 4.2.30, 5.2.19 and
//! 6.1.3 with their own defaults, and those of other makers by the Python packages that Django calls,
//! argon2-cffi 25.1 and bcrypt 5.0. The passwords are used nowhere else.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::password::HashingSettings;

const PLAIN: &str = "correct horse battery staple";
const UNICODE: &str = "пароль ☃ e\u{301}";
const WITH_NUL: &str = "nul\0inside";
const OF_72_BYTES: &str =
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const OF_100_BYTES: &str = "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\
                            yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy";

/// Who stored it, what it is, and how it is encoded.
const STORED: &[(&str, &str, &str)] = &[
    (
        "3.2",
        PLAIN,
        "pbkdf2_sha256$260000$z1O3AR4jGjZtk4hfDK5SVM$87QfFcf8AAiRDf69Mb56e8Zl/gA8fouT1oWkCP7CiYw=",
    ),
    (
        "3.2",
        PLAIN,
        "pbkdf2_sha1$260000$U4EFMl2d5ju5XwdHcuw3H9$FatScTWnce2U4nT93zJT7AI5FxM=",
    ),
    (
        "3.2",
        PLAIN,
        "argon2$argon2id$v=19$m=102400,t=2,p=8$ZDN0eHNrNWJNdW40WWNlM1NFcjREMA$Iv4zWZ2iZMtcPav1XGeYzkUOZ7xVFn+0zH/RTmWp3ms",
    ),
    (
        "3.2",
        PLAIN,
        "bcrypt_sha256$$2b$12$3XAg/NJDc8WUkIdeSKUw3u4oGl7bQ92YcjU2NnlV9jJumbz1EWjz2",
    ),
    (
        "3.2",
        PLAIN,
        "bcrypt$$2b$12$zcrnpdHZwVLFbCuJd6QLT.vDAFNf2.3eq48pLIA/JE4k6Zd7lbxo2",
    ),
    (
        "3.2",
        PLAIN,
        "md5$zstR0KoUIgXdp0Kmqj0Y8w$e93f01d8491baaf866749401ab25f34c",
    ),
    (
        "4.2",
        PLAIN,
        "pbkdf2_sha256$600000$GkfQx2PlGCtW8utN7tGNp4$qsM7pJgKHEGUZUACRjG/67OqOBIpyVmVb7TmyBULuYo=",
    ),
    (
        "4.2",
        PLAIN,
        "md5$DWru0gyqJNkEEP87VOYswX$e92afb2b1541492693ae0bd07dc70c36",
    ),
    (
        "4.2",
        PLAIN,
        "scrypt$16384$rfgOi2QZEeRlKepluMTEHn$8$1$o2aMVCV18AxXL9ozIbwTFTheipNitXDDzajHeUTo3XVPEebOYrwBsZzviackRL1OvJghwQ/7EcfAAJU5np4Rnw==",
    ),
    (
        "5.2",
        PLAIN,
        "pbkdf2_sha256$1000000$qKL8J95s2E5pLOSn0Wxic0$QIzXJts+LBe5cYoE6sIAVwBTwMGvr6rPBtfEAXNAr2o=",
    ),
    (
        "5.2",
        UNICODE,
        "pbkdf2_sha256$1000000$m0732l1tZY03fuZxQS2RtY$Vg04Qha21EZecf9zYdLISq7Dtt9nBkaF/3dR5L1Zvb8=",
    ),
    (
        "5.2",
        WITH_NUL,
        "pbkdf2_sha256$1000000$yugSQu1kzTEThDqBrVQS7W$hXY2Fwoa7q3kjwPpzD2jtYl0otwSMUkFai62GMwS4po=",
    ),
    (
        "5.2",
        PLAIN,
        "argon2$argon2id$v=19$m=102400,t=2,p=8$QUxuSGczWXVxY3c2Sm1TRjRIa1c4Qg$i7LYXXpcJpxC7eYUOVd8KiEF3kPSqdbbXjLaZ7vIjEw",
    ),
    (
        "5.2",
        UNICODE,
        "argon2$argon2id$v=19$m=102400,t=2,p=8$Q1RvM2dkNVFZOFRrUmRzb2J4QXVkeA$iWCtiKFuYGypoXoAXbuFWg5FFYav3fVb72Ep+WbDBEo",
    ),
    (
        "5.2",
        WITH_NUL,
        "argon2$argon2id$v=19$m=102400,t=2,p=8$OGxOSDRMQmhYNmp5bEViUzdwRDhiVQ$vdxg1Kij99gy9j9Z+YXOLdrBr2zUbKFesxs5Q3C7SuI",
    ),
    (
        "5.2",
        UNICODE,
        "bcrypt_sha256$$2b$12$NzKcId1N27jL8G30fj69tuwpzu.LOsJnGBzxaKoRu1lV49y1CIfE.",
    ),
    (
        "5.2",
        WITH_NUL,
        "bcrypt_sha256$$2b$12$MY3uItR3s/Na8WwvBkM05e6qgfUowawXGr86vuxaVkgI.H5CcbkZO",
    ),
    (
        "5.2",
        UNICODE,
        "bcrypt$$2b$12$XM4k/YnbgujSHkCy6vmNkO9/PKYis6yXGV.x9YDS5PTK2kbXM4dyW",
    ),
    (
        "5.2",
        WITH_NUL,
        "bcrypt$$2b$12$Lns1IpYLCME5SzDqYvA7jOWEOiGGQCrCVsdkKMYveB7JDBWd5jfaK",
    ),
    (
        "5.2",
        PLAIN,
        "md5$AFUeogNBqWeCTc3kXu8753$f40a94b01552fc49e9e544f1fd74cfd8",
    ),
    (
        "5.2",
        UNICODE,
        "md5$V8f7kLFOCyqasSVm8zENN3$ef759468a0f1e5f2411976591216fccb",
    ),
    (
        "5.2",
        WITH_NUL,
        "md5$P1nX42Pkz8U8RVH9PU29oB$7b0f27a4687d9fee4281a8b4eda97ce3",
    ),
    (
        "5.2",
        UNICODE,
        "scrypt$16384$Ak15JQW02FeFj0pU0CLVqP$8$5$E01YxHFB4Ba2Vsdx1wg/LKsmHvIdixeNmoRm7FHkaNpTi3Prrke0bF9OGbXeCZbx00de2b6dbty98A8V8i6OaA==",
    ),
    (
        "5.2",
        WITH_NUL,
        "scrypt$16384$vZTzX2HiyTkVkRR3kUHeQE$8$5$V7VuIid0xQFhzquTwAwEe6b27+hRrzre0F1rt9Z7RJB3JddwwRnwIWYPpvsUV9pZ1WD2iBU8TdQ40mY7aA90sw==",
    ),
    (
        "6.1",
        PLAIN,
        "pbkdf2_sha256$1500000$TjcKtgMXF1Rf9lduZsc5SS$NjnjlSCdDu2+37Yp+i7F71LIKthjx/TQociBn8S9pbY=",
    ),
    (
        "6.1",
        PLAIN,
        "pbkdf2_sha1$1500000$XyoDspmrjzMCWmX7V4BL1X$D7Ga30BADXQoFIylyMvG/5aIwL8=",
    ),
    (
        "6.1",
        PLAIN,
        "argon2$argon2id$v=19$m=102400,t=2,p=8$QXVzaURlaGxTa3dpT0k1dWFSbnVtaQ$zMGTh8KmXw4HeAZKYYGWoPNA4zdS4UF6y9H1LJOgVgo",
    ),
    (
        "6.1",
        PLAIN,
        "bcrypt_sha256$$2b$12$msTEY/YxiCDpFqHRwb328uwHC9WhVd8ZOoivjPqTgXidoGLKloPv6",
    ),
    (
        "6.1",
        OF_72_BYTES,
        "bcrypt_sha256$$2b$12$UA/./o0SrBja4sQLfwas7O8xKECUpfhnwvYK7zfe5Fqq5mvfXOgEm",
    ),
    (
        "6.1",
        OF_100_BYTES,
        "bcrypt_sha256$$2b$12$rNykKFX6fi9pOReU24Pwg.70Qo7SpVk1xW72AkIso2yOP3ppFqnt.",
    ),
    (
        "6.1",
        PLAIN,
        "bcrypt$$2b$12$KYNYc4g3lMbb4IFuL2/tK.957Qi.pGeezw4jrDhfNnzKclezBBKH.",
    ),
    (
        "6.1",
        OF_72_BYTES,
        "bcrypt$$2b$12$H2o0d0hlW6CrCT8gyLeYqutVznbJ2YeVaGi47eP9GZZQcLwEpmJnG",
    ),
    (
        "6.1",
        PLAIN,
        "md5$n9fj6GGLt5AmsdBPisH4fR$bf2ead497007ca2df85157ca665b2023",
    ),
    (
        "6.1",
        PLAIN,
        "scrypt$16384$lyysNlAKwr6Em3QbZ2wWYk$8$5$wg6Ku9GCDEsNDpBnHTcTqb4q6NjZL9B3judao4RJKNU2xtQmQxMipbsGhxyBtiEObxrAP5el9qz/yW+ZP9V4hw==",
    ),
    (
        "argon2-cffi",
        PLAIN,
        "argon2$argon2i$m=512,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$Y9gXpq5LbFVfjOoEumWT8Q",
    ),
    (
        "argon2-cffi",
        PLAIN,
        "argon2$argon2i$v=16$m=512,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$Y9gXpq5LbFVfjOoEumWT8Q",
    ),
    (
        "argon2-cffi",
        PLAIN,
        "argon2$argon2i$v=19$m=512,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$gm8Ag/YV80HNxo6ow9krtA",
    ),
    (
        "argon2-cffi",
        PLAIN,
        "argon2$argon2id$m=512,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$GOGNczNAVhc15AZ69YpbDg",
    ),
    (
        "bcrypt",
        PLAIN,
        "bcrypt$$2a$04$gqAHM4qhsaBAnDL0knJL0eo5coJ5D4b4u2Fl2ywdwVJ6OISJGoXLW",
    ),
    (
        "bcrypt",
        PLAIN,
        "bcrypt$$2y$04$dq9S3G4QmG3S2PTbNXOhO.2nrV6wXTqXx8ytze6HY1cp1iU2wf34m",
    ),
];

fn stored(encoded: &str) -> Option<StoredHash> {
    StoredHash::parse(&EncodedPassword::new(encoded))
}

fn matches(encoded: &str, password: &str) -> bool {
    let mut memory = Argon2Memory::keeping(Argon2Cost::default());
    stored(encoded).is_some_and(|stored| stored.matches(password.as_bytes(), &mut memory))
}

#[test]
fn what_django_stored_matches_its_password() {
    for (version, password, encoded) in STORED {
        assert!(matches(encoded, password), "Django {version}: {encoded}");
    }
}

#[test]
fn every_encoding_is_among_what_was_stored() {
    for encoding in Encoding::ALL {
        let stored_so = STORED
            .iter()
            .filter(|(_, _, encoded)| EncodedPassword::new(*encoded).encoding() == Some(encoding));
        assert!(stored_so.count() >= 2, "{encoding:?}");
    }
}

/// The cheapest to check of each encoding.
fn samples() -> Vec<(&'static str, &'static str)> {
    let mut samples = Vec::new();
    for encoding in Encoding::ALL {
        let of_it = STORED
            .iter()
            .filter_map(|(_, password, encoded)| Some((stored(encoded)?.cost(), password, encoded)))
            .filter(|(cost, password, _)| cost.encoding == encoding && **password == PLAIN);
        let cheapest = of_it.min_by_key(|(cost, _, _)| *cost);
        samples.extend(cheapest.map(|(_, password, encoded)| (*password, *encoded)));
    }
    samples
}

#[test]
fn it_matches_no_other_password() {
    for (password, encoded) in samples() {
        // A key of HMAC is filled up with zeros, so it cannot tell these apart; nor does Django.
        let is_hmac = encoded.starts_with("pbkdf2") || encoded.starts_with("scrypt");
        let filled_up = format!("{password}\0");
        assert_eq!(matches(encoded, &filled_up), is_hmac, "{encoded}");
        for other in [
            format!("{password} "),
            password.replacen('c', "C", 1),
            String::new(),
        ] {
            assert!(!matches(encoded, &other), "{encoded}: {other:?}");
        }
    }
}

#[test]
fn a_composed_character_is_not_its_parts() {
    let composed = UNICODE.replace("e\u{301}", "\u{e9}");
    let (_, _, encoded) = STORED
        .iter()
        .find(|(_, password, encoded)| *password == UNICODE && encoded.starts_with("md5$"))
        .unwrap();
    assert!(matches(encoded, UNICODE));
    assert!(!matches(encoded, &composed));
}

#[test]
fn bcrypt_alone_does_not_take_the_beginning_of_a_password_for_all_of_it() {
    let of_72 = |name: &str| {
        let rows = STORED.iter();
        let mut of_it = rows
            .filter(|(_, password, encoded)| *password == OF_72_BYTES && encoded.starts_with(name));
        of_it.next().unwrap().2
    };
    let longer = format!("{OF_72_BYTES}x");
    assert!(matches(of_72("bcrypt$"), OF_72_BYTES));
    assert!(!matches(of_72("bcrypt$"), &longer));
    assert!(!matches(of_72("bcrypt_sha256$"), &longer));
}

#[test]
fn a_changed_hash_matches_nothing() {
    for (password, encoded) in samples() {
        let last = encoded.trim_end_matches('=').chars().last().unwrap();
        // Of the last character of base64 only some bits count; four further on are others.
        let index = encoded.rfind(last).unwrap() - 4;
        let other = if encoded.as_bytes()[index] == b'a' {
            "b"
        } else {
            "a"
        };
        let mut changed = encoded.to_owned();
        changed.replace_range(index..=index, other);
        assert!(stored(&changed).is_some(), "{changed}");
        assert!(!matches(&changed, password), "{changed}");
    }
}

/// Written by whoever would keep the service busy, break it, or be let in.
const HOSTILE: &[&str] = &[
    "",
    "!",
    "!Zq3Zq3Zq3Zq3Zq3Zq3Zq3Zq3Zq3Zq3Zq3Zq3Zq3x",
    "$",
    "$$$$$$",
    PLAIN,
    "lolcat$salt$hash",
    // MD5 and SHA-1 without a salt, as Django read them up to 5.0, and SHA-1 with one.
    "9cc2ae8a1ba7a93da39b46fc1019c481",
    "md5$$9cc2ae8a1ba7a93da39b46fc1019c481",
    "sha1$$abf7aad6438836dbe526aa231abde2d0eef74d42",
    "sha1$salt$abf7aad6438836dbe526aa231abde2d0eef74d42",
    "md5$salt$9CC2AE8A1BA7A93DA39B46FC1019C481",
    "md5$salt$9cc2ae8a1ba7a93da39b46fc1019c48",
    "md5$salt$9cc2ae8a1ba7a93da39b46fc1019c48é",
    "md5$salt",
    "PBKDF2_SHA256$1000$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256",
    "pbkdf2_sha256$1000000$salt",
    "pbkdf2_sha256$0$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256$-1$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256$+9$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256$1e9$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256$ 9$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256$5000001$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256$99999999999$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256$1000$$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "pbkdf2_sha256$1000$salt$",
    "pbkdf2_sha256$1000$salt$AAAA",
    "pbkdf2_sha256$1000$sa\0lt$AAAA",
    "pbkdf2_sha256$1000$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=$",
    "pbkdf2_sha1$1000$salt$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "argon2$argon2id$v=19$m=4294967295,t=4294967295,p=255$Y041dExhNkljRUUy$TMa6A8fPJhCAUXRhJXCXdw",
    "$argon2id$v=19$m=65536,t=2,p=1$c2FsdA$",
    "scrypt$1073741824$salt$8$5$AAAA",
    "bcrypt$$2b$99$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuuabcdefghijkl",
    "bcrypt$$2b$12$ééééééééééééééééééééééééééa",
];

#[test]
fn hostile_encodings_are_not_read() {
    for encoded in HOSTILE {
        assert!(stored(encoded).is_none(), "{encoded:?}");
    }
    for name in Encoding::ALL.map(Encoding::name) {
        assert!(stored(&format!("{name}$").repeat(10_000)).is_none());
    }
}

const BCRYPT: &str = "bcrypt$$2b$12$VZ3wdaFp11GGf/XhBJM.YuIyLiAp.s1gSESFcktWBJlpGcEO9PIUa";

#[test]
fn bcrypt_is_bounded() {
    assert!(stored(BCRYPT).is_some());
    for (good, hostile) in [
        ("$12$", "$03$"),
        ("$12$", "$15$"),
        ("$12$", "$31$"),
        ("$12$", "$4$"),
        ("$12$", "$+9$"),
        ("$2b$", "$2x$"),
        ("$2b$", "$2$"),
        ("$$2b", "$2b"),
        ("$$2b", "$$$2b"),
        // Bits after the salt's last.
        ("M.Yu", "M.Yv"),
        ("9PIUa", "9PIU"),
        ("9PIUa", "9PIUa$"),
    ] {
        let (start, end) = BCRYPT.rsplit_once(good).unwrap();
        let text = format!("{start}{hostile}{end}");
        assert!(stored(&text).is_none(), "{text}");
    }
}

#[test]
fn scrypt_is_bounded_in_memory_and_in_time() {
    let hash = format!("{}==", "A".repeat(86));
    let read = |n: u64, r: u64, p: u64| stored(&format!("scrypt${n}$salt${r}${p}${hash}"));
    assert!(read(16_384, 8, 5).is_some(), "Django's own");
    assert!(read(65_536, 8, 8).is_some(), "as much as may be");
    for (n, r, p) in [
        (65_536, 8, 9),
        (131_072, 8, 1),
        (65_536, 9, 1),
        (16_384, 8, u64::from(u32::MAX)),
        (2, u64::from(u32::MAX), 1),
        (1 << 31, u64::from(u32::MAX), u64::from(u32::MAX)),
        (u64::MAX, 8, 1),
        (16_383, 8, 1),
        (1, 8, 1),
        (0, 8, 1),
        (16_384, 0, 1),
        (16_384, 8, 0),
    ] {
        assert!(read(n, r, p).is_none(), "{n} {r} {p}");
    }
}

const PBKDF2: HashingSettings = HashingSettings {
    write_as: WriteAs::Pbkdf2Sha256 {
        iterations: 600_000,
    },
    ..HashingSettings::CHEAP
};

#[test]
fn written_as_argon2_everything_else_is_outdated() {
    let settings = HashingSettings {
        write_as: WriteAs::Argon2,
        ..PBKDF2
    };
    for (_, _, encoded) in STORED {
        assert!(stored(encoded).unwrap().is_outdated(&settings), "{encoded}");
    }
    let djangos = Argon2Cost {
        memory_kib: 102_400,
        passes: 2,
        lanes: 8,
    };
    let as_django = HashingSettings {
        cost: djangos,
        ..settings
    };
    let (_, _, encoded) = STORED
        .iter()
        .find(|(version, _, encoded)| *version == "6.1" && encoded.starts_with("argon2$"))
        .unwrap();
    assert!(!stored(encoded).unwrap().is_outdated(&as_django));
}

#[test]
fn written_as_pbkdf2_nothing_is_made_weaker() {
    for (version, _, encoded) in STORED {
        let weaker = ["md5$", "pbkdf2_sha1$", "pbkdf2_sha256$260000$"]
            .iter()
            .any(|weak| encoded.starts_with(weak));
        let outdated = stored(encoded).unwrap().is_outdated(&PBKDF2);
        assert_eq!(outdated, weaker, "Django {version}: {encoded}");
    }
}

#[test]
fn what_is_written_is_read_and_is_up_to_date() {
    let mut memory = Argon2Memory::keeping(HashingSettings::CHEAP.cost);
    for settings in [HashingSettings::CHEAP, PBKDF2] {
        let new = NewHash::new(&settings, vec![0x5a; SALT_BYTES]);
        let encoded = new.of(PLAIN.as_bytes(), &mut memory);
        assert!(encoded.as_str().len() <= 128, "it fits Django's column");
        let stored = StoredHash::parse(&encoded).unwrap();
        assert!(stored.matches(PLAIN.as_bytes(), &mut memory));
        assert!(!stored.matches(b"another", &mut memory));
        assert!(!stored.is_outdated(&settings));
    }
}

#[test]
fn debug_shows_nothing() {
    let encoded = EncodedPassword::new(STORED[0].2);
    assert_eq!(format!("{encoded:?}"), "EncodedPassword(redacted)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Reading never panics and never takes long, whatever stands there.
    #[test]
    fn whatever_is_stored_is_read_or_refused(
        name in prop::sample::select(Encoding::ALL.map(Encoding::name).to_vec()),
        rest in "[$=,.+/0-9a-zA-Zé\u{0}-]{0,140}",
    ) {
        let began = Instant::now();
        let _read_or_not = stored(&format!("{name}${rest}"));
        prop_assert!(began.elapsed() < Duration::from_secs(1));
    }

    /// One character of a real one changed, or left out: whatever is still read is within bounds, and
    /// can be checked.
    #[test]
    fn a_real_one_with_an_accident_is_bounded(
        row in 0..STORED.len(),
        at in 0..60_usize,
        instead in prop::option::of(prop::char::range('\u{20}', '\u{7e}')),
    ) {
        let mut encoded: Vec<char> = STORED[row].2.chars().collect();
        let at = at.min(encoded.len() - 1);
        encoded.splice(at..=at, instead);
        let encoded: String = encoded.into_iter().collect();
        if let Some(stored) = stored(&encoded) {
            let most = match stored.cost().encoding {
                Encoding::Argon2 => Argon2Cost::MAX_KIB_PASSES,
                Encoding::Pbkdf2Sha256 | Encoding::Pbkdf2Sha1 => MOST_ITERATIONS.into(),
                Encoding::BcryptSha256 | Encoding::Bcrypt => 1 << 14,
                Encoding::Scrypt => 1 << 22,
                Encoding::Md5 => 1,
            };
            prop_assert!(stored.cost().work <= most, "{}", encoded);
        }
    }
}
