//! Of all that `Cookie` headers may hold, at most one refresh cookie is taken, and it is the one
//! that a reader who goes byte by byte finds.
//!
//! An input is `h` (http) or `s` (https), then the values of `Cookie` headers, one in each line.
//! `$A` and `$B` in them stand for Ana's and Ben's refresh tokens: by the CSRF token that comes back
//! we know which one was read.
#![no_main]

use std::sync::LazyLock;

use axum::body::Body;
use countersign_fuzz::{Service, SignedIn, text};
use http::{HeaderValue, StatusCode};
use libfuzzer_sys::{Corpus, fuzz_target};

struct Door {
    service: Service,
    people: [SignedIn; 2],
}

impl Door {
    fn at(public_url: &str) -> Self {
        let service = Service::start(public_url);
        let people = ["ana", "ben"].map(|name| service.sign_in(name));
        Self { service, people }
    }
}

static HTTP: LazyLock<Door> = LazyLock::new(|| Door::at("http://127.0.0.1:8000"));
static HTTPS: LazyLock<Door> = LazyLock::new(|| Door::at("https://auth.example.org"));

fuzz_target!(|input: &[u8]| -> Corpus {
    let (door, lines) = match input {
        [b'h', lines @ ..] => (&*HTTP, lines),
        [b's', lines @ ..] => (&*HTTPS, lines),
        _ => return Corpus::Reject,
    };
    let [ana, ben] = &door.people;
    let mut request = door.service.request("GET", "/users/csrf");
    let mut headers = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let line = replace(line, b"$A", ana.refresh_token.as_bytes());
        let line = replace(&line, b"$B", ben.refresh_token.as_bytes());
        // What no HTTP/1 or HTTP/2 request can carry does not arrive.
        let Ok(value) = HeaderValue::from_bytes(&line) else {
            return Corpus::Reject;
        };
        request = request.header("cookie", value);
        headers.push(line);
    }
    let request = request.body(Body::empty()).expect("a valid request");
    let answer = door.service.answer(request);
    let json = answer.json.expect("every answer here is JSON");

    let found = naive(&headers, door.service.refresh_name.as_bytes());
    if found.len() > 1 {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{json}");
        assert_eq!(json["code"], "malformed_request");
        return Corpus::Keep;
    }
    assert_eq!(answer.status, StatusCode::OK, "{json}");
    let shown = text(&json, "csrf_token");
    for person in &door.people {
        let presented = found.first().map(Vec::as_slice) == Some(person.refresh_token.as_bytes());
        assert_eq!(presented, shown == person.csrf_token, "{found:?}");
    }
    Corpus::Keep
});

/// The values of all cookies of this name, found one byte after the other.
fn naive(headers: &[Vec<u8>], wanted: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for header in headers {
        let (mut name, mut value, mut has_value) = (Vec::new(), Vec::new(), false);
        for byte in header.iter().copied().chain([b';']) {
            match byte {
                b';' => {
                    if has_value && trimmed(&name, true, false) == wanted {
                        found.push(trimmed(&value, false, true));
                    }
                    (name, value, has_value) = (Vec::new(), Vec::new(), false);
                }
                b'=' if !has_value => has_value = true,
                byte if has_value => value.push(byte),
                byte => name.push(byte),
            }
        }
    }
    found
}

/// Without the spaces and tabs around the pair: before a name, after a value, and nowhere else.
fn trimmed(bytes: &[u8], at_start: bool, at_end: bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while at_start && matches!(bytes.first(), Some(b' ' | b'\t')) {
        bytes.remove(0);
    }
    while at_end && matches!(bytes.last(), Some(b' ' | b'\t')) {
        bytes.pop();
    }
    bytes
}

fn replace(line: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(from) {
            replaced.extend_from_slice(to);
            rest = after;
        } else {
            replaced.push(*first);
            rest = after;
        }
    }
    replaced
}
