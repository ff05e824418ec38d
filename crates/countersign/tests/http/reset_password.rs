//! `POST /users/password/reset` and `POST /users/password/reset/confirm`

use std::sync::Arc;

use crate::harness::{Answer, Client, FOREIGN, LISTED, PASSWORD, Service, Setup};
use countersign::core::auth::NewAccount;
use countersign::core::mail::Message;
use countersign::core::mailed_token::MOST_MAILED_TOKENS;
use countersign::core::password::Password;
use countersign::core::secrets::RootSecret;
use countersign::core::session::EndedBy;
use countersign::core::user::{Email, Username};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::troubled_store::{Trouble, TroubledStore};

const NEW: &str = "a quiet river under old stars";

async fn start(setup: Setup) -> (Service, Client) {
    let service = setup.start().await;
    service.make_user("ana").await;
    let visitor = service.visitor();
    (service, visitor)
}

async fn service_that_mails() -> (Service, Client) {
    start(Setup::development().with_mail()).await
}

async fn ask(client: &Client, email: &str) -> Answer {
    let call = client.post("/users/password/reset");
    call.json(&json!({"email": email})).send().await
}

async fn confirm(client: &Client, token: &str, new: &str) -> Answer {
    let body = json!({"token": token, "new_password": new});
    let call = client.post("/users/password/reset/confirm");
    call.json(&body).send().await
}

/// A token for Ana.
async fn anas_token(service: &Service, visitor: &Client) -> String {
    ask(visitor, "ana@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
    service.mailed_token().await
}

#[tokio::test]
async fn whoever_reads_the_letter_sets_a_new_password() {
    let (service, mut visitor) = service_that_mails().await;
    let mut signed_in = [
        service.signed_in("ana").await,
        service.signed_in("ana").await,
    ];
    ask(&visitor, "ana@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
    let [letter] = service.letters().await.try_into().unwrap();
    assert_eq!((&*letter.to, &*letter.username), ("ana@example.org", "ana"));
    let token = letter.token.unwrap();
    assert_eq!(token.len(), 64);
    let answer = confirm(&visitor, &token, NEW).await;
    let answer = answer.expect(StatusCode::NO_CONTENT);
    assert!(answer.bytes.is_empty() && answer.set_cookies().is_empty());
    for ended in &mut signed_in {
        for answer in [ended.user().await, ended.refresh().await] {
            let answer = answer.refused(401, "session_ended");
            assert_eq!(answer.json["end_reason"], "password_changed");
        }
    }
    let answer = visitor.login("ana", PASSWORD).await;
    answer.refused(401, "invalid_credentials");
    let answer = visitor.login("ana", NEW).await.expect(StatusCode::OK);
    assert_eq!(answer.json["user"]["email_verified"], true);
    let [told] = service.letters().await.try_into().unwrap();
    assert_eq!(
        (&*told.to, told.message),
        ("ana@example.org", Message::PasswordReset)
    );
    assert_eq!(told.token, None);
}

#[tokio::test]
async fn the_answer_is_the_same_for_everybody() {
    let (service, visitor) = service_that_mails().await;
    service.make_user("carol").await;
    service.deactivate("carol").await;
    let mut seen = Vec::new();
    for email in ["ana@example.org", "nobody@example.org", "carol@example.org"] {
        let answer = ask(&visitor, email).await.expect(StatusCode::ACCEPTED);
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        seen.push((answer.status, headers, answer.bytes));
    }
    assert!(seen[0].2.is_empty());
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    let letters = service.letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    // Nor does it tell whether mail is sent at all.
    let (mute, visitor) = start(Setup::development()).await;
    let answer = ask(&visitor, "ana@example.org").await;
    assert_eq!((answer.status, answer.bytes), (seen[0].0, Vec::new()));
    assert!(mute.letters().await.is_empty());
}

#[tokio::test]
async fn a_token_works_once() {
    let (service, mut visitor) = service_that_mails().await;
    let token = anas_token(&service, &visitor).await;
    confirm(&visitor, &token, NEW)
        .await
        .expect(StatusCode::NO_CONTENT);
    let answer = confirm(&visitor, &token, "another password altogether").await;
    answer.refused(400, "mailed_token_invalid");
    visitor.login("ana", NEW).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn of_fifty_who_show_a_token_at_once_one_sets_the_password() {
    let (service, visitor) = start(Setup::development().with_mail().unthrottled()).await;
    let token = Arc::new(anas_token(&service, &visitor).await);
    let mut attempts = JoinSet::new();
    for number in 0..50 {
        let (visitor, token) = (visitor.clone(), Arc::clone(&token));
        attempts.spawn(async move {
            let new = format!("{NEW} {number}");
            (confirm(&visitor, &token, &new).await, new)
        });
    }
    let mut set = Vec::new();
    while let Some(outcome) = attempts.join_next().await {
        let (answer, new) = outcome.unwrap();
        if answer.status == StatusCode::NO_CONTENT {
            set.push(new);
        } else {
            answer.refused(400, "mailed_token_invalid");
        }
    }
    let [new] = <[String; 1]>::try_from(set).unwrap();
    let mut ana = service.visitor();
    ana.login("ana", &new).await.expect(StatusCode::OK);
    let notices = service.letters().await;
    assert_eq!(notices.len(), 1, "{notices:?}");
}

#[tokio::test]
async fn a_token_expires() {
    let (service, visitor) = service_that_mails().await;
    let token = anas_token(&service, &visitor).await;
    service.later(3_599);
    let answer = confirm(&visitor, &token, "short").await;
    answer.refused(400, "validation_failed");
    service.later(1);
    let answer = confirm(&visitor, &token, NEW).await;
    answer.refused(400, "mailed_token_expired");
    // Long after, nothing is known of it.
    service.later(8 * 24 * 3_600);
    assert_eq!(
        service
            .auth
            .do_upkeep()
            .await
            .unwrap()
            .mailed_tokens_removed,
        1
    );
    let answer = confirm(&visitor, &token, NEW).await;
    answer.refused(400, "mailed_token_invalid");
}

#[tokio::test]
async fn a_token_dies_with_the_password_and_with_the_address() {
    let (service, visitor) = service_that_mails().await;
    let by = EndedBy::CommandLine;
    let ana = service.auth.find_user("ana").await.unwrap();
    let token = anas_token(&service, &visitor).await;
    let another = Password::new("set by somebody else".to_owned()).unwrap();
    service.auth.set_password(&ana, another, by).await.unwrap();
    let answer = confirm(&visitor, &token, NEW).await;
    answer.refused(400, "mailed_token_invalid");
    service.letters().await;

    let token = anas_token(&service, &visitor).await;
    let another = Email::parse("ana@example.com").unwrap();
    service.auth.set_email(&ana, another, by).await.unwrap();
    let answer = confirm(&visitor, &token, NEW).await;
    answer.refused(400, "mailed_token_invalid");
    // One that is asked for before, and mailed after, is not mailed.
    service.letters().await;
    ask(&visitor, "ana@example.com")
        .await
        .expect(StatusCode::ACCEPTED);
    assert_eq!(service.letters().await.len(), 1);
    ask(&visitor, "ana@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
    assert!(service.letters().await.is_empty());
}

#[tokio::test]
async fn what_is_not_the_token_to_the_letter_is_none() {
    let (service, mut visitor) = start(Setup::development().with_mail().unthrottled()).await;
    service.make_user("bob").await;
    let token = anas_token(&service, &visitor).await;
    ask(&visitor, "bob@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
    let bobs = service.mailed_token().await;
    let mut wrong = vec![
        String::new(),
        " ".to_owned(),
        token[..63].to_owned(),
        format!("{token}A"),
        format!("{token} "),
        token.to_lowercase(),
        // The name of one with the proof of another.
        format!("{}{}", &token[..22], &bobs[22..]),
        "A".repeat(64),
        "a".repeat(60_000),
    ];
    for at in [0, 10, 21, 22, 40, 63] {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        wrong.push(String::from_utf8(other).unwrap());
    }
    for wrong in wrong {
        let answer = confirm(&visitor, &wrong, NEW).await;
        answer.refused(400, "mailed_token_invalid");
    }
    visitor.login("ana", PASSWORD).await.expect(StatusCode::OK);
    confirm(&visitor, &token, NEW)
        .await
        .expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_token_of_another_purpose_resets_nothing() {
    let (service, visitor) = service_that_mails().await;
    let call = visitor.post("/users/email/verify/resend");
    let answer = call.json(&json!({"email": "ana@example.org"})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    let token = service.mailed_token().await;
    let answer = confirm(&visitor, &token, NEW).await;
    answer.refused(400, "mailed_token_invalid");
    let reset = anas_token(&service, &visitor).await;
    let call = visitor.post("/users/email/verify");
    let answer = call.json(&json!({"token": reset})).send().await;
    answer.refused(400, "mailed_token_invalid");
    // Neither was used up.
    confirm(&visitor, &reset, NEW)
        .await
        .expect(StatusCode::NO_CONTENT);
    let call = visitor.post("/users/email/verify");
    let answer = call.json(&json!({"token": token})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn what_the_policy_refuses_uses_no_token_up() {
    let (service, mut visitor) = service_that_mails().await;
    let ana = service.auth.find_user("ana").await.unwrap();
    let by = EndedBy::CommandLine;
    service
        .auth
        .set_roles(ana.id, true, false, by)
        .await
        .unwrap();
    let token = anas_token(&service, &visitor).await;
    for (new, error) in [
        ("", "new_password:required"),
        ("fourteen chars", "new_password:password_too_short"),
    ] {
        let answer = confirm(&visitor, &token, new).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), [error]);
    }
    let long = "x".repeat(5_000);
    let answer = confirm(&visitor, &token, &long).await;
    let answer = answer.refused(400, "validation_failed");
    assert_eq!(answer.field_errors(), ["new_password:too_long"]);
    confirm(&visitor, &token, NEW)
        .await
        .expect(StatusCode::NO_CONTENT);
    visitor.login("ana", NEW).await.expect(StatusCode::OK);
    // Whoever has no token learns nothing of the policy for anybody.
    let answer = confirm(&visitor, &"A".repeat(64), "short").await;
    answer.refused(400, "mailed_token_invalid");
}

#[tokio::test]
async fn an_address_is_found_in_any_case_and_written_to_as_it_is_stored() {
    let (service, visitor) = start(Setup::development().with_mail().unthrottled()).await;
    let account = NewAccount {
        username: Username::parse("mike").unwrap(),
        email: Email::parse("Mike@Example.org").unwrap(),
        password: Some(Password::new(PASSWORD.to_owned()).unwrap()),
        is_staff: false,
        is_superuser: false,
    };
    service
        .auth
        .create_user(account, EndedBy::CommandLine)
        .await
        .unwrap();
    // The Kelvin sign folds to k: it may be somebody else's mailbox (CVE-2019-19844).
    for typed in [
        "mike@example.org",
        " MIKE@EXAMPLE.ORG ",
        "mi\u{212a}e@example.org",
    ] {
        ask(&visitor, typed).await.expect(StatusCode::ACCEPTED);
        let [letter] = service.letters().await.try_into().unwrap();
        assert_eq!(
            (&*letter.to, &*letter.username),
            ("Mike@example.org", "mike")
        );
    }
    for typed in [
        "m\u{131}ke@example.org",
        "mike@example.org.evil.test",
        "mike+x@example.org",
    ] {
        ask(&visitor, typed).await.expect(StatusCode::ACCEPTED);
        assert!(service.letters().await.is_empty(), "{typed}");
    }
}

#[tokio::test]
async fn whoever_cannot_sign_in_by_password_is_not_written_to() {
    let (service, visitor) = service_that_mails().await;
    let account = NewAccount {
        username: Username::parse("ida").unwrap(),
        email: Email::parse("ida@example.org").unwrap(),
        password: None,
        is_staff: false,
        is_superuser: false,
    };
    service
        .auth
        .create_user(account, EndedBy::CommandLine)
        .await
        .unwrap();
    ask(&visitor, "ida@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
    assert!(service.letters().await.is_empty());
    let token = anas_token(&service, &visitor).await;
    service.deactivate("ana").await;
    let answer = confirm(&visitor, &token, NEW).await;
    answer.refused(400, "mailed_token_invalid");
}

#[tokio::test]
async fn users_who_share_an_address_are_each_written_to() {
    let (service, visitor) = service_that_mails().await;
    for number in 0..8 {
        let account = NewAccount {
            username: Username::parse(&format!("member{number}")).unwrap(),
            email: Email::parse("club@example.org").unwrap(),
            password: Some(Password::new(PASSWORD.to_owned()).unwrap()),
            is_staff: false,
            is_superuser: false,
        };
        service
            .auth
            .create_user(account, EndedBy::CommandLine)
            .await
            .unwrap();
    }
    ask(&visitor, "club@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
    let letters = service.letters().await;
    let mut names: Vec<_> = letters.iter().map(|letter| &*letter.username).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["member0", "member1", "member2", "member3", "member4"]
    );
    let to_member1 = letters.iter().find(|letter| letter.username == "member1");
    let token = to_member1.unwrap().token.as_ref().unwrap();
    confirm(&visitor, token, NEW)
        .await
        .expect(StatusCode::NO_CONTENT);
    let mut member = service.visitor();
    member.login("member1", NEW).await.expect(StatusCode::OK);
    member
        .login("member0", PASSWORD)
        .await
        .expect(StatusCode::OK);
}

#[tokio::test]
async fn whoever_asks_twice_may_follow_the_first_letter() {
    let (service, visitor) = start(Setup::development().with_mail().unthrottled()).await;
    let mut tokens = Vec::new();
    for _ in 0..=MOST_MAILED_TOKENS {
        service.later(1);
        tokens.push(anas_token(&service, &visitor).await);
    }
    let answer = confirm(&visitor, &tokens[0], NEW).await;
    answer.refused(400, "mailed_token_invalid");
    confirm(&visitor, &tokens[1], NEW)
        .await
        .expect(StatusCode::NO_CONTENT);
    // And the others are worth nothing then.
    for token in &tokens[2..] {
        let answer = confirm(&visitor, token, "one more password, please").await;
        answer.refused(400, "mailed_token_invalid");
    }
}

#[tokio::test]
async fn no_mailbox_is_flooded_and_nobody_is_told() {
    let (service, visitor) = service_that_mails().await;
    let mut letters = 0;
    for number in 0..10 {
        let answer = ask(&visitor.elsewhere(number), "Ana@example.org").await;
        answer.expect(StatusCode::ACCEPTED);
        letters += service.letters().await.len();
    }
    assert_eq!(letters, 5);
    service.later(300);
    ask(&visitor, "ana@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
    assert_eq!(service.letters().await.len(), 1);
}

#[tokio::test]
async fn an_address_that_asks_for_many_letters_waits() {
    let (service, visitor) = service_that_mails().await;
    for number in 0..20 {
        let answer = ask(&visitor, &format!("user{number}@example.org")).await;
        answer.expect(StatusCode::ACCEPTED);
    }
    let answer = ask(&visitor, "ana@example.org").await;
    let answer = answer.refused(429, "throttled");
    assert_eq!(answer.header("retry-after"), "30");
    assert!(service.letters().await.is_empty());
    ask(&visitor.elsewhere(1), "ana@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
}

#[tokio::test]
async fn an_address_that_shows_many_tokens_waits() {
    let (_service, visitor) = service_that_mails().await;
    for _ in 0..60 {
        let answer = confirm(&visitor, &"A".repeat(64), NEW).await;
        answer.refused(400, "mailed_token_invalid");
    }
    let answer = confirm(&visitor, &"A".repeat(64), NEW).await;
    answer.refused(429, "throttled");
}

#[tokio::test]
async fn a_token_outlives_the_root_secret_that_it_was_derived_from() {
    let (service, visitor) = service_that_mails().await;
    let token = anas_token(&service, &visitor).await;
    let mut setup = service.setup_beside();
    setup.previous_secrets = vec![setup.secret];
    setup.secret = RootSecret::generate(&countersign::core::clock::SystemRandomness);
    let after = setup.start().await;
    let visitor = after.visitor();
    confirm(&visitor, &token, NEW)
        .await
        .expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn nothing_that_a_request_says_of_its_host_is_in_a_link() {
    let mut setup = Setup::behind_a_proxy().with_mail();
    setup.http.allowed_origins = vec!["https://app.example.org".parse().unwrap()];
    let service = setup.start().await;
    service.make_user("ana").await;
    let mut visitor = service.visitor();
    visitor.peer = "10.0.0.1:50000".parse().unwrap();
    let call = visitor.post("/users/password/reset");
    let call = call.header("x-forwarded-proto", "https");
    let call = call.header("host", "evil.test");
    let call = call.header("x-forwarded-host", "evil.test");
    let call = call.header("forwarded", "host=evil.test");
    let call = call.header("origin", "https://app.example.org");
    let answer = call.json(&json!({"email": "ana@example.org"})).send().await;
    answer.expect(StatusCode::ACCEPTED);
    let [letter] = service.letters().await.try_into().unwrap();
    // What a link is made of: the settings, and this.
    assert_eq!(letter.token.as_ref().unwrap().len(), 64);
    assert!(!format!("{letter:?}").contains("evil"), "{letter:?}");
}

#[tokio::test]
async fn what_is_no_address_and_what_is_no_json_is_refused() {
    let (service, visitor) = service_that_mails().await;
    for (body, error) in [
        (json!({}), "email:required"),
        (json!({"email": null}), "email:required"),
        (json!({"email": 1}), "email:wrong_type"),
        (json!({"email": ""}), "email:required"),
        (json!({"email": "ana"}), "email:invalid"),
        (
            json!({"email": "ana@example.org\r\nBcc: eva@example.org"}),
            "email:invalid",
        ),
        (
            json!({"email": "ana@example.org, eva@example.org"}),
            "email:invalid",
        ),
        (
            json!({"email": format!("{}@example.org", "a".repeat(300))}),
            "email:invalid",
        ),
    ] {
        let answer = visitor
            .post("/users/password/reset")
            .json(&body)
            .send()
            .await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), [error], "{body}");
    }
    let call = visitor.post("/users/password/reset");
    let answer = call.body("application/x-www-form-urlencoded", "email=ana@example.org");
    answer.send().await.refused(415, "unsupported_media_type");
    assert!(service.letters().await.is_empty());
}

#[tokio::test]
async fn only_our_own_pages_and_listed_ones_ask() {
    let (_service, visitor) = service_that_mails().await;
    let own = "http://127.0.0.1:8000";
    for path in ["/users/password/reset", "/users/password/reset/confirm"] {
        let call = visitor.post(path).on_page(FOREIGN).json(&Value::Null);
        call.send().await.refused(403, "origin_denied");
        for origin in [LISTED, own] {
            let call = visitor.post(path).on_page(origin).json(&json!({}));
            call.send().await.refused(400, "validation_failed");
        }
    }
}

#[tokio::test]
async fn while_the_storage_is_away_nothing_is_promised() {
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development()
        .with_mail()
        .over(Arc::clone(&store) as _);
    let (service, visitor) = start(setup).await;
    let token = anas_token(&service, &visitor).await;
    for trouble in [Trouble::Unavailable, Trouble::ReadOnly] {
        store.have(trouble);
        for email in ["ana@example.org", "nobody@example.org"] {
            ask(&visitor, email)
                .await
                .refused(503, "storage_unavailable");
        }
        let answer = confirm(&visitor, &token, NEW).await;
        answer.refused(503, "storage_unavailable");
        store.recover();
    }
    confirm(&visitor, &token, NEW)
        .await
        .expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn whoever_wants_other_letters_for_a_mailbox_keeps_no_reset_from_it() {
    let (service, visitor) = service_that_mails().await;
    for _ in 0..6 {
        let call = visitor.post("/users/email/verify/resend");
        let answer = call.json(&json!({"email": "ana@example.org"})).send().await;
        answer.expect(StatusCode::NO_CONTENT);
    }
    assert_eq!(service.letters().await.len(), 5);
    ask(&visitor, "ana@example.org")
        .await
        .expect(StatusCode::ACCEPTED);
    let [letter] = service.letters().await.try_into().unwrap();
    assert!(matches!(letter.message, Message::ResetPassword { .. }));
}

/// A Django site beside us has stored it; nobody could register with it here.
#[tokio::test]
async fn whoever_has_an_address_that_no_new_one_can_be_is_written_to_all_the_same() {
    let (service, visitor) = service_that_mails().await;
    let ana = service.auth.find_user("ana").await.unwrap();
    for address in ["ana@exa_mple.org", "ana@[192.0.2.1]", "ana@example.org."] {
        assert!(Email::parse(address).is_err());
        let known = Email::parse_known(address).unwrap();
        let by = EndedBy::CommandLine;
        service.auth.set_email(&ana, known, by).await.unwrap();
        service.letters().await;
        ask(&visitor, address).await.expect(StatusCode::ACCEPTED);
        let [letter] = service.letters().await.try_into().unwrap();
        assert_eq!(letter.to, address);
        assert!(letter.token.is_some());
    }
}
