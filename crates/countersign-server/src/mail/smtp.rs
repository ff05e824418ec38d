//! Mails handed to a mail server (RFC 5321), over TLS unless it is on this machine.
//!
//! A connection each: one that was left in the middle of a mail must not carry the next.

use std::net::IpAddr;
use std::time::Duration;

use countersign_core::mail::DeliveryFailure;
use lettre::Message;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use crate::config::{SmtpSecurity, SmtpSettings};
use crate::failure::Failure;

/// How long the mail server may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the mail server may take to say good-bye. The mail is delivered by then.
const QUIT_PATIENCE: Duration = Duration::from_secs(1);

/// A mail server.
pub(super) struct Smtp {
    host: String,
    port: u16,
    secrecy: Secrecy,
    hello: ClientId,
    credentials: Option<Credentials>,
}

enum Secrecy {
    Tls(TlsParameters),
    StartTls(TlsParameters),
    Loopback,
}

impl Smtp {
    /// The mail server of these settings, to which this service introduces itself by its own name.
    pub(super) fn new(settings: &SmtpSettings, own_name: &str) -> Result<Self, Failure> {
        let tls = || {
            TlsParameters::new(settings.host.clone()).map_err(|error| {
                Failure::Failed(format!("TLS to the mail server in mail.transport: {error}"))
            })
        };
        let credentials = settings.credentials.as_ref();
        Ok(Self {
            host: settings.host.clone(),
            port: settings.port,
            secrecy: match settings.security {
                SmtpSecurity::Tls => Secrecy::Tls(tls()?),
                SmtpSecurity::StartTls => Secrecy::StartTls(tls()?),
                SmtpSecurity::Loopback => Secrecy::Loopback,
            },
            hello: hello(own_name),
            credentials: credentials.map(|(user, password)| {
                Credentials::new(user.clone(), password.expose().to_owned())
            }),
        })
    }

    /// Hands a mail over. Only what the server says of this very mail is for good; what it says of us, or
    /// nothing at all, may be put right.
    pub(super) async fn send(&self, message: &Message) -> Result<(), DeliveryFailure> {
        let later = |error: &Error| DeliveryFailure::Temporary(describe(error));
        let mut connection = self.connect().await.map_err(|error| later(&error))?;
        let sent = connection
            .send(message.envelope(), &message.formatted())
            .await;
        sent.map_err(|error| {
            if is_final(&error) {
                DeliveryFailure::Permanent(describe(&error))
            } else {
                later(&error)
            }
        })?;
        // Delivered is delivered, however the server parts.
        let _parted = tokio::time::timeout(QUIT_PATIENCE, connection.quit()).await;
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let from_the_beginning = match &self.secrecy {
            Secrecy::Tls(tls) => Some(tls.clone()),
            Secrecy::StartTls(_) | Secrecy::Loopback => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (self.host.as_str(), self.port),
            Some(CONNECT_PATIENCE),
            &self.hello,
            from_the_beginning,
            None,
        )
        .await?;
        if let Secrecy::StartTls(tls) = &self.secrecy {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

fn hello(own_name: &str) -> ClientId {
    match own_name.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => ClientId::Ipv4(address),
        Ok(IpAddr::V6(address)) => ClientId::Ipv6(address),
        Err(_) => ClientId::Domain(own_name.to_owned()),
    }
}

/// RFC 4954 section 6: the server wants another user, or another way to prove one.
const ABOUT_US: [u16; 4] = [530, 534, 535, 538];

/// Whether it stays so. An address in other letters than ASCII cannot be given to a server that does not
/// take them.
fn is_final(error: &Error) -> bool {
    let about_us = error
        .status()
        .is_some_and(|code| ABOUT_US.contains(&code.into()));
    (error.is_permanent() && !about_us) || error.is_client()
}

/// Without the words of the server, which like to quote the address.
fn describe(error: &Error) -> String {
    match error.status() {
        Some(code) => format!("the mail server answered {code}"),
        None if error.is_client() => {
            "the mail server does not offer what is needed: STARTTLS, a way to sign in, or, for this \
             address, SMTPUTF8"
                .to_owned()
        }
        None if error.is_response() => "what the mail server answered is no answer".to_owned(),
        None => error.to_string(),
    }
}
