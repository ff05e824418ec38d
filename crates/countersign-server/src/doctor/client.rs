//! Asks a service as a browser would, and brings back what arrives. Redirects are not followed, cookies
//! are not kept, no proxy is asked; bounded in time and size.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{Request, uri::Authority};
use countersign::Origin;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::answer::Answer;
use super::certificate;

/// How long one answer may take, connection and all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Answers of the service's are shorter.
const BODY_BYTES: usize = 256 * 1024;
const HEAD_BYTES: usize = 64 * 1024;

const OUR_NAME: &str = concat!("countersign-doctor/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nobody listens, or the name leads nowhere.
    Unreachable(String),
    /// The certificate is not to be believed, or TLS is not spoken.
    Tls(String),
    /// What came is not HTTP, or broke off.
    Broken(String),
    TimedOut,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(formatter, "it cannot be reached: {why}"),
            Self::Tls(why) => write!(formatter, "TLS fails: {why}"),
            Self::Broken(why) => write!(formatter, "its answer cannot be understood: {why}"),
            Self::TimedOut => write!(
                formatter,
                "it does not answer within {} s",
                PATIENCE.as_secs()
            ),
        }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    /// JSON, or nothing.
    pub(super) body: Option<String>,
}

impl<'a> Question<'a> {
    pub(super) fn new(method: &'static str, path: &'a str) -> Self {
        Self {
            method,
            path,
            headers: Vec::new(),
            body: None,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(body.to_string());
        self
    }
}

/// Asks one origin, with a connection for each question: what is asked shall not depend on what was.
pub(crate) struct Client {
    origin: Origin,
    tls: Option<TlsConnector>,
}

impl Client {
    /// To this origin; by https it must show a certificate of the system's authorities, or of those in
    /// `authorities` (PEM).
    ///
    /// # Errors
    /// Why there are no authorities to be believed, for people.
    pub(crate) fn new(origin: &Origin, authorities: Option<&Path>) -> Result<Self, String> {
        let tls = match (origin.is_https(), authorities) {
            (false, _) => None,
            (true, None) => Some(connector(&system_authorities()?)?),
            (true, Some(file)) => Some(connector(&read_authorities(file)?)?),
        };
        Ok(Self {
            origin: origin.clone(),
            tls,
        })
    }

    /// Asks, and waits for the whole answer.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Answer, NoAnswer> {
        let asking = async {
            let stream = self.connect().await?;
            match &self.tls {
                None => self.exchange(stream, question).await,
                Some(tls) => {
                    let stream = self.handshake(tls, stream).await?;
                    self.exchange(stream, question).await
                }
            }
        };
        timeout(PATIENCE, asking)
            .await
            .map_err(|_| NoAnswer::TimedOut)?
    }

    /// When the certificate ends that is shown; none without TLS, or if that cannot be read.
    pub(super) async fn certificate_end(&self) -> Result<Option<Timestamp>, NoAnswer> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        let looking = async {
            let stream = self.handshake(tls, self.connect().await?).await?;
            let (_, session) = stream.get_ref();
            let first = session.peer_certificates().and_then(|chain| chain.first());
            Ok(first.and_then(|certificate| certificate::not_after(certificate)))
        };
        timeout(PATIENCE, looking)
            .await
            .map_err(|_| NoAnswer::TimedOut)?
    }

    async fn connect(&self) -> Result<TcpStream, NoAnswer> {
        let authority: Authority = self
            .origin
            .authority()
            .parse()
            .map_err(|_| NoAnswer::Unreachable("there is no host".to_owned()))?;
        let own_port = if self.origin.is_https() { 443 } else { 80 };
        let address = (self.host(), authority.port_u16().unwrap_or(own_port));
        TcpStream::connect(address)
            .await
            .map_err(|error| NoAnswer::Unreachable(error.to_string()))
    }

    /// Without the brackets of an IPv6 address.
    fn host(&self) -> &str {
        self.origin.host().trim_matches(['[', ']'])
    }

    async fn handshake(
        &self,
        tls: &TlsConnector,
        stream: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, NoAnswer> {
        let name = ServerName::try_from(self.host().to_owned())
            .map_err(|error| NoAnswer::Tls(error.to_string()))?;
        tls.connect(name, stream)
            .await
            .map_err(|error| NoAnswer::Tls(error.to_string()))
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        question: Question<'_>,
    ) -> Result<Answer, NoAnswer> {
        let broken = |error: hyper::Error| NoAnswer::Broken(error.to_string());
        let (mut requests, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Its errors reach whoever has sent a request; it ends when that is dropped.
        tokio::spawn(connection);
        let request = self.request(question)?;
        let (head, body) = requests
            .send_request(request)
            .await
            .map_err(broken)?
            .into_parts();
        let body = to_bytes(Body::new(body), BODY_BYTES)
            .await
            .map_err(|error| NoAnswer::Broken(error.to_string()))?;
        let headers = head.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Ok(Answer {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: body.to_vec(),
        })
    }

    fn request(&self, question: Question<'_>) -> Result<Request<Body>, NoAnswer> {
        let mut request = Request::builder()
            .method(question.method)
            .uri(question.path)
            .header(HOST, self.origin.authority())
            .header(USER_AGENT, OUR_NAME);
        for (name, value) in question.headers {
            request = request.header(name, value);
        }
        let body = question.body.map(Bytes::from);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(body.map_or_else(Body::empty, Body::from))
            .map_err(|error| NoAnswer::Broken(error.to_string()))
    }
}

fn connector(roots: &RootCertStore) -> Result<TlsConnector, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be spoken: {error}"))?
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        let message = "this machine knows no certificate authorities (on Debian: apt-get install \
                       ca-certificates); or name one with --ca";
        return Err(message.to_owned());
    }
    Ok(roots)
}

fn read_authorities(file: &Path) -> Result<RootCertStore, String> {
    let shown = file.display();
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{shown} is no PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("{shown} holds a certificate that cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("there is no certificate in {shown}"));
    }
    Ok(roots)
}
