//! Refusals and failures that are no route's own: each a problem (RFC 9457), whatever went wrong.

use std::sync::Arc;
use std::time::Instant;

use crate::harness::{PASSWORD, Setup, service_with_ana};
use crate::troubled_store::{INNERMOST, Trouble, TroubledStore};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// Every route, with the methods that it takes.
const ROUTES: [(&str, &[Method]); 12] = [
    ("/users/login", &[Method::POST]),
    ("/users/refresh_token", &[Method::POST]),
    ("/users/logout", &[Method::POST]),
    ("/users/csrf", &[Method::GET, Method::HEAD]),
    ("/users/user", &[Method::GET, Method::HEAD, Method::PATCH]),
    ("/.well-known/jwks.json", &[Method::GET, Method::HEAD]),
    (
        "/.well-known/oauth-authorization-server",
        &[Method::GET, Method::HEAD],
    ),
    ("/openapi.json", &[Method::GET, Method::HEAD]),
    ("/", &[Method::GET, Method::HEAD]),
    ("/docs", &[Method::GET, Method::HEAD]),
    ("/docs/page.css", &[Method::GET, Method::HEAD]),
    ("/docs/page.js", &[Method::GET, Method::HEAD]),
];

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let (_service, visitor, _) = service_with_ana().await;
    let answer = visitor.get("/users/unknown").send().await;
    let answer = answer.refused(404, "not_found");
    insta::assert_json_snapshot!(answer.json);
    for method in [Method::POST, Method::DELETE, Method::OPTIONS] {
        let answer = visitor.call(method, "/unknown").send().await;
        answer.refused(404, "not_found");
    }
}

#[tokio::test]
async fn a_method_that_a_route_does_not_take_is_told_which_it_does() {
    let (_service, visitor, _) = service_with_ana().await;
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND",
        "GEt", "get",
    ];
    for (path, taken) in ROUTES {
        for method in methods {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            if taken.contains(&method) {
                continue;
            }
            let answer = visitor.call(method.clone(), path).send().await;
            if method == Method::HEAD {
                // The answer to HEAD has no body to look into.
                assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
                continue;
            }
            let answer = answer.refused(405, "method_not_allowed");
            let mut allowed: Vec<_> = answer.header("allow").split(',').collect();
            allowed.sort_unstable();
            let mut expected: Vec<_> = taken.iter().map(Method::as_str).collect();
            expected.sort_unstable();
            assert_eq!(allowed, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_body_of_more_than_64_kib_is_refused() {
    let (_service, visitor, ana) = service_with_ana().await;
    let largest = countersign::MAX_BODY_BYTES;
    let of_length = |length: usize| {
        let frame = json!({"username": "ana", "password": "x", "filler": ""}).to_string();
        let filler = "x".repeat(length - frame.len());
        frame.replace(r#""filler":"""#, &format!(r#""filler":"{filler}""#))
    };
    let fitting = of_length(largest);
    assert_eq!(fitting.len(), largest);
    let call = visitor.post("/users/login");
    let answer = call.body("application/json", fitting).send().await;
    answer.refused(401, "invalid_credentials");

    // Announced, or found out while reading.
    let large = of_length(largest + 1);
    let announced = visitor.post("/users/login");
    let announced = announced.body("application/json", large.clone());
    let length = large.len().to_string();
    let answer = announced.header("content-length", &length).send().await;
    let answer = answer.refused(413, "payload_too_large");
    insta::assert_json_snapshot!(answer.json);
    for (path, call) in [
        ("login", visitor.post("/users/login")),
        (
            "logout",
            ana.post("/users/logout").with_cookies().with_csrf(),
        ),
        ("user", ana.patch("/users/user").with_token().with_csrf()),
    ] {
        let pieces = large.clone().into_bytes();
        let pieces: Vec<_> = pieces.chunks(1_000).map(Bytes::copy_from_slice).collect();
        let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        let answer = call.streamed("application/json", Body::from_stream(pieces));
        let answer = answer.send().await;
        assert_eq!(answer.status, 413, "{path}");
        answer.refused(413, "payload_too_large");
    }
}

#[tokio::test]
async fn an_announced_gigabyte_is_refused_before_it_is_read() {
    let (_service, visitor, _) = service_with_ana().await;
    for path in ["/users/login", "/users/refresh_token", "/users/csrf", "/x"] {
        for length in ["1073741824", "65537", "18446744073709551615"] {
            let call = visitor.post(path).header("content-length", length);
            // Not a byte of it ever comes: whoever waited for one would answer 408.
            let answer = call.streamed("application/json", never_arriving()).send();
            let answer = answer.await.refused(413, "payload_too_large");
            assert_eq!(answer.header("connection"), "close");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_malformed() {
    let (_service, visitor, _) = service_with_ana().await;
    let broken = futures_util::stream::iter([
        Ok(Bytes::from_static(b"{\"username\":")),
        Err(std::io::Error::other("reset")),
    ]);
    let call = visitor.post("/users/login");
    let answer = call.streamed("application/json", Body::from_stream(broken));
    let answer = answer.send().await;
    answer.refused(400, "malformed_request");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let (_service, visitor, ana) = service_with_ana().await;
    tokio::time::pause();
    for call in [
        visitor.post("/users/login"),
        ana.patch("/users/user").with_token().with_csrf(),
    ] {
        let answer = call.streamed("application/json", never_arriving()).send();
        answer.await.refused(408, "request_timeout");
    }
}

fn never_arriving() -> Body {
    Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>())
}

#[tokio::test]
async fn bodies_that_never_end_fill_no_more_than_their_memory_and_keep_no_sign_in_out() {
    let mut setup = Setup::development();
    setup.http.body_memory = 200 * 1024;
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut visitor = service.visitor();
    let caller = service.visitor();
    let endless = |bytes: usize| {
        let piece = Ok::<_, std::io::Error>(Bytes::from(vec![b' '; bytes]));
        let pieces = futures_util::stream::iter([piece]).chain(futures_util::stream::pending());
        let call = caller.post("/users/login");
        let call = call.streamed("application/json", Body::from_stream(pieces));
        Box::pin(call.send())
    };
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut large = endless(60_000);
        assert!((&mut large).now_or_never().is_none());
        waiting.push(large);
    }
    let refused = endless(60_000).await.refused(503, "overloaded");
    assert_eq!(refused.header("connection"), "close");
    assert_eq!(refused.header("retry-after"), "2");
    // What takes little has a share of its own.
    visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
    for _ in 0..9 {
        let mut small = endless(4_000);
        assert!((&mut small).now_or_never().is_none());
        waiting.push(small);
    }
    endless(4_000).await.refused(503, "overloaded");
    // Without a body there is nothing to hold.
    let csrf = caller.get("/users/csrf").send().await;
    csrf.expect(StatusCode::OK);

    waiting.clear();
    visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
    let mut large = endless(60_000);
    assert!((&mut large).now_or_never().is_none());
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let (_service, visitor, ana) = service_with_ana().await;
    let body = json!({"username": "ana", "password": PASSWORD}).to_string();
    let answer = visitor.post("/users/login").body("text/plain", body);
    let answer = answer.send().await.refused(415, "unsupported_media_type");
    insta::assert_json_snapshot!(answer.json);
    // Only login reads forms.
    for media_type in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=X",
        "text/json",
    ] {
        let call = ana.patch("/users/user").with_token().with_csrf();
        let answer = call.body(media_type, "first_name=Ana").send().await;
        answer.refused(415, "unsupported_media_type");
        let call = ana.post("/users/logout").with_cookies().with_csrf();
        let answer = call.body(media_type, "scope=local").send().await;
        answer.refused(415, "unsupported_media_type");
    }
    let untyped = ana.patch("/users/user").with_token().with_csrf();
    let answer = untyped.body("x/y", "{}").header("content-type", "");
    let answer = answer.send().await;
    answer.refused(415, "unsupported_media_type");
}

#[tokio::test]
async fn json_is_json_in_any_spelling_of_its_type() {
    let (_service, visitor, _) = service_with_ana().await;
    let body = json!({"username": "ana", "password": PASSWORD}).to_string();
    for media_type in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
    ] {
        let call = visitor.post("/users/login");
        let answer = call.body(media_type, body.clone()).send().await;
        answer.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn malformed_json_is_told_where_it_goes_wrong() {
    let (_service, visitor, _) = service_with_ana().await;
    let send = async |body: &[u8]| {
        let call = visitor.post("/users/login");
        let answer = call.body("application/json", body).send().await;
        let answer = answer.refused(400, "malformed_request");
        answer.json["detail"].as_str().unwrap().to_owned()
    };
    let detail = send(br#"{"username": "ana", "password": hunter2}"#).await;
    assert!(detail.contains("line 1, column 33"), "{detail}");
    assert!(!detail.contains("hunter2"), "{detail}");
    assert_eq!(detail.matches("valid JSON").count(), 1, "{detail}");
    assert!(!detail.contains(".."), "{detail}");
    for body in [
        &b""[..],
        b"{",
        b"{}}",
        b"{'username':'ana'}",
        b"{\"username\":\"\\ud800\"}",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b"{\"username\":\"\xff\"}",
        b"{\"username\":1e400}",
        b"NaN",
    ] {
        send(body).await;
    }
}

#[tokio::test]
async fn a_body_that_is_no_object_is_a_problem_and_no_accident() {
    let (_service, visitor, ana) = service_with_ana().await;
    for body in [
        "[]",
        "[{}]",
        r#"["username","ana"]"#,
        "null",
        "1",
        "\"x\"",
        "true",
    ] {
        for call in [
            visitor.post("/users/login"),
            ana.patch("/users/user").with_token().with_csrf(),
            ana.post("/users/logout").with_cookies().with_csrf(),
        ] {
            let answer = call.body("application/json", body).send().await;
            answer.refused(400, "malformed_request");
        }
    }
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_panic_is_a_problem_and_the_service_goes_on() {
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development().over(Arc::clone(&store) as _);
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut ana = service.signed_in("ana").await;
    store.have(Trouble::Panics);
    let answers = [
        ana.user().await,
        ana.clone().refresh().await,
        service.visitor().login("ana", PASSWORD).await,
        ana.get("/readyz").send_to_operations().await,
    ];
    store.recover();
    for answer in answers {
        let answer = answer.refused(500, "internal_error");
        let body = String::from_utf8(answer.bytes).unwrap();
        assert!(!body.contains(INNERMOST), "{body}");
    }
    ana.user().await.expect(StatusCode::OK);
    ana.refresh().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() {
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development().over(Arc::clone(&store) as _);
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    store.have(Trouble::Hangs);
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let answer = ana.user().await.refused(503, "overloaded");
    assert_eq!(answer.header("retry-after"), "2");
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn beyond_the_hashing_queue_logins_are_refused_and_all_else_goes_on() {
    use countersign::core::password::{Argon2Cost, HashingSettings};
    let mut setup = Setup::development();
    // Slow enough that all have asked before the first is answered.
    setup.auth.hashing = HashingSettings {
        cost: Argon2Cost {
            memory_kib: 64 * 1024,
            passes: 4,
            lanes: 1,
        },
        threads: 1,
        queue: 1,
        ..HashingSettings::CHEAP
    };
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let mut visitors: Vec<_> = (0..16).map(|_| service.visitor()).collect();
    let logins = visitors
        .iter_mut()
        .map(|visitor| visitor.login("ana", PASSWORD));
    let logins = async {
        let answers = futures_util::future::join_all(logins).await;
        (answers, Instant::now())
    };
    let others = async {
        for _ in 0..10 {
            ana.user().await.expect(StatusCode::OK);
        }
        Instant::now()
    };
    let ((answers, logins_done), others_done) = tokio::join!(logins, others);
    assert!(others_done < logins_done);
    let (welcome, refused): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| answer.status == StatusCode::OK);
    assert!(
        !welcome.is_empty() && refused.len() > 8,
        "{} refused",
        refused.len()
    );
    for answer in refused {
        let answer = answer.refused(503, "overloaded");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait));
    }
    service.signed_in("ana").await;
}

#[tokio::test]
async fn a_problem_names_its_code_in_the_reference() {
    let (_service, visitor, _) = service_with_ana().await;
    let mut problems: Vec<Value> = Vec::new();
    for call in [
        visitor.get("/unknown"),
        visitor.get("/users/login"),
        visitor.get("/users/user"),
        visitor.get("/users/user").bearer("x"),
        visitor.post("/users/refresh_token"),
        visitor.post("/users/login"),
        visitor.post("/users/login").on_page("null"),
        visitor.get("/").header("host", "evil.test"),
    ] {
        problems.push(call.send().await.json);
    }
    insta::assert_json_snapshot!(problems);
}
