//! A mail as it travels: headers, text and HTML (RFC 5322, RFC 2046).
//!
//! It is the same, byte for byte, however often it is written: whoever gets it twice knows it again.

use std::time::{Duration, SystemTime};

use countersign_core::mail::{Mail, Message};
use countersign_core::mailed_token::MailedLink;
use countersign_core::user::Email;
use jiff::Timestamp;
use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue, MessageId};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::template::Values;
use super::templates::{Templates, Words};

/// Writes letters.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) from: Mailbox,
    pub(super) templates: Templates,
    /// Where the account is, for those who have several.
    pub(super) service: String,
    /// Where links lead.
    pub(super) pages: Pages,
}

/// The pages that links lead to. They come from the settings and nothing else: a request that says to be for
/// another host changes no link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pages {
    /// Where a new password is set.
    pub(super) reset: String,
    /// Where an address is proven.
    pub(super) verify: String,
}

impl Pages {
    /// The link of a mail. The token is behind the `#`: browsers send it to no server, and so it stands in no
    /// log and no `Referer`.
    fn link(&self, message: &Message, link: &MailedLink) -> String {
        let page = match message {
            Message::ResetPassword { .. } => &self.reset,
            _ => &self.verify,
        };
        format!("{page}#token={}", link.token())
    }
}

/// A mail that is written.
pub(super) struct Letter {
    pub(super) words: Words,
    pub(super) message: lettre::Message,
}

impl Writer {
    /// Writes a mail. `None`: its recipient's address is none that mail can be sent to.
    pub(super) fn write(&self, mail: &Mail, link: Option<&MailedLink>) -> Option<Letter> {
        let recipient: Address = Email::for_delivery(&mail.recipient).parse().ok()?;
        let values = self.values(mail, link);
        let words = self.templates.words(&mail.message, &values)?;
        let id = format!("<{}@{}>", mail.id, self.from.email.domain());
        // RFC 3834 section 5: those who answer mails by themselves leave this one unanswered.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let automatic = HeaderValue::new(automatic, "auto-generated".to_owned());
        let seconds = u64::try_from(mail.queued_at.as_second()).unwrap_or_default();
        let since_epoch = Duration::from_secs(seconds);
        let body = MultiPart::alternative()
            .boundary(format!("countersign-{}", mail.id))
            .singlepart(SinglePart::plain(words.plain.clone()))
            .singlepart(SinglePart::html(words.html.clone()));
        let message = lettre::Message::builder()
            .from(self.from.clone())
            .to(recipient.into())
            .subject(words.subject.clone())
            .date(SystemTime::UNIX_EPOCH + since_epoch)
            .header(MessageId::from(id))
            .raw_header(automatic)
            .multipart(body)
            .ok()?;
        Some(Letter { words, message })
    }

    fn values(&self, mail: &Mail, link: Option<&MailedLink>) -> Values {
        let time = |instant: Timestamp| instant.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let (address, client, failures) = match &mail.message {
            Message::NewDevice { address, client } => (*address, Some(client), None),
            Message::LoginAfterFailures {
                failures,
                address,
                client,
            } => (*address, Some(client), Some(failures)),
            _ => (None, None, None),
        };
        Values {
            username: mail.username.clone(),
            time: time(mail.queued_at),
            service: self.service.clone(),
            link: link.map_or_else(String::new, |link| self.pages.link(&mail.message, link)),
            expires: link.map_or_else(String::new, |link| time(link.expires_at)),
            new_email: match &mail.message {
                Message::EmailChanged { to } => to.clone(),
                _ => String::new(),
            },
            address: address.map_or_else(
                || "an unknown address".to_owned(),
                |address| address.to_string(),
            ),
            client: client.map_or_else(String::new, ToString::to_string),
            failures: failures.map_or_else(String::new, ToString::to_string),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use countersign_core::client::Client;
    use countersign_core::clock::SystemRandomness;
    use countersign_core::mail::{MailId, masked};
    use countersign_core::mailed_token::MailedTokenId;
    use countersign_core::session::EndedBy;
    use countersign_core::user::UserId;

    use super::*;

    pub(in super::super) fn writer() -> Writer {
        Writer {
            from: "Kontoführung <no-reply@example.org>".parse().unwrap(),
            templates: Templates::default(),
            service: "https://auth.example.org".to_owned(),
            pages: Pages {
                reset: "https://app.example.org/reset".to_owned(),
                verify: "https://auth.example.org/account/verify-email".to_owned(),
            },
        }
    }

    pub(in super::super) fn mail(recipient: &str, username: &str) -> Mail {
        let queued_at = Timestamp::from_second(1_795_341_600).unwrap();
        Mail {
            id: MailId::new(queued_at, &SystemRandomness),
            recipient: recipient.to_owned(),
            username: username.to_owned(),
            message: Message::PasswordChanged {
                by: EndedBy::CommandLine,
            },
            queued_at,
        }
    }

    fn written(mail: &Mail) -> String {
        String::from_utf8(writer().write(mail, None).unwrap().message.formatted()).unwrap()
    }

    #[test]
    fn a_letter_reads_like_this() {
        let mail = mail("zoë@example.org", "Zoë");
        let text = written(&mail).replace(&mail.id.to_string(), "(id)");
        insta::assert_snapshot!(text.replace("\r\n", "\n"));
    }

    /// Every letter that carries no link, and every one that does.
    fn every_letter() -> Vec<(Mail, Option<MailedLink>)> {
        let token = MailedTokenId::new(Timestamp::UNIX_EPOCH, &SystemRandomness);
        let link = MailedLink::example(Timestamp::from_second(1_795_345_200).unwrap());
        let by = EndedBy::User(UserId(1));
        let to = masked("zoe@example.com");
        [
            (Message::PasswordChanged { by }, None),
            (Message::PasswordReset, None),
            (Message::EmailChanged { to }, None),
            (Message::AddressTaken, None),
            (Message::ResetPassword { token }, Some(link.clone())),
            (Message::VerifyEmail { token }, Some(link.clone())),
            (Message::ChangeEmail { token }, Some(link.clone())),
            (
                Message::Register {
                    registration: token,
                },
                Some(link),
            ),
        ]
        .map(|(message, link)| {
            let mail = Mail {
                message,
                ..mail("zoe@example.org", "Zoë")
            };
            (mail, link)
        })
        .into()
    }

    #[test]
    fn every_letter_reads_as_it_shall() {
        for (mail, link) in every_letter() {
            let letter = writer().write(&mail, link.as_ref()).unwrap();
            let Words {
                subject,
                plain,
                html,
            } = &letter.words;
            let text = format!("{subject}\n\n{plain}\n{html}");
            insta::assert_snapshot!(mail.message.kind(), text);
        }
    }

    #[test]
    fn a_links_token_is_behind_the_sign_that_browsers_keep_to_themselves() {
        let mut links = 0;
        for (mail, link) in every_letter() {
            let letter = writer().write(&mail, link.as_ref()).unwrap();
            let text = format!("{}{}", letter.words.plain, letter.words.html);
            let Some(link) = link else {
                assert!(!text.contains('#'), "{text}");
                continue;
            };
            for part in text
                .split(link.token())
                .collect::<Vec<_>>()
                .split_last()
                .unwrap()
                .1
            {
                assert!(part.ends_with("#token="), "{text}");
                let page = part.rsplit(['\n', '"', '>']).next().unwrap();
                assert!(page.starts_with("https://"), "{page}");
                assert!(!page.contains('?'), "{page}");
                links += 1;
            }
        }
        assert_eq!(links, 4 * 3);
    }

    #[test]
    fn notices_of_sign_ins_read_like_this() {
        let address = Some("2001:db8::7".parse().unwrap());
        let hostile = "<b>Call +1 555 0100</b> Firefox/140 Windows";
        let client = Client::of_user_agent(Some(hostile));
        let notices = [
            Message::NewDevice { address, client },
            Message::LoginAfterFailures {
                failures: 12,
                address,
                client,
            },
        ];
        let written = notices.map(|message| {
            let mail = Mail {
                message,
                ..mail("zoë@example.org", "Zoë")
            };
            let Words {
                subject,
                plain,
                html,
            } = writer().write(&mail, None).unwrap().words;
            assert!(!plain.contains("555") && !html.contains("555"), "{plain}");
            format!("{subject}\n\n{plain}\n{html}")
        });
        insta::assert_snapshot!(written.join("\n"));
    }

    #[test]
    fn it_is_the_same_each_time() {
        let mail = mail("ana@example.org", "ana");
        assert_eq!(written(&mail), written(&mail));
    }

    #[test]
    fn nobody_puts_a_header_in() {
        let bad = "a\r\nBcc: eva@example.org\r\n\r\n";
        let text = written(&mail("ana@example.org", bad));
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("eva"), "{head}");
        for recipient in [
            "",
            "ana",
            "a@b\r\nBcc: eva@example.org",
            "a@example.org, b@example.org",
        ] {
            assert!(
                writer().write(&mail(recipient, "ana"), None).is_none(),
                "{recipient}"
            );
        }
    }
}
