//! Over a store that speaks SQL: text that means something to it is only text everywhere, and a lock that
//! somebody holds is waited for and then told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Client, LISTED, PASSWORD, Service, Setup};
use countersign::core::audit::Trail;
use countersign::core::clock::Clock as _;
use countersign::core::session::{EndReason, EndedBy, SessionEnd};
use countersign::core::store::{Store as _, UserQuery};
use countersign_sql::{SqliteOptions, SqliteStore};
use http::StatusCode;
use serde_json::json;
use tempfile::TempDir;

const SPELLS: [&str; 16] = [
    "' OR 1=1--",
    "' OR '1'='1",
    "\" OR \"\"=\"",
    "ana'--",
    "ana' #",
    "'; DROP TABLE auth_user;--",
    "\"; DROP TABLE countersign_session; --",
    "' UNION SELECT id, password FROM auth_user--",
    "\\",
    "\\'",
    "%",
    "_",
    "an_",
    "a%",
    "?1",
    ":username",
];

async fn over_sqlite() -> (Service, Client, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new(directory.path().join("countersign.db"));
    let store = SqliteStore::open(&options).unwrap();
    let setup = Setup::development().unthrottled().over(Arc::new(store));
    let service = setup.start().await;
    service.make_user("ana").await;
    service.make_user("bob").await;
    let ana = service.signed_in("ana").await;
    (service, ana, directory)
}

async fn everything_stands(service: &Service) {
    let query = UserQuery {
        search: None,
        after: None,
        limit: 100,
    };
    let users = service.auth.list_users(&query).await.unwrap();
    let names: Vec<_> = users.iter().map(|user| user.username.as_str()).collect();
    assert_eq!(names, ["ana", "bob"]);
    assert!(
        users
            .iter()
            .all(|user| !user.is_superuser && user.is_active)
    );
    service.signed_in("ana").await;
    service.signed_in("bob").await;
}

#[tokio::test]
async fn a_username_or_password_is_only_text() {
    let (service, ana, _directory) = over_sqlite().await;
    for spell in SPELLS {
        let mut visitor = service.visitor();
        let answer = visitor.login(spell, PASSWORD).await;
        answer.refused(401, "invalid_credentials");
        let answer = visitor.login("ana", spell).await;
        answer.refused(401, "invalid_credentials");
        let both = json!({"username": spell, "password": spell, "remember": spell});
        let answer = visitor.post("/users/login").json(&both).send().await;
        answer.refused(400, "validation_failed");
    }
    everything_stands(&service).await;
    ana.user().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_name_is_stored_and_told_to_the_letter() {
    let (service, ana, _directory) = over_sqlite().await;
    for spell in SPELLS
        .into_iter()
        .chain(["<script>alert(1)</script>", "🙂", "Robert'); --"])
    {
        let change = json!({"first_name": spell, "last_name": spell});
        let call = ana.patch("/users/user").with_token().with_csrf();
        let answer = call.json(&change).send().await.expect(StatusCode::OK);
        assert_eq!(answer.json["user"]["first_name"], spell);
        let user = ana.user().await.json["user"].clone();
        assert_eq!(
            (&user["first_name"], &user["last_name"]),
            (&json!(spell), &json!(spell))
        );
        let other = service.auth.find_user("bob").await.unwrap();
        assert_eq!(other.first_name, "");
    }
    everything_stands(&service).await;
}

#[tokio::test]
async fn tokens_cookies_and_headers_are_only_text() {
    let (service, ana, _directory) = over_sqlite().await;
    for spell in SPELLS {
        let call = ana.get("/users/user").bearer(spell);
        call.send().await.refused(401, "token_malformed");
        let call = ana.post("/users/refresh_token").with_csrf();
        let answer = call.header("cookie", &format!("refreshtoken={spell}"));
        answer.send().await.refused(401, "refresh_invalid");
        let call = ana.post("/users/refresh_token").with_cookies();
        let answer = call.header("x-csrftoken", spell).send().await;
        answer.refused(403, "csrf_invalid");
        let call = ana.get("/users/user").with_token();
        let call = call.on_page(LISTED).header("x-request-id", spell);
        call.send().await.expect(StatusCode::OK);
    }
    everything_stands(&service).await;
}

#[tokio::test]
async fn what_a_client_calls_itself_is_only_text() {
    let (service, _, _directory) = over_sqlite().await;
    for spell in SPELLS {
        let mut visitor = service.visitor();
        let body = json!({"username": "ana", "password": PASSWORD});
        let call = visitor.post("/users/login").json(&body);
        let answer = call.header("user-agent", spell).send().await;
        visitor.keep(&answer.expect(StatusCode::OK));
        let session = service.session_of(&visitor).await;
        assert_eq!(session.user_agent.as_deref(), Some(spell));
    }
    everything_stands(&service).await;
}

#[tokio::test]
async fn a_search_finds_its_letters_and_no_pattern() {
    let (service, _, _directory) = over_sqlite().await;
    for spell in SPELLS {
        let query = UserQuery {
            search: Some(spell.to_owned()),
            after: None,
            limit: 100,
        };
        let found = service.auth.list_users(&query).await.unwrap();
        assert!(found.is_empty(), "{spell} finds {found:?}");
    }
    everything_stands(&service).await;
}

#[tokio::test]
async fn the_whole_journey_works_over_sqlite() {
    let (service, mut ana, directory) = over_sqlite().await;
    let first = ana.clone();
    ana.refresh().await.expect(StatusCode::OK);
    let mut replayed = first.clone();
    replayed.refresh().await.expect(StatusCode::OK);
    assert_eq!(replayed.refresh_token(), ana.refresh_token());
    service.later(31);
    let mut thief = first;
    thief.refresh().await.refused(401, "refresh_reused");
    ana.user().await.refused(401, "session_ended");
    let mut ana = service.signed_in("ana").await;
    // A process that starts anew over the same file knows the sessions and the keys.
    let mut again = service.setup_beside();
    let options = SqliteOptions::new(directory.path().join("countersign.db"));
    again.store = Arc::new(SqliteStore::open(&options).unwrap());
    let again = again.start().await;
    let mut there = again.visitor();
    there.cookies.clone_from(&ana.cookies);
    there.csrf_token.clone_from(&ana.csrf_token);
    there.access_token.clone_from(&ana.access_token);
    there.user().await.expect(StatusCode::OK);
    there.refresh().await.expect(StatusCode::OK);
    there.logout().await.expect(StatusCode::NO_CONTENT);
    there.user().await.refused(401, "session_ended");
    // What one process ends the other hears of within this time.
    tokio::time::sleep(Duration::from_millis(250)).await;
    ana.user().await.refused(401, "session_ended");
    ana.refresh().await.refused(401, "session_ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_refreshes_with_one_token_converge_over_sqlite() {
    let (service, ana, _directory) = over_sqlite().await;
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut racer = ana.clone();
        racers.spawn(async move {
            racer.refresh().await.expect(StatusCode::OK);
            racer.refresh_token().unwrap().to_owned()
        });
    }
    let mut tokens = racers.join_all().await;
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    assert_eq!(service.session_of(&ana).await.generation.0, 1);
}

/// A service that waits for a lock for 300 ms, and a connection of somebody else's.
async fn beside_a_stranger() -> (Service, Client, rusqlite::Connection, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("countersign.db");
    let options = SqliteOptions::new(&path).timeout(Duration::from_millis(300));
    let store = SqliteStore::open(&options).unwrap();
    let setup = Setup::development().over(Arc::new(store));
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    ana.user().await.expect(StatusCode::OK);
    let stranger = rusqlite::Connection::open(&path).unwrap();
    (service, ana, stranger, directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_too_long_is_a_503_and_nothing_is_half_done() {
    let (service, mut ana, stranger, _directory) = beside_a_stranger().await;
    let before = ana.clone();
    stranger.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let body = json!({"current_password": PASSWORD, "new_password": "a quiet river"});
    let end = format!("/users/sessions/{}", ana.session_id());
    for call in [
        ana.post("/users/refresh_token").with_cookies().with_csrf(),
        ana.post("/users/logout").with_cookies().with_csrf(),
        ana.post("/users/password")
            .with_token()
            .with_csrf()
            .json(&body),
        ana.delete(&end).with_token().with_csrf(),
    ] {
        let asked = Instant::now();
        let answer = call.send().await.refused(503, "storage_unavailable");
        assert_eq!(answer.header("retry-after"), "2");
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert!(answer.set_cookies().is_empty(), "the cookies stay");
    }
    // Reading goes on meanwhile.
    ana.user().await.expect(StatusCode::OK);
    let call = ana.get("/users/sessions").with_token();
    call.send().await.expect(StatusCode::OK);
    stranger.execute_batch("ROLLBACK").unwrap();
    assert_eq!(service.session_of(&ana).await.generation.0, 0);
    ana.refresh().await.expect(StatusCode::OK);
    ana.user().await.expect(StatusCode::OK);
    before.user().await.expect(StatusCode::OK);
    service.signed_in("ana").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_given_back_in_time_is_not_noticed() {
    let (service, mut ana, stranger, _directory) = beside_a_stranger().await;
    for generation in 1..=5 {
        stranger.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let refresh = tokio::spawn(async move {
            ana.refresh().await.expect(StatusCode::OK);
            ana
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!refresh.is_finished());
        stranger.execute_batch("COMMIT").unwrap();
        ana = refresh.await.unwrap();
        ana.user().await.expect(StatusCode::OK);
        assert_eq!(service.session_of(&ana).await.generation.0, generation);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_is_told_that_a_session_has_ended_finds_it_refused_whoever_ended_it() {
    let (service, _, directory) = over_sqlite().await;
    let options = SqliteOptions::new(directory.path().join("countersign.db"));
    let other_process = SqliteStore::open(&options).unwrap();
    for round in 0..30 {
        let mut ana = service.signed_in("ana").await;
        let held = ana.clone();
        let end = SessionEnd {
            reason: EndReason::RevokedByAdmin,
            at: service.clock.now(),
            by: EndedBy::CommandLine,
        };
        let id = ana.session_id().parse().unwrap();
        // Before the service can have heard of it.
        assert!(
            other_process
                .end_session(id, end, &Trail::default())
                .await
                .unwrap()
        );
        match round % 3 {
            0 => {
                ana.logout().await.expect(StatusCode::NO_CONTENT);
            }
            1 => {
                ana.refresh().await.refused(401, "session_ended");
            }
            _ => {
                let other = service.signed_in("ana").await;
                let path = format!("/users/sessions/{id}");
                let call = other.delete(&path).with_token().with_csrf();
                call.send().await.expect(StatusCode::NO_CONTENT);
            }
        }
        let ended = held.user().await.refused(401, "session_ended");
        assert_eq!(ended.json["end_reason"], "revoked_by_admin");
    }
}
