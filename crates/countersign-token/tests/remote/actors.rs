//! Who appears in these tests: an issuer on a loopback socket, and the API that follows it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_token::remote::{
    RemoteVerifier, RemoteVerifierBuilder, RemoteVerifyError, WhenUnreachable,
};
use countersign_token::revocation::{RevokedKey, RevokedSession, RevokedUser};
use countersign_token::{
    ACCESS_TOKEN_TYPE, AccessClaims, JsonWebKey, JsonWebKeySet, RevocationList, UnixSeconds, jws,
};
use serde_json::Map;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;

pub(crate) const ISSUER: &str = "https://auth.test";
pub(crate) const API: &str = "https://api.test";
pub(crate) const ANAS_SESSION: &str = "0198b3f2-6a3e-7d5c-9d0e-000000000001";

/// The shortest silence that counts as loss: where nothing but the loss is waited for.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// A silence that a busy machine does not keep by itself: where something must be accepted meanwhile.
pub(crate) const LATER: Duration = Duration::from_secs(6);

#[expect(
    clippy::disallowed_methods,
    reason = "the verifier asks the system's clock, so the tokens must fit it"
)]
pub(crate) fn now() -> UnixSeconds {
    SystemTime::now().into()
}

/// Someone who signs, and a server that publishes what they say.
pub(crate) struct Issuer {
    pub(crate) signer: Signer,
    pub(crate) keys: Arc<Page>,
    pub(crate) feed: Arc<Page>,
    pub(crate) url: String,
    connections: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

/// A key pair with a name.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    pub(crate) key: JsonWebKey,
}

/// One address of an issuer: what it says, how it says it, and who asked.
pub(crate) struct Page {
    content: watch::Sender<Content>,
    pub(crate) asked: Mutex<Vec<Asked>>,
    next_etag: AtomicU64,
}

#[derive(Clone)]
struct Content {
    body: String,
    etag: String,
    manner: Manner,
}

/// How an issuer answers.
#[derive(Clone)]
pub(crate) enum Manner {
    /// With `ETag` and, where it is asked to, after waiting for a change.
    Obedient,
    /// As obedient, but it never waits.
    Hasty,
    /// As obedient, but it closes the connection after each answer and does not say so.
    Brief,
    /// As obedient, but it closes the connection when it is asked a second time.
    Forgetful,
    /// It closes the connection without an answer.
    Absent,
    /// With these bytes, then it closes.
    Raw(Vec<u8>),
    /// With a byte now and then, for ever.
    Dribbling(&'static str),
    /// With the beginning of an answer, and then the same bytes for ever.
    Endless(&'static str),
}

/// A request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) target: String,
    pub(crate) if_none_match: Option<String>,
    pub(crate) authorization: Option<String>,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = JsonWebKey::ed25519(pair.public_key().as_ref()).unwrap();
        Self { pair, key }
    }

    pub(crate) fn token(&self, claims: &AccessClaims) -> String {
        let header = jws::header_json("EdDSA", self.key.kid(), ACCESS_TOKEN_TYPE);
        let payload = serde_json::to_vec(claims).unwrap();
        let Ok(token) = jws::sign_with(&header, &payload, |input| {
            Ok::<_, Infallible>(self.pair.sign(input))
        });
        token
    }

    /// A token of the session `sid`, good for five minutes.
    pub(crate) fn token_of(&self, sid: &str) -> String {
        self.token(&claims(sid))
    }
}

pub(crate) fn claims(sid: &str) -> AccessClaims {
    AccessClaims {
        iss: ISSUER.into(),
        sub: "7".into(),
        user_id: 7,
        aud: vec![API.into()],
        iat: now(),
        exp: now().saturating_add(Duration::from_mins(5)),
        jti: "j".into(),
        sid: sid.into(),
        csrf: "c".into(),
        extra: Map::new(),
    }
}

pub(crate) fn set(keys: &[&JsonWebKey]) -> String {
    let set: JsonWebKeySet = keys.iter().map(|key| (*key).clone()).collect();
    serde_json::to_string(&set).unwrap()
}

fn until() -> UnixSeconds {
    now().saturating_add(Duration::from_mins(5))
}

/// The list in which the session `sid` ended.
pub(crate) fn ended(sid: &str) -> RevocationList {
    let sid = sid.into();
    RevocationList {
        sessions: vec![RevokedSession {
            sid,
            until: until(),
        }],
        ..RevocationList::empty(now())
    }
}

/// The list in which all tokens of the user `sub` up to now ended.
pub(crate) fn ended_user(sub: &str) -> RevocationList {
    RevocationList {
        users: vec![RevokedUser {
            sub: sub.into(),
            not_before: now().saturating_add(Duration::from_secs(1)),
            until: until(),
        }],
        ..RevocationList::empty(now())
    }
}

pub(crate) fn revoked_key(kid: &str) -> RevocationList {
    let kid = kid.into();
    RevocationList {
        keys: vec![RevokedKey {
            kid,
            until: until(),
        }],
        ..RevocationList::empty(now())
    }
}

impl Page {
    fn new(body: String) -> Arc<Self> {
        let page = Self {
            content: watch::Sender::new(Content {
                body: String::new(),
                etag: String::new(),
                manner: Manner::Obedient,
            }),
            asked: Mutex::default(),
            next_etag: AtomicU64::new(1),
        };
        page.says(body);
        Arc::new(page)
    }

    /// Changes what is published.
    pub(crate) fn says(&self, body: impl Into<String>) {
        let etag = format!("\"{}\"", self.next_etag.fetch_add(1, Ordering::Relaxed));
        self.content.send_modify(|content| {
            content.body = body.into();
            content.etag = etag;
        });
    }

    pub(crate) fn lists(&self, list: &RevocationList) {
        self.says(serde_json::to_string(list).unwrap());
    }

    pub(crate) fn becomes(&self, manner: Manner) {
        self.content.send_modify(|content| content.manner = manner);
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Answers one request; whether the connection may be used again.
    async fn answer(
        &self,
        asked: Asked,
        nth: usize,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> bool {
        self.asked.lock().unwrap().push(asked.clone());
        let seconds = asked
            .target
            .split_once("wait=")
            .map_or(0, |(_, seconds)| seconds.parse().unwrap());
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut content = self.content.subscribe();
        loop {
            let Content { body, etag, manner } = content.borrow_and_update().clone();
            let is_known = asked.if_none_match.as_ref() == Some(&etag);
            let is_hasty = matches!(manner, Manner::Hasty);
            match manner {
                Manner::Forgetful if nth > 0 => return false,
                Manner::Obedient | Manner::Hasty | Manner::Brief | Manner::Forgetful => {
                    if is_known && !is_hasty && Instant::now() < deadline {
                        let _ = timeout_at(deadline, content.changed()).await;
                        continue;
                    }
                    let answer = if is_known {
                        format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n")
                    } else {
                        format!("{}ETag: {etag}\r\n\r\n{body}", json_head(body.len()))
                    };
                    let written = stream.write_all(answer.as_bytes()).await;
                    return written.is_ok() && !matches!(manner, Manner::Brief);
                }
                Manner::Absent => return false,
                Manner::Raw(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    return false;
                }
                Manner::Dribbling(answer) => {
                    for byte in answer.bytes().cycle() {
                        if stream.write_all(&[byte]).await.is_err() {
                            return false;
                        }
                        sleep(Duration::from_millis(20)).await;
                    }
                }
                Manner::Endless(beginning) => {
                    let _ = stream.write_all(beginning.as_bytes()).await;
                    while stream.write_all(&[b' '; 4096]).await.is_ok() {}
                    return false;
                }
            }
        }
    }
}

/// The head of an answer in JSON, to be completed with more headers.
pub(crate) fn json_head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n")
}

impl Issuer {
    /// One whose sessions are all alive.
    pub(crate) async fn new() -> Self {
        Self::listening(None).await
    }

    pub(crate) async fn with_tls(tls: TlsAcceptor) -> Self {
        Self::listening(Some(tls)).await
    }

    async fn listening(tls: Option<TlsAcceptor>) -> Self {
        let signer = Signer::new();
        let keys = Page::new(set(&[&signer.key]));
        let feed = Page::new(serde_json::to_string(&RevocationList::empty(now())).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let pages = [Arc::clone(&keys), Arc::clone(&feed)];
        let open = Arc::clone(&connections);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (pages, tls, open) = (pages.clone(), tls.clone(), Arc::clone(&open));
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    match tls {
                        None => serve(stream, pages).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, pages).await;
                            }
                        }
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            signer,
            keys,
            feed,
            url: format!("{scheme}://localhost:{port}"),
            connections,
            server,
        }
    }

    pub(crate) fn becomes(&self, manner: &Manner) {
        self.keys.becomes(manner.clone());
        self.feed.becomes(manner.clone());
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// An API that follows this issuer, and keeps on when it is silent.
    pub(crate) fn api(&self) -> RemoteVerifierBuilder {
        RemoteVerifier::builder(ISSUER)
            .base_url(&self.url)
            .audience(API)
            .when_unreachable(WhenUnreachable::KeepUntilExpiry)
    }

    /// One that refuses when it is silent for six seconds, and so asks it to wait for five.
    pub(crate) fn strict_api(&self) -> RemoteVerifierBuilder {
        self.api()
            .when_unreachable(WhenUnreachable::Refuse)
            .unreachable_after(LATER)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, [keys, feed]: [Arc<Page>; 2]) {
    let mut nth = 0;
    while let Some(asked) = request(&mut stream).await {
        let page = match asked.target.split('?').next().unwrap() {
            "/.well-known/jwks.json" => &keys,
            "/.well-known/revocations" => &feed,
            other => panic!("nobody asks for {other}"),
        };
        let (mut reading, mut writing) = tokio::io::split(&mut stream);
        // Whoever hangs up while waiting is gone.
        let mut byte = [0];
        let may_go_on = tokio::select! {
            may_go_on = page.answer(asked, nth, &mut writing) => may_go_on,
            _ = reading.read(&mut byte) => false,
        };
        if !may_go_on {
            let _ = stream.shutdown().await;
            return;
        }
        nth += 1;
    }
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let target = lines
        .next()?
        .strip_prefix("GET ")?
        .strip_suffix(" HTTP/1.1")?
        .to_owned();
    let mut asked = Asked {
        target,
        ..Asked::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let value = Some(value.to_owned());
        match name.to_ascii_lowercase().as_str() {
            "if-none-match" => asked.if_none_match = value,
            "authorization" => asked.authorization = value,
            _ => {}
        }
    }
    Some(asked)
}

/// The word of the outcome: "accepted", or the refusal's for the log.
pub(crate) fn outcome(api: &RemoteVerifier, token: &str) -> &'static str {
    match api.verify(token) {
        Ok(_) => "accepted",
        Err(refused) => RemoteVerifyError::reason(refused),
    }
}

/// The most that is asked in `time` by one who asks once in `pace`, with some at the start.
pub(crate) fn at_most(time: Duration, pace: Duration) -> u128 {
    time.as_millis() / pace.as_millis() + 3
}

/// Waits until `is_so`, for as long as a slow machine may need.
#[track_caller]
pub(crate) fn eventually(is_so: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(20), "never: {caller}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits until `is_so`. Promised is a second; a machine may be busy.
#[track_caller]
pub(crate) fn within_a_second(is_so: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        eventually(is_so).await;
        let took = start.elapsed();
        assert!(took < Duration::from_secs(4), "{took:?}: {caller}");
    }
}
