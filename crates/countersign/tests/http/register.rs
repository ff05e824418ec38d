//! `POST /users/register`, and `POST /users/email/verify` for those who registered.

use std::sync::Arc;

use crate::harness::{Answer, Client, FOREIGN, LISTED, PASSWORD, Service, Setup};
use countersign::core::auth::NewAccount;
use countersign::core::mail::Message;
use countersign::core::password::Password;
use countersign::core::session::EndedBy;
use countersign::core::user::{Email, Username};
use countersign_sql::{SqliteOptions, SqliteStore, UserColumn, UserTable};
use http::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::troubled_store::{Trouble, TroubledStore};

async fn start(setup: Setup) -> (Service, Client) {
    let service = setup.start().await;
    service.make_user("ana").await;
    let visitor = service.visitor();
    (service, visitor)
}

async fn open_to_all() -> (Service, Client) {
    start(Setup::development().with_registration()).await
}

/// A service at which nobody has to prove an address.
async fn open_without_proof() -> (Service, Client) {
    let mut setup = Setup::development().with_registration();
    setup.auth.registration.verify_email = false;
    start(setup).await
}

fn zoe() -> Value {
    json!({
        "username": "zoe", "email": "zoe@example.org", "password": PASSWORD,
        "first_name": "Zoë", "last_name": "O'Neill",
    })
}

fn with(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    body[field] = value.into();
    body
}

async fn register(client: &Client, body: &Value) -> Answer {
    client.post("/users/register").json(body).send().await
}

async fn verify(client: &Client, token: &str) -> Answer {
    verify_with(client, &json!({"token": token, "password": PASSWORD})).await
}

async fn verify_with(client: &Client, body: &Value) -> Answer {
    client.post("/users/email/verify").json(body).send().await
}

/// What is told to somebody with a genuine token whose password is not that of the registration.
async fn verify_wrongly(client: &Client, token: &str) -> Answer {
    let body = json!({"token": token, "password": "not the one that was chosen"});
    verify_with(client, &body).await
}

fn without_username(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD})
}

#[tokio::test]
async fn an_account_is_made_when_its_address_is_proven() {
    let (service, mut visitor) = open_to_all().await;
    let answer = register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    let expected = json!({
        "verification": "mailed", "username": "zoe", "email": "zoe@example.org",
    });
    assert_eq!(answer.json, expected);
    assert!(answer.set_cookies().is_empty());
    // Until then there is nobody.
    let answer = visitor.login("zoe", PASSWORD).await;
    answer.refused(401, "invalid_credentials");
    let [letter] = service.letters().await.try_into().unwrap();
    // Nobody who has our mailer write to others has it say a word of theirs.
    assert_eq!((&*letter.to, &*letter.username), ("zoe@example.org", ""));
    let token = letter.token.unwrap();
    let answer = verify(&visitor, &token).await;
    let answer = answer.expect(StatusCode::NO_CONTENT);
    assert!(answer.bytes.is_empty() && answer.set_cookies().is_empty());
    let answer = visitor.login("zoe", PASSWORD).await.expect(StatusCode::OK);
    let user = &answer.json["user"];
    assert_eq!(user["email"], "zoe@example.org");
    assert_eq!(user["email_verified"], true);
    assert_eq!(
        (&user["first_name"], &user["last_name"]),
        (&json!("Zoë"), &json!("O'Neill"))
    );
    assert_eq!(
        (&user["is_staff"], &user["is_active"]),
        (&json!(false), &json!(true))
    );
    verify(&visitor, &token)
        .await
        .refused(400, "mailed_token_invalid");
}

#[tokio::test]
async fn the_answer_does_not_tell_who_has_an_address() {
    let (service, visitor) = open_to_all().await;
    let mut seen = Vec::new();
    for (username, email) in [("zoe", "zoe@example.org"), ("eva", "ana@example.org")] {
        let body = with(with(zoe(), "username", username), "email", email);
        let answer = register(&visitor, &body).await.expect(StatusCode::CREATED);
        let mut headers = answer.headers.clone();
        for own in ["x-request-id", "content-length"] {
            headers.remove(own);
        }
        assert_eq!(answer.json["username"], username);
        assert_eq!(answer.json["email"], email);
        seen.push((answer.status, headers, answer.json["verification"].clone()));
    }
    assert_eq!(seen[0], seen[1]);
    // Its owner is told, and sent no link.
    let mut letters = service.letters().await;
    letters.sort_by_key(|letter| letter.to.clone());
    let [anas, zoes] = letters.try_into().unwrap();
    assert_eq!((&*anas.to, &*anas.username), ("ana@example.org", "ana"));
    assert_eq!((anas.message, anas.token), (Message::AddressTaken, None));
    assert!(zoes.token.is_some());
    // And the name is reserved all the same.
    let body = with(zoe(), "username", "eva");
    register(&visitor, &body)
        .await
        .refused(409, "username_taken");
}

#[tokio::test]
async fn a_name_that_somebody_has_or_has_reserved_is_taken() {
    let (service, visitor) = open_to_all().await;
    for taken in ["ana", "ANA", "\u{ff41}na", "аnа"] {
        let body = with(zoe(), "username", taken);
        register(&visitor, &body)
            .await
            .refused(409, "username_taken");
    }
    register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    for taken in ["zoe", "ZOE", "z0e"] {
        let body = with(with(zoe(), "username", taken), "email", "eva@example.org");
        register(&visitor, &body)
            .await
            .refused(409, "username_taken");
    }
    assert_eq!(service.letters().await.len(), 1);
    // Tomorrow it is free again.
    service.later(24 * 3_600);
    let body = with(zoe(), "email", "eva@example.org");
    register(&visitor, &body).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn what_another_took_meanwhile_is_told_to_whoever_has_the_token() {
    let (service, visitor) = open_to_all().await;
    register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    let token = service.mailed_token().await;
    service.make_user("zoe").await;
    verify(&visitor, &token)
        .await
        .refused(409, "username_taken");

    let body = with(with(zoe(), "username", "eva"), "email", "both@example.org");
    register(&visitor, &body).await.expect(StatusCode::CREATED);
    let evas = service.mailed_token().await;
    let body = with(with(zoe(), "username", "ida"), "email", "BOTH@example.org");
    register(&visitor, &body).await.expect(StatusCode::CREATED);
    let idas = service.mailed_token().await;
    verify(&visitor, &idas).await.expect(StatusCode::NO_CONTENT);
    verify(&visitor, &evas).await.refused(409, "email_taken");
}

#[tokio::test]
async fn nobody_registers_with_more_than_their_data() {
    for (service, mut visitor) in [open_to_all().await, open_without_proof().await] {
        let mut body = zoe();
        for power in ["is_staff", "is_superuser", "is_active", "email_verified"] {
            body[power] = true.into();
        }
        body["id"] = 1.into();
        body["groups"] = json!(["admins"]);
        register(&visitor, &body).await.expect(StatusCode::CREATED);
        if let Some(token) = service
            .letters()
            .await
            .into_iter()
            .find_map(|letter| letter.token)
        {
            verify(&visitor, &token)
                .await
                .expect(StatusCode::NO_CONTENT);
        }
        visitor.login("zoe", PASSWORD).await.expect(StatusCode::OK);
        let zoe = service.auth.find_user("zoe").await.unwrap();
        assert!(
            !zoe.is_staff && !zoe.is_superuser && zoe.id.0 != 1,
            "{zoe:?}"
        );
    }
}

#[tokio::test]
async fn without_proof_the_account_is_made_at_once() {
    let (service, mut visitor) = open_without_proof().await;
    let answer = register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    assert_eq!(answer.json["user"]["username"], "zoe");
    assert_eq!(answer.json["user"]["email_verified"], false);
    assert_eq!(answer.json["user"]["first_name"], "Zoë");
    assert!(service.letters().await.is_empty());
    visitor.login("zoe", PASSWORD).await.expect(StatusCode::OK);
    register(&visitor, &zoe())
        .await
        .refused(409, "username_taken");
}

#[tokio::test]
async fn a_name_is_no_address_so_that_nobody_learns_who_has_one() {
    for (_service, visitor) in [open_to_all().await, open_without_proof().await] {
        for address in ["ana@example.org", "nobody@example.org", "zoe@example.org"] {
            let named = with(with(zoe(), "username", address), "email", address);
            let answer = register(&visitor, &named).await;
            let answer = answer.refused(400, "validation_failed");
            assert_eq!(answer.field_errors(), ["username:is_an_address"]);
            let answer = register(&visitor, &without_username(address)).await;
            let answer = answer.refused(400, "validation_failed");
            assert_eq!(answer.field_errors(), ["username:required"]);
        }
    }
}

#[tokio::test]
async fn every_field_is_checked_and_all_that_is_wrong_is_told() {
    let (service, visitor) = open_to_all().await;
    for (body, errors) in [
        (json!({}), vec!["email:required", "password:required"]),
        (
            json!({"username": "a b", "email": "a@b\r\nBcc: x@y", "password": "", "first_name": "a\u{7}b", "last_name": 7}),
            vec![
                "username:invalid",
                "email:invalid",
                "password:required",
                "first_name:invalid",
                "last_name:wrong_type",
            ],
        ),
        (with(zoe(), "email", ""), vec!["email:required"]),
        (with(zoe(), "username", ""), vec!["username:required"]),
        (
            with(zoe(), "password", "short"),
            vec!["password:password_too_short"],
        ),
        (
            with(zoe(), "password", "zoe@example.org"),
            vec!["password:password_too_similar"],
        ),
        (
            with(zoe(), "first_name", "x".repeat(151)),
            vec!["first_name:too_long"],
        ),
    ] {
        let answer = register(&visitor, &body)
            .await
            .refused(400, "validation_failed");
        let mut found = answer.field_errors();
        found.sort_unstable();
        let mut expected = errors;
        expected.sort_unstable();
        assert_eq!(found, expected, "{body}");
    }
    assert!(service.letters().await.is_empty());
}

#[tokio::test]
async fn where_registration_is_closed_nobody_registers() {
    let (service, visitor) = start(Setup::development().with_mail()).await;
    register(&visitor, &zoe())
        .await
        .refused(403, "registration_closed");
    assert!(service.letters().await.is_empty());
}

#[tokio::test]
async fn an_address_that_registers_often_waits() {
    let (_service, visitor) = open_to_all().await;
    for number in 0..20 {
        let body = with(zoe(), "username", format!("user{number}"));
        let body = with(body, "email", format!("user{number}@example.net"));
        register(&visitor, &body).await.expect(StatusCode::CREATED);
    }
    let answer = register(&visitor, &zoe()).await.refused(429, "throttled");
    assert_eq!(answer.header("retry-after"), "60");
    register(&visitor.elsewhere(1), &zoe())
        .await
        .expect(StatusCode::CREATED);
}

/// What the policy says of a password costs a check, and is an answer as well.
#[tokio::test]
async fn an_address_that_is_refused_often_waits_as_well() {
    let (_service, visitor) = open_to_all().await;
    let weak = with(zoe(), "password", "password1");
    for _ in 0..20 {
        let answer = register(&visitor, &weak).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), ["password:password_too_common"]);
    }
    for body in [weak, zoe()] {
        register(&visitor, &body).await.refused(429, "throttled");
    }
}

#[tokio::test]
async fn no_mailbox_is_flooded_by_those_who_register() {
    let (service, visitor) = open_to_all().await;
    let mut letters = 0;
    for number in 0..8 {
        let body = with(zoe(), "username", format!("member{number}"));
        register(&visitor, &body).await.expect(StatusCode::CREATED);
        letters += service.letters().await.len();
    }
    assert_eq!(letters, 5);
}

#[tokio::test]
async fn a_letter_that_was_lost_is_sent_again() {
    let (service, visitor) = open_to_all().await;
    register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    let first = service.mailed_token().await;
    let call = visitor.post("/users/email/verify/resend");
    let answer = call.json(&json!({"email": "Zoe@example.org"})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    // The same link: it is of the same registration.
    assert_eq!(service.mailed_token().await, first);
    verify(&visitor, &first)
        .await
        .expect(StatusCode::NO_CONTENT);
    let call = visitor.post("/users/email/verify/resend");
    let answer = call.json(&json!({"email": "zoe@example.org"})).send().await;
    answer.expect(StatusCode::NO_CONTENT);
    assert!(service.letters().await.is_empty());
}

#[tokio::test]
async fn of_many_who_register_a_name_at_once_one_has_it() {
    let (service, visitor) = start(Setup::development().with_registration().unthrottled()).await;
    let mut attempts = JoinSet::new();
    for number in 0..20 {
        let visitor = visitor.clone();
        let body = with(zoe(), "email", format!("zoe{number}@example.org"));
        attempts.spawn(async move { register(&visitor, &body).await.status });
    }
    let made = attempts.join_all().await;
    let made = made.into_iter().filter(|it| *it == StatusCode::CREATED);
    assert_eq!(made.count(), 1);
    assert_eq!(service.letters().await.len(), 1);
}

#[tokio::test]
async fn only_our_own_pages_and_listed_ones_register_people() {
    let (_service, visitor) = open_to_all().await;
    for path in [
        "/users/register",
        "/users/email/verify",
        "/users/email/verify/resend",
    ] {
        let call = visitor.post(path).on_page(FOREIGN).json(&zoe());
        call.send().await.refused(403, "origin_denied");
        let call = visitor.post(path).on_page(LISTED).json(&json!({}));
        call.send().await.refused(400, "validation_failed");
    }
}

#[tokio::test]
async fn while_the_storage_is_away_nobody_is_registered() {
    let store = Arc::new(TroubledStore::default());
    let setup = Setup::development().with_registration();
    let (service, visitor) = start(setup.over(Arc::clone(&store) as _)).await;
    register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    let token = service.mailed_token().await;
    for trouble in [Trouble::Unavailable, Trouble::ReadOnly] {
        store.have(trouble);
        let body = with(zoe(), "username", "eva");
        register(&visitor, &body)
            .await
            .refused(503, "storage_unavailable");
        verify(&visitor, &token)
            .await
            .refused(503, "storage_unavailable");
        store.recover();
    }
    verify(&visitor, &token)
        .await
        .expect(StatusCode::NO_CONTENT);
    let zoe = service.auth.find_user("zoe").await.unwrap();
    service
        .auth
        .delete_user(zoe.id, EndedBy::CommandLine)
        .await
        .unwrap();
}

/// Mallory registers with the mailbox of somebody else, who opens the letter.
#[tokio::test]
async fn whoever_only_reads_the_letter_makes_no_account_for_a_strangers_password() {
    let (service, mut visitor) = open_to_all().await;
    register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    let token = service.mailed_token().await;
    for body in [
        json!({"token": token}),
        json!({"token": token, "password": null}),
        json!({"token": token, "password": ""}),
    ] {
        let answer = verify_with(&visitor, &body).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), ["password:required"], "{body}");
    }
    verify_wrongly(&visitor, &token)
        .await
        .refused(401, "invalid_credentials");
    assert!(service.auth.find_user("zoe").await.is_err());
    // The token is still good, with the password that was chosen.
    let answer = verify(&visitor, &token).await;
    answer.expect(StatusCode::NO_CONTENT);
    visitor.login("zoe", PASSWORD).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_password_of_a_registration_is_not_guessed_at_for_long() {
    let (service, visitor) = open_to_all().await;
    register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    let token = service.mailed_token().await;
    for _ in 0..5 {
        verify_wrongly(&visitor, &token)
            .await
            .refused(401, "invalid_credentials");
    }
    // From wherever it comes, and also the right one.
    let elsewhere = visitor.elsewhere(1);
    verify(&elsewhere, &token).await.refused(429, "throttled");
    service.later(3_600);
    let answer = verify(&visitor, &token).await;
    answer.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn who_finds_a_name_taken_uses_up_nobodys_mailbox() {
    let (service, visitor) = open_to_all().await;
    for _ in 0..6 {
        register(&visitor, &with(zoe(), "username", "ana"))
            .await
            .refused(409, "username_taken");
    }
    register(&visitor, &zoe()).await.expect(StatusCode::CREATED);
    assert_eq!(service.letters().await.len(), 1);
}

#[tokio::test]
async fn a_registration_that_has_no_letter_reserves_nothing() {
    let (service, visitor) = open_to_all().await;
    for number in 0..6 {
        let body = with(zoe(), "username", format!("member{number}"));
        register(&visitor, &body).await.expect(StatusCode::CREATED);
    }
    assert_eq!(service.letters().await.len(), 5);
    // A name that is taken is told as ever.
    let body = with(zoe(), "username", "ana");
    register(&visitor, &body)
        .await
        .refused(409, "username_taken");
    for (name, is_free) in [("member4", false), ("member5", true)] {
        let body = with(with(zoe(), "username", name), "email", "eva@example.org");
        let answer = register(&visitor, &body).await;
        assert_eq!(answer.status == StatusCode::CREATED, is_free, "{name}");
    }
}

/// A service whose users have no names but e-mail addresses, and Olga is one of them. The database lives as long as
/// the directory.
async fn named_by_address() -> (TempDir, Service, Client) {
    const TABLE: &str = "CREATE TABLE accounts_user (
        id integer NOT NULL PRIMARY KEY AUTOINCREMENT, password varchar(128) NOT NULL,
        email varchar(254) NOT NULL UNIQUE, is_active bool NOT NULL)";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch(TABLE).unwrap();
    let table = UserTable::named("accounts_user").unwrap();
    let table = table.column(UserColumn::Username, "email").unwrap();
    let store = SqliteStore::open(&SqliteOptions::new(file).users(table)).unwrap();
    let setup = Setup::development().with_registration();
    let service = setup.over(Arc::new(store)).start().await;
    let account = NewAccount {
        username: Username::parse("olga@example.org").unwrap(),
        email: Email::parse("olga@example.org").unwrap(),
        password: Some(Password::new("the password of Olga".to_owned()).unwrap()),
        is_staff: false,
        is_superuser: false,
    };
    let by = EndedBy::CommandLine;
    service.auth.create_user(account, by).await.unwrap();
    let visitor = service.visitor();
    (directory, service, visitor)
}

/// Where the address is the name, that the name is taken would tell who has an account. Also somebody's who has
/// registered and not proven it, and one that looks like it.
#[tokio::test]
async fn where_the_address_is_the_name_the_answer_does_not_tell_who_has_one_either() {
    let (_directory, service, mut visitor) = named_by_address().await;
    let mut seen = Vec::new();
    for email in [
        "olga@example.org",
        "nobody@example.org",
        "nobody@example.org",
        "0lga@example.org",
    ] {
        let answer = register(&visitor, &without_username(email)).await;
        let answer = answer.expect(StatusCode::CREATED);
        let mut headers = answer.headers.clone();
        for own in ["x-request-id", "content-length"] {
            headers.remove(own);
        }
        let body = answer.json.to_string().replace(email, "(address)");
        seen.push((headers, body));
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    let letters = service.letters().await;
    assert_eq!(letters.len(), 4);
    let (olgas, others): (Vec<_>, Vec<_>) = letters
        .into_iter()
        .partition(|letter| letter.to == "olga@example.org");
    let [olgas] = olgas.try_into().unwrap();
    assert_eq!((olgas.message, olgas.token), (Message::AddressTaken, None));
    // Of two who registered with one address, whoever proves it first has it.
    let tokens: Vec<_> = others
        .iter()
        .filter(|letter| letter.to == "nobody@example.org")
        .map(|letter| letter.token.clone().unwrap())
        .collect();
    verify(&visitor, &tokens[1])
        .await
        .expect(StatusCode::NO_CONTENT);
    verify(&visitor, &tokens[0])
        .await
        .refused(409, "email_taken");
    let answer = visitor.login("nobody@example.org", PASSWORD).await;
    answer.expect(StatusCode::OK);
    // And nobody has become Olga.
    let answer = visitor.login("olga@example.org", PASSWORD).await;
    answer.refused(401, "invalid_credentials");
}

/// Mallory registers with the mailbox of somebody else, and has a name that is an advertisement.
#[tokio::test]
async fn nobody_has_our_mailer_say_a_word_of_theirs_to_others() {
    const WORDS: &str = "buy-at.evil.test";
    let (service, mut visitor) = open_without_proof().await;
    let said_nothing = async || {
        let letters = service.letters().await;
        assert!(!letters.is_empty());
        for letter in letters {
            assert!(!format!("{letter:?}").contains("evil"), "{letter:?}");
        }
    };
    let body = with(with(zoe(), "username", WORDS), "first_name", WORDS);
    register(&visitor, &body).await.expect(StatusCode::CREATED);
    for path in ["/users/email/verify/resend", "/users/password/reset"] {
        let call = visitor
            .post(path)
            .json(&json!({"email": "zoe@example.org"}));
        assert!(call.send().await.status.is_success());
        said_nothing().await;
    }
    visitor.login(WORDS, PASSWORD).await.expect(StatusCode::OK);
    let mut elsewhere = service.visitor().elsewhere(1);
    elsewhere
        .login(WORDS, PASSWORD)
        .await
        .expect(StatusCode::OK);
    said_nothing().await;
    let body = json!({"email": "ana@buy-at.evil.test", "current_password": PASSWORD});
    let call = visitor.post("/users/email").with_token().with_csrf();
    call.json(&body).send().await.expect(StatusCode::ACCEPTED);
    let token = service.mailed_token().await;
    verify(&visitor, &token)
        .await
        .expect(StatusCode::NO_CONTENT);
    said_nothing().await;
    // Whoever has proven an address is greeted by name there.
    let call = visitor.post("/users/password/reset");
    let call = call.json(&json!({"email": "ana@buy-at.evil.test"}));
    call.send().await.expect(StatusCode::ACCEPTED);
    let [letter] = service.letters().await.try_into().unwrap();
    assert_eq!(letter.username, WORDS);
}

/// Both ways to write a domain are one mailbox.
#[tokio::test]
async fn a_domain_in_either_form_is_one_mailbox() {
    let (service, mut visitor) = open_to_all().await;
    let body = with(zoe(), "email", "zoe@BÜCHER.example");
    let answer = register(&visitor, &body).await.expect(StatusCode::CREATED);
    assert_eq!(answer.json["email"], "zoe@bücher.example");
    let token = service.mailed_token().await;
    verify(&visitor, &token)
        .await
        .expect(StatusCode::NO_CONTENT);
    let other = with(
        with(zoe(), "username", "eva"),
        "email",
        "zoe@xn--bcher-kva.example",
    );
    register(&visitor, &other).await.expect(StatusCode::CREATED);
    let [letter] = service.letters().await.try_into().unwrap();
    assert_eq!(letter.message, Message::AddressTaken);
    let answer = visitor.login("zoe@xn--bcher-kva.example", PASSWORD).await;
    answer.expect(StatusCode::OK);
    for bad in ["zoe@example.org.", "zoe@-example.org", "zoe@xn--a.example"] {
        let answer = register(&visitor, &with(zoe(), "email", bad)).await;
        let answer = answer.refused(400, "validation_failed");
        assert_eq!(answer.field_errors(), ["email:invalid"], "{bad}");
    }
}
