//! The store fails: nobody is signed out, nothing is half done, and all goes on when it is back.

use std::sync::Arc;

use crate::harness::{Client, PASSWORD, Service, Setup};
use crate::troubled_store::{INNERMOST, Trouble, TroubledStore};
use http::StatusCode;
use serde_json::json;

async fn service_with_troubles() -> (Service, Arc<TroubledStore>, Client) {
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development().over(Arc::clone(&store) as _);
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    (service, store, ana)
}

/// Everything that a client can ask of the store.
async fn everything(service: &Service, ana: &Client) -> Vec<crate::harness::Answer> {
    let change = ana.patch("/users/user").with_token().with_csrf();
    vec![
        service.visitor().login("ana", PASSWORD).await,
        service.visitor().login("nobody", PASSWORD).await,
        ana.clone().refresh().await,
        ana.clone().logout().await,
        ana.user().await,
        change.json(&json!({"first_name": "Ana"})).send().await,
    ]
}

#[tokio::test]
async fn a_store_that_is_away_is_a_503_that_says_when_to_come_back() {
    let (service, store, ana) = service_with_troubles().await;
    store.have(Trouble::Unavailable);
    for answer in everything(&service, &ana).await {
        let answer = answer.refused(503, "storage_unavailable");
        assert_eq!(answer.header("retry-after"), "2");
        assert!(
            answer.set_cookies().is_empty(),
            "cookies are left as they are"
        );
        assert_eq!(answer.header("www-authenticate"), "", "it is no 401");
        let body = String::from_utf8(answer.bytes).unwrap();
        assert!(
            !body.contains(INNERMOST) && !body.contains("SELECT"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn when_the_store_is_back_everybody_is_where_they_were() {
    let (service, store, mut ana) = service_with_troubles().await;
    for trouble in [Trouble::Unavailable, Trouble::ReadOnly] {
        store.have(trouble);
        let before = ana.cookies.clone();
        ana.refresh().await.refused(503, "storage_unavailable");
        assert_eq!(ana.cookies, before);
        ana.logout().await.refused(503, "storage_unavailable");
        assert_eq!(ana.cookies, before);
        store.recover();
        ana.user().await.expect(StatusCode::OK);
        ana.refresh().await.expect(StatusCode::OK);
        service.signed_in("ana").await;
    }
    assert_eq!(service.session_of(&ana).await.generation.0, 2);
}

#[tokio::test]
async fn while_the_disk_is_full_reading_goes_on() {
    let (service, store, ana) = service_with_troubles().await;
    store.have(Trouble::ReadOnly);
    ana.user().await.expect(StatusCode::OK);
    ana.get("/users/csrf")
        .with_cookies()
        .send()
        .await
        .expect(StatusCode::OK);
    let mut visitor = service.visitor();
    // An attempt that cannot be counted is not made, whichever password it is.
    for password in ["wrong password", PASSWORD] {
        let answer = visitor.login("ana", password).await;
        answer.refused(503, "storage_unavailable");
    }
    ana.clone()
        .refresh()
        .await
        .refused(503, "storage_unavailable");
    let change = ana.patch("/users/user").with_token().with_csrf();
    let answer = change.json(&json!({"first_name": "Ana"})).send().await;
    answer.refused(503, "storage_unavailable");
}

#[tokio::test]
async fn a_reuse_that_cannot_be_recorded_is_not_let_through() {
    let (service, store, mut ana) = service_with_troubles().await;
    let mut thief = ana.clone();
    ana.refresh().await.expect(StatusCode::OK);
    service.later(31);
    store.have(Trouble::ReadOnly);
    thief.refresh().await.refused(503, "storage_unavailable");
    store.recover();
    thief.refresh().await.refused(401, "refresh_reused");
    ana.user().await.refused(401, "session_ended");
}

#[tokio::test]
async fn what_needs_no_store_works_without_it() {
    let (_service, store, ana) = service_with_troubles().await;
    store.have(Trouble::Unavailable);
    for path in [
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/openapi.json",
        "/docs",
        "/users/csrf",
    ] {
        let call = ana.get(path).with_cookies();
        call.send().await.expect(StatusCode::OK);
    }
    // Refusals that need no look-up stay refusals.
    let call = ana.get("/users/user").bearer("junk");
    call.send().await.refused(401, "token_malformed");
    let call = ana.post("/users/refresh_token").with_cookies();
    call.send().await.refused(403, "csrf_missing");
    let junk = ana.post("/users/refresh_token").with_csrf();
    let answer = junk.header("cookie", "refreshtoken=junk").send().await;
    answer.refused(401, "refresh_invalid");
}

#[tokio::test]
async fn a_row_that_cannot_be_is_our_fault_and_tells_nothing() {
    let (service, store, ana) = service_with_troubles().await;
    store.have(Trouble::Corrupt);
    for answer in everything(&service, &ana).await {
        let answer = answer.refused(500, "internal_error");
        let body = String::from_utf8(answer.bytes).unwrap();
        assert!(!body.contains(INNERMOST), "{body}");
    }
    store.recover();
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_comes_and_goes_forks_no_session() {
    let (service, store, mut ana) = service_with_troubles().await;
    let trouble = Arc::clone(&store);
    let flapping = tokio::spawn(async move {
        for _ in 0..200 {
            trouble.have(Trouble::Unavailable);
            tokio::task::yield_now().await;
            trouble.recover();
            tokio::task::yield_now().await;
        }
    });
    let mut refreshed = 0;
    for _ in 0..200 {
        let answer = ana.refresh().await;
        if answer.status == StatusCode::OK {
            refreshed += 1;
        } else {
            answer.refused(503, "storage_unavailable");
        }
        tokio::task::yield_now().await;
    }
    flapping.await.unwrap();
    ana.refresh().await.expect(StatusCode::OK);
    assert_eq!(service.session_of(&ana).await.generation.0, refreshed + 1);
}
