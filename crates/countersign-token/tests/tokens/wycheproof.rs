//! The vectors of Project Wycheproof for the three algorithms, against [`VerifyingKey`].

use countersign_token::VerifyingKey;

/// How many vectors were judged. Every one of them must be judged as expected.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) valid: usize,
    pub(crate) invalid: usize,
}

impl Tally {
    pub(crate) fn count(&mut self, valid: bool, accepted: bool, vector: &str) {
        if valid {
            assert!(accepted, "{vector}: refused, though it is valid");
            self.valid += 1;
        } else {
            assert!(!accepted, "{vector}: accepted, though it is invalid");
            self.invalid += 1;
        }
    }
}

#[test]
fn es256() {
    use wycheproof_ng_ecdsa::{TestName, TestSet};

    let mut tally = Tally::default();
    for group in TestSet::load(TestName::EcdsaSecp256r1Sha256P1363)
        .unwrap()
        .test_groups
    {
        let key = VerifyingKey::es256("k", &group.key.key).unwrap();
        for test in group.tests {
            let accepted = key.verify(&test.msg, &test.sig).is_ok();
            tally.count(
                !test.result.must_fail(),
                accepted,
                &format!("{}: {}", test.tc_id, test.comment),
            );
        }
    }
    let expected = Tally {
        valid: 173,
        invalid: 89,
    };
    assert_eq!(tally, expected);
}

#[test]
fn es256_refuses_every_signature_in_der_though_the_curve_would_agree() {
    use wycheproof_ng_ecdsa::{TestName, TestSet};

    let mut tried = 0;
    for group in TestSet::load(TestName::EcdsaSecp256r1Sha256)
        .unwrap()
        .test_groups
    {
        let key = VerifyingKey::es256("k", &group.key.key).unwrap();
        for test in group.tests {
            assert!(
                key.verify(&test.msg, &test.sig).is_err(),
                "{}: {}",
                test.tc_id,
                test.comment
            );
            tried += 1;
        }
    }
    assert_eq!(tried, 484);
}

#[test]
fn ed25519() {
    use wycheproof_ng_eddsa::{TestName, TestSet};

    let mut tally = Tally::default();
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let key = VerifyingKey::ed25519("k", &group.key.pk).unwrap();
        for test in group.tests {
            let accepted = key.verify(&test.msg, &test.sig).is_ok();
            tally.count(
                !test.result.must_fail(),
                accepted,
                &format!("{}: {}", test.tc_id, test.comment),
            );
        }
    }
    let expected = Tally {
        valid: 88,
        invalid: 63,
    };
    assert_eq!(tally, expected);
}

#[test]
fn hs256_accepts_the_whole_tag_only() {
    use wycheproof_ng_symmetric::mac::{TestName, TestSet};

    let mut tally = Tally::default();
    let mut short_keys = 0;
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let Ok(key) = VerifyingKey::hs256("k", &test.key) else {
                assert!(group.key_size < 256);
                short_keys += 1;
                continue;
            };
            let valid = group.tag_size == 256 && !test.result.must_fail();
            let accepted = key.verify(&test.msg, &test.tag).is_ok();
            tally.count(
                valid,
                accepted,
                &format!("{}: {}", test.tc_id, test.comment),
            );
        }
    }
    let expected = Tally {
        valid: 30,
        invalid: 138,
    };
    assert_eq!(tally, expected);
    assert_eq!(short_keys, 6);
}
