//! The examples of the RFCs. Their payloads are not those of access tokens, so these reach the
//! codec and the keys, not the verifier's rules about claims.

use countersign_token::{VerifyingKey, base64url, jws};

/// Header, signing input and signature agree with `key`; and the payload is `payload`.
fn assert_verifies(token: &str, algorithm: &str, payload: &str, key: &VerifyingKey) {
    let compact = jws::parse(token).unwrap();
    assert_eq!(compact.header.algorithm, algorithm);
    assert_eq!(compact.payload_bytes().unwrap(), payload.as_bytes());
    assert!(
        key.verify(compact.signing_input.as_bytes(), compact.signature.as_ref())
            .is_ok()
    );

    let another_input = compact.signing_input.replacen('.', ".A", 1);
    assert!(
        key.verify(another_input.as_bytes(), compact.signature.as_ref())
            .is_err()
    );
}

const EXAMPLE_CLAIMS: &str =
    "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

#[test]
fn rfc_7515_a_1_hs256() {
    let secret = base64url::decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    )
    .unwrap();
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
         eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
         cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
         dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let key = VerifyingKey::hs256("k", &secret).unwrap();
    assert_verifies(token, "HS256", EXAMPLE_CLAIMS, &key);
}

#[test]
fn rfc_7515_a_3_es256() {
    let x = base64url::decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU").unwrap();
    let y = base64url::decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0").unwrap();
    let token = "eyJhbGciOiJFUzI1NiJ9.\
         eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
         cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
         DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSA\
         pmWQxfKTUJqPP3-Kg6NU1Q";
    let key = VerifyingKey::es256("k", &[x, y].concat()).unwrap();
    assert_verifies(token, "ES256", EXAMPLE_CLAIMS, &key);
}

#[test]
fn rfc_8037_a_4_ed25519() {
    let public = base64url::decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
         hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt\
         9g7sVvpAr_MuM0KAg";
    let key = VerifyingKey::ed25519("k", &public).unwrap();
    assert_verifies(token, "EdDSA", "Example of Ed25519 signing", &key);
}

#[test]
fn rfc_7519_6_1_the_unsecured_token_has_no_key_to_verify_it() {
    let token = "eyJhbGciOiJub25lIn0.\
         eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
         cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
    let compact = jws::parse(token).unwrap();
    assert_eq!(
        countersign_token::Algorithm::from_name(&compact.header.algorithm),
        None
    );
    assert!(compact.signature.as_ref().is_empty());
}

#[test]
fn rfc_7797_4_2_an_unencoded_payload_is_malformed() {
    let token = "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19.\
         $.02.A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY";
    assert!(jws::parse(token).is_err());
    let detached = token.replace(".$.02.", "..");
    assert_eq!(
        jws::parse(&detached).unwrap_err(),
        jws::Malformed::Extension
    );
}
