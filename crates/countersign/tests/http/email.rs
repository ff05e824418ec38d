//! `POST /users/email`, `POST /users/email/verify` and `POST /users/email/verify/resend`

use crate::harness::{Answer, Client, FOREIGN, PASSWORD, Service, Setup};
use countersign::core::mail::Message;
use countersign::core::session::EndedBy;
use countersign::core::user::Email;
use http::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

async fn service_with_ana() -> (Service, Client, Client) {
    let service = Setup::development().with_mail().start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let visitor = service.visitor();
    (service, visitor, ana)
}

async fn change(client: &Client, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "current_password": password});
    let call = client.post("/users/email").with_token().with_csrf();
    call.json(&body).send().await
}

async fn verify(client: &Client, token: &str) -> Answer {
    let call = client.post("/users/email/verify");
    call.json(&json!({"token": token})).send().await
}

async fn resend(client: &Client, email: &str) -> Answer {
    let call = client.post("/users/email/verify/resend");
    call.json(&json!({"email": email})).send().await
}

async fn email_of(client: &Client) -> (String, bool) {
    let user = client.user().await.expect(StatusCode::OK).json["user"].clone();
    let email = user["email"].as_str().unwrap().to_owned();
    (email, user["email_verified"].as_bool().unwrap())
}

/// The client's user has proven the address.
async fn proven(service: &Service, client: &Client) {
    let (email, _) = email_of(client).await;
    resend(client, &email).await.expect(StatusCode::NO_CONTENT);
    let token = service.mailed_token().await;
    verify(client, &token).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_address_changes_when_the_new_one_is_proven_and_the_old_one_is_told() {
    let (service, visitor, ana) = service_with_ana().await;
    let answer = change(&ana, "ana@example.com", PASSWORD).await;
    let answer = answer.expect(StatusCode::ACCEPTED);
    assert!(answer.bytes.is_empty());
    assert_eq!(email_of(&ana).await, ("ana@example.org".to_owned(), false));
    let [letter] = service.letters().await.try_into().unwrap();
    // Whoever reads it may be a stranger: it holds no word of hers.
    assert_eq!((&*letter.to, &*letter.username), ("ana@example.com", ""));
    // Whoever reads the letter need not be signed in.
    let token = letter.token.unwrap();
    verify(&visitor, &token)
        .await
        .expect(StatusCode::NO_CONTENT);
    assert_eq!(email_of(&ana).await, ("ana@example.com".to_owned(), true));
    let [told] = service.letters().await.try_into().unwrap();
    assert_eq!(told.to, "ana@example.org");
    let to = "a…@example.com".to_owned();
    assert_eq!(told.message, Message::EmailChanged { to });
    verify(&visitor, &token)
        .await
        .refused(400, "mailed_token_invalid");
}

#[tokio::test]
async fn an_address_is_changed_with_the_current_password_only() {
    let (service, _, ana) = service_with_ana().await;
    for wrong in ["another password", "x"] {
        let answer = change(&ana, "ana@example.com", wrong).await;
        answer.refused(401, "invalid_credentials");
    }
    let call = ana.post("/users/email").with_token();
    let body = json!({"email": "ana@example.com", "current_password": PASSWORD});
    call.json(&body).send().await.refused(403, "csrf_missing");
    let call = ana.post("/users/email").with_csrf();
    call.json(&body)
        .send()
        .await
        .refused(401, "credentials_missing");
    let call = ana.post("/users/email").with_token().with_csrf();
    let answer = call.on_page(FOREIGN).json(&body).send().await;
    answer.refused(403, "origin_denied");
    assert!(service.letters().await.is_empty());
}

#[tokio::test]
async fn passwords_are_guessed_no_more_often_here_than_where_they_are_changed() {
    let (_service, _, ana) = service_with_ana().await;
    for _ in 0..3 {
        let answer = change(&ana, "ana@example.com", "wrong").await;
        answer.refused(401, "invalid_credentials");
    }
    let guess = json!({"current_password": "wrong", "new_password": "a quiet river under stars"});
    for _ in 0..2 {
        let call = ana.post("/users/password").with_token().with_csrf();
        call.json(&guess)
            .send()
            .await
            .refused(401, "invalid_credentials");
    }
    let answer = change(&ana, "ana@example.com", PASSWORD).await;
    answer.refused(429, "throttled");
}

#[tokio::test]
async fn a_token_dies_with_the_password_the_address_and_the_day() {
    let (service, visitor, ana) = service_with_ana().await;
    change(&ana, "ana@example.com", PASSWORD)
        .await
        .expect(StatusCode::ACCEPTED);
    let token = service.mailed_token().await;
    let call = ana.post("/users/password").with_token().with_csrf();
    let new = "a quiet river under old stars";
    let body = json!({"current_password": PASSWORD, "new_password": new});
    call.json(&body).send().await.expect(StatusCode::NO_CONTENT);
    verify(&visitor, &token)
        .await
        .refused(400, "mailed_token_invalid");
    service.letters().await;

    change(&ana, "ana@example.com", new)
        .await
        .expect(StatusCode::ACCEPTED);
    let token = service.mailed_token().await;
    let user = service.auth.find_user("ana").await.unwrap();
    let other = Email::parse("ana@example.net").unwrap();
    service
        .auth
        .set_email(&user, other, EndedBy::CommandLine)
        .await
        .unwrap();
    verify(&visitor, &token)
        .await
        .refused(400, "mailed_token_invalid");
    service.letters().await;

    let ana = {
        let mut ana = service.visitor();
        ana.login("ana", new).await.expect(StatusCode::OK);
        ana
    };
    change(&ana, "ana@example.com", new)
        .await
        .expect(StatusCode::ACCEPTED);
    let token = service.mailed_token().await;
    service.later(24 * 3_600);
    verify(&visitor, &token)
        .await
        .refused(400, "mailed_token_expired");
}

#[tokio::test]
async fn an_address_that_somebody_has_proven_stays_theirs_and_only_they_are_told() {
    let (service, visitor, ana) = service_with_ana().await;
    service.make_user("bob").await;
    let bob = service.signed_in("bob").await;
    proven(&service, &ana).await;
    let mut seen = Vec::new();
    for wanted in ["nobody@example.org", "ANA@example.org"] {
        let answer = change(&bob, wanted, PASSWORD).await;
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        seen.push((answer.status, headers, answer.bytes));
    }
    assert_eq!(seen[0], seen[1]);
    let letters = service.letters().await;
    let anas = letters
        .iter()
        .find(|letter| letter.to == "ana@example.org")
        .unwrap();
    assert_eq!(
        (&anas.message, &anas.token),
        (&Message::AddressTaken, &None)
    );
    assert_eq!(anas.username, "ana");
    assert_eq!(letters.len(), 2);
    assert_eq!(email_of(&bob).await, ("bob@example.org".to_owned(), false));
    let _ = visitor;
}

#[tokio::test]
async fn of_two_who_prove_one_address_at_once_one_has_it() {
    let service = Setup::development().with_mail().unthrottled().start().await;
    let mut tokens = Vec::new();
    for name in ["ana", "bob", "eva", "ida"] {
        service.make_user(name).await;
        let client = service.signed_in(name).await;
        change(&client, "one@example.org", PASSWORD)
            .await
            .expect(StatusCode::ACCEPTED);
        tokens.push((client, service.mailed_token().await));
    }
    let mut proofs = JoinSet::new();
    for (client, token) in tokens {
        proofs.spawn(async move { verify(&client, &token).await });
    }
    let mut had = 0;
    for answer in proofs.join_all().await {
        if answer.status == StatusCode::NO_CONTENT {
            had += 1;
        } else {
            answer.refused(409, "email_taken");
        }
    }
    assert_eq!(had, 1);
}

#[tokio::test]
async fn resending_tells_nothing_and_writes_only_to_those_who_have_yet_to_prove() {
    let (service, visitor, ana) = service_with_ana().await;
    service.make_user("carol").await;
    service.deactivate("carol").await;
    let mut seen = Vec::new();
    for email in ["ana@example.org", "nobody@example.org", "carol@example.org"] {
        let answer = resend(&visitor, email).await.expect(StatusCode::NO_CONTENT);
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        seen.push((headers, answer.bytes));
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    let token = service.mailed_token().await;
    verify(&visitor, &token)
        .await
        .expect(StatusCode::NO_CONTENT);
    assert_eq!(email_of(&ana).await, ("ana@example.org".to_owned(), true));
    resend(&visitor, "ana@example.org")
        .await
        .expect(StatusCode::NO_CONTENT);
    assert!(service.letters().await.is_empty());
}

#[tokio::test]
async fn a_proof_counts_only_while_the_address_is_the_same() {
    let (service, visitor, ana) = service_with_ana().await;
    proven(&service, &ana).await;
    assert!(email_of(&ana).await.1);
    let user = service.auth.find_user("ana").await.unwrap();
    let other = Email::parse("ana@example.net").unwrap();
    service
        .auth
        .set_email(&user, other, EndedBy::CommandLine)
        .await
        .unwrap();
    assert_eq!(email_of(&ana).await, ("ana@example.net".to_owned(), false));
    let [told] = service.letters().await.try_into().unwrap();
    assert_eq!(told.to, "ana@example.org");
    let _ = visitor;
}

#[tokio::test]
async fn what_is_no_other_address_is_refused() {
    let (service, _, ana) = service_with_ana().await;
    for (email, error) in [
        ("", "email:required"),
        ("ana", "email:invalid"),
        ("a@b\r\nBcc: eva@example.org", "email:invalid"),
        ("ana@example.org", "email:unchanged"),
    ] {
        let answer = change(&ana, email, PASSWORD).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), [error], "{email}");
    }
    assert!(service.letters().await.is_empty());
}

#[tokio::test]
async fn a_user_who_asks_for_many_addresses_waits() {
    let (service, _, ana) = service_with_ana().await;
    for number in 0..5 {
        let email = format!("stranger{number}@example.org");
        change(&ana, &email, PASSWORD)
            .await
            .expect(StatusCode::ACCEPTED);
    }
    let answer = change(&ana, "one-more@example.org", PASSWORD).await;
    answer.refused(429, "throttled");
    assert_eq!(service.letters().await.len(), 5);
}
