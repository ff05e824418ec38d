//! `GET /.well-known/revocations`: what resource servers are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Answer, Client, FOREIGN, Service, Setup, decoded, service_with_ana};
use crate::troubled_store::{Trouble, TroubledStore};
use countersign::FeedToken;
use countersign::core::session::EndedBy;
use countersign_token::revocation::{RevokedKey, RevokedSession, RevokedUser};
use countersign_token::{RevocationList, UnixSeconds};
use http::StatusCode;
use jiff::Timestamp;

const FEED: &str = "/.well-known/revocations";
const BY: EndedBy = EndedBy::CommandLine;

/// How long an end is told: the life of a token and three minutes.
const TOLD_FOR: i64 = 8 * 60;

fn listed(answer: &Answer) -> RevocationList {
    RevocationList::parse(&answer.bytes).unwrap()
}

async fn feed(client: &Client) -> RevocationList {
    let answer = client.get(FEED).send().await.expect(StatusCode::OK);
    listed(&answer)
}

async fn tag(client: &Client) -> String {
    let answer = client.get(FEED).send().await.expect(StatusCode::OK);
    answer.header("etag").to_owned()
}

fn seconds(time: Timestamp) -> UnixSeconds {
    UnixSeconds::new(time.as_second().try_into().unwrap())
}

fn now(service: &Service) -> UnixSeconds {
    use countersign::core::clock::Clock as _;
    seconds(service.clock.now())
}

fn after(time: UnixSeconds, by: i64) -> UnixSeconds {
    UnixSeconds::new(time.get() + u64::try_from(by).unwrap())
}

#[tokio::test]
async fn as_long_as_nothing_has_ended_nothing_is_listed() {
    let (service, visitor, ana) = service_with_ana().await;
    ana.clone().refresh().await.expect(StatusCode::OK);
    let answer = visitor.get(FEED).send().await.expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-cache");
    assert!(answer.set_cookies().is_empty());
    assert_eq!(listed(&answer), RevocationList::empty(now(&service)));
    let issued_at = answer.json["issued_at"].as_str().unwrap();
    assert!(issued_at.ends_with('Z'), "{issued_at}");
}

#[tokio::test]
async fn a_session_that_ended_is_listed_for_as_long_as_a_token_of_it_may_live() {
    let (service, visitor, ana) = service_with_ana().await;
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    let until = after(now(&service), TOLD_FOR);
    let sid = ana.session_id();
    let entry = RevokedSession { sid, until };
    service.later(1);
    let list = feed(&visitor).await;
    assert_eq!(list.issued_at, now(&service));
    assert_eq!(list.sessions, std::slice::from_ref(&entry));
    assert_eq!((list.users, list.keys), (Vec::new(), Vec::new()));
    service.later(TOLD_FOR - 2);
    assert_eq!(feed(&visitor).await.sessions, [entry]);
    service.later(1);
    assert_eq!(feed(&visitor).await.sessions, []);
}

#[tokio::test]
async fn users_who_may_not_sign_in_any_more_are_listed_with_the_time_of_it() {
    let (service, visitor, _) = service_with_ana().await;
    for name in ["bob", "cem", "dora"] {
        service.make_user(name).await;
        service.signed_in(name).await;
    }
    service.signed_in("bob").await;
    service.advance(jiff::SignedDuration::from_millis(1_500));
    service.deactivate("bob").await;
    let user = |name: &'static str| {
        let auth = Arc::clone(&service.auth);
        async move { auth.find_user(name).await.unwrap() }
    };
    let (bob, cem, dora) = (user("bob").await, user("cem").await, user("dora").await);
    service.auth.delete_user(cem.id, BY).await.unwrap();
    // New powers are no reason to refuse the user: the sessions say enough.
    let set = service.auth.set_roles(dora.id, true, false, BY).await;
    set.unwrap();
    let list = feed(&visitor).await;
    // Whole seconds, and never too few.
    let not_before = after(now(&service), 1);
    let entry = |id: countersign::core::user::UserId| RevokedUser {
        sub: id.to_string(),
        not_before,
        until: after(not_before, TOLD_FOR),
    };
    assert_eq!(list.users, [entry(bob.id), entry(cem.id)]);
    assert_eq!(list.sessions.len(), 4);
    service.later(TOLD_FOR + 1);
    assert_eq!(feed(&visitor).await, RevocationList::empty(now(&service)));
}

#[tokio::test]
async fn a_revoked_key_is_listed_for_a_day() {
    let (service, visitor, ana) = service_with_ana().await;
    let header = decoded(ana.token().split('.').next().unwrap());
    let kid = header["kid"].as_str().unwrap().to_owned();
    service
        .auth
        .revoke_key(&kid, EndedBy::CommandLine)
        .await
        .unwrap();
    let until = after(now(&service), 24 * 3_600);
    assert_eq!(feed(&visitor).await.keys, [RevokedKey { kid, until }]);
    service.later(24 * 3_600);
    assert_eq!(feed(&visitor).await.keys, []);
    service.auth.do_upkeep().await.unwrap();
    assert_eq!(feed(&visitor).await.keys, []);
}

#[tokio::test]
async fn who_has_the_list_already_is_spared_it() {
    let (service, visitor, ana) = service_with_ana().await;
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    let tag = tag(&visitor).await;
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    service.later(1);
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
        let call = visitor.get(FEED).header("if-none-match", &known);
        let answer = call.send().await.expect(StatusCode::NOT_MODIFIED);
        assert!(answer.bytes.is_empty());
        assert_eq!(answer.header("etag"), tag);
    }
    let bob = service.make_user("bob").await;
    service.signed_in("bob").await;
    service.auth.delete_user(bob.id, BY).await.unwrap();
    let call = visitor.get(FEED).header("if-none-match", &tag);
    let answer = call.send().await.expect(StatusCode::OK);
    assert_ne!(answer.header("etag"), tag);
}

#[tokio::test]
async fn processes_that_list_the_same_call_it_the_same() {
    let (service, visitor, ana) = service_with_ana().await;
    let other = service.signed_in("ana").await;
    let beside = service.setup_beside().start().await;
    let there = beside.visitor();
    assert_eq!(tag(&visitor).await, tag(&there).await);
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    let other = beside.called_by(&other);
    other.clone().logout().await.expect(StatusCode::NO_CONTENT);
    let (listed_here, known) = (feed(&visitor).await, tag(&visitor).await);
    // When each made its list is no part of what it says; nor does it matter when a process started.
    service.later(7);
    let started = service.setup_beside().start().await;
    for client in [there, started.visitor()] {
        let other_list = feed(&client).await;
        assert_eq!(other_list.sessions, listed_here.sessions);
        assert_eq!(tag(&client).await, known);
    }
}

/// Waits for something new, from now on.
fn wait_for_news(client: &Client, known: &str) -> tokio::task::JoinHandle<Answer> {
    let (client, known) = (client.clone(), known.to_owned());
    tokio::spawn(async move {
        let call = client.get(&format!("{FEED}?wait=25"));
        call.header("if-none-match", &known).send().await
    })
}

/// Long enough for a request to have come to where it waits.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn whoever_waits_is_told_of_an_end_at_once() {
    let (service, visitor, ana) = service_with_ana().await;
    let beside = service.setup_beside().start().await;
    let waiting = [&visitor, &beside.visitor()];
    let known = tag(&visitor).await;
    let waiting = waiting.map(|client| wait_for_news(client, &known));
    a_moment().await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    let ended = Instant::now();
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    for waiting in waiting {
        let answer = waiting.await.unwrap().expect(StatusCode::OK);
        assert_eq!(listed(&answer).sessions[0].sid, ana.session_id());
        assert_ne!(answer.header("etag"), known);
    }
    assert!(ended.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn whoever_waits_is_told_of_a_revoked_key_at_once() {
    let (service, visitor, ana) = service_with_ana().await;
    let beside = service.setup_beside().start().await;
    let known = tag(&visitor).await;
    let waiting = [&visitor, &beside.visitor()].map(|client| wait_for_news(client, &known));
    a_moment().await;
    let header = decoded(ana.token().split('.').next().unwrap());
    let kid = header["kid"].as_str().unwrap();
    let revoked = Instant::now();
    service
        .auth
        .revoke_key(kid, EndedBy::CommandLine)
        .await
        .unwrap();
    for waiting in waiting {
        let answer = waiting.await.unwrap().expect(StatusCode::OK);
        assert_eq!(listed(&answer).keys[0].kid, kid);
    }
    assert!(revoked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn whoever_waits_for_nothing_is_told_that_there_is_nothing_new() {
    let (service, visitor, ana) = service_with_ana().await;
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    let bob = service.make_user("bob").await;
    let known = tag(&visitor).await;
    tokio::time::pause();
    for (wait, expected) in [("0", 0), ("1", 1), ("25", 25), ("1000000", 25)] {
        let asked = tokio::time::Instant::now();
        let call = visitor.get(&format!("{FEED}?wait={wait}"));
        let answer = call.header("if-none-match", &known).send().await;
        let answer = answer.expect(StatusCode::NOT_MODIFIED);
        assert_eq!(answer.header("etag"), known);
        assert_eq!(asked.elapsed().as_secs(), expected, "{wait}");
    }
    // What is no end wakes nobody: a change of a user, say.
    let waiting = wait_for_news(&visitor, &known);
    let asked = tokio::time::Instant::now();
    let set = service.auth.set_active(bob.id, true, BY).await;
    set.unwrap();
    waiting.await.unwrap().expect(StatusCode::NOT_MODIFIED);
    assert_eq!(asked.elapsed().as_secs(), 25);
}

#[tokio::test]
async fn whoever_does_not_have_the_list_need_not_wait_for_it() {
    let (_service, visitor, _) = service_with_ana().await;
    tokio::time::pause();
    let asked = tokio::time::Instant::now();
    let answer = visitor.get(&format!("{FEED}?wait=25")).send().await;
    answer.expect(StatusCode::OK);
    let call = visitor.get(&format!("{FEED}?wait=25"));
    let answer = call.header("if-none-match", "\"older\"").send().await;
    answer.expect(StatusCode::OK);
    assert_eq!(asked.elapsed().as_secs(), 0);
}

#[tokio::test]
async fn a_wait_is_one_number_of_seconds() {
    let (_service, visitor, _) = service_with_ana().await;
    for nonsense in [
        "wait=",
        "wait=soon",
        "wait=-1",
        "wait=1.5",
        "wait=1s",
        "wait=99999999999999999999",
        "wait=1&wait=2",
        "wait=1&wait=1",
        "wait=%31%20",
    ] {
        let answer = visitor.get(&format!("{FEED}?{nonsense}")).send().await;
        answer.refused(400, "malformed_request");
    }
    for other in ["", "waiting=x", "x=1&y=2", "Wait=x"] {
        let answer = visitor.get(&format!("{FEED}?{other}")).send().await;
        answer.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn a_feed_that_is_not_for_everybody_is_for_who_shows_its_token() {
    let mut setup = Setup::development();
    setup.http.revocations_token = Some(FeedToken::new("for-resource-servers-only"));
    let service = setup.start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let refused = ana.get(FEED).with_cookies().send().await;
    let refused = refused.refused(401, "credentials_missing");
    assert_eq!(refused.header("etag"), "");
    for wrong in [
        "for-resource-servers-onlY",
        "for-resource-servers-only2",
        "x",
        ana.token(),
    ] {
        let call = ana.get(FEED).bearer(wrong);
        call.send().await.refused(401, "credentials_missing");
    }
    // Before anything else is looked at.
    let call = ana.get(&format!("{FEED}?wait=soon"));
    call.send().await.refused(401, "credentials_missing");
    let call = ana.get(FEED).bearer("for-resource-servers-only");
    let answer = call.send().await.expect(StatusCode::OK);
    listed(&answer);
    // And it opens nothing else.
    let call = ana.get("/users/user").bearer("for-resource-servers-only");
    call.send().await.refused(401, "token_malformed");
}

#[tokio::test]
async fn a_process_that_stops_lets_nobody_wait() {
    let (service, visitor, _) = service_with_ana().await;
    let known = tag(&visitor).await;
    let waiting = wait_for_news(&visitor, &known);
    a_moment().await;
    let stopped = Instant::now();
    service.auth.let_nobody_wait();
    waiting.await.unwrap().expect(StatusCode::NOT_MODIFIED);
    // Nor those who come after.
    let answer = wait_for_news(&visitor, &known).await.unwrap();
    answer.expect(StatusCode::NOT_MODIFIED);
    assert!(stopped.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn however_many_wait_the_next_one_is_answered() {
    let (service, visitor, ana) = service_with_ana().await;
    let known = tag(&visitor).await;
    let waiting: Vec<_> = (0..1_024)
        .map(|number| wait_for_news(&visitor.elsewhere(number), &known))
        .collect();
    a_moment().await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    let asked = Instant::now();
    let answer = wait_for_news(&visitor, &known).await.unwrap();
    answer.expect(StatusCode::NOT_MODIFIED);
    assert!(asked.elapsed() < Duration::from_secs(5));
    ana.user().await.expect(StatusCode::OK);
    service.auth.let_nobody_wait();
    for waiting in waiting {
        waiting.await.unwrap().expect(StatusCode::NOT_MODIFIED);
    }
}

#[tokio::test]
async fn half_a_list_is_never_told() {
    let store = Arc::new(TroubledStore::default());
    let service = Setup::development().over(Arc::clone(&store) as _);
    let service = service.start().await;
    let beside = service.setup_beside().over(Arc::new(store.beside()));
    let beside = beside.start().await;
    service.make_user("ana").await;
    let ana = beside.signed_in("ana").await;
    let visitor = service.visitor();
    let known = tag(&visitor).await;
    store.have(Trouble::Unavailable);
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    // Not even that nothing has changed.
    for call in [
        visitor.get(FEED),
        visitor.get(FEED).header("if-none-match", &known),
    ] {
        let answer = call.send().await.refused(503, "storage_unavailable");
        assert_eq!(answer.header("retry-after"), "2");
    }
    store.recover();
    let call = visitor.get(FEED).header("if-none-match", &known);
    let answer = call.send().await.expect(StatusCode::OK);
    assert_eq!(listed(&answer).sessions[0].sid, ana.session_id());
}

#[tokio::test]
async fn a_process_that_hears_nothing_lists_what_the_store_knows() {
    let store = Arc::new(TroubledStore::default());
    let service = Setup::development().over(Arc::clone(&store) as _);
    let service = service.start().await;
    let beside = service.setup_beside().over(Arc::new(store.beside()));
    let beside = beside.start().await;
    service.make_user("ana").await;
    let visitor = service.visitor();
    store.lose_the_feed();
    for _ in 0..2 {
        let ana = beside.signed_in("ana").await;
        let known = tag(&visitor).await;
        ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
        let call = visitor.get(FEED).header("if-none-match", &known);
        let answer = call.send().await.expect(StatusCode::OK);
        let sid = ana.session_id();
        assert!(
            listed(&answer)
                .sessions
                .iter()
                .any(|entry| entry.sid == sid)
        );
    }
    // It is not told of ends, so whoever waits is told of them when the wait is over.
    let known = tag(&visitor).await;
    let ana = beside.signed_in("ana").await;
    let reads = store.reads();
    tokio::time::pause();
    let waiting = wait_for_news(&visitor, &known);
    tokio::time::sleep(Duration::from_secs(1)).await;
    ana.clone().logout().await.expect(StatusCode::NO_CONTENT);
    let answer = waiting.await.unwrap().expect(StatusCode::OK);
    let sid = ana.session_id();
    assert!(
        listed(&answer)
            .sessions
            .iter()
            .any(|entry| entry.sid == sid)
    );
    assert!(store.reads() < reads + 20, "it does not ask all the time");
}

#[tokio::test]
async fn the_feed_is_for_programs_and_changes_nothing() {
    let (_service, visitor, ana) = service_with_ana().await;
    let call = visitor.get(FEED).on_page(FOREIGN);
    let answer = call.send().await.expect(StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let answer = visitor.post(FEED).send().await;
    answer.refused(405, "method_not_allowed");
    let call = ana.get(FEED).with_cookies().with_token();
    let answer = call.send().await.expect(StatusCode::OK);
    assert!(answer.set_cookies().is_empty());
    let body = String::from_utf8(answer.bytes).unwrap();
    assert!(!body.contains("ana") && !body.contains(&ana.session_id()));
}
