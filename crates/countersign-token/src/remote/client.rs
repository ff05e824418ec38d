//! Just enough of an HTTP client: GET of one address, bounded in time and size, that believes no
//! more than it must. Redirects are not followed, nothing is decompressed, no proxy is asked.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG,
    HOST, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::address::Address;
use crate::JwksError;
use crate::revocation::RevocationListError;

/// The most that is held of a response's head, and of its body at a time. Heads of ours have a few
/// hundred bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// A connection that was closed while nobody looked says so at once. One that breaks later broke
/// while the issuer was to answer.
const CLOSED_WHILE_IDLE_WITHIN: Duration = Duration::from_secs(1);

const OUR_NAME: HeaderValue = HeaderValue::from_static(concat!(
    env!("CARGO_PKG_NAME"),
    "/",
    env!("CARGO_PKG_VERSION")
));

/// Why something could not be had from the issuer. The display is a sentence for whoever runs the
/// resource server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection, or one that broke.
    #[error("The issuer cannot be reached: {0}.")]
    Unreachable(String),
    /// No whole answer in time.
    #[error("The issuer took too long to answer.")]
    TimedOut,
    /// An answer that is not HTTP, or not an answer to what was asked.
    #[error("The issuer's answer cannot be understood: {0}.")]
    Protocol(String),
    /// Redirects are not followed: who may choose where keys come from is settled when the verifier
    /// is built.
    #[error(
        "The issuer answered with a redirect, which is not followed: set the address it names."
    )]
    Redirected,
    /// Another status than was hoped for; 401 and 403 ask for a feed token.
    #[error("The issuer answered with the status {0}.")]
    Status(u16),
    /// A `Content-Type` other than JSON, or none.
    #[error("The issuer's answer does not say that it is JSON.")]
    NotJson,
    /// A `Content-Encoding`, though none was asked for.
    #[error("The issuer's answer is compressed, though that was not asked for.")]
    Compressed,
    /// A body beyond the limit, and not read to its end.
    #[error("The issuer's answer is longer than {0} bytes.")]
    TooLong(usize),
    /// A set of keys that is refused.
    #[error("The issuer's keys are refused. {0}")]
    Keys(#[from] JwksError),
    /// A list that is refused.
    #[error("The issuer's revocations are refused. {0}")]
    Revocations(#[from] RevocationListError),
}

/// What the issuer answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// 304: what we have is what there is.
    Unchanged,
    /// 200.
    Changed {
        etag: Option<HeaderValue>,
        /// How long the answer may be kept, if it says so.
        max_age: Option<Duration>,
        body: Bytes,
    },
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// How long the issuer may wait for a change before it answers.
    pub(super) wait_seconds: Option<u64>,
    /// The state that we have.
    pub(super) etag: Option<&'a HeaderValue>,
    /// The longest body that is read.
    pub(super) limit_bytes: usize,
}

/// Asks one address, over one connection that is kept between questions.
pub(super) struct Client {
    address: Address,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
    /// How long the issuer may take, besides a wait that was asked for.
    patience: Duration,
    connection: Option<Connection>,
}

impl Client {
    pub(super) fn new(
        address: Address,
        tls: Option<TlsConnector>,
        authorization: Option<HeaderValue>,
        patience: Duration,
    ) -> Self {
        Self {
            address,
            tls,
            authorization,
            patience,
            connection: None,
        }
    }

    /// Asks, over the connection that is open or, if the issuer has closed that, a new one.
    ///
    /// After an error no connection is kept: whatever went wrong does not go on.
    pub(super) async fn ask(&mut self, question: Question<'_>) -> Result<Answer, FetchError> {
        let open = self.connection.take().filter(Connection::is_open);
        let (mut connection, is_old) = match open {
            Some(connection) => (connection, true),
            None => (self.connect().await?, false),
        };
        let asked = Instant::now();
        let (connection, answer) = match self.exchange(&mut connection, question).await {
            // It was closed while idle, as servers do: that says nothing about the issuer.
            Err(Failure::NoAnswer(_)) if is_old && asked.elapsed() < CLOSED_WHILE_IDLE_WITHIN => {
                let mut connection = self.connect().await?;
                let answer = self.exchange(&mut connection, question).await;
                (connection, answer)
            }
            answer => (connection, answer),
        };
        let answer = answer?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// For what is asked rarely.
    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }

    async fn connect(&self) -> Result<Connection, FetchError> {
        let connecting = async {
            let address = (self.address.host.as_str(), self.address.port);
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| unreachable(&error))?;
            stream
                .set_nodelay(true)
                .map_err(|error| unreachable(&error))?;
            match &self.tls {
                None => Connection::over(stream).await,
                Some(tls) => {
                    let name = ServerName::try_from(self.address.host.clone())
                        .map_err(|error| FetchError::Unreachable(error.to_string()))?;
                    let stream = tls
                        .connect(name, stream)
                        .await
                        .map_err(|error| unreachable(&error))?;
                    Connection::over(stream).await
                }
            }
        };
        timeout(self.patience, connecting)
            .await
            .map_err(|_| FetchError::TimedOut)?
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        question: Question<'_>,
    ) -> Result<Answer, Failure> {
        let wait = Duration::from_secs(question.wait_seconds.unwrap_or(0));
        let exchanging = async {
            let request = self.request(question)?;
            let response = connection
                .requests
                .send_request(request)
                .await
                .map_err(Failure::NoAnswer)?;
            read(response, question).await.map_err(Failure::Answered)
        };
        timeout(wait.saturating_add(self.patience), exchanging)
            .await
            .map_err(|_| FetchError::TimedOut)?
    }

    fn request(&self, question: Question<'_>) -> Result<Request<Empty<Bytes>>, FetchError> {
        let mut request = Request::get(self.address.target(question.wait_seconds))
            .header(HOST, &self.address.authority)
            .header(USER_AGENT, OUR_NAME)
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            // A cache on the way would answer with what was so some time ago.
            .header(CACHE_CONTROL, "no-cache");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(etag) = question.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        request
            .body(Empty::new())
            .map_err(|error| FetchError::Protocol(error.to_string()))
    }
}

/// Why an exchange failed, and whether the issuer had begun to answer.
enum Failure {
    NoAnswer(hyper::Error),
    Answered(FetchError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Answered(error)
    }
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoAnswer(error) => broken(&error),
            Failure::Answered(error) => error,
        }
    }
}

/// An open connection, and the task that moves its bytes; closed when dropped.
struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    _moving: AbortWhenDropped,
}

impl Connection {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Self, FetchError> {
        let (requests, moving) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let moving = tokio::spawn(async move {
            // Its errors reach whoever has sent a request.
            let _ = moving.await;
        });
        Ok(Self {
            requests,
            _moving: AbortWhenDropped(moving),
        })
    }

    fn is_open(&self) -> bool {
        self.requests.is_ready()
    }
}

/// A task that nobody has any use for once this is gone.
pub(super) struct AbortWhenDropped(pub(super) JoinHandle<()>);

impl Drop for AbortWhenDropped {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(response: Response<Incoming>, question: Question<'_>) -> Result<Answer, FetchError> {
    let (head, body) = response.into_parts();
    match head.status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if question.etag.is_some() => return Ok(Answer::Unchanged),
        status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
            return Err(FetchError::Redirected);
        }
        status => return Err(FetchError::Status(status.as_u16())),
    }
    if text(&head.headers, CONTENT_ENCODING)
        .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        return Err(FetchError::Compressed);
    }
    if !text(&head.headers, CONTENT_TYPE).is_some_and(is_json) {
        return Err(FetchError::NotJson);
    }
    let limit = question.limit_bytes;
    let body = Limited::new(body, limit)
        .collect()
        .await
        .map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => broken(&error),
            Err(_) => FetchError::TooLong(limit),
        })?
        .to_bytes();
    Ok(Answer::Changed {
        etag: head.headers.get(ETAG).cloned(),
        max_age: text(&head.headers, CACHE_CONTROL).and_then(max_age),
        body,
    })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `application/json`, or a type that is written in JSON, such as `application/jwk-set+json`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return false;
    };
    let subtype = subtype.to_ascii_lowercase();
    kind.eq_ignore_ascii_case("application") && (subtype == "json" || subtype.ends_with("+json"))
}

fn max_age(cache_control: &str) -> Option<Duration> {
    cache_control.split(',').find_map(|directive| {
        let (name, seconds) = directive.trim().split_once('=')?;
        name.eq_ignore_ascii_case("max-age")
            .then(|| seconds.trim_matches('"').parse().ok())?
            .map(Duration::from_secs)
    })
}

fn unreachable(error: &io::Error) -> FetchError {
    FetchError::Unreachable(error.to_string())
}

fn broken(error: &hyper::Error) -> FetchError {
    let message = std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |source| format!("{error}, {source}"));
    if error.is_parse() {
        FetchError::Protocol(message)
    } else {
        FetchError::Unreachable(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_type() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/jwk-set+json",
            "application/json;charset=utf-8",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "",
            "json",
            "text/html",
            "text/json",
            "application/jsonp",
            "application/xhtml+xml; x=application/json",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn the_age_is_found_among_the_directives() {
        let ten_minutes = Some(Duration::from_mins(10));
        assert_eq!(max_age("public, max-age=600"), ten_minutes);
        assert_eq!(max_age("Max-Age=600,public"), ten_minutes);
        for none in [
            "",
            "no-store",
            "s-maxage=600",
            "max-age",
            "max-age=x",
            "max-age=-1",
        ] {
            assert_eq!(max_age(none), None, "{none}");
        }
    }
}
