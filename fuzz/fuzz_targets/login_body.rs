//! Whatever is sent to the login is answered with a grant or a problem, never with a failure of
//! ours, and with a grant only for the right password.
//!
//! An input is a content type (empty: none), a line feed, and the body.
#![no_main]

use std::cell::RefCell;

use axum::body::Body;
use countersign_fuzz::{Answer, PASSWORD, Service, text};
use countersign_token::json;
use http::{HeaderValue, StatusCode};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::Value;

/// Sessions stay in memory: a service is replaced after this many.
const LOGINS: usize = 20_000;

struct Door {
    service: Service,
    logins: usize,
}

impl Door {
    fn open() -> Self {
        Self {
            service: Service::start("http://127.0.0.1:8000"),
            logins: 0,
        }
    }
}

thread_local! {
    static DOOR: RefCell<Door> = RefCell::new(Door::open());
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
        return Corpus::Reject;
    };
    let (content_type, body) = (&input[..end], &input[end + 1..]);
    let Ok(header) = HeaderValue::from_bytes(content_type) else {
        return Corpus::Reject;
    };
    DOOR.with_borrow_mut(|door| {
        let mut request = door.service.request("POST", "/users/login");
        if !content_type.is_empty() {
            request = request.header("content-type", header);
        }
        let request = request.body(Body::from(body.to_vec()));
        let answer = door.service.answer(request.expect("a valid request"));
        let granted = answer.status == StatusCode::OK;
        if granted {
            check_grant(&door.service, &answer);
            door.logins += 1;
        } else {
            check_problem(&answer);
        }
        if let Some(right) = is_right(content_type, body) {
            assert_eq!(granted, right, "{:?}", answer.json);
        }
        if door.logins >= LOGINS {
            *door = Door::open();
        }
    });
    Corpus::Keep
});

fn check_grant(service: &Service, answer: &Answer) {
    let json = answer.json.as_ref().expect("a grant is JSON");
    assert!(matches!(text(&json["user"], "username"), "ana" | "ben"));
    assert_eq!(text(json, "csrf_token").len(), 32);
    assert_eq!(text(json, "token_type"), "Bearer");
    assert!(service.accepts(text(json, "access_token")));
    // The third makes the device known, if the login is to be remembered.
    let cookies = answer.headers.get_all("set-cookie").iter().count();
    assert!((2..=3).contains(&cookies), "{cookies} cookies");
}

fn check_problem(answer: &Answer) {
    let json = answer.json.as_ref().expect("a problem is JSON");
    assert!(answer.status.is_client_error(), "{}: {json}", answer.status);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(json["status"], answer.status.as_u16());
    for member in ["type", "title", "detail", "code"] {
        assert!(!text(json, member).is_empty());
    }
    assert!(!answer.headers.contains_key("set-cookie"), "{json}");
    let challenged = answer.headers.contains_key("www-authenticate");
    assert_eq!(challenged, answer.status == StatusCode::UNAUTHORIZED);
}

/// Whether the body has the right name and password, where another reader can tell. `None`: it
/// cannot, or the name is not spelled out.
fn is_right(content_type: &[u8], body: &[u8]) -> Option<bool> {
    let is_form = content_type == b"application/x-www-form-urlencoded";
    if is_form && std::str::from_utf8(&decoded(body)).is_err() {
        // Read with replacement characters, one password would equal another.
        return Some(false);
    }
    let field = |name| match content_type {
        b"application/json" => in_json(body, name),
        b"application/x-www-form-urlencoded" => in_form(body, name),
        _ => None,
    };
    let (username, password) = (field("username")?, field("password")?);
    let right = password == PASSWORD;
    match &*username {
        // What `remember` may be is not for this reader to say.
        "ana" | "ben" if !right || field("remember").is_none() => Some(right),
        _ => None,
    }
}

fn in_json(body: &[u8], name: &str) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    // Of two members of a name serde_json takes the last, and we none.
    json::value_from_slice(body).ok()?;
    Some(match &value[name] {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

/// The one field of this name, decoded by hand.
fn in_form(body: &[u8], name: &str) -> Option<String> {
    let pairs = body
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty());
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut found = None;
    for pair in pairs {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let key = decoded(halves.next()?);
        // Twice the same name is refused.
        if seen.contains(&key) {
            return None;
        }
        if key == name.as_bytes() {
            let value = decoded(halves.next().unwrap_or_default());
            found = String::from_utf8(value).ok();
        }
        seen.push(key);
    }
    found
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        let hex = |digit: &u8| {
            char::from(*digit)
                .to_digit(16)
                .and_then(|n| u8::try_from(n).ok())
        };
        bytes.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        });
    }
    bytes
}
