//! `POST /users/login`

use std::sync::Arc;

use crate::harness::{FOREIGN, LISTED, PASSWORD, Service, Setup, service_with_ana};
use countersign::core::auth::NewAccount;
use countersign::core::password::Password;
use countersign::core::session::EndedBy;
use countersign::core::store::{MemoryStore, SharedStore};
use countersign::core::user::{Email, Username};
use countersign_sql::{SqliteOptions, SqliteStore};
use http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn a_login_answers_with_tokens_the_user_and_its_cookies() {
    let (service, mut visitor, _) = service_with_ana().await;
    let answer = visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
    assert_eq!(answer.json["token_type"], "Bearer");
    assert_eq!(answer.json["expires_in"], 300);
    assert_eq!(answer.json["user"]["username"], "ana");
    assert_eq!(answer.header("cache-control"), "no-store");
    let keys: Vec<_> = answer.json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        [
            "access_token",
            "csrf_token",
            "expires_in",
            "token_type",
            "user"
        ]
    );
    let [refresh, csrf, device] = answer.set_cookies()[..] else {
        panic!("not three cookies")
    };
    let told = "; HttpOnly; SameSite=Lax; Path=/; Max-Age=15552000";
    assert!(device.starts_with("knowndevice=") && device.ends_with(told));
    assert!(refresh.starts_with("refreshtoken=ey") && refresh.contains("; HttpOnly"));
    assert!(
        refresh.ends_with("; SameSite=Lax; Path=/; Max-Age=604800"),
        "{refresh}"
    );
    let token = answer.json["csrf_token"].as_str().unwrap();
    assert_eq!(
        csrf,
        format!("csrftoken={token}; SameSite=Lax; Path=/; Max-Age=604800")
    );
    drop(service);
}

#[tokio::test]
async fn the_access_token_has_the_documented_shape() {
    let (service, _, ana) = service_with_ana().await;
    let parts: Vec<_> = ana.token().split('.').collect();
    let decode = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&countersign_token::base64url::decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("ES256"), &json!("at+jwt"))
    );
    let jwks: serde_json::Value =
        serde_json::from_str(&service.auth.public_keys().await.json).unwrap();
    assert_eq!(header["kid"], jwks["keys"][0]["kid"]);
    assert_eq!(claims["iss"], "http://127.0.0.1:8000");
    assert_eq!(
        (&claims["sub"], &claims["user_id"]),
        (&json!("1"), &json!(1))
    );
    assert_eq!(
        claims["exp"].as_u64(),
        claims["iat"].as_u64().map(|iat| iat + 300)
    );
    let csrf = ana.csrf_token.as_deref().unwrap();
    assert_eq!(claims["csrf"], countersign_token::csrf::claim(csrf));
    let names: Vec<_> = claims.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        names,
        ["csrf", "exp", "iat", "iss", "jti", "sid", "sub", "user_id"]
    );
}

#[tokio::test]
async fn forms_sign_in_too() {
    let (_service, visitor, _) = service_with_ana().await;
    let form = "username=ana&password=correct+horse%20battery+staple&remember=on";
    let answer = visitor
        .post("/users/login")
        .body("application/x-www-form-urlencoded", form);
    answer.send().await.expect(StatusCode::OK);
    let multipart = format!(
        "--X\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nana\r\n\
         --X\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n{PASSWORD}\r\n--X--\r\n"
    );
    let answer = visitor
        .post("/users/login")
        .body("multipart/form-data; boundary=X", multipart);
    answer.send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn without_remember_the_cookies_end_with_the_browser_also_after_a_refresh() {
    let (_service, mut visitor, _) = service_with_ana().await;
    let body = json!({"username": "ana", "password": PASSWORD, "remember": false});
    let answer = visitor
        .post("/users/login")
        .json(&body)
        .send()
        .await
        .expect(StatusCode::OK);
    visitor.keep(&answer);
    let refreshed = visitor.refresh().await.expect(StatusCode::OK);
    for cookie in answer
        .set_cookies()
        .into_iter()
        .chain(refreshed.set_cookies())
    {
        assert!(!cookie.contains("Max-Age"), "{cookie}");
    }
}

#[tokio::test]
async fn nobody_learns_who_has_an_account() {
    let (service, visitor, _) = service_with_ana().await;
    service.make_user("carol").await;
    service.deactivate("carol").await;
    let mut answers = Vec::new();
    for (username, password) in [
        ("ana", "wrong password"),
        ("nobody", "wrong password"),
        ("carol", "wrong password"),
    ] {
        let body = json!({"username": username, "password": password});
        let answer = visitor.post("/users/login").json(&body).send().await;
        let mut answer = answer.refused(401, "invalid_credentials");
        answer.headers.remove("x-request-id");
        assert!(answer.set_cookies().is_empty());
        answers.push((answer.bytes, format!("{:?}", answer.headers)));
    }
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn only_the_right_password_learns_that_the_account_is_off() {
    let (service, mut visitor, mut ana) = service_with_ana().await;
    service.deactivate("ana").await;
    visitor
        .login("ana", PASSWORD)
        .await
        .refused(403, "user_inactive");
    visitor
        .login("ana", "wrong password")
        .await
        .refused(401, "invalid_credentials");
    ana.user().await.refused(401, "session_ended");
    ana.refresh().await.refused(401, "session_ended");
}

#[tokio::test]
async fn the_password_is_taken_exactly_as_typed() {
    let (_service, mut visitor, _) = service_with_ana().await;
    for other in [
        " correct horse battery staple",
        "correct horse battery staple\0",
        "CORRECT HORSE BATTERY STAPLE",
    ] {
        visitor
            .login("ana", other)
            .await
            .refused(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn a_username_is_looked_up_in_its_normal_form() {
    let (_service, mut visitor, _) = service_with_ana().await;
    visitor
        .login("ａｎａ", PASSWORD)
        .await
        .expect(StatusCode::OK);
    visitor
        .login("Ana", PASSWORD)
        .await
        .refused(401, "invalid_credentials");
}

#[tokio::test]
async fn a_new_login_never_continues_the_presented_session() {
    let (service, mut visitor, ana) = service_with_ana().await;
    service.make_user("mallory").await;
    // Mallory plants her own refresh cookie in the visitor's browser, who then signs in as Ana.
    let mallory = service.signed_in("mallory").await;
    visitor.cookies.clone_from(&mallory.cookies);
    visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
    assert_ne!(visitor.refresh_token(), mallory.refresh_token());
    let ended = mallory.user().await.refused(401, "session_ended");
    assert_eq!(ended.json["end_reason"], "replaced_by_login");
    ana.user().await.expect(StatusCode::OK);
    visitor.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_foreign_page_cannot_sign_anyone_in() {
    let (_service, visitor, _) = service_with_ana().await;
    let body = json!({"username": "ana", "password": PASSWORD});
    for header in [
        ("origin", FOREIGN),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let call = visitor
            .post("/users/login")
            .json(&body)
            .header(header.0, header.1);
        let answer = call.send().await.refused(403, "origin_denied");
        assert!(answer.set_cookies().is_empty());
    }
    let listed = visitor.post("/users/login").json(&body).on_page(LISTED);
    listed
        .header("sec-fetch-site", "cross-site")
        .send()
        .await
        .expect(StatusCode::OK);
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let (_service, visitor, _) = service_with_ana().await;
    let wrong = async |body| {
        let answer = visitor.post("/users/login").json(&body).send().await;
        answer.refused(400, "validation_failed").field_errors()
    };
    assert_eq!(
        wrong(json!({})).await,
        ["username:required", "password:required"]
    );
    let types = json!({"username": ["ana"], "password": {"$ne": ""}, "remember": "maybe"});
    assert_eq!(
        wrong(types).await,
        [
            "username:wrong_type",
            "password:wrong_type",
            "remember:wrong_type"
        ]
    );
    let controls = json!({"username": "ana\0", "password": "x"});
    assert_eq!(wrong(controls).await, ["username:invalid"]);
    let long = json!({"username": "ana", "password": "x".repeat(4_097)});
    assert_eq!(wrong(long).await, ["password:too_long"]);
}

#[tokio::test]
async fn production_cookies_are_prefixed_secure_and_strict() {
    let service = Setup::production().start().await;
    service.make_user("ana").await;
    let mut ana = service.visitor();
    let answer = ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
    let [refresh, csrf, _] = answer.set_cookies()[..] else {
        panic!("not three cookies")
    };
    assert!(
        refresh.starts_with("__Host-Http-refreshtoken=ey"),
        "{refresh}"
    );
    assert!(refresh.ends_with("; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=604800"));
    assert!(csrf.starts_with("csrftoken=") && csrf.contains("; SameSite=Strict; Secure; Path=/"));
    assert!(!csrf.contains("HttpOnly") && !refresh.contains("Domain"));
    for cookie in [refresh, csrf] {
        let pair = cookie.split(';').next().unwrap();
        assert!(pair.len() < 4_096);
    }
    ana.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_password_is_rehashed_to_todays_cost_at_login() {
    use countersign::core::auth::{Auth, AuthSettings};
    use countersign::core::password::{Argon2Cost, HashingSettings};
    let mut setup = Setup::development();
    let store = Arc::clone(&setup.store);
    let cost = Argon2Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
    setup.auth.hashing = HashingSettings {
        cost,
        ..HashingSettings::CHEAP
    };
    let service = setup.start().await;
    // Made by a service with yesterday's cost, over the same store.
    let yesterday = AuthSettings {
        hashing: HashingSettings::CHEAP,
        ..AuthSettings::default()
    };
    let yesterday = Auth::start(Arc::clone(&store), &service.secret, yesterday).await;
    let account = NewAccount {
        username: Username::parse("ana").unwrap(),
        email: Email::default(),
        password: Some(Password::new(PASSWORD.to_owned()).unwrap()),
        is_staff: false,
        is_superuser: false,
    };
    yesterday
        .unwrap()
        .create_user(account, EndedBy::CommandLine)
        .await
        .unwrap();
    let stored = async || {
        store
            .find_credentials("ana")
            .await
            .unwrap()
            .unwrap()
            .password
    };
    assert!(stored().await.as_str().contains("$m=8,t=1,p=1$"));
    let mut ana = service.visitor();
    ana.login("ana", "wrong password")
        .await
        .refused(401, "invalid_credentials");
    assert!(stored().await.as_str().contains("$m=8,t=1,p=1$"));
    ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
    assert!(stored().await.as_str().contains("$m=64,t=1,p=1$"));
    ana.login("ana", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_logins_at_once_with_a_password_that_is_due_for_todays_cost_all_come_in() {
    for round in 0..50 {
        let before = Setup::development().start().await;
        before.make_user("ana").await;
        let mut ana = before.signed_in("ana").await;
        let mut setup = before.setup_beside();
        setup.auth.hashing.cost.passes += 1;
        let today = setup.start().await;
        ana = today.called_by(&ana);
        let mut logins = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut visitor = today.visitor();
            logins.spawn(async move { visitor.login("ana", PASSWORD).await.status });
        }
        // And whoever changes the password meanwhile is not told that the current one is wrong.
        let body =
            json!({"current_password": PASSWORD, "new_password": "a quiet river, old stars"});
        let changes = round % 2 == 0;
        let change = async {
            let call = ana.post("/users/password").with_token().with_csrf();
            call.json(&body).send().await.expect(StatusCode::NO_CONTENT);
        };
        if changes {
            change.await;
        }
        let mut came_in = logins.join_all().await;
        came_in.retain(|status| *status == StatusCode::OK);
        // A login that a new password overtakes is wrong by then.
        assert!(changes || came_in.len() == 4, "{came_in:?}");
    }
}

/// Ana, who has proven her address, and bob, who has not.
async fn service_with_a_proven_address() -> Service {
    let service = Setup::development().with_mail().start().await;
    service.make_user("ana").await;
    service.make_user("bob").await;
    let visitor = service.visitor();
    let call = visitor.post("/users/email/verify/resend");
    let answer = call.json(&json!({"email": "ana@example.org"})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    let token = service.mailed_token().await;
    let call = visitor.post("/users/email/verify");
    let answer = call.json(&json!({"token": token})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    service
}

#[tokio::test]
async fn whoever_has_proven_an_address_signs_in_by_it_too() {
    let service = service_with_a_proven_address().await;
    for name in ["ana@example.org", "ANA@Example.org", "ana"] {
        let mut visitor = service.visitor();
        let answer = visitor.login(name, PASSWORD).await.expect(StatusCode::OK);
        assert_eq!(answer.json["user"]["username"], "ana");
    }
    let mut visitor = service.visitor();
    for name in [
        "bob@example.org",
        "nobody@example.org",
        "ana@example.org.evil.test",
        "@",
    ] {
        let answer = visitor.login(name, PASSWORD).await;
        answer.refused(401, "invalid_credentials");
    }
    // No longer, when the account has another.
    let ana = service.auth.find_user("ana").await.unwrap();
    let other = Email::parse("ana@example.net").unwrap();
    service
        .auth
        .set_email(&ana, other, EndedBy::CommandLine)
        .await
        .unwrap();
    for name in ["ana@example.org", "ana@example.net"] {
        let answer = visitor.login(name, PASSWORD).await;
        answer.refused(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn a_proven_address_comes_before_a_name_that_only_looks_like_one() {
    let service = service_with_a_proven_address().await;
    // As Django would let be; nobody registers so here.
    let account = NewAccount {
        username: Username::parse("ana@example.org").unwrap(),
        email: Email::default(),
        password: Some(Password::new(PASSWORD.to_owned()).unwrap()),
        is_staff: false,
        is_superuser: false,
    };
    let by = EndedBy::CommandLine;
    service.auth.create_user(account, by).await.unwrap();
    let mut visitor = service.visitor();
    let answer = visitor.login("ana@example.org", PASSWORD).await;
    let answer = answer.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["username"], "ana");
}

#[tokio::test]
async fn a_new_service_knows_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let database = SqliteStore::open(&SqliteOptions::new(directory.path().join("db"))).unwrap();
    for store in [
        Arc::new(MemoryStore::default()) as SharedStore,
        Arc::new(database),
    ] {
        let service = Setup::development().over(store).start().await;
        assert!(!service.auth.has_users().await.unwrap());
        let mut visitor = service.visitor();
        for name in ["admin", "root", "administrator", "countersign", "test"] {
            for password in [name, "admin", "password", "changeme"] {
                let answer = visitor.elsewhere(1).login(name, password).await;
                assert!([401, 429].contains(&answer.status.as_u16()), "{answer:?}");
            }
        }
        let answer = visitor.login("admin", "").await;
        answer.refused(400, "validation_failed");
    }
}

/// Of three hundred characters, or of more than are looked at: for everybody alike.
#[tokio::test]
async fn a_long_password_tells_of_nobody_whether_there_is_an_account() {
    let service = Setup::development().unthrottled().start().await;
    service.make_user("ana").await;
    service.make_user("carol").await;
    service.deactivate("carol").await;
    let visitor = service.visitor();
    for length in [300, 4_096, 4_097, 60_000] {
        let mut answers = Vec::new();
        for username in ["ana", "carol", "nobody"] {
            let body = json!({"username": username, "password": "x".repeat(length)});
            let mut answer = visitor.post("/users/login").json(&body).send().await;
            answer.headers.remove("x-request-id");
            let headers = format!("{:?}", answer.headers);
            answers.push((answer.status, headers, answer.bytes));
        }
        let refused = if length <= 4_096 { 401 } else { 400 };
        assert_eq!(answers[0].0, refused);
        assert!(answers.iter().all(|one| *one == answers[0]), "{answers:?}");
    }
}

/// What somebody else could find out about a user is nothing to sign in with.
#[tokio::test]
async fn there_are_no_hints_and_no_secret_questions() {
    let (_service, visitor, _) = service_with_ana().await;
    let description = visitor.get("/openapi.json").send().await.json;
    let schemas = description["components"]["schemas"].as_object().unwrap();
    assert!(schemas.len() > 10);
    for (name, schema) in schemas {
        let fields = schema["properties"].as_object();
        for field in fields.into_iter().flat_map(serde_json::Map::keys) {
            for word in ["hint", "question", "secret", "birth", "maiden"] {
                assert!(!field.contains(word), "{name}.{field}");
            }
        }
    }
}
