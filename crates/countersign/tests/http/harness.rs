//! Actors to write tests with: a service in memory, people who use it, and what they are answered.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use countersign::core::auth::{Auth, AuthSettings, NewAccount};
use countersign::core::clock::{ManualClock, SystemRandomness};
use countersign::core::error::StoreError;
use countersign::core::mail::{DeliveryFailure, Mail, MailTransport, Message};
use countersign::core::mailed_token::MailedLink;
use countersign::core::password::{HashingSettings, Password};
use countersign::core::secrets::{RootSecret, RootSecrets};
use countersign::core::session::{EndedBy, Session};
use countersign::core::store::{MemoryStore, SharedStore};
use countersign::core::user::{Email, User, Username};
use countersign::{App, HttpSettings};
use countersign_token::base64url;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// The page that is allowed to call.
pub(crate) const LISTED: &str = "http://localhost:3000";
/// A page that is not.
pub(crate) const FOREIGN: &str = "https://evil.test";
/// Everybody's password but the strangers'.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A running service, its clock in the test's hands.
pub(crate) struct Service {
    pub(crate) auth: Arc<Auth>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) secret: RootSecret,
    pub(crate) store: SharedStore,
    pub(crate) settings: HttpSettings,
    auth_settings: AuthSettings,
    router: Router,
    operations: Router,
}

/// How a service is set up before it starts.
pub(crate) struct Setup {
    pub(crate) auth: AuthSettings,
    pub(crate) http: HttpSettings,
    pub(crate) store: SharedStore,
    pub(crate) secret: RootSecret,
    pub(crate) previous_secrets: Vec<RootSecret>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Setup {
    /// Development: http on a loopback address.
    pub(crate) fn development() -> Self {
        Self::at("http://127.0.0.1:8000")
    }

    /// Production: https that ends in this process.
    pub(crate) fn production() -> Self {
        let mut setup = Self::at("https://auth.example.org");
        setup.http.tls_ends_here = true;
        setup
    }

    /// Production behind a proxy of 10.0.0.0/8 that ends TLS.
    pub(crate) fn behind_a_proxy() -> Self {
        let mut setup = Self::at("https://auth.example.org");
        setup.http.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        setup
    }

    /// A service that throttles nothing, for what is about something else and does much of it.
    pub(crate) fn unthrottled(mut self) -> Self {
        self.auth.throttle.insecure_off = true;
        self
    }

    /// A service whose letters somebody delivers ([`Service::letters`]).
    pub(crate) fn with_mail(mut self) -> Self {
        self.auth.queue_mail = true;
        self
    }

    /// A service at which anybody may make an account.
    pub(crate) fn with_registration(mut self) -> Self {
        self.auth.registration.enabled = true;
        self.with_mail()
    }

    /// With another store.
    pub(crate) fn over(mut self, store: SharedStore) -> Self {
        self.store = store;
        self
    }

    fn at(url: &str) -> Self {
        let mut auth = AuthSettings {
            hashing: HashingSettings::CHEAP,
            ..AuthSettings::default()
        };
        url.clone_into(&mut auth.tokens.issuer);
        let mut http = HttpSettings::new(url.parse().unwrap());
        http.allowed_origins = vec![LISTED.parse().unwrap()];
        Self {
            auth,
            http,
            store: Arc::new(MemoryStore::default()),
            secret: RootSecret::generate(&SystemRandomness),
            previous_secrets: Vec::new(),
            clock: Arc::new(ManualClock::default()),
        }
    }

    pub(crate) async fn start(self) -> Service {
        self.try_to_start().await.unwrap()
    }

    pub(crate) async fn try_to_start(self) -> Result<Service, StoreError> {
        let (clock, secret) = (self.clock, self.secret);
        let roots = RootSecrets {
            current: secret.clone(),
            previous: self.previous_secrets,
        };
        let store = Arc::clone(&self.store);
        let randomness = Arc::new(SystemRandomness);
        let auth_settings = self.auth.clone();
        let auth = Auth::start_with(
            self.store,
            roots,
            self.auth,
            Arc::clone(&clock) as _,
            randomness,
        );
        let auth = Arc::new(auth.await?);
        let app = App::new(Arc::clone(&auth), self.http.clone());
        let (router, operations) = (app.router(), app.operations_router());
        Ok(Service {
            auth,
            clock,
            secret,
            store,
            settings: self.http,
            auth_settings,
            router,
            operations,
        })
    }
}

/// A service in development, a visitor, and Ana signed in.
pub(crate) async fn service_with_ana() -> (Service, Client, Client) {
    let service = Setup::development().start().await;
    service.make_user("ana").await;
    let ana = service.signed_in("ana").await;
    let visitor = service.visitor();
    (service, visitor, ana)
}

impl Service {
    pub(crate) async fn make_user(&self, name: &str) -> User {
        let account = NewAccount {
            username: Username::parse(name).unwrap(),
            email: Email::parse(&format!("{name}@example.org")).unwrap(),
            password: Some(Password::new(PASSWORD.to_owned()).unwrap()),
            is_staff: false,
            is_superuser: false,
        };
        self.auth
            .create_user(account, EndedBy::CommandLine)
            .await
            .unwrap()
    }

    pub(crate) async fn deactivate(&self, name: &str) {
        let user = self.auth.find_user(name).await.unwrap();
        self.auth
            .set_active(user.id, false, EndedBy::CommandLine)
            .await
            .unwrap();
    }

    /// Delivers what is due; gives the letters that arrived.
    pub(crate) async fn letters(&self) -> Vec<Letter> {
        let mailbox = Mailbox::default();
        self.auth.deliver_mail(&mailbox).await.unwrap();
        mailbox.0.into_inner().unwrap()
    }

    /// Delivers what is due: one letter, with a link; gives its token.
    pub(crate) async fn mailed_token(&self) -> String {
        let [letter] = self.letters().await.try_into().unwrap();
        letter.token.expect("the letter carries a link")
    }

    /// How to set up another service over the same store, secret and clock.
    pub(crate) fn setup_beside(&self) -> Setup {
        Setup {
            auth: self.auth_settings.clone(),
            http: self.settings.clone(),
            store: Arc::clone(&self.store),
            secret: self.secret.clone(),
            previous_secrets: Vec::new(),
            clock: Arc::clone(&self.clock),
        }
    }

    /// The session of whoever holds this access token, as it is stored.
    pub(crate) async fn session_of(&self, client: &Client) -> Session {
        let id = client.session_id().parse().unwrap();
        self.store.find_session(id).await.unwrap().unwrap().0
    }

    /// Someone with an empty cookie jar.
    pub(crate) fn visitor(&self) -> Client {
        let host = self.settings.public_url.authority().to_owned();
        Client {
            https: self.settings.public_url.is_https(),
            router: self.router.clone(),
            operations: self.operations.clone(),
            host,
            cookies: Vec::new(),
            access_token: None,
            csrf_token: None,
            peer: "192.0.2.7:50000".parse().unwrap(),
        }
    }

    /// The same person with the same cookies and tokens, calling another process of the service.
    pub(crate) fn called_by(&self, client: &Client) -> Client {
        Client {
            router: self.router.clone(),
            operations: self.operations.clone(),
            ..client.clone()
        }
    }

    /// Someone who has just signed in.
    pub(crate) async fn signed_in(&self, name: &str) -> Client {
        let mut client = self.visitor();
        client.login(name, PASSWORD).await.expect(StatusCode::OK);
        client
    }

    pub(crate) fn advance(&self, duration: SignedDuration) {
        self.clock.advance(duration);
    }

    pub(crate) fn later(&self, seconds: i64) {
        self.advance(SignedDuration::from_secs(seconds));
    }
}

/// A letter as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) to: String,
    pub(crate) username: String,
    pub(crate) message: Message,
    pub(crate) token: Option<String>,
}

/// Where all letters arrive.
#[derive(Default)]
struct Mailbox(Mutex<Vec<Letter>>);

#[async_trait]
impl MailTransport for Mailbox {
    async fn deliver(&self, mail: &Mail, link: Option<&MailedLink>) -> Result<(), DeliveryFailure> {
        let letter = Letter {
            to: mail.recipient.clone(),
            username: mail.username.clone(),
            message: mail.message.clone(),
            token: link.map(|link| link.token().to_owned()),
        };
        self.0.lock().unwrap().push(letter);
        Ok(())
    }
}

/// A client with a cookie jar, an access token in memory, and the last CSRF token it was given.
#[derive(Clone)]
pub(crate) struct Client {
    router: Router,
    operations: Router,
    host: String,
    https: bool,
    pub(crate) cookies: Vec<(String, String)>,
    pub(crate) access_token: Option<String>,
    pub(crate) csrf_token: Option<String>,
    pub(crate) peer: SocketAddr,
}

impl Client {
    /// The same person in another network: of so many as there are numbers.
    pub(crate) fn elsewhere(&self, number: u16) -> Self {
        let address = Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, 7);
        Self {
            peer: SocketAddr::from((address, 50_000)),
            ..self.clone()
        }
    }

    /// The cookies of a session. The one by which the device is known again outlives it.
    pub(crate) fn session_cookies(&self) -> Vec<&str> {
        let names = self.cookies.iter().map(|(name, _)| name.as_str());
        names
            .filter(|name| !name.ends_with("knowndevice"))
            .collect()
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call<'_> {
        self.call(Method::POST, path)
    }

    pub(crate) fn patch(&self, path: &str) -> Call<'_> {
        self.call(Method::PATCH, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    pub(crate) fn options(&self, path: &str) -> Call<'_> {
        self.call(Method::OPTIONS, path)
    }

    /// A bare request: only the Host and whatever the test adds.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let call = Call {
            client: self,
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Body::empty(),
        };
        call.header("host", &self.host)
    }

    /// Signs in and keeps what comes back.
    pub(crate) async fn login(&mut self, username: &str, password: &str) -> Answer {
        let body = json!({"username": username, "password": password});
        let answer = self
            .post("/users/login")
            .with_cookies()
            .json(&body)
            .send()
            .await;
        self.keep(&answer);
        answer
    }

    /// Refreshes and keeps what comes back.
    pub(crate) async fn refresh(&mut self) -> Answer {
        let answer = self
            .post("/users/refresh_token")
            .with_cookies()
            .with_csrf()
            .send()
            .await;
        self.keep(&answer);
        answer
    }

    /// Reads the user with the access token in memory.
    pub(crate) async fn user(&self) -> Answer {
        self.get("/users/user").with_token().send().await
    }

    /// Signs out by cookie and keeps what comes back.
    pub(crate) async fn logout(&mut self) -> Answer {
        let answer = self
            .post("/users/logout")
            .with_cookies()
            .with_csrf()
            .send()
            .await;
        self.keep(&answer);
        answer
    }

    /// Takes over cookies and tokens as a browser and its page would.
    pub(crate) fn keep(&mut self, answer: &Answer) {
        for set in answer.set_cookies() {
            let (pair, attributes) = set.split_once(';').unwrap_or((set, ""));
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !attributes.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        if let Some(Value::String(token)) = answer.json.get("access_token") {
            self.access_token = Some(token.clone());
        }
        if let Some(Value::String(token)) = answer.json.get("csrf_token") {
            self.csrf_token = Some(token.clone());
        }
    }

    /// The refresh token in the jar.
    pub(crate) fn refresh_token(&self) -> Option<&str> {
        let mut cookies = self.cookies.iter();
        cookies
            .find(|(name, _)| name.ends_with("refreshtoken"))
            .map(|(_, value)| value.as_str())
    }

    /// The claims of the access token, unverified.
    pub(crate) fn claims(&self) -> Value {
        decoded(self.token().split('.').nth(1).unwrap())
    }

    /// The session that the access token names.
    pub(crate) fn session_id(&self) -> String {
        self.claims()["sid"].as_str().unwrap().to_owned()
    }

    pub(crate) fn token(&self) -> &str {
        self.access_token
            .as_deref()
            .expect("the client has an access token")
    }
}

/// A part of a token, read.
pub(crate) fn decoded(part: &str) -> Value {
    serde_json::from_slice(&base64url::decode(part).unwrap()).unwrap()
}

/// A request in the making.
#[must_use]
pub(crate) struct Call<'c> {
    client: &'c Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Body,
}

impl Call<'_> {
    /// Sets a header, or with an empty value takes it away.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.remove(&name);
        if !value.is_empty() {
            self.headers
                .insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        self
    }

    /// Adds a header beside those of the same name.
    pub(crate) fn add_header(mut self, name: &str, value: &[u8]) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers
            .append(name, HeaderValue::from_bytes(value).unwrap());
        self
    }

    pub(crate) fn on_page(self, origin: &str) -> Self {
        self.header("origin", origin)
    }

    pub(crate) fn with_cookies(self) -> Self {
        let pairs: Vec<_> = self
            .client
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        self.header("cookie", &pairs.join("; "))
    }

    pub(crate) fn with_csrf(self) -> Self {
        let token = self.client.csrf_token.clone().unwrap_or_default();
        self.header("x-csrftoken", &token)
    }

    pub(crate) fn with_token(self) -> Self {
        let token = format!("Bearer {}", self.client.token());
        self.header("authorization", &token)
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// A body that arrives bit by bit, of no announced length.
    pub(crate) fn streamed(mut self, content_type: &str, body: Body) -> Self {
        self.body = body;
        self.header("content-type", content_type)
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::from(body.into());
        self.header("content-type", content_type)
    }

    /// Sends it to the public listener. Whatever comes back must be guarded, whatever it is.
    pub(crate) async fn send(self) -> Answer {
        let router = self.client.router.clone();
        let https = self.client.https;
        let answer = self.send_to(router).await;
        assert!(!answer.header("x-request-id").is_empty());
        // RFC 6797, section 7.2: not over plain http, which a request for another host may be.
        if answer.code() != "misdirected_request" {
            let expected = if https && answer.code() != "https_required" {
                "max-age=63072000; includeSubDomains"
            } else {
                ""
            };
            assert_eq!(answer.header("strict-transport-security"), expected);
        }
        answer
    }

    /// Sends it to the operations listener.
    pub(crate) async fn send_to_operations(self) -> Answer {
        let router = self.client.operations.clone();
        self.send_to(router).await
    }

    async fn send_to(self, router: Router) -> Answer {
        let wants_body = self.method != Method::HEAD;
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path.parse().unwrap();
        *request.headers_mut() = self.headers;
        request
            .extensions_mut()
            .insert(ConnectInfo(self.client.peer));
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let answer = Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
            json,
        };
        answer.assert_guarded(wants_body);
        answer
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) json: Value,
}

impl Answer {
    /// Checks the status; gives the answer back for more.
    #[track_caller]
    pub(crate) fn expect(self, status: StatusCode) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.bytes)
        );
        self
    }

    /// Checks that it is a problem of this code, whole and in the right form.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(StatusCode::from_u16(status).unwrap());
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json["code"], code, "{}", answer.json);
        assert_eq!(answer.json["status"], status);
        assert_eq!(answer.json["type"], format!("/docs#error-{code}"));
        for text in ["title", "detail"] {
            assert!(
                answer.json[text]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
            );
        }
        assert_eq!(answer.header("cache-control"), "no-store");
        if status == 401 {
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
        answer
    }

    /// What every answer has, success or failure: nothing sniffed, framed, embedded or told of us;
    /// and every failure is a problem that nobody keeps.
    #[track_caller]
    fn assert_guarded(&self, wants_body: bool) {
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        assert_eq!(self.header("referrer-policy"), "no-referrer");
        assert_eq!(self.header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(self.header("cross-origin-opener-policy"), "same-origin");
        let policy = self.header("content-security-policy");
        for directive in [
            "default-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|part| part == directive), "{policy}");
        }
        assert_ne!(self.header("cache-control"), "");
        for told in ["server", "x-powered-by", "via"] {
            assert_eq!(self.header(told), "");
        }
        if self.status.is_client_error() || self.status.is_server_error() {
            assert_eq!(self.header("content-type"), "application/problem+json");
            assert_eq!(self.header("cache-control"), "no-store");
            if wants_body {
                assert_eq!(self.json["status"], self.status.as_u16(), "{}", self.json);
            }
            assert!(
                self.set_cookies().is_empty(),
                "a refusal touches no cookies"
            );
        }
    }

    /// The word for programs; empty if it is no problem.
    pub(crate) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    /// The body with what differs each time replaced by its name.
    pub(crate) fn shape(&self) -> Value {
        let mut json = self.json.clone();
        for name in ["access_token", "csrf_token"] {
            if let Some(value) = json.get_mut(name) {
                *value = format!("[{name}]").into();
            }
        }
        json
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn set_cookies(&self) -> Vec<&str> {
        let cookies = self.headers.get_all(header::SET_COOKIE).iter();
        cookies.map(|cookie| cookie.to_str().unwrap()).collect()
    }

    /// The codes of `errors`, as `field:code`.
    pub(crate) fn field_errors(&self) -> Vec<String> {
        let errors = self.json["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| {
                let text = |name: &str| error[name].as_str().unwrap().to_owned();
                format!("{}:{}", text("field"), text("code"))
            })
            .collect()
    }
}
