//! The audit log: what each journey leaves in it, and that it leaves nothing else.

use std::sync::Arc;

use crate::harness::{Client, FOREIGN, LISTED, PASSWORD, Service, Setup, service_with_ana};
use crate::troubled_store::{Trouble, TroubledStore};
use countersign::core::audit::{AuditEntry, AuditQuery};
use countersign::core::session::EndedBy;
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::json;

/// Every entry, in the order in which they were written.
async fn entries(service: &Service) -> Vec<AuditEntry> {
    let everything = AuditQuery {
        user: None,
        session: None,
        event: None,
        since: None,
        until: None,
        after: None,
        limit: 1_000,
    };
    let mut listed = service.auth.list_audit(&everything).await.unwrap();
    listed.sort_by_key(|recorded| recorded.number);
    listed.into_iter().map(|recorded| recorded.entry).collect()
}

/// In words: the event, what else is said of it, and who did it.
fn in_words(entry: &AuditEntry) -> String {
    let mut words = vec![entry.event.clone()];
    let details = entry.details.iter();
    words.extend(details.map(|(name, value)| format!("{name}={value}").replace('"', "")));
    if entry.count > 1 {
        words.push(format!("×{}", entry.count));
    }
    words.push(match entry.by {
        Some(EndedBy::User(id)) => format!("by user {id}"),
        Some(EndedBy::CommandLine) => "by the command line".to_owned(),
        Some(EndedBy::Service) => "by the service".to_owned(),
        None => "by nobody".to_owned(),
    });
    words.join(" ")
}

/// What a part of a test leaves.
struct Reader<'service> {
    service: &'service Service,
    seen: usize,
}

impl<'service> Reader<'service> {
    /// From now on.
    async fn of(service: &'service Service) -> Self {
        let seen = entries(service).await.len();
        Self { service, seen }
    }

    async fn news(&mut self) -> Vec<AuditEntry> {
        let all = entries(self.service).await;
        let news = all[self.seen..].to_vec();
        self.seen = all.len();
        news
    }

    async fn expect(&mut self, expected: &[&str]) {
        let news = self.news().await;
        let words: Vec<_> = news.iter().map(in_words).collect();
        assert_eq!(words, expected);
    }
}

#[tokio::test]
async fn a_new_service_tells_of_its_keys_and_its_first_user() {
    let service = Setup::development().start().await;
    service.make_user("ana").await;
    let entries = entries(&service).await;
    let [key, made] = &*entries else {
        panic!("not two: {entries:?}")
    };
    assert_eq!(
        (&*key.event, key.by),
        ("signing_key_moved", Some(EndedBy::Service))
    );
    assert_eq!(key.details["state"], "current");
    assert_eq!(in_words(made), "user_created by the command line");
    assert!(made.user.is_some());
}

#[tokio::test]
async fn a_sign_in_and_a_sign_out_say_who_and_from_where() {
    let (service, mut visitor, _) = service_with_ana().await;
    let ana = service.auth.find_user("ana").await.unwrap().id;
    let mut log = Reader::of(&service).await;
    let body = json!({"username": "ana", "password": PASSWORD});
    let call = visitor.post("/users/login").header("user-agent", "curl/8");
    let answer = call.json(&body).send().await.expect(StatusCode::OK);
    visitor.keep(&answer);
    let news = log.news().await;
    assert_eq!(news.len(), 1, "{news:?}");
    let entry = &news[0];
    let id = visitor.session_id();
    assert_eq!(entry.event, "login_succeeded");
    assert_eq!(
        (entry.user, entry.by),
        (Some(ana), Some(EndedBy::User(ana)))
    );
    assert_eq!(entry.session.map(|id| id.to_string()), Some(id.clone()));
    let caller = &entry.caller;
    let address = caller.address.map(|address| address.to_string());
    assert_eq!(address.as_deref(), Some("192.0.2.7"));
    assert_eq!(caller.user_agent.as_deref(), Some("curl/8"));
    let request = answer.header("x-request-id");
    assert_eq!(caller.request_id.as_deref(), Some(request));

    visitor.refresh().await.expect(StatusCode::OK);
    log.expect(&[]).await;
    visitor.logout().await.expect(StatusCode::NO_CONTENT);
    let news = log.news().await;
    assert_eq!(
        in_words(&news[0]),
        format!("session_ended reason=logout by user {ana}")
    );
    assert_eq!(news[0].session.map(|id| id.to_string()), Some(id));
    assert_eq!(news[0].caller.address, caller.address);
    assert_eq!(news.len(), 1);
    // Saying it twice changes nothing.
    visitor.logout().await.expect(StatusCode::NO_CONTENT);
    log.expect(&[]).await;
}

#[tokio::test]
async fn each_refusal_of_a_sign_in_is_an_entry_that_does_not_say_what_was_typed() {
    let (service, mut visitor, _) = service_with_ana().await;
    service.make_user("bob").await;
    service.deactivate("bob").await;
    let mut log = Reader::of(&service).await;
    visitor
        .login("ana", "CANARY-password")
        .await
        .refused(401, "invalid_credentials");
    visitor
        .login("CANARY-name", "CANARY-password")
        .await
        .refused(401, "invalid_credentials");
    visitor
        .login("bob", PASSWORD)
        .await
        .refused(403, "user_inactive");
    let news = log.news().await;
    let words: Vec<_> = news.iter().map(in_words).collect();
    assert_eq!(
        words,
        [
            "login_refused reason=wrong_password by nobody",
            "login_refused reason=unknown_user by nobody",
            "login_refused reason=user_inactive by nobody",
        ]
    );
    assert_eq!(
        news[0].user,
        Some(service.auth.find_user("ana").await.unwrap().id)
    );
    assert_eq!(news[1].user, None);
    assert!(!format!("{news:?}").contains("CANARY"));
}

#[tokio::test]
async fn a_stolen_refresh_token_leaves_what_it_is_taken_for() {
    let (service, _, mut ana) = service_with_ana().await;
    let stolen = ana.clone();
    ana.refresh().await.expect(StatusCode::OK);
    service.later(31);
    let mut log = Reader::of(&service).await;
    let mut thief = stolen.elsewhere(7);
    thief.refresh().await.refused(401, "refresh_reused");
    let news = log.news().await;
    let words: Vec<_> = news.iter().map(in_words).collect();
    assert_eq!(
        words,
        [
            "refresh_reused by nobody",
            "session_ended reason=reuse_detected by the service"
        ]
    );
    for entry in &news {
        let address = entry.caller.address.unwrap().to_string();
        assert_eq!(address, "2001:db8:7::7", "the thief's, not the owner's");
        assert_eq!(
            entry.session.map(|id| id.to_string()),
            Some(ana.session_id())
        );
    }
}

#[tokio::test]
async fn a_changed_password_leaves_itself_and_each_session_that_it_ended() {
    let (service, _, ana) = service_with_ana().await;
    let _elsewhere = service.signed_in("ana").await;
    let mut log = Reader::of(&service).await;
    let change = |current: &str| json!({"current_password": current, "new_password": "a quiet river under old stars"});
    let ask = async |body| {
        let call = ana.post("/users/password").with_token().with_csrf();
        call.json(&body).send().await
    };
    ask(change("wrong and long enough"))
        .await
        .refused(401, "invalid_credentials");
    let by = format!(
        "by user {}",
        service.auth.find_user("ana").await.unwrap().id
    );
    log.expect(&[&format!("password_change_refused {by}")])
        .await;
    ask(change(PASSWORD)).await.expect(StatusCode::NO_CONTENT);
    let ended = format!("session_ended reason=password_changed {by}");
    log.expect(&[&format!("password_set {by}"), &ended]).await;
}

#[tokio::test]
async fn what_an_operator_does_is_the_command_lines() {
    let (service, _, _ana) = service_with_ana().await;
    let user = service.auth.find_user("ana").await.unwrap();
    let by = EndedBy::CommandLine;
    let mut log = Reader::of(&service).await;
    service
        .auth
        .set_roles(user.id, true, false, by)
        .await
        .unwrap();
    let ended = |reason: &str| format!("session_ended reason={reason} by the command line");
    log.expect(&[
        "roles_set is_staff=true is_superuser=false by the command line",
        &ended("roles_changed"),
    ])
    .await;
    let again = service.signed_in("ana").await;
    log.news().await;
    service.auth.revoke_sessions_of(user.id, by).await.unwrap();
    log.expect(&[&ended("revoked_by_admin")]).await;
    drop(again);
    service.auth.set_active(user.id, false, by).await.unwrap();
    log.expect(&["active_set active=false by the command line"])
        .await;
    service.auth.delete_user(user.id, by).await.unwrap();
    log.expect(&["user_deleted by the command line"]).await;
    service.auth.rotate_keys(true, by).await.unwrap();
    let states: Vec<_> = log
        .news()
        .await
        .iter()
        .map(|entry| entry.details["state"].clone())
        .collect();
    assert_eq!(states, ["current", "retired"]);
}

/// Thousands a second must not be thousands of writes.
#[tokio::test]
async fn refusals_that_cost_nothing_are_gathered_and_counted() {
    let (service, visitor, ana) = service_with_ana().await;
    let mut log = Reader::of(&service).await;
    for _ in 0..3 {
        let call = visitor.get("/users/user").bearer("CANARY-token");
        call.send().await.refused(401, "token_malformed");
        let neighbour = visitor.elsewhere(1);
        let call = neighbour.get("/users/user").bearer("CANARY-token");
        call.send().await.refused(401, "token_malformed");
    }
    let call = visitor.post("/users/refresh_token").with_csrf();
    let call = call.header("cookie", "refreshtoken=CANARY");
    call.send().await.refused(401, "refresh_invalid");
    let call = ana.post("/users/refresh_token").with_cookies();
    let call = call.header("x-csrftoken", "CANARY");
    call.send().await.refused(403, "csrf_invalid");
    let call = visitor.post("/users/login").header("origin", FOREIGN);
    call.json(&json!({}))
        .send()
        .await
        .refused(403, "origin_denied");
    log.expect(&[]).await;

    service.auth.keep_gathered().await.unwrap();
    let news = log.news().await;
    let mut words: Vec<_> = news
        .iter()
        .map(|entry| {
            let address = entry.caller.address.unwrap();
            format!("{} from {address}", in_words(entry))
        })
        .collect();
    words.sort();
    assert_eq!(
        words,
        [
            "access_token_refused reason=parts ×3 by nobody from 192.0.2.7",
            "access_token_refused reason=parts ×3 by nobody from 2001:db8:1::",
            "csrf_refused by nobody from 192.0.2.7",
            "origin_refused by nobody from 192.0.2.7",
            "refresh_refused reason=invalid by nobody from 192.0.2.7",
        ]
    );
    assert!(!format!("{news:?}").contains("CANARY"));
    service.auth.keep_gathered().await.unwrap();
    log.expect(&[]).await;
}

#[tokio::test]
async fn whoever_is_told_to_wait_is_gathered_with_the_limit_that_said_so() {
    let (service, visitor, _) = service_with_ana().await;
    let mut log = Reader::of(&service).await;
    let mut attempts = 0;
    loop {
        let mut stranger = visitor.clone();
        attempts += 1;
        if stranger.login("ana", "wrong and long enough").await.status
            == StatusCode::TOO_MANY_REQUESTS
        {
            break;
        }
        assert!(attempts < 100, "never throttled");
    }
    service.auth.keep_gathered().await.unwrap();
    let news = log.news().await;
    assert_eq!(
        news.len(),
        attempts,
        "one each of those that were looked at, and one for the rest"
    );
    let throttled = news.last().unwrap();
    assert_eq!(
        in_words(throttled),
        "throttled limit=login_account_from_address by nobody"
    );
    assert!(throttled.user.is_some());
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_done() {
    let store = Arc::new(TroubledStore::default());
    let service = Setup::development()
        .over(Arc::clone(&store) as _)
        .start()
        .await;
    service.make_user("ana").await;
    let mut log = Reader::of(&service).await;
    store.have(Trouble::ReadOnly);
    let mut visitor = service.visitor();
    // A refusal that leaves no trace is none.
    visitor
        .login("ana", "wrong and long enough")
        .await
        .refused(503, "storage_unavailable");
    visitor
        .login("ana", PASSWORD)
        .await
        .refused(503, "storage_unavailable");
    store.recover();
    log.expect(&[]).await;
}

#[tokio::test]
async fn entries_are_removed_when_they_have_been_kept_for_long_enough() {
    let (service, _, _) = service_with_ana().await;
    let before = entries(&service).await.len();
    assert!(before > 0);
    let days = |days: i64| SignedDuration::from_hours(24 * days);
    service.auth.do_upkeep().await.unwrap();
    assert_eq!(entries(&service).await.len(), before);
    service.advance(days(365));
    service.later(1);
    let report = service.auth.do_upkeep().await.unwrap();
    assert_eq!(usize::try_from(report.audit_removed).unwrap(), before);
    let left = entries(&service).await;
    let words: Vec<_> = left.iter().map(in_words).collect();
    // What upkeep itself has just done; the session's limit had passed after a week.
    assert!(words.contains(&"session_ended reason=expired by the service".to_owned()));
    assert!(
        words.iter().all(|word| word.ends_with("by the service")),
        "{words:?}"
    );
}

#[tokio::test]
async fn where_entries_are_kept_for_good_none_is_removed() {
    let mut setup = Setup::development();
    setup.auth.keep_audit = None;
    let service = setup.start().await;
    service.make_user("ana").await;
    service.advance(SignedDuration::from_hours(24 * 36_500));
    assert_eq!(service.auth.do_upkeep().await.unwrap().audit_removed, 0);
}

#[tokio::test]
async fn a_proxys_request_id_is_the_entrys() {
    let service = Setup::behind_a_proxy().start().await;
    service.make_user("ana").await;
    let mut log = Reader::of(&service).await;
    let mut visitor: Client = service.visitor();
    visitor.peer = "10.0.0.1:4000".parse().unwrap();
    let body = json!({"username": "ana", "password": "wrong and long enough"});
    let call = visitor.post("/users/login").header("origin", LISTED);
    let call = call
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-for", "198.51.100.4");
    let call = call.header("x-request-id", "from-the-proxy_1");
    call.json(&body)
        .send()
        .await
        .refused(401, "invalid_credentials");
    let news = log.news().await;
    assert_eq!(
        news[0].caller.request_id.as_deref(),
        Some("from-the-proxy_1")
    );
    let address = news[0].caller.address.map(|address| address.to_string());
    assert_eq!(address.as_deref(), Some("198.51.100.4"));
}

/// Whoever asks for a letter is nobody yet; whoever shows its token is the user, whose address is proven by it
/// if it was not before.
#[tokio::test]
async fn letters_that_are_asked_for_and_what_their_tokens_prove_leave_entries() {
    let service = Setup::development().with_mail().start().await;
    service.make_user("ana").await;
    let visitor = service.visitor();
    let mut log = Reader::of(&service).await;
    let ask = async |path: &str, email: &str| {
        let call = visitor.post(path).json(&json!({"email": email}));
        assert!(call.send().await.status.is_success());
    };
    let reset = async |password: &str| {
        ask("/users/password/reset", "ana@example.org").await;
        let body = json!({"token": service.mailed_token().await, "new_password": password});
        let call = visitor.post("/users/password/reset/confirm").json(&body);
        call.send().await.expect(StatusCode::NO_CONTENT);
        service.letters().await;
    };
    let ana = service.auth.find_user("ana").await.unwrap().id;
    let by_ana = |event: &str| format!("{event} by user {ana}");
    for email in ["ana@example.org", "nobody@example.org"] {
        ask("/users/email/verify/resend", email).await;
        log.expect(&["email_verification_asked by nobody"]).await;
        service.letters().await;
    }
    reset("a quiet river under old stars").await;
    log.expect(&[
        "password_reset_asked by nobody",
        &by_ana("password_reset"),
        &by_ana("email_verified"),
    ])
    .await;
    // It is proven once.
    reset("another river under other stars").await;
    log.expect(&["password_reset_asked by nobody", &by_ana("password_reset")])
        .await;
}
