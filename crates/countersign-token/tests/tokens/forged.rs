//! Forged, foreign and broken tokens, and how each is refused.

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _, EcPrivateKeyBin};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey};
use countersign_token::{
    AccessClaims, Algorithm, Invalid, JsonWebKey, Malformed, VerifyError, VerifyingKey, base64url,
    jws,
};
use serde_json::{Value, json};

use crate::actors::{
    API, ISSUER, Issuer, NOW, api, assert_invalid, assert_malformed, claims, der_signature,
};

fn payload() -> Vec<u8> {
    serde_json::to_vec(&claims()).unwrap()
}

/// `header.payload.signature` of raw parts.
fn compact(header: &str, payload: &[u8], signature: &[u8]) -> String {
    [header.as_bytes(), payload, signature]
        .map(base64url::encode)
        .join(".")
}

#[test]
fn a_token_without_signature_is_refused() {
    for issuer in Issuer::of_every_algorithm() {
        let token = compact(&issuer.usual_header(), &payload(), b"");
        assert!(token.ends_with('.'));
        assert_invalid(&issuer.verifier(), &token, Invalid::Signature);
    }
}

#[test]
fn the_algorithm_none_does_not_exist_in_any_spelling() {
    for issuer in Issuer::of_every_algorithm() {
        let verifier = issuer.verifier();
        for none in [
            "none",
            "None",
            "NONE",
            "nOnE",
            "none ",
            "non\u{435}",
            "",
            "null",
        ] {
            let header = issuer.header_with("alg", json!(none));
            for signature in [&b""[..], b"x", &issuer.signature(b"")] {
                assert_invalid(
                    &verifier,
                    &compact(&header, &payload(), signature),
                    Invalid::Algorithm,
                );
            }
        }
        for none in [json!(["none"]), json!(0), json!(false), json!({})] {
            let header = issuer.header_with("alg", none);
            assert_malformed(&verifier, &compact(&header, &payload(), b""));
        }
        // No kid, as in the tokens that such attacks bring along.
        let token = compact(r#"{"alg":"none","typ":"at+jwt"}"#, &payload(), b"");
        assert_invalid(&verifier, &token, Invalid::NoKid);
    }
}

#[test]
fn a_public_key_is_never_taken_for_an_hmac_secret() {
    for issuer in [Issuer::es256("key-1"), Issuer::ed25519("key-1")] {
        let verifier = issuer.verifier();
        for secret in public_key_in_every_form(&issuer) {
            let forger = Issuer::hs256_with("key-1", &secret);
            assert_invalid(&verifier, &forger.token(&claims()), Invalid::Algorithm);

            // The right alg in the header, the tag of an HMAC in place of the signature.
            let token = forger.sign(&issuer.usual_header(), &payload());
            assert_invalid(&verifier, &token, Invalid::Signature);
        }
    }
}

fn public_key_in_every_form(issuer: &Issuer) -> Vec<Vec<u8>> {
    let raw = issuer.public_bytes().to_vec();
    let algorithm: &'static dyn aws_lc_rs::signature::VerificationAlgorithm =
        match issuer.algorithm() {
            Algorithm::Es256 => &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED,
            _ => &aws_lc_rs::signature::ED25519,
        };
    let der = ParsedPublicKey::new(algorithm, &raw)
        .unwrap()
        .as_der()
        .unwrap()
        .as_ref()
        .to_vec();
    let jwk = serde_json::to_vec(&JsonWebKey::public(&issuer.key).unwrap()).unwrap();
    let base64 = base64url::encode(&der).replace('-', "+").replace('_', "/");
    let padded = format!("{base64}{}", "=".repeat((4 - base64.len() % 4) % 4));
    let lines: Vec<&str> = padded
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let pem = |separator: &str, end: &str| {
        let body = lines.join(separator);
        format!(
            "-----BEGIN PUBLIC KEY-----{separator}{body}{separator}-----END PUBLIC KEY-----{end}"
        )
        .into_bytes()
    };
    let mut forms = vec![
        pem("\n", "\n"),
        pem("\n", ""),
        pem("\r\n", "\r\n"),
        pem("", ""),
        padded.into_bytes(),
        base64url::encode(&raw).into_bytes(),
        der,
        jwk,
        raw,
    ];
    if issuer.algorithm() == Algorithm::Es256 {
        forms.push(issuer.public_bytes()[1..].to_vec());
        forms.push(issuer.public_bytes()[1..33].to_vec());
    }
    forms
}

#[test]
fn a_key_is_used_with_its_own_algorithm_only() {
    for issuer in Issuer::of_every_algorithm() {
        for other in [
            "ES256", "EdDSA", "HS256", "RS256", "PS256", "ES384", "ES256K", "es256",
        ] {
            if Algorithm::from_name(other) == Some(issuer.algorithm()) {
                continue;
            }
            let token = issuer.sign(&issuer.header_with("alg", json!(other)), &payload());
            assert_invalid(&issuer.verifier(), &token, Invalid::Algorithm);
        }
    }
}

#[test]
fn psychic_signatures_of_zeros_and_orders_are_refused() {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut one = [0; 32];
    one[31] = 1;
    let numbers = [[0; 32], one, ORDER, [0xff; 32]];
    for issuer in [Issuer::es256("key-1"), Issuer::ed25519("key-1")] {
        let verifier = issuer.verifier();
        for r in numbers {
            for s in numbers {
                let token = compact(&issuer.usual_header(), &payload(), &[r, s].concat());
                assert_invalid(&verifier, &token, Invalid::Signature);
            }
        }
    }
}

#[test]
fn an_es256_signature_in_der_is_refused() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let secret: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
    let verifier = api()
        .key(VerifyingKey::es256("key-1", point).unwrap())
        .build();
    let header = jws::header_json("ES256", "key-1", "at+jwt");

    let der = |input: &[u8]| Ok::<_, ()>(der_signature(point, secret.as_ref(), input));
    let token = jws::sign_with(&header, &payload(), der).unwrap();
    assert_invalid(&verifier, &token, Invalid::Signature);
}

#[test]
fn a_signature_that_is_too_long_or_too_short_is_refused() {
    for issuer in Issuer::of_every_algorithm() {
        let verifier = issuer.verifier();
        let resign = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
            let sign = |input: &[u8]| Ok::<_, ()>(change(issuer.signature(input)));
            jws::sign_with(&issuer.usual_header(), &payload(), sign).unwrap()
        };
        assert!(
            verifier
                .verify_at(&resign(&|signature| signature), NOW)
                .is_ok()
        );
        for token in [
            resign(&|signature| signature[..signature.len() - 1].to_vec()),
            resign(&|signature| signature[..16].to_vec()),
            resign(&|signature| signature[..1].to_vec()),
            resign(&|signature| [signature.as_slice(), &[0]].concat()),
            resign(&|signature| [&[0], signature.as_slice()].concat()),
            resign(&|signature| signature.repeat(4)),
        ] {
            assert_invalid(&verifier, &token, Invalid::Signature);
        }
    }
}

#[test]
fn a_signature_over_another_payload_is_refused() {
    for issuer in Issuer::of_every_algorithm() {
        let token = issuer.token(&claims());
        let promoted = AccessClaims {
            user_id: 1,
            ..claims()
        };
        let promoted = issuer.token(&promoted);
        let (_, signature) = token.rsplit_once('.').unwrap();
        let (signed, _) = promoted.rsplit_once('.').unwrap();
        assert_invalid(
            &issuer.verifier(),
            &format!("{signed}.{signature}"),
            Invalid::Signature,
        );
    }
}

#[test]
fn nothing_in_a_header_selects_where_a_key_comes_from() {
    // The forger's key comes along in every way a header knows; the listener hears of it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let (issuer, forger) = (Issuer::es256("key-1"), Issuer::es256("key-1"));
    let jwk = serde_json::to_value(JsonWebKey::public(&forger.key).unwrap()).unwrap();
    let verifier = issuer.verifier();
    for (name, value) in [
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("jwk", jwk),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AAAA")),
        ("iss", json!(url)),
    ] {
        let token = forger.sign(&forger.header_with(name, value), &payload());
        assert_invalid(&verifier, &token, Invalid::Signature);
    }
    let connected = listener.accept().map(|_| ());
    assert_eq!(
        connected.unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[test]
fn an_odd_kid_names_no_key() {
    let issuer = Issuer::hs256("key-1");
    for kid in [
        "",
        "key-",
        "key-11",
        "KEY-1",
        "key-1 ",
        "key-1\0",
        "../../dev/null",
        "/dev/null",
        "x' UNION SELECT '1';--",
        "|sleep 10",
        "http://127.0.0.1:9/key",
    ] {
        let header = issuer.header_with("kid", json!(kid));
        for signer in [
            &issuer,
            &Issuer::hs256_with("x", &[0; 32]),
            &Issuer::hs256_with("x", &[b'1'; 32]),
        ] {
            let token = signer.sign(&header, &payload());
            assert_invalid(&issuer.verifier(), &token, Invalid::UnknownKid);
        }
    }
}

#[test]
fn a_token_that_names_no_key_is_refused_even_when_there_is_only_one() {
    let issuer = Issuer::es256("key-1");
    let token = issuer.sign(&issuer.header_with("kid", Value::Null), &payload());
    assert_invalid(&issuer.verifier(), &token, Invalid::NoKid);
    for kid in [json!(1), json!(["key-1"]), json!({"key-1": 1}), json!(true)] {
        let token = issuer.sign(&issuer.header_with("kid", kid), &payload());
        assert_malformed(&issuer.verifier(), &token);
    }
}

#[test]
fn a_header_that_demands_an_extension_is_refused() {
    for issuer in Issuer::of_every_algorithm() {
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("crit", json!(["b64"])),
            ("crit", json!([])),
            ("crit", json!("exp")),
            ("b64", json!(false)),
            ("b64", json!(true)),
        ] {
            let token = issuer.sign(&issuer.header_with(name, value), &payload());
            let refused = issuer.verifier().verify_at(&token, NOW);
            assert_eq!(refused, Err(VerifyError::Malformed(Malformed::Extension)));
        }
        let null = issuer.usual_header().replace('}', r#","crit":null}"#);
        assert_malformed(&issuer.verifier(), &issuer.sign(&null, &payload()));
    }
}

#[test]
fn another_type_of_token_is_no_access_token() {
    let issuer = Issuer::hs256("key-1");
    for typ in [
        "JWT",
        "jwt",
        "",
        "rt+jwt",
        "refresh+jwt",
        "dpop+jwt",
        "at",
        "at+jwt\0",
        "application/jwt",
    ] {
        let token = issuer.sign(&issuer.header_with("typ", json!(typ)), &payload());
        assert_invalid(&issuer.verifier(), &token, Invalid::Type);
    }
    let untyped = issuer.sign(&issuer.header_with("typ", Value::Null), &payload());
    assert_invalid(&issuer.verifier(), &untyped, Invalid::Type);
    let array = issuer.sign(&issuer.header_with("typ", json!(["at+jwt"])), &payload());
    assert_malformed(&issuer.verifier(), &array);
}

#[test]
fn duplicate_names_in_the_header_are_refused() {
    let issuer = Issuer::es256("key-1");
    for extra in [
        r#""alg":"ES256""#,
        r#""\u0061lg":"ES256""#,
        r#""kid":"key-1""#,
        r#""k\u0069d":"key-1""#,
        r#""typ":"at+jwt""#,
        r#""x":1,"x":1"#,
        r#""x":{"y":1,"\u0079":1}"#,
    ] {
        for header in [
            issuer.usual_header().replace('}', &format!(",{extra}}}")),
            issuer.usual_header().replace('{', &format!("{{{extra},")),
        ] {
            assert_malformed(&issuer.verifier(), &issuer.sign(&header, &payload()));
        }
    }
}

#[test]
fn duplicate_names_in_the_claims_are_refused() {
    let issuer = Issuer::es256("key-1");
    let honest = String::from_utf8(payload()).unwrap();
    for extra in [
        r#""sub":"7""#,
        r#""\u0073ub":"1""#,
        r#""user_id":1"#,
        r#""exp":1900000000"#,
        r#""username":"bob""#,
        r#""\u0075sername":"bob""#,
        r#""roles":{"a":1,"a":2}"#,
        r#""roles":[[{"a":1,"\u0061":2}]]"#,
    ] {
        let (_, members) = honest.split_at(1);
        let front = format!("{{{extra},{members}");
        let back = format!("{},{extra}}}", honest.strip_suffix('}').unwrap());
        for payload in [front, back] {
            assert_invalid(
                &issuer.verifier(),
                &issuer.sign_payload(&payload),
                Invalid::Claims,
            );
        }
    }
}

#[test]
fn times_of_the_wrong_type_or_size_are_refused() {
    let issuer = Issuer::es256("key-1");
    let honest = String::from_utf8(payload()).unwrap();
    let exp = claims().exp;
    for name in ["iat", "exp", "nbf"] {
        for time in [
            "null",
            "\"1800000000\"",
            "true",
            "[1800000000]",
            "{}",
            "-1",
            "-0",
            "1800000000.0",
            "1800000000.5",
            "1.8e9",
            "1e400",
            "NaN",
            "Infinity",
            "1208925819614629174706176",
            "18446744073709551615",
            "18446744073709551616",
            "9223372036854775808",
            "0x6b49d200",
            "01800000000",
        ] {
            let payload = match name {
                "iat" => honest.replace(&format!(r#""iat":{NOW}"#), &format!(r#""iat":{time}"#)),
                "exp" => honest.replace(&format!(r#""exp":{exp}"#), &format!(r#""exp":{time}"#)),
                _ => honest.replace('{', &format!(r#"{{"nbf":{time},"#)),
            };
            assert_ne!(payload, honest);
            assert_invalid(
                &issuer.verifier(),
                &issuer.sign_payload(&payload),
                Invalid::Claims,
            );
        }
    }
}

#[test]
fn a_missing_claim_or_one_of_the_wrong_type_is_refused() {
    let issuer = Issuer::es256("key-1");
    for name in ["iss", "sub", "user_id", "iat", "exp", "jti", "sid", "csrf"] {
        for value in [json!(null), json!([]), json!({}), json!(true), json!(0.5)] {
            let token = issuer.token_with(name, value);
            assert_invalid(&issuer.verifier(), &token, Invalid::Claims);
        }
    }
    for (name, value) in [
        ("user_id", json!("7")),
        ("sub", json!(7)),
        ("iss", json!([ISSUER])),
    ] {
        assert_invalid(
            &issuer.verifier(),
            &issuer.token_with(name, value),
            Invalid::Claims,
        );
    }
}

#[test]
fn a_payload_that_is_no_object_is_refused() {
    let issuer = Issuer::es256("key-1");
    let honest = String::from_utf8(payload()).unwrap();
    let in_array = format!("[{honest}]");
    let twice = format!("{honest}{honest}");
    let trailing = format!("{honest},");
    for payload in [
        "",
        "null",
        "[]",
        "\"\"",
        "0",
        "true",
        "{}",
        " ",
        &in_array,
        &twice,
        &trailing,
        "\u{feff}{}",
    ] {
        assert_invalid(
            &issuer.verifier(),
            &issuer.sign_payload(payload),
            Invalid::Claims,
        );
    }
    let not_utf8 = issuer.sign(&issuer.usual_header(), b"{\"iss\":\"\xff\"}");
    assert_invalid(&issuer.verifier(), &not_utf8, Invalid::Claims);
}

#[test]
fn a_token_of_another_issuer_is_refused() {
    let issuer = Issuer::es256("key-1");
    for other in [
        "",
        "https://auth.test/",
        "https://AUTH.test",
        "https://auth.tes",
        "http://auth.test",
    ] {
        let token = issuer.token_with("iss", json!(other));
        assert_invalid(&issuer.verifier(), &token, Invalid::Issuer);
    }
}

#[test]
fn a_token_for_somebody_else_is_refused() {
    let issuer = Issuer::es256("key-1");
    for other in [
        json!(null),
        json!(""),
        json!("https://api.tes"),
        json!("https://api.test/"),
        json!("https://api.test,https://other.test"),
        json!("https://API.test"),
        json!(["https://other.test", "https://api.test.evil.test"]),
        json!(["", "*"]),
    ] {
        let token = issuer.token_with("aud", other);
        assert_invalid(&issuer.verifier(), &token, Invalid::Audience);
    }
    for wrong in [
        json!([]),
        json!([API, 1]),
        json!([[API]]),
        json!({API: true}),
        json!(1),
    ] {
        let token = issuer.token_with("aud", wrong);
        assert_invalid(&issuer.verifier(), &token, Invalid::Claims);
    }
}

#[test]
fn the_json_serialisation_is_malformed() {
    let issuer = Issuer::es256("key-1");
    let token = issuer.token(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    for text in [
        json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}),
        json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]}),
        json!([token]),
        json!(token),
    ] {
        assert_malformed(&issuer.verifier(), &text.to_string());
    }
}

#[test]
fn an_encrypted_token_or_any_number_of_parts_but_three_is_malformed() {
    let issuer = Issuer::es256("key-1");
    let token = issuer.token(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    // RFC 7516, appendix A.2, shortened.
    let encrypted = "eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.UGhJT.AxY8DCtDaGlsbGljb3RoZQ.\
                     KDlTtXchhZTGufMYmOYGS4HffxPSUrfmqCHXaI9wOGY.9hH0vgRfYgPnAHOd8stkvw";
    for text in [
        "",
        ".",
        "..",
        "...",
        signed,
        encrypted,
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{token}.AAAA"),
        &format!("{signed}..{signature}"),
        &format!("{token}.{token}"),
    ] {
        assert_malformed(&issuer.verifier(), text);
    }
}

#[test]
fn other_secrets_of_ours_are_no_access_tokens() {
    let issuer = Issuer::es256("key-1");
    for text in [
        "jzD5y661LHEw9LrcNlPC2rPCNlzRC3BV",
        "0198b3f2-6a3e-7d5c-9d0e-000000000001",
        "Bearer",
        "null",
        "undefined",
        "\u{0}",
        "é.é.é",
    ] {
        assert_malformed(&issuer.verifier(), text);
    }
}

#[test]
fn a_second_spelling_of_a_valid_token_is_malformed() {
    let issuer = Issuer::es256("key-1");
    let verifier = issuer.verifier();
    let token = issuer.token(&claims());
    assert!(verifier.verify_at(&token, NOW).is_ok());
    for spelling in [
        format!("{token}=="),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{token} "),
        token.replacen('.', "=.", 1),
        token.replacen('.', "\n.", 1),
        token.replacen("ey", "ey?", 1),
    ] {
        assert_malformed(&verifier, &spelling);
    }
    // 64 bytes leave four stray bits in the last of 86 characters.
    let (_, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    assert_eq!(place % 16, 0);
    for stray in 1..16 {
        let sloppy = &alphabet[place + stray..=place + stray];
        assert_malformed(&verifier, &format!("{}{sloppy}", &token[..token.len() - 1]));
    }
}

#[test]
fn a_sloppily_spelled_payload_is_malformed_though_rightly_signed() {
    for issuer in Issuer::of_every_algorithm() {
        let usual = issuer.token(&claims());
        let (signed, _) = usual.rsplit_once('.').unwrap();
        for sloppy in [
            format!("{signed}="),
            format!("{signed}\n"),
            signed.replacen(".ey", ".ey?", 1),
        ] {
            let signature = base64url::encode(&issuer.signature(sloppy.as_bytes()));
            assert_malformed(&issuer.verifier(), &format!("{sloppy}.{signature}"));
        }
    }
}

#[test]
fn a_token_of_more_than_8_kib_is_refused_even_when_it_is_genuine() {
    let issuer = Issuer::ed25519("key-1");
    let padded = |length: usize| issuer.token_with("note", json!("x".repeat(length)));
    let mut fitting = 5500;
    while padded(fitting + 1).len() <= jws::MAX_TOKEN_BYTES {
        fitting += 1;
    }
    assert!(padded(fitting).len() >= jws::MAX_TOKEN_BYTES - 1);
    assert!(issuer.verifier().verify_at(&padded(fitting), NOW).is_ok());

    for length in [fitting + 1, 1024 * 1024] {
        let refused = issuer.verifier().verify_at(&padded(length), NOW);
        assert_eq!(refused, Err(VerifyError::Malformed(Malformed::TooLong)));
    }
    let dots = ".".repeat(1_000_000);
    let refused = issuer.verifier().verify_at(&dots, NOW);
    assert_eq!(refused, Err(VerifyError::Malformed(Malformed::TooLong)));
}

#[test]
fn deep_json_is_refused() {
    let issuer = Issuer::es256("key-1");
    let honest = String::from_utf8(payload()).unwrap();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [129, 500] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let claims = honest.replacen('{', &format!("{{\"deep\":{deep},"), 1);
            assert_invalid(
                &issuer.verifier(),
                &issuer.sign_payload(&claims),
                Invalid::Claims,
            );

            let header = issuer
                .usual_header()
                .replacen('{', &format!("{{\"deep\":{deep},"), 1);
            assert_malformed(&issuer.verifier(), &issuer.sign(&header, b"{}"));
        }
        let unclosed = issuer.sign_payload(&open.repeat(1000));
        assert_invalid(&issuer.verifier(), &unclosed, Invalid::Claims);
    }
}

#[test]
fn the_signature_is_checked_before_the_claims_are_looked_at() {
    let (issuer, forger) = (Issuer::es256("key-1"), Issuer::es256("key-1"));
    for payload in ["", "null", "{\"exp\":\"no\"}", &"[".repeat(1000)] {
        assert_invalid(
            &issuer.verifier(),
            &forger.sign_payload(payload),
            Invalid::Signature,
        );
    }
    let expired = AccessClaims {
        exp: countersign_token::UnixSeconds::new(1),
        ..claims()
    };
    assert_invalid(
        &issuer.verifier(),
        &forger.token(&expired),
        Invalid::Signature,
    );
}
