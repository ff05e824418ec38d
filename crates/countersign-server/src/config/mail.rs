//! `[mail]`: how people are told what happens to their accounts.

use std::net::IpAddr;
use std::path::PathBuf;

use lettre::message::Mailbox;
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::mail::Templates;

use super::problems::Problems;
use super::secret_text::SecretText;
use super::server::ServerSettings;

/// How people are told by mail what happens to their accounts, and sent the links that prove an address or
/// set a new password.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MailSection {
    /// How mail leaves. `smtp://user:password@host` with STARTTLS, which must be offered, on port 587,
    /// or `smtps://user:password@host` with TLS from the beginning on port 465; another port may follow
    /// the host. To a server on this machine (`smtp://localhost:25`) mail goes in the clear. `console`
    /// prints mails to standard error, `file:` and a directory puts each into a file of its own there,
    /// `none` sends none and keeps none. Default: `console` in development, otherwise `none`.
    transport: Option<String>,
    /// The password of the user in `mail.transport`, if it is not written there. Default: none.
    password: Option<SecretText>,
    /// Whom mails come from, like `Accounts <no-reply@example.org>`. SMTP needs it; other mails come
    /// from `countersign@localhost` without. Default: none.
    from: Option<String>,
    /// A directory whose files stand in for the texts of the same name that the program brings, like
    /// `password_changed.txt`; or one with a directory for each language, like `de/password_changed.txt`.
    /// Default: none.
    templates: Option<PathBuf>,
    /// The language of letters: `en`, or another whose texts are all in `mail.templates`. Default: `en`.
    language: String,
}

impl Default for MailSection {
    fn default() -> Self {
        Self {
            transport: None,
            password: None,
            from: None,
            templates: None,
            language: "en".to_owned(),
        }
    }
}

/// How people are told, checked.
#[derive(Debug, Clone)]
pub(crate) struct MailSettings {
    pub(crate) transport: TransportSettings,
    pub(crate) from: Mailbox,
    pub(crate) templates: Templates,
}

/// How mail leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TransportSettings {
    None,
    Console,
    File(PathBuf),
    Smtp(SmtpSettings),
}

impl TransportSettings {
    /// Whether those whom it is for read it: on a terminal, that is whoever tries the service out.
    pub(crate) fn reaches_people(&self, is_development: bool) -> bool {
        match self {
            Self::None => false,
            Self::Console => is_development,
            Self::File(_) | Self::Smtp(_) => true,
        }
    }

    /// Whether mail leaves at all.
    pub(crate) fn delivers(&self) -> bool {
        *self != Self::None
    }
}

/// A mail server to hand mails to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SmtpSettings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: SmtpSecurity,
    pub(crate) credentials: Option<(String, SecretText)>,
}

/// Who can read along on the way to the mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SmtpSecurity {
    /// Nobody: TLS from the beginning.
    Tls,
    /// Nobody: STARTTLS, or no mail.
    StartTls,
    /// Whoever reads what this machine says to itself.
    Loopback,
}

const HOW: &str = "write smtp://user:password@host, smtps://user:password@host, console, file: and a \
                   directory, or none";

impl MailSection {
    /// How mail leaves, as it is or would have been written.
    pub(crate) fn transport(&self, server: &ServerSettings) -> &str {
        match &self.transport {
            Some(text) => text,
            None if server.development => "console",
            None => "none",
        }
    }

    pub(crate) fn check(
        &self,
        server: &ServerSettings,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
    ) -> MailSettings {
        if self.transport.is_none() && !server.development {
            let message = "mail.transport is not set: nobody is told when somebody changes their \
                           password, and nobody who has lost theirs is sent a new one. Name your mail server there, or write none if that is meant";
            warnings.push(message.to_owned());
        }
        let transport = parse_transport(self.transport(server));
        let mut transport = problems.keep("mail.transport", transport, TransportSettings::None);
        self.add_password(&mut transport, problems);
        let needs_from = matches!(transport, TransportSettings::Smtp(_));
        let from = match &self.from {
            Some(text) => parse_from(text),
            None if needs_from => {
                Err("SMTP needs it: write an address like no-reply@example.org".to_owned())
            }
            None => Ok(nobody()),
        };
        let is_language = !self.language.is_empty()
            && (self.language.chars()).all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let templates = if is_language {
            Templates::read(self.templates.as_deref(), &self.language)
        } else {
            Err("write mail.language like en, de or pt-BR".to_owned())
        };
        MailSettings {
            transport,
            from: problems.keep("mail.from", from, nobody()),
            templates: problems.keep("mail.templates", templates, Templates::default()),
        }
    }

    /// The password that is not in the URL. A user must have one, and only a user may.
    fn add_password(&self, transport: &mut TransportSettings, problems: &mut Problems) {
        let credentials = match transport {
            TransportSettings::Smtp(smtp) => smtp.credentials.as_mut(),
            _ => None,
        };
        match (credentials, &self.password) {
            (Some((_, password)), Some(given)) if password.expose().is_empty() => {
                *password = given.clone();
            }
            (Some(_), Some(_)) => {
                let message = "mail.transport holds a password as well: keep one of the two";
                problems.add("mail.password", message);
            }
            (Some((_, password)), None) if password.expose().is_empty() => {
                let message = "the user in mail.transport has no password: set this";
                problems.add("mail.password", message);
            }
            (None, Some(_)) => {
                let message = "there is no user in mail.transport: write smtp://user@host there, or \
                               leave this out";
                problems.add("mail.password", message);
            }
            (Some(_) | None, None) => {}
        }
    }
}

fn nobody() -> Mailbox {
    "countersign@localhost"
        .parse()
        .expect("it is an address by its form")
}

/// The messages do not quote what was written: it may hold a password.
fn parse_transport(text: &str) -> Result<TransportSettings, String> {
    match text {
        "none" => return Ok(TransportSettings::None),
        "console" => return Ok(TransportSettings::Console),
        "file" | "file:" => return Err("name a directory, like file:mail".to_owned()),
        _ => {}
    }
    if let Some(directory) = text.strip_prefix("file:") {
        let directory = directory.strip_prefix("//").unwrap_or(directory);
        return Ok(TransportSettings::File(PathBuf::from(directory)));
    }
    let is_tls = match text.split_once("://") {
        Some(("smtp", _)) => false,
        Some(("smtps", _)) => true,
        _ => return Err(HOW.to_owned()),
    };
    let url = Url::parse(text).map_err(|error| format!("{error}: {HOW}"))?;
    parse_smtp(&url, is_tls).map(TransportSettings::Smtp)
}

fn parse_smtp(url: &Url, is_tls: bool) -> Result<SmtpSettings, String> {
    let refuse = |message: &str| Err(message.to_owned());
    let written = url.host_str().unwrap_or_default();
    let host = decoded(written)?
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    if host.is_empty() {
        return refuse("name the mail server, like smtps://user:password@mail.example.org");
    }
    if !host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c))
    {
        return refuse("write the mail server's name as it stands in the DNS, or its address");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return refuse(
            "write user, host and port only; in a password, write %2F for /, %3F for ? and \
                       %23 for #",
        );
    }
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        ("", Some(_)) => return refuse("a password needs a user: write user:password@"),
        (user, password) => {
            let password = decoded(password.unwrap_or_default())?;
            Some((decoded(user)?, SecretText::new(password)))
        }
    };
    let (security, usual_port) = match (is_tls, is_loopback(&host)) {
        (true, _) => (SmtpSecurity::Tls, 465),
        (false, false) => (SmtpSecurity::StartTls, 587),
        (false, true) => (SmtpSecurity::Loopback, 25),
    };
    Ok(SmtpSettings {
        host,
        port: url.port().unwrap_or(usual_port),
        security,
        credentials,
    })
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| "what is written with % is not UTF-8".to_owned())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Mail servers of any age must take it, and mails are named after its domain.
fn parse_from(text: &str) -> Result<Mailbox, String> {
    let how = "write an address like no-reply@example.org, or Accounts <no-reply@example.org>";
    if text.chars().any(char::is_control) {
        return Err(how.to_owned());
    }
    let mailbox: Mailbox = text.parse().map_err(|_| how.to_owned())?;
    if !mailbox.email.to_string().is_ascii() {
        return Err(
            "write the address in ASCII: a domain with other letters begins with xn--".to_owned(),
        );
    }
    Ok(mailbox)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smtp(text: &str) -> SmtpSettings {
        match parse_transport(text) {
            Ok(TransportSettings::Smtp(smtp)) => smtp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mail_server_is_spoken_to_in_secret_unless_it_is_on_this_machine() {
        for (text, host, port, security) in [
            (
                "smtp://mail.example.org",
                "mail.example.org",
                587,
                SmtpSecurity::StartTls,
            ),
            (
                "smtps://mail.example.org",
                "mail.example.org",
                465,
                SmtpSecurity::Tls,
            ),
            (
                "smtp://192.0.2.1:25/",
                "192.0.2.1",
                25,
                SmtpSecurity::StartTls,
            ),
            ("smtp://localhost", "localhost", 25, SmtpSecurity::Loopback),
            (
                "smtp://127.0.0.1:2525",
                "127.0.0.1",
                2525,
                SmtpSecurity::Loopback,
            ),
            ("smtp://[::1]:2525", "::1", 2525, SmtpSecurity::Loopback),
            ("smtps://localhost", "localhost", 465, SmtpSecurity::Tls),
            // Not this machine, though it looks like it.
            (
                "smtp://localhost.example.org",
                "localhost.example.org",
                587,
                SmtpSecurity::StartTls,
            ),
            (
                "smtp://127.0.0.1.example.org",
                "127.0.0.1.example.org",
                587,
                SmtpSecurity::StartTls,
            ),
        ] {
            let found = smtp(text);
            assert_eq!(
                (&*found.host, found.port, found.security),
                (host, port, security)
            );
            assert_eq!(found.credentials, None);
        }
    }

    #[test]
    fn user_and_password_are_read_from_the_url_and_not_shown() {
        let found = smtp("smtps://ana%40example.org:CAN%2FARY@mail.example.org");
        let (user, password) = found.credentials.clone().unwrap();
        assert_eq!((&*user, password.expose()), ("ana@example.org", "CAN/ARY"));
        assert!(!format!("{found:?}").contains("ARY"), "{found:?}");
    }

    #[test]
    fn what_is_no_way_for_mail_is_refused_without_quoting_it() {
        for text in [
            "",
            "Console",
            "file:",
            "sendmail",
            "smtp",
            "smtp:",
            "smtp://",
            "smtp://:CANARY@host",
            "smtp://u:CANARY@host/path",
            "smtp://u:CANARY@host?tls=none",
            "smtp://u:CANARY@host#x",
            "smtp://u:CANARY@ho st",
            "smtp://u:CANARY@ho%0Ast",
            "smtp://u:CANARY@host:port",
            "smtp://u:%FF@host",
            "http://u:CANARY@host",
        ] {
            let refusal = parse_transport(text).unwrap_err();
            assert!(!refusal.contains("CANARY"), "{text}: {refusal}");
        }
    }

    #[test]
    fn senders_are_addresses() {
        for (text, address) in [
            ("no-reply@example.org", "no-reply@example.org"),
            (
                "Kontoführung <no-reply@example.org>",
                "no-reply@example.org",
            ),
        ] {
            assert_eq!(parse_from(text).unwrap().email.to_string(), address);
        }
        for text in [
            "",
            "example.org",
            "a@b@c",
            "a@example.org\r\nBcc: b@example.org",
            "a@bücher.example",
            "a@example.org, b@example.org",
        ] {
            assert!(parse_from(text).is_err(), "{text}");
        }
    }
}
