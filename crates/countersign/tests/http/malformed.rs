//! Requests that are too large, broken, or not what they say.

use crate::harness::{Client, PASSWORD, Setup, service_with_ana};
use countersign::core::session::EndedBy;
use http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn a_password_of_a_megabyte_is_refused_before_any_hashing() {
    use countersign::core::password::{Argon2Cost, HashingSettings};
    let mut setup = Setup::development();
    // A cost that cannot be: whoever begins to hash fails.
    setup.auth.hashing.cost = Argon2Cost {
        memory_kib: 1,
        ..HashingSettings::CHEAP.cost
    };
    let service = setup.start().await;
    let mut visitor = service.visitor();
    for (length, status, code) in [
        (1 << 20, 413, "payload_too_large"),
        (60_000, 400, "validation_failed"),
        (4_097, 400, "validation_failed"),
        (4_096, 503, "overloaded"),
    ] {
        let answer = visitor.login("ana", &"a".repeat(length)).await;
        answer.refused(status, code);
    }
}

#[tokio::test]
async fn the_longest_password_is_taken_whole() {
    use countersign::core::auth::NewAccount;
    use countersign::core::password::Password;
    use countersign::core::user::{Email, Username};
    let (service, mut visitor, _) = service_with_ana().await;
    // Two bytes each in UTF-8, and none is left out.
    let letters: Vec<char> = ('À'..='ÿ').collect();
    // In no order that is soon guessed.
    let alphabet: String = (0..64).map(|index| letters[index * 37 % 64]).collect();
    let longest = alphabet.repeat(2_048 / 64);
    let account = NewAccount {
        username: Username::parse("bob").unwrap(),
        email: Email::default(),
        password: Some(Password::new(longest.clone()).unwrap()),
        is_staff: false,
        is_superuser: false,
    };
    service
        .auth
        .create_user(account, EndedBy::CommandLine)
        .await
        .unwrap();
    visitor.login("bob", &longest).await.expect(StatusCode::OK);
    for other in [
        &longest[2..],
        &longest[..4_094],
        &format!("{}e", &longest[..4_094]),
    ] {
        let answer = visitor.login("bob", other).await;
        answer.refused(401, "invalid_credentials");
    }
    // The limit is the same for those who have no account.
    let longer = format!("{longest}x");
    for name in ["bob", "nobody"] {
        let answer = visitor.login(name, &longer).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), ["password:too_long"]);
    }
}

#[tokio::test]
async fn no_character_ends_a_text_early() {
    let (_service, mut visitor, _) = service_with_ana().await;
    for name in [
        "ana\0",
        "ana\0x",
        "\0ana",
        "ana\n",
        "ana\u{7f}",
        "ana\u{85}",
    ] {
        let answer = visitor.login(name, PASSWORD).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), ["username:invalid"]);
    }
    for name in [
        "ana ",
        " ana",
        "ana\u{200b}",
        "ana\u{202e}",
        "аna",
        "ana@example.org%",
    ] {
        let answer = visitor.login(name, PASSWORD).await;
        answer.refused(401, "invalid_credentials");
    }
    for password in [
        format!("{PASSWORD}\0"),
        format!("{PASSWORD}\0x"),
        format!("\0{PASSWORD}"),
    ] {
        let answer = visitor.login("ana", &password).await;
        answer.refused(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn text_is_decoded_once() {
    let (_service, visitor, _) = service_with_ana().await;
    let log_in = async |name: &str| {
        let password = PASSWORD.replace(' ', "+");
        let body = format!("username={name}&password={password}");
        let call = visitor.post("/users/login");
        let call = call.body("application/x-www-form-urlencoded", body);
        call.send().await
    };
    log_in("ana").await.expect(StatusCode::OK);
    log_in("%61na").await.expect(StatusCode::OK);
    for twice in ["%2561na", "%25%36%31na", "%5Cu0061na", "%26%2397%3Bna"] {
        log_in(twice).await.refused(401, "invalid_credentials");
    }
    let body = json!({"username": "%61na", "password": PASSWORD});
    let answer = visitor.post("/users/login").json(&body).send().await;
    answer.refused(401, "invalid_credentials");
    let path = "/users%252Flogin";
    let answer = visitor.post(path).json(&body).send().await;
    answer.refused(404, "not_found");
}

#[tokio::test]
async fn a_repeated_member_is_refused_however_it_is_spelt() {
    let (_service, visitor, ana) = service_with_ana().await;
    for body in [
        r#"{"username":"ana","username":"bob","password":"x"}"#,
        r#"{"username":"ana","\u0075sername":"bob","password":"x"}"#,
        r#"{"username":"ana","password":"x","password":"x"}"#,
        r#"{"username":"ana","password":"x","other":{"a":1,"a":2}}"#,
        r#"{"username":"ana","password":"x","other":[{"a":1,"\u0061":2}]}"#,
    ] {
        let call = visitor.post("/users/login");
        let answer = call.body("application/json", body).send().await;
        answer.refused(400, "malformed_request");
    }
    let call = ana.patch("/users/user").with_token().with_csrf();
    let body = r#"{"first_name":"Ana","first_name":"Eve"}"#;
    let answer = call.body("application/json", body).send().await;
    answer.refused(400, "malformed_request");
    let form = "application/x-www-form-urlencoded";
    for body in [
        "username=ana&username=bob&password=x",
        "username=ana&%75sername=bob&password=x",
    ] {
        let answer = visitor.post("/users/login").body(form, body).send().await;
        answer.refused(400, "malformed_request");
    }
}

#[tokio::test]
async fn deep_json_is_refused() {
    let (_service, visitor, _) = service_with_ana().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [200, 5_000] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let body = format!(r#"{{"username":"ana","password":"x","other":{deep}}}"#);
            let call = visitor.post("/users/login");
            let answer = call.body("application/json", body).send().await;
            answer.refused(400, "malformed_request");
        }
    }
}

#[tokio::test]
async fn fields_of_a_wrong_type_are_named_and_unknown_ones_ignored() {
    let (_service, visitor, _) = service_with_ana().await;
    for wrong in [
        json!(["a"]),
        json!({"$ne": ""}),
        json!(1),
        json!(true),
        json!([]),
    ] {
        let body = json!({"username": wrong, "password": wrong});
        let answer = visitor.post("/users/login").json(&body).send().await;
        let answer = answer.refused(400, "validation_failed");
        let errors = ["username:wrong_type", "password:wrong_type"];
        assert_eq!(answer.field_errors(), errors);
    }
    let body = json!({"username": null, "password": null});
    let answer = visitor.post("/users/login").json(&body).send().await;
    let answer = answer.refused(400, "validation_failed");
    assert_eq!(
        answer.field_errors(),
        ["username:required", "password:required"]
    );
    let body = json!({"username": "ana", "password": PASSWORD, "is_superuser": true, "id": 7});
    let answer = visitor.post("/users/login").json(&body).send().await;
    let answer = answer.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["id"], 1);
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let (_service, visitor, ana) = service_with_ana().await;
    let body = json!({"username": "ana", "password": PASSWORD});
    for encoding in [
        "gzip",
        "br",
        "deflate",
        "zstd",
        "gzip, identity",
        "GZIP",
        "x",
    ] {
        let call = visitor.post("/users/login").json(&body);
        let answer = call.header("content-encoding", encoding).send().await;
        answer.refused(415, "unsupported_media_type");
        let call = ana.patch("/users/user").with_token().with_csrf();
        let call = call.json(&json!({})).header("content-encoding", encoding);
        call.send().await.refused(415, "unsupported_media_type");
    }
    let call = visitor.post("/users/login").json(&body);
    let answer = call.header("content-encoding", "identity").send().await;
    answer.expect(StatusCode::OK);
}

#[tokio::test]
async fn broken_forms_are_refused() {
    let (_service, visitor, _) = service_with_ana().await;
    let part = |head: &str, value: &str| format!("--X\r\n{head}\r\n\r\n{value}\r\n");
    let named = |name: &str, value: &str| {
        part(
            &format!("Content-Disposition: form-data; name=\"{name}\""),
            value,
        )
    };
    let good = named("username", "ana") + &named("password", PASSWORD);
    let file = "Content-Disposition: form-data; name=\"username\"; filename=\"a.txt\"";
    for body in [
        String::new(),
        "--X".to_owned(),
        good.clone(),
        named("username", "ana").replace("\r\n\r\n", "\r\n") + "--X--\r\n",
        part("Content-Disposition: form-data", "ana") + "--X--\r\n",
        part(file, "ana") + "--X--\r\n",
        good.clone() + &named("username", "bob") + "--X--\r\n",
        "-".repeat(60_000),
        part(&format!("X: {}", "y".repeat(60_000)), "") + "--X--\r\n",
    ] {
        let call = visitor.post("/users/login");
        let answer = call
            .body("multipart/form-data; boundary=X", body)
            .send()
            .await;
        answer.refused(400, "malformed_request");
    }
    for boundary in ["", "; boundary=", "; boundary", "; x=y"] {
        let call = visitor.post("/users/login");
        let media_type = format!("multipart/form-data{boundary}");
        let answer = call
            .body(&media_type, good.clone() + "--X--\r\n")
            .send()
            .await;
        assert_eq!(answer.status.as_u16() / 100, 4, "{boundary}");
    }
    let many: Vec<_> = (0..5_000).map(|n| format!("f{n}=")).collect();
    let many = many.join("&");
    let call = visitor.post("/users/login");
    let answer = call
        .body("application/x-www-form-urlencoded", many)
        .send()
        .await;
    answer.refused(400, "validation_failed");
}

#[tokio::test]
async fn a_form_that_is_no_utf_8_is_refused() {
    let (_service, visitor, _) = service_with_ana().await;
    let form = "application/x-www-form-urlencoded";
    let bodies: [&[u8]; 3] = [
        b"username=ana&password=%ff",
        b"username=ana&password=\xff",
        b"username=%c0%afna&password=x",
    ];
    for body in bodies {
        let answer = visitor.post("/users/login").body(form, body).send().await;
        answer.refused(400, "malformed_request");
    }
    let part = |value: &[u8]| {
        let name: &[u8] =
            b"--X\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nana\r\n";
        let next: &[u8] = b"--X\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n";
        [name, next, value, b"\r\n--X--\r\n"].concat()
    };
    let call = visitor.post("/users/login");
    let answer = call.body("multipart/form-data; boundary=X", part(b"\xff"));
    answer.send().await.refused(400, "malformed_request");
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_refused() {
    let service = Setup::production().start().await;
    let visitor = service.visitor();
    for host in [
        "evil.test",
        "auth.example.org.evil.test",
        "evil.auth.example.org",
        "auth.example.org:8443",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "example.org",
    ] {
        let call = visitor.get("/users/csrf").header("host", host);
        let answer = call.send().await.refused(421, "misdirected_request");
        let body = String::from_utf8(answer.bytes).unwrap();
        assert!(!body.contains(host), "{body}");
    }
    for host in [
        "auth.example.org",
        "AUTH.example.org",
        "auth.example.org:443",
    ] {
        let call = visitor.get("/users/csrf").header("host", host);
        call.send().await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn a_request_names_one_valid_host() {
    let (_service, visitor, _) = service_with_ana().await;
    let ask = |host: &str| visitor.get("/users/csrf").header("host", host);
    for odd in [
        "auth.test:1@evil.test",
        "user@127.0.0.1:8000",
        "127.0.0.1:8000/x",
        "127.0.0.1:8000, evil.test",
        "127.0.0.1:8000 evil.test",
        "127.0.0.1:80:80",
        "[::1",
        "::1",
        "a..b",
        "127.0.0.1.:8000",
        ".",
        "ev_il.test",
        "evil.test\\x",
        &"a".repeat(300),
    ] {
        ask(odd).send().await.refused(400, "malformed_request");
    }
    ask("").send().await.refused(400, "malformed_request");
    let call = ask("").add_header("host", "bücher.test".as_bytes());
    call.send().await.refused(400, "malformed_request");
    for second in ["evil.test", "127.0.0.1:8000"] {
        let call = ask("127.0.0.1:8000").add_header("host", second.as_bytes());
        call.send().await.refused(400, "malformed_request");
    }
    // HTTP/2 names it in the target, and old proxies in both.
    let target = "http://127.0.0.1:8000/users/csrf";
    let call = visitor.get(target).header("host", "");
    call.send().await.expect(StatusCode::OK);
    visitor.get(target).send().await.expect(StatusCode::OK);
    for target in [
        "http://evil.test/users/csrf",
        "http://evil.test:8000/users/csrf",
    ] {
        visitor
            .get(target)
            .send()
            .await
            .refused(400, "malformed_request");
        let call = visitor.get(target).header("host", "");
        call.send().await.refused(421, "misdirected_request");
    }
}

#[tokio::test]
async fn no_other_header_names_the_host() {
    let service = Setup::production().start().await;
    let visitor = service.visitor();
    for name in [
        "x-forwarded-host",
        "forwarded",
        "x-host",
        "x-original-url",
        "x-rewrite-url",
    ] {
        for path in [
            "/.well-known/oauth-authorization-server",
            "/",
            "/users/csrf",
        ] {
            let plain = visitor.get(path).send().await;
            let call = visitor.get(path).header(name, "host=evil.test");
            let answer = call.send().await;
            assert_eq!(answer.status, plain.status);
            assert_eq!(answer.header("location"), plain.header("location"));
            assert!(!String::from_utf8_lossy(&answer.bytes).contains("evil"));
        }
    }
}

#[tokio::test]
async fn odd_paths_lead_nowhere() {
    let (_service, visitor, _) = service_with_ana().await;
    for path in [
        "/%2e%2e/%2e%2e/etc/passwd",
        "/docs/../users/user",
        "/docs/..%2f..%2fetc%2fpasswd",
        "//",
        "//evil.test/%2e%2e",
        "/users/user%00",
        "/users/user%0d%0aSet-Cookie:x=1",
        "/users/%c0%af",
        "/users/%ff",
        "/users/%",
        "/users/user/",
        "/docs/page.js%00.html",
        "/docs/page.html",
        "/.well-known/",
        "/.git/config",
        &format!("/{}", "a".repeat(16_000)),
    ] {
        let answer = visitor.get(path).send().await;
        let answer = answer.refused(404, "not_found");
        assert!(answer.set_cookies().is_empty());
        assert_eq!(answer.header("location"), "");
    }
}

#[tokio::test]
async fn a_hundred_headers_do_no_harm() {
    let (_service, _, ana) = service_with_ana().await;
    let mut call = ana.get("/users/user").with_token();
    for n in 0..100 {
        call = call.header(&format!("x-header-{n}"), &"x".repeat(600));
    }
    call = call.header("user-agent", &"agent ".repeat(10_000));
    call.send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn what_a_client_calls_itself_is_kept_short_and_clean() {
    let (service, visitor, _) = service_with_ana().await;
    let sign_in = async |agent: &[u8]| {
        let mut client = visitor.clone();
        let body = json!({"username": "ana", "password": PASSWORD});
        let call = client.post("/users/login").json(&body);
        let answer = call.add_header("user-agent", agent).send().await;
        client.keep(&answer.expect(StatusCode::OK));
        agent_of(&service, &client).await
    };
    assert_eq!(sign_in(b"curl/8").await.as_deref(), Some("curl/8"));
    let long = sign_in("x".repeat(60_000).as_bytes()).await.unwrap();
    assert_eq!(long.chars().count(), 512);
    assert_eq!(sign_in(b"\xff\xfe").await, None);
}

async fn agent_of(service: &crate::harness::Service, client: &Client) -> Option<String> {
    service.session_of(client).await.user_agent
}
