//! Accounts by mail: the whole of registration, proof, reset and change, by reading what the mail server gets;
//! and that nothing of a token stays anywhere.

use std::fs;

use serde_json::json;

use crate::harness::{JSON, PASSWORD, Place, Reply, SignedIn, eventually, login, send};
use crate::mail::server::{MailServer, Received};

const NEW: &str = "a quiet river under old stars";

fn post(port: u16, path: &str, body: &serde_json::Value) -> Reply {
    send(port, &format!("POST {path}"), JSON, &body.to_string())
}

/// The next letter that comes.
fn letter(server: &MailServer, number: usize) -> Received {
    eventually("the letter comes", || server.received().len() >= number);
    server.received().remove(number - 1)
}

/// A letter's text, without its encoding (RFC 2045 section 6.7).
fn plain(letter: &Received) -> String {
    let joined = letter.text.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let code = others.first_chunk().filter(|_| *first == b'=');
        let byte = code.and_then(|code: &[u8; 2]| {
            u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()
        });
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &others[2..] } else { others };
    }
    String::from_utf8(bytes).unwrap()
}

/// The link in a letter's text, and its token.
fn link(letter: &Received) -> (String, String) {
    let text = plain(letter);
    let line = text
        .lines()
        .find(|line| line.contains("#token="))
        .unwrap_or_else(|| panic!("no link in {letter:?}"));
    let (page, token) = line.trim().split_once("#token=").unwrap();
    (page.to_owned(), token.to_owned())
}

fn place_with(server: &MailServer, more: &str) -> Place {
    let place = Place::new();
    let settings = crate::mail::settings(server);
    place.settings(&format!(
        "{settings}registration.enabled = true\nlog.level = \"trace\"\n{more}"
    ));
    place
}

#[test]
fn somebody_registers_proves_the_address_loses_the_password_and_moves() {
    let server = MailServer::start([]);
    let place = place_with(&server, "");
    let service = place.serve();
    let port = place.port;
    let zoe = json!({"username": "zoe", "email": "zoe@example.org", "password": PASSWORD});
    let reply = post(port, "/users/register", &zoe);
    assert_eq!(reply.status, 201, "{reply:?}");
    let first = letter(&server, 1);
    assert_eq!(first.header("Subject"), "Confirm your e-mail address");
    let (page, proof) = link(&first);
    assert_eq!(
        page,
        format!("http://127.0.0.1:{port}/account/verify-email")
    );
    let shown = send(port, "GET /account/verify-email", "", "");
    assert_eq!(shown.status, 200, "{shown:?}");
    let body = json!({"token": proof, "password": PASSWORD});
    assert_eq!(post(port, "/users/email/verify", &body).status, 204);
    assert_eq!(login(port, "zoe@example.org", PASSWORD).status, 200);

    let body = json!({"email": "zoe@example.org"});
    assert_eq!(post(port, "/users/password/reset", &body).status, 202);
    let second = letter(&server, 2);
    assert_eq!(second.header("Subject"), "Set a new password");
    let (page, reset) = link(&second);
    assert_eq!(
        page,
        format!("http://127.0.0.1:{port}/account/reset-password")
    );
    let body = json!({"token": reset, "new_password": NEW});
    assert_eq!(
        post(port, "/users/password/reset/confirm", &body).status,
        204
    );
    assert_eq!(
        post(port, "/users/password/reset/confirm", &body).status,
        400
    );
    assert_eq!(login(port, "zoe", PASSWORD).status, 401);
    let told = letter(&server, 3);
    assert_eq!(told.header("Subject"), "Your password was reset");

    let who = SignedIn::from_reply(&login(port, "zoe", NEW));
    let headers = format!("{JSON}{}", who.bearer());
    let body = json!({"email": "zoe@example.com", "current_password": NEW}).to_string();
    let reply = send(port, "POST /users/email", &headers, &body);
    assert_eq!(reply.status, 202, "{reply:?}");
    let fourth = letter(&server, 4);
    assert_eq!(fourth.to, ["<zoe@example.com>"]);
    let (_, moving) = link(&fourth);
    let body = json!({"token": moving});
    assert_eq!(post(port, "/users/email/verify", &body).status, 204);
    let told = letter(&server, 5);
    assert_eq!(told.to, ["<zoe@example.org>"]);
    assert!(plain(&told).contains("z…@example.com"), "{told:?}");

    // Nothing of a token is in the log, at whichever level, or in the database.
    let (status, said) = service.stop();
    assert!(status.success(), "{said}");
    let mut kept = said.into_bytes();
    for file in ["countersign.db", "countersign.db-wal"] {
        kept.extend(fs::read(place.path(file)).unwrap_or_default());
    }
    for token in [proof, reset, moving] {
        // The first 22 characters are the name of the row.
        for part in [&token[24..44], &token[44..64]] {
            let is_there = kept.windows(part.len()).any(|it| it == part.as_bytes());
            assert!(!is_there, "{part} was kept");
        }
    }
}

#[test]
fn links_lead_to_the_apps_own_pages() {
    let server = MailServer::start([]);
    let place = place_with(
        &server,
        "registration.verify_page = \"http://localhost:3000/verify?step=2\"\n\
         password.reset_page = \"http://localhost:3000/reset\"\n",
    );
    place.add_user("ana");
    let said = place.run(&["user", "set-email", "ana", "ana@example.org"]);
    assert_eq!(said.status, Some(0), "{said:?}");
    let _service = place.serve();
    let headers = format!("{JSON}X-Forwarded-Host: evil.test\r\nForwarded: host=evil.test\r\n");
    for (number, path, page) in [
        (1, "/users/password/reset", "http://localhost:3000/reset"),
        (
            2,
            "/users/email/verify/resend",
            "http://localhost:3000/verify?step=2",
        ),
    ] {
        let body = json!({"email": "ana@example.org"}).to_string();
        let reply = send(place.port, &format!("POST {path}"), &headers, &body);
        assert!([202, 204].contains(&reply.status), "{reply:?}");
        let (found, _) = link(&letter(&server, number));
        assert_eq!(found, page);
    }
}

#[test]
fn a_service_that_can_send_nobody_a_letter_takes_no_registrations() {
    let place = Place::new();
    place.settings("registration.enabled = true\nmail.transport = \"none\"\n");
    let said = place.run(&["config", "check"]);
    assert_eq!(said.status, Some(78), "{said:?}");
    assert!(said.stderr.contains("registration.enabled"), "{said:?}");
    assert!(said.stderr.contains("mail.transport"), "{said:?}");
    place.settings(
        "registration.enabled = true\nregistration.verify_email = false\nmail.transport = \"none\"\n",
    );
    assert_eq!(place.run(&["config", "check"]).status, Some(0));
}

#[test]
fn an_address_that_is_set_is_told_to_the_old_one_and_is_not_proven() {
    let server = MailServer::start([]);
    let place = place_with(&server, "");
    place.add_user("ana");
    let set = |address| {
        let said = place.run(&["user", "set-email", "ana", address]);
        assert_eq!(said.status, Some(0), "{said:?}");
        assert!(!said.stderr.contains("example"), "{said:?}");
    };
    set("ana@example.org");
    let _service = place.serve();
    set("ana@example.com");
    let told = letter(&server, 1);
    assert_eq!(told.to, ["<ana@example.org>"]);
    assert_eq!(told.header("Subject"), "Your e-mail address was changed");
    let said = place.run(&["user", "show", "ana", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(shown["email"], "ana@example.com");
    assert_eq!(shown["email_verified"], false);
    let said = place.run(&["user", "set-email", "ana", "nowhere"]);
    assert_eq!(said.status, Some(1), "{said:?}");
}
