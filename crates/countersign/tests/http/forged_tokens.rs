//! What somebody may show in place of an access token, and of a refresh token.

use crate::harness::{Client, PASSWORD, Service, Setup, decoded, service_with_ana};
use aws_lc_rs::hmac;
use countersign::core::keys::{SharedSecret, SigningAlgorithm};
use countersign_token::{base64url, jws};
use http::StatusCode;
use serde_json::{Value, json};

const INVALID: &str = r#"Bearer error="invalid_token""#;

async fn refused_as_invalid(client: &Client, token: &str) {
    let answer = client.get("/users/user").bearer(token).send().await;
    let answer = answer.refused(401, "token_invalid");
    assert_eq!(answer.header("www-authenticate"), INVALID);
}

async fn refused_as_malformed(client: &Client, token: &str) {
    let answer = client.get("/users/user").bearer(token).send().await;
    let answer = answer.refused(401, "token_malformed");
    assert_eq!(answer.header("www-authenticate"), INVALID);
}

fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let sign = |input: &[u8]| Ok::<_, ()>(hmac::sign(&key, input));
    jws::sign_with(&header.to_string(), claims.to_string().as_bytes(), sign).unwrap()
}

/// The header and the claims of an honest access token.
fn honest(client: &Client) -> (Value, Value) {
    let header = decoded(client.token().split('.').next().unwrap());
    (header, client.claims())
}

fn with(object: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut object = object.clone();
    object[name] = value.into();
    object
}

#[tokio::test]
async fn a_refresh_token_is_no_access_token() {
    let (service, _, ana) = service_with_ana().await;
    refused_as_invalid(&ana, ana.refresh_token().unwrap()).await;
    let call = ana.patch("/users/user").with_csrf();
    let call = call.bearer(ana.refresh_token().unwrap());
    let answer = call.json(&json!({"first_name": "Eve"})).send().await;
    answer.refused(401, "token_invalid");
    // Not even where access tokens are signed with HS256 too.
    let setup = with_shared_secret().0;
    let service_with_secret = setup.start().await;
    service_with_secret.make_user("ana").await;
    let ana = service_with_secret.signed_in("ana").await;
    refused_as_invalid(&ana, ana.refresh_token().unwrap()).await;
    drop(service);
}

#[tokio::test]
async fn an_access_token_is_no_refresh_token() {
    let (service, _, mut ana) = service_with_ana().await;
    let cookie = format!("refreshtoken={}", ana.token());
    for path in ["/users/refresh_token", "/users/logout"] {
        let call = ana.post(path).with_csrf().header("cookie", &cookie);
        let answer = call.send().await;
        if path.ends_with("logout") {
            answer.expect(StatusCode::NO_CONTENT);
        } else {
            answer.refused(401, "refresh_invalid");
        }
    }
    let session = service.session_of(&ana).await;
    assert_eq!((session.generation.0, session.end), (0, None));
    ana.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_csrf_token_is_no_access_token_nor_is_anything_else_of_ours() {
    let (_service, _, ana) = service_with_ana().await;
    let csrf = ana.csrf_token.clone().unwrap();
    let claims = ana.claims();
    for text in [
        csrf.as_str(),
        claims["sid"].as_str().unwrap(),
        claims["jti"].as_str().unwrap(),
        claims["csrf"].as_str().unwrap(),
        "ana",
        PASSWORD,
        "null",
        "undefined",
        "[object Object]",
    ] {
        refused_as_malformed(&ana, text).await;
    }
}

#[tokio::test]
async fn the_algorithm_none_does_not_exist() {
    let (_service, _, ana) = service_with_ana().await;
    let (header, claims) = honest(&ana);
    let payload = base64url::encode(claims.to_string().as_bytes());
    let signature = ana.token().rsplit('.').next().unwrap();
    for none in ["none", "None", "NONE", "nOnE", "none ", ""] {
        let forged = with(&header, "alg", none).to_string();
        let forged = base64url::encode(forged.as_bytes());
        for signature in ["", signature] {
            refused_as_invalid(&ana, &format!("{forged}.{payload}.{signature}")).await;
        }
        refused_as_malformed(&ana, &format!("{forged}.{payload}")).await;
    }
    // Nor is a signature optional under the right algorithm.
    let (signed, _) = ana.token().rsplit_once('.').unwrap();
    refused_as_invalid(&ana, &format!("{signed}.")).await;
    refused_as_malformed(&ana, signed).await;
}

#[tokio::test]
async fn our_public_key_is_no_hmac_secret() {
    let (service, _, ana) = service_with_ana().await;
    let (header, claims) = honest(&ana);
    let key_set = &service.auth.public_keys().await.json;
    let key = serde_json::from_str::<Value>(key_set).unwrap()["keys"][0].clone();
    let coordinate = |name: &str| base64url::decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let info = [
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01".as_slice(),
        b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00",
        &point,
    ];
    let info = info.concat();
    let base64 = base64url::encode(&info).replace('-', "+").replace('_', "/");
    let wrapped: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    let padding = "=".repeat((4 - base64.len() % 4) % 4);
    let frame = |body: &str| {
        format!("-----BEGIN PUBLIC KEY-----\n{body}{padding}\n-----END PUBLIC KEY-----")
    };
    let texts = [
        key_set.clone(),
        key.to_string(),
        key["x"].as_str().unwrap().to_owned(),
        key["kid"].as_str().unwrap().to_owned(),
        base64.clone(),
        frame(&wrapped.join("\n")),
        frame(&wrapped.join("\n")) + "\n",
        frame(&base64),
        String::new(),
        "\0".to_owned(),
        "secret".to_owned(),
    ];
    let secrets = texts.into_iter().map(String::into_bytes);
    for secret in secrets.chain([info, coordinate("x"), point.clone(), point[1..].to_vec()]) {
        for algorithm in ["HS256", "ES256"] {
            let header = with(&header, "alg", algorithm);
            refused_as_invalid(&ana, &hs256(&header, &claims, &secret)).await;
        }
    }
}

#[tokio::test]
async fn nothing_in_a_header_brings_its_own_key() {
    let (service, _, ana) = service_with_ana().await;
    let (header, claims) = honest(&ana);
    let keys: Value = serde_json::from_str(&service.auth.public_keys().await.json).unwrap();
    for (name, value) in [
        (
            "jwk",
            json!({"kty": "oct", "k": base64url::encode(b"secret")}),
        ),
        ("jwk", keys["keys"][0].clone()),
        ("jku", json!("http://127.0.0.1:9/keys.json")),
        ("x5u", json!("http://127.0.0.1:9/key.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = with(&header, name, value);
        for algorithm in ["HS256", "ES256"] {
            let header = with(&header, "alg", algorithm);
            refused_as_invalid(&ana, &hs256(&header, &claims, b"secret")).await;
        }
    }
    let crit = with(&header, "crit", json!(["exp"]));
    refused_as_malformed(&ana, &hs256(&crit, &claims, b"secret")).await;
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "x' UNION SELECT '1';--",
        "|sleep 10",
        "",
        "0",
        "http://127.0.0.1:9/",
    ] {
        for secret in [&b""[..], b"1", b"\0"] {
            let header = with(&with(&header, "kid", kid), "alg", "HS256");
            refused_as_invalid(&ana, &hs256(&header, &claims, secret)).await;
        }
    }
}

#[tokio::test]
async fn every_cause_of_an_invalid_token_looks_the_same() {
    let (_service, _, ana) = service_with_ana().await;
    let (header, claims) = honest(&ana);
    let (signed, _) = ana.token().rsplit_once('.').unwrap();
    let mut answers = Vec::new();
    for token in [
        ana.refresh_token().unwrap().to_owned(),
        hs256(&header, &claims, b"secret"),
        hs256(&with(&header, "kid", "unknown"), &claims, b"secret"),
        hs256(&with(&header, "alg", "none"), &claims, b"secret"),
        hs256(&with(&header, "typ", "JWT"), &claims, b"secret"),
        hs256(&header, &json!([]), b"secret"),
        format!("{signed}.AAAA"),
    ] {
        let answer = ana.get("/users/user").bearer(&token).send().await;
        let mut answer = answer.refused(401, "token_invalid");
        answer.headers.remove("x-request-id");
        answers.push((answer.bytes, format!("{:?}", answer.headers)));
    }
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn a_changed_token_is_refused_whichever_character_changed() {
    let (_service, _, ana) = service_with_ana().await;
    let token = ana.token().to_owned();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        let number = u16::try_from(at).unwrap();
        let thief = ana.elsewhere(number);
        let answer = thief.get("/users/user").bearer(&changed).send().await;
        let code = answer.code().to_owned();
        assert!(
            ["token_invalid", "token_malformed"].contains(&&*code),
            "{at}: {code}"
        );
        answer.refused(401, &code);
    }
    // It was, after all, a good one.
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_token_has_one_spelling() {
    let (_service, _, ana) = service_with_ana().await;
    let token = ana.token();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for spelling in [
        format!("{token}="),
        format!("{token}=="),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{signature}"),
        format!("{token},"),
        format!("\"{token}\""),
        format!("{token}, Bearer {token}"),
        format!("Bearer {token}"),
        format!("{token} {token}"),
        format!("{token}\t"),
        token.replace('.', "%2E"),
        token.replace('.', ".."),
    ] {
        refused_as_malformed(&ana, &spelling).await;
    }
    // The signature is looked at before the claims are.
    refused_as_invalid(&ana, &format!("{signed}=.{signature}")).await;
}

#[tokio::test]
async fn a_token_is_shown_in_one_header_in_one_way() {
    let (_service, _, ana) = service_with_ana().await;
    let token = ana.token();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let call = ana.get("/users/user");
        let answer = call.header("authorization", &format!("{scheme} {token}"));
        answer.send().await.expect(StatusCode::OK);
    }
    for odd in ["Bearer", token, "Bearer\t", "", "é"] {
        let call = ana.get("/users/user");
        let answer = call
            .add_header("authorization", odd.as_bytes())
            .send()
            .await;
        answer.refused(400, "malformed_request");
    }
    for other in [
        "Basic YW5hOng=",
        "Token x",
        "JWT x",
        "DPoP x",
        "Bearerx y",
        " Bearer x",
    ] {
        let call = ana.get("/users/user").header("authorization", other);
        call.send().await.refused(401, "credentials_missing");
    }
    refused_as_malformed(&ana, "").await;
    let value = format!("Bearer {token}");
    for second in [value.as_bytes(), b"Bearer x", b"Basic x", b""] {
        let call = ana.get("/users/user").with_token();
        let answer = call.add_header("authorization", second).send().await;
        answer.refused(400, "malformed_request");
    }
}

#[tokio::test]
async fn older_clients_words_are_accepted_where_the_operator_says_so() {
    let mut setup = Setup::development();
    setup.http.header_schemes = ["Bearer", "token", "JWT"].map(str::to_owned).to_vec();
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    for scheme in ["Bearer", "Token", "token", "JWT", "jwt"] {
        let value = format!("{scheme} {}", ana.token());
        let call = ana.get("/users/user").header("authorization", &value);
        call.send().await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn a_token_anywhere_else_is_not_seen() {
    let (_service, _, ana) = service_with_ana().await;
    let token = ana.token();
    let form = format!("access_token={token}");
    let missing = [
        ana.get(&format!("/users/user?access_token={token}")),
        ana.get(&format!("/users/user?token={token}")),
        ana.get("/users/user").header("x-access-token", token),
        ana.get("/users/user").header("cookie", &form),
        ana.get("/users/user")
            .header("cookie", &format!("refreshtoken={token}")),
        ana.get("/users/user")
            .header("proxy-authorization", &format!("Bearer {token}")),
        ana.get("/users/user")
            .body("application/x-www-form-urlencoded", form.clone()),
        ana.patch("/users/user")
            .with_csrf()
            .json(&json!({"access_token": token})),
    ];
    for call in missing {
        call.send().await.refused(401, "credentials_missing");
    }
}

#[tokio::test]
async fn a_token_of_any_size_is_refused_at_no_cost() {
    let (_service, _, ana) = service_with_ana().await;
    let megabyte = 1 << 20;
    let (header, claims) = honest(&ana);
    let deep = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
    let deep = format!("{}.e30.AA", base64url::encode(deep.as_bytes()));
    let padded = with(&claims, "padding", "x".repeat(8 * 1024));
    let started = std::time::Instant::now();
    for token in [
        ".".repeat(megabyte),
        "A".repeat(megabyte),
        format!(
            "{}.{}.{}",
            "A".repeat(400_000),
            "A".repeat(400_000),
            "A".repeat(400_000)
        ),
        format!("{}{}", ana.token(), "A".repeat(megabyte)),
        ".".repeat(8 * 1024),
        deep,
        hs256(&header, &padded, b"secret"),
    ] {
        refused_as_malformed(&ana, &token).await;
        let call = ana.post("/users/refresh_token").with_csrf();
        let answer = call.header("cookie", &format!("refreshtoken={token}"));
        answer.send().await.refused(401, "refresh_invalid");
    }
    assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_token_of_another_issuer_or_for_another_audience_is_refused() {
    let (service, _, ana) = service_with_ana().await;
    let mut elsewhere = service.setup_beside();
    elsewhere.auth.tokens.issuer = "http://127.0.0.1:8001".to_owned();
    let elsewhere = elsewhere.start().await;
    // The same users, keys and sessions: only the name is another.
    let mut theirs = elsewhere.signed_in("ana").await;
    theirs.user().await.expect(StatusCode::OK);
    refused_as_invalid(&ana, theirs.token()).await;
    let at_ours = format!("refreshtoken={}", theirs.refresh_token().unwrap());
    let call = ana.post("/users/refresh_token").header("cookie", &at_ours);
    let call = call.header("x-csrftoken", theirs.csrf_token.as_deref().unwrap());
    call.send().await.refused(401, "refresh_invalid");
    theirs.refresh().await.expect(StatusCode::OK);

    let mut for_an_api = service.setup_beside();
    for_an_api.auth.tokens.audience = vec!["https://api.example.org".to_owned()];
    let for_an_api = for_an_api.start().await;
    let named = for_an_api.signed_in("ana").await;
    named.user().await.expect(StatusCode::OK);
    refused_as_invalid(&ana, named.token()).await;
    refused_as_invalid(&named, ana.token()).await;
}

#[tokio::test]
async fn tokens_of_another_installation_are_refused() {
    let (_service, _, ana) = service_with_ana().await;
    let stranger = Setup::development().start().await;
    stranger.make_user("ana").await;
    let theirs = stranger.signed_in("ana").await;
    refused_as_invalid(&ana, theirs.token()).await;
    let cookie = format!("refreshtoken={}", theirs.refresh_token().unwrap());
    let call = ana.post("/users/refresh_token").header("cookie", &cookie);
    let call = call.header("x-csrftoken", theirs.csrf_token.as_deref().unwrap());
    call.send().await.refused(401, "refresh_invalid");
}

#[tokio::test]
async fn expired_tokens_and_those_of_ended_sessions_are_refused_for_what_they_are() {
    let (service, _, mut ana) = service_with_ana().await;
    let early = ana.clone();
    service.later(200);
    ana.refresh().await.expect(StatusCode::OK);
    service.later(100);
    early.user().await.refused(401, "token_expired");
    ana.user().await.expect(StatusCode::OK);
    let held = ana.clone();
    ana.logout().await.expect(StatusCode::NO_CONTENT);
    let answer = held.user().await.refused(401, "session_ended");
    assert_eq!(answer.header("www-authenticate"), INVALID);
    service.later(300);
    held.user().await.refused(401, "token_expired");
}

#[tokio::test]
async fn a_token_of_the_future_is_refused_until_its_time() {
    let (service, _, _) = service_with_ana().await;
    service.later(100);
    let ana = service.signed_in("ana").await;
    service.later(-100);
    refused_as_invalid(&ana, ana.token()).await;
    service.later(100);
    ana.user().await.expect(StatusCode::OK);
}

fn with_shared_secret() -> (Setup, Vec<u8>) {
    let mut setup = Setup::development();
    let secret = setup.secret.to_text();
    let shared = SharedSecret::parse(&secret).unwrap();
    setup.auth.tokens.algorithm = SigningAlgorithm::Hs256(shared);
    (setup, secret.as_bytes().to_vec())
}

/// A service whose secret a resource server has let out.
async fn service_of_a_known_secret() -> (Service, Client, Vec<u8>) {
    let (setup, secret) = with_shared_secret();
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    (service, ana, secret)
}

#[tokio::test]
async fn rightly_signed_claims_must_be_those_of_an_access_token() {
    let (_service, ana, secret) = service_of_a_known_secret().await;
    let (header, claims) = honest(&ana);
    let honest_token = hs256(&header, &claims, &secret);
    let answer = ana.get("/users/user").bearer(&honest_token).send().await;
    answer.expect(StatusCode::OK);

    let iat = claims["iat"].as_u64().unwrap();
    for (name, value) in [
        ("exp", json!(null)),
        ("exp", json!("9999999999")),
        ("exp", json!([9_999_999_999_u64])),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", json!(true)),
        ("iat", json!(iat.to_string())),
        ("iat", json!(iat + 1)),
        ("iat", json!(null)),
        ("nbf", json!(iat + 1)),
        ("nbf", json!(iat.to_string())),
        ("nbf", json!(null)),
        ("sub", json!(1)),
        ("sub", json!(null)),
        ("user_id", json!("1")),
        ("user_id", json!(1.5)),
        ("sid", json!(null)),
        ("sid", json!(["x"])),
        ("jti", json!(7)),
        ("csrf", json!(null)),
        ("iss", json!("http://127.0.0.1:8000/")),
        ("iss", json!(["http://127.0.0.1:8000"])),
        ("aud", json!("https://api.example.org")),
        ("aud", json!({})),
    ] {
        let forged = hs256(&header, &with(&claims, name, value), &secret);
        refused_as_invalid(&ana, &forged).await;
    }
    for name in ["iss", "sub", "user_id", "iat", "exp", "jti", "sid", "csrf"] {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        refused_as_invalid(&ana, &hs256(&header, &claims, &secret)).await;
    }
    for payload in [
        json!([]),
        json!([claims]),
        json!("x"),
        json!(null),
        json!(1),
    ] {
        refused_as_invalid(&ana, &hs256(&header, &payload, &secret)).await;
    }
    for typ in ["JWT", "refresh+jwt", "dpop+jwt", "at+jwt+x", "", "rt+jwt"] {
        let header = with(&header, "typ", typ);
        refused_as_invalid(&ana, &hs256(&header, &claims, &secret)).await;
    }
    for algorithm in ["HS384", "HS512", "hs256", "ES256", "RS256"] {
        let header = with(&header, "alg", algorithm);
        refused_as_invalid(&ana, &hs256(&header, &claims, &secret)).await;
    }
}

#[tokio::test]
async fn a_rightly_signed_token_of_no_session_is_refused() {
    let (_service, ana, secret) = service_of_a_known_secret().await;
    let (header, claims) = honest(&ana);
    let own = ana.session_id();
    for sid in [
        "00000000-0000-0000-0000-000000000000",
        "' OR 1=1--",
        "%",
        "",
        "\u{0}",
        &own.to_uppercase(),
        &own.replace('-', ""),
        &format!("{{{own}}}"),
        &format!("urn:uuid:{own}"),
        &format!(" {own}"),
    ] {
        let forged = hs256(&header, &with(&claims, "sid", sid), &secret);
        let answer = ana.get("/users/user").bearer(&forged).send().await;
        answer.refused(401, "session_ended");
    }
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_session_and_not_the_claims_says_who_it_is() {
    let (service, ana, secret) = service_of_a_known_secret().await;
    service.make_user("bob").await;
    let (header, claims) = honest(&ana);
    let claims = with(&with(&claims, "sub", "2"), "user_id", 2);
    let forged = hs256(&header, &claims, &secret);
    let answer = ana.get("/users/user").bearer(&forged).send().await;
    if answer.status == StatusCode::OK {
        assert_eq!(answer.json["user"]["username"], "ana");
    }
    // Knowing the shared secret makes no refresh tokens: those hang from the root secret's own key.
    let refresh = decoded(ana.refresh_token().unwrap().split('.').nth(1).unwrap());
    let header = json!({"alg": "HS256", "typ": "refresh+jwt"});
    let next = with(&refresh, "gen", 0);
    let forged = hs256(&header, &next, &secret);
    assert_ne!(Some(&*forged), ana.refresh_token());
    let call = ana.post("/users/refresh_token").with_csrf();
    let answer = call.header("cookie", &format!("refreshtoken={forged}"));
    answer.send().await.refused(401, "refresh_invalid");
}
