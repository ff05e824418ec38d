//! A look over the service's shoulder: who asked it what, and how that ended. For the demo alone, and
//! without anything secret: of cookies only the names, and of a refresh token its generation.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use countersign::DEVELOPMENT_REFRESH_NAME;
use countersign_core::clock::{Clock as _, SystemClock};
use countersign_token::base64url;
use serde::Serialize;
use serde_json::{Value, json};

/// How many requests are remembered.
const REMEMBERED: usize = 300;
/// A refusal has less.
const REFUSAL_BYTES: usize = 16 * 1024;

/// What the service was asked lately.
#[derive(Debug, Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    so_far: u64,
    requests: VecDeque<SeenRequest>,
}

#[derive(Debug, Serialize)]
struct SeenRequest {
    number: u64,
    time: String,
    method: String,
    path: String,
    /// What the stranger says that it is.
    deed: Option<String>,
    origin: Option<String>,
    /// The names of the cookies that came.
    cookies: Vec<String>,
    status: u16,
    code: Option<String>,
    generation: Generations,
}

/// Of the session that a refresh token names, as it came and as it went.
#[derive(Debug, Serialize)]
struct Generations {
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
}

impl Witness {
    /// What was seen, oldest first.
    pub(crate) fn told(&self) -> Value {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "requests": seen.requests })
    }

    /// Remembers a request, unless it is one of the many that only look: those would crowd out the rest.
    fn remember(&self, mut request: SeenRequest) {
        let only_looks = request.method == "GET" && request.code.is_none();
        if request.deed.is_none() && (only_looks || request.method == "OPTIONS") {
            return;
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.so_far += 1;
        request.number = seen.so_far;
        if seen.requests.len() == REMEMBERED {
            seen.requests.pop_front();
        }
        seen.requests.push_back(request);
    }
}

/// Looks on while the service answers.
pub(crate) async fn look_on(
    State(witness): State<Witness>,
    request: Request,
    next: Next,
) -> Response {
    let mut seen = SeenRequest {
        number: 0,
        time: SystemClock.now().to_string(),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        deed: request.uri().query().and_then(deed),
        origin: text(request.headers(), &header::ORIGIN).map(str::to_owned),
        cookies: cookies(request.headers())
            .map(|(name, _)| name.to_owned())
            .collect(),
        status: 0,
        code: None,
        generation: Generations {
            before: cookies(request.headers()).find_map(generation),
            after: None,
        },
    };
    let response = next.run(request).await;
    seen.status = response.status().as_u16();
    seen.generation.after = set_cookies(response.headers()).find_map(generation);
    let (response, code) = read_code(response).await;
    seen.code = code;
    witness.remember(seen);
    response
}

/// The code of a refusal, whose body is read and put back.
async fn read_code(response: Response) -> (Response, Option<String>) {
    if !is_refusal(response.status()) {
        return (response, None);
    }
    let (head, body) = response.into_parts();
    let bytes = to_bytes(body, REFUSAL_BYTES).await.unwrap_or_default();
    let problem: Option<Value> = serde_json::from_slice(&bytes).ok();
    let code = problem.and_then(|problem| problem["code"].as_str().map(str::to_owned));
    (Response::from_parts(head, Body::from(bytes)), code)
}

fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

fn deed(query: &str) -> Option<String> {
    let deed = query.strip_prefix("deed=")?;
    let is_word =
        !deed.is_empty() && deed.len() <= 16 && deed.bytes().all(|b| b.is_ascii_lowercase());
    is_word.then(|| deed.to_owned())
}

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

fn set_cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::SET_COOKIE).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .filter_map(|line| line.split(';').next()?.split_once('='))
}

/// The generation in a refresh token. It is not verified: this is for looking at.
fn generation((name, token): (&str, &str)) -> Option<u64> {
    if name != DEVELOPMENT_REFRESH_NAME {
        return None;
    }
    let claims = token.split('.').nth(1)?;
    let claims = base64url::decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["gen"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", base64url::encode(claims.as_bytes()))
    }

    #[test]
    fn only_the_refresh_cookie_has_a_generation() {
        let token = token(r#"{"gen":7}"#);
        assert_eq!(generation(("refreshtoken", &token)), Some(7));
        assert_eq!(generation(("csrftoken", &token)), None);
        for broken in ["", "a.b", "a.e30.c", "..."] {
            assert_eq!(generation(("refreshtoken", broken)), None, "{broken}");
        }
    }

    #[test]
    fn a_deed_is_a_short_word() {
        assert_eq!(deed("deed=form").as_deref(), Some("form"));
        for other in [
            "",
            "deed=",
            "deed=<b>",
            "deed=form&x",
            "seed=form",
            "deed=abcdefghijklmnopq",
        ] {
            assert_eq!(deed(other), None, "{other}");
        }
    }

    fn request(method: &str, code: Option<&str>, deed: Option<&str>) -> SeenRequest {
        SeenRequest {
            number: 0,
            time: String::new(),
            method: method.to_owned(),
            path: String::new(),
            deed: deed.map(str::to_owned),
            origin: None,
            cookies: Vec::new(),
            status: 200,
            code: code.map(str::to_owned),
            generation: Generations {
                before: None,
                after: None,
            },
        }
    }

    fn numbers(witness: &Witness) -> Vec<u64> {
        let told = witness.told();
        let requests = told["requests"].as_array().unwrap();
        requests
            .iter()
            .map(|each| each["number"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let witness = Witness::default();
        for _ in 0..=REMEMBERED {
            witness.remember(request("POST", None, None));
        }
        let numbers = numbers(&witness);
        assert_eq!((numbers.len(), numbers[0]), (REMEMBERED, 2));
    }

    #[test]
    fn whoever_only_looks_is_not_remembered_but_for_strangers_and_refusals() {
        let witness = Witness::default();
        witness.remember(request("GET", None, None));
        witness.remember(request("OPTIONS", None, None));
        assert!(numbers(&witness).is_empty());
        witness.remember(request("GET", Some("session_ended"), None));
        witness.remember(request("GET", None, Some("read")));
        witness.remember(request("OPTIONS", Some("origin_denied"), Some("token")));
        assert_eq!(numbers(&witness), [1, 2, 3]);
    }
}
