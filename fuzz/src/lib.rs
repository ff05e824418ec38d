//! What the fuzz targets share: edits that make a false token of a genuine one, and a service in
//! memory behind its router.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use countersign::{App, HttpSettings};
use countersign_core::audit::Caller;
use countersign_core::auth::{Auth, AuthSettings, NewAccount};
use countersign_core::clock::{ManualClock, SystemRandomness};
use countersign_core::password::{HashingSettings, Password};
use countersign_core::secrets::RootSecret;
use countersign_core::session::EndedBy;
use countersign_core::store::MemoryStore;
use countersign_core::user::{Email, Username};
use countersign_token::jws::MAX_TOKEN_BYTES;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// The root secret of every run, so that what was found once is found again.
pub const ROOT_SECRET: &str = "kZ3vQ8x1Tn5cKd0sWb7yRm2gJf6uEa9LhVp4XqOiNwA";

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple";

/// Now, for everything: ten o'clock on a day in 2026.
pub const NOW: u32 = 1_795_341_600;

/// Makes something else of `genuine` by edits of four bytes each: what, where (two bytes), and with
/// what. `other` is spliced from. `None`: the result is the same, or no text.
pub fn edited(genuine: &str, other: &str, edits: &[u8]) -> Option<String> {
    let mut bytes = genuine.as_bytes().to_vec();
    for edit in edits.as_chunks::<4>().0 {
        let [what, high, low, with] = *edit;
        let place = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
        match what % 8 {
            0 if place < bytes.len() => bytes[place] = with,
            1 if place < bytes.len() => bytes[place] ^= 1 << (with % 8),
            2 => bytes.insert(place, with),
            3 if place < bytes.len() => drop(bytes.remove(place)),
            4 => bytes.truncate(place),
            5 => bytes = with_part_of(&bytes, other.as_bytes(), usize::from(with % 4)),
            6 if bytes.len() <= MAX_TOKEN_BYTES => bytes.extend_from_within(place..),
            // The last character of a part: the home of stray bits.
            _ => {
                let dots = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'.');
                let ends: Vec<usize> = dots.map(|(at, _)| at).chain([bytes.len()]).collect();
                if let Some(last) = ends[place % ends.len()].checked_sub(1) {
                    bytes[last] = with;
                }
            }
        }
    }
    let edited = String::from_utf8(bytes).ok()?;
    (edited != genuine).then_some(edited)
}

/// `token` with one of its parts replaced by the same part of `other`.
fn with_part_of(token: &[u8], other: &[u8], part: usize) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let replacement = other.split(|byte| *byte == b'.').nth(part);
    if let (Some(part), Some(replacement)) = (parts.get_mut(part), replacement) {
        *part = replacement;
    }
    parts.join(&b'.')
}

/// A service in memory with two users, its clock standing still.
pub struct Service {
    runtime: Runtime,
    /// The use cases, for what cannot be asked by HTTP.
    pub auth: Arc<Auth>,
    /// The refresh cookie's name.
    pub refresh_name: String,
    router: Router,
    host: String,
}

/// What came back.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, if it is JSON.
    pub json: Option<Value>,
}

/// What a login gave.
pub struct SignedIn {
    /// The refresh token in the cookie.
    pub refresh_token: String,
    /// The CSRF token in the body.
    pub csrf_token: String,
}

impl Service {
    /// Starts one with Ana and Ben, under this public URL.
    pub fn start(public_url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let mut settings = AuthSettings {
            hashing: HashingSettings::CHEAP,
            ..AuthSettings::default()
        };
        public_url.clone_into(&mut settings.tokens.issuer);
        // Its clock stands still, and it is asked a million times.
        settings.throttle.insecure_off = true;
        let mut http = HttpSettings::new(public_url.parse().expect("an origin"));
        http.tls_ends_here = http.public_url.is_https();
        let root = root_secret();
        let auth = runtime.block_on(async {
            let auth = Auth::start_with(
                Arc::new(MemoryStore::default()),
                &root,
                settings,
                Arc::new(ManualClock::at(now())),
                Arc::new(SystemRandomness),
            );
            let auth = auth.await.expect("a store in memory works");
            for name in ["ana", "ben"] {
                let made = auth.create_user(account(name), EndedBy::CommandLine);
                made.await.expect("a good name");
            }
            Arc::new(auth)
        });
        Self {
            router: App::new(Arc::clone(&auth), http.clone()).router(),
            auth,
            refresh_name: http.cookies.refresh_name,
            host: http.public_url.authority().to_owned(),
            runtime,
        }
    }

    /// A request to be completed, with its `Host`.
    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
    }

    /// Answers a request.
    pub fn answer(&self, request: Request<Body>) -> Answer {
        let router = self.router.clone();
        self.runtime.block_on(async {
            let Ok(response) = router.oneshot(request).await;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.expect("bodies here do not fail");
            Answer {
                status: parts.status,
                headers: parts.headers,
                json: serde_json::from_slice(&body.to_bytes()).ok(),
            }
        })
    }

    /// Signs a user in.
    pub fn sign_in(&self, name: &str) -> SignedIn {
        let body = serde_json::json!({"username": name, "password": PASSWORD});
        let request = self
            .request("POST", "/users/login")
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .expect("a valid request");
        let answer = self.answer(request);
        let json = answer.json.expect("a login is answered in JSON");
        let cookies = answer.headers.get_all("set-cookie").iter();
        let refresh_token = cookies
            .filter_map(|cookie| cookie.to_str().ok()?.split(';').next()?.split_once('='))
            .find(|(cookie, _)| *cookie == self.refresh_name)
            .map(|(_, token)| token.to_owned());
        SignedIn {
            refresh_token: refresh_token.expect("a login sets the cookie"),
            csrf_token: text(&json, "csrf_token").to_owned(),
        }
    }

    /// Whether an access token is accepted.
    pub fn accepts(&self, access_token: &str) -> bool {
        let nobody = Caller::default();
        let accepted = self
            .runtime
            .block_on(self.auth.authenticate(access_token, &nobody));
        accepted.is_ok()
    }
}

/// A member that is a text.
///
/// # Panics
/// If it is none.
pub fn text<'j>(json: &'j Value, name: &str) -> &'j str {
    json[name]
        .as_str()
        .unwrap_or_else(|| panic!("no text `{name}` in {json}"))
}

/// The root secret of every run.
pub fn root_secret() -> RootSecret {
    RootSecret::parse(ROOT_SECRET).expect("a good secret")
}

/// [`NOW`], as a timestamp.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(NOW.into()).expect("a date in 2026")
}

fn account(name: &str) -> NewAccount {
    NewAccount {
        username: Username::parse(name).expect("a good name"),
        email: Email::parse("").expect("no address is a good one"),
        password: Some(Password::new(PASSWORD.to_owned()).expect("a good password")),
        is_staff: false,
        is_superuser: false,
    }
}
