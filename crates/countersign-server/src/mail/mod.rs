//! Ways for mail to leave: printed, put into files, or handed to a mail server.

mod file;
mod letter;
mod smtp;
mod template;
mod templates;

use std::path::PathBuf;

use async_trait::async_trait;
use countersign_core::mail::{DeliveryFailure, Mail, MailTransport};
use countersign_core::mailed_token::MailedLink;
use url::Url;

use crate::config::{Settings, TransportSettings};
use crate::failure::Failure;
use crate::output::{self, Safe};

use self::letter::{Letter, Pages, Writer};
use self::smtp::Smtp;
pub(crate) use self::templates::Templates;

/// Writes mails and sends them their way.
pub(crate) struct Mailer {
    writer: Writer,
    way: Way,
}

enum Way {
    Console,
    File(PathBuf),
    Smtp(Smtp),
}

impl Mailer {
    /// What delivers by these settings. `None`: nothing does.
    pub(crate) fn new(settings: &Settings) -> Result<Option<Self>, Failure> {
        let public_url = &settings.http.public_url;
        let way = match &settings.mail.transport {
            TransportSettings::None => return Ok(None),
            TransportSettings::Console => Way::Console,
            TransportSettings::File(directory) => Way::File(file::open(directory)?),
            TransportSettings::Smtp(smtp) => Way::Smtp(Smtp::new(smtp, public_url.host())?),
        };
        let page = |own: &Option<Url>, ours: &str| {
            own.as_ref()
                .map_or_else(|| format!("{public_url}{ours}"), Url::to_string)
        };
        let writer = Writer {
            from: settings.mail.from.clone(),
            templates: settings.mail.templates.clone(),
            service: public_url.to_string(),
            pages: Pages {
                reset: page(&settings.pages.reset, countersign::RESET_PASSWORD_PAGE),
                verify: page(&settings.pages.verify, countersign::VERIFY_EMAIL_PAGE),
            },
        };
        Ok(Some(Self { writer, way }))
    }
}

#[async_trait]
impl MailTransport for Mailer {
    async fn deliver(&self, mail: &Mail, link: Option<&MailedLink>) -> Result<(), DeliveryFailure> {
        let letter = self.writer.write(mail, link).ok_or_else(|| {
            let reason = "the address is none that mail can be sent to";
            DeliveryFailure::Permanent(reason.to_owned())
        })?;
        match &self.way {
            Way::Console => print(mail, &letter),
            Way::File(directory) => file::write(directory, mail.id, &letter.message).await?,
            Way::Smtp(smtp) => smtp.send(&letter.message).await?,
        }
        Ok(())
    }
}

/// For whoever runs the service while working on something else: the text, between the lines of the log.
fn print(mail: &Mail, letter: &Letter) {
    let (recipient, subject) = (Safe(&mail.recipient), &letter.words.subject);
    let body = &letter.words.plain;
    output::note(format_args!(
        "\nTo: {recipient}\nSubject: {subject}\n\n{body}"
    ));
}
