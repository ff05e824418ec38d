//! What mails say: the texts that the program brings, and those of an operator in their place.
//!
//! A mail has two files, `.txt` and `.html`. The first line of the text is `Subject: ` and the subject,
//! the second is empty. Another language is another directory: ours are in `templates/en`, and an
//! operator's in a directory of the language's name, or, where there is only one, beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use countersign_core::mail::Message;
use countersign_core::session::EndedBy;

use super::template::{Name, Template, Values};

/// A mail of this kind, whoever it goes to.
#[derive(Debug, Clone)]
struct Text {
    subject: Template,
    plain: Template,
    html: Template,
}

/// What a mail says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) subject: String,
    pub(super) plain: String,
    pub(super) html: String,
}

/// What all mails say, by their files' names.
#[derive(Debug, Clone)]
pub(crate) struct Templates(BTreeMap<&'static str, Text>);

/// A mail by its files' name: what must stand in it, and what else may, beside what may stand in all.
struct Kind {
    name: &'static str,
    needs: &'static [Name],
    takes: &'static [Name],
    plain: &'static str,
    html: &'static str,
}

/// The language of the texts that the program brings.
const OUR_LANGUAGE: &str = "en";

macro_rules! kinds {
    ($($name:literal needs $needs:expr, takes $takes:expr;)*) => {
        /// Every mail there is.
        const KINDS: &[Kind] = &[$(Kind {
            name: $name,
            needs: $needs,
            takes: $takes,
            plain: include_str!(concat!("templates/en/", $name, ".txt")),
            html: include_str!(concat!("templates/en/", $name, ".html")),
        }),*];
    };
}

kinds! {
    "password_changed" needs &[], takes &[Name::Username];
    "password_set" needs &[], takes &[Name::Username];
    "password_reset" needs &[], takes &[Name::Username];
    "email_changed" needs &[], takes &[Name::Username, Name::NewEmail];
    "reset_password" needs &[Name::Link], takes &[Name::Username, Name::Expires];
    // Whoever asked for these may be a stranger to the mailbox: not even a name in them is a stranger's, or
    // anybody could mail a few words of theirs to anybody in our name.
    "register" needs &[Name::Link], takes &[Name::Expires];
    "verify_email" needs &[Name::Link], takes &[Name::Expires];
    "change_email" needs &[Name::Link], takes &[Name::Expires];
    "address_taken" needs &[], takes &[Name::Username];
    "new_device" needs &[], takes &[Name::Username, Name::Address, Name::Client];
    "login_after_failures" needs &[], takes &[Name::Username, Name::Address, Name::Client, Name::Failures];
}

/// Nobody reads a longer mail.
const LONGEST: u64 = 64 * 1024;

impl Default for Templates {
    fn default() -> Self {
        let ours = |_: &str| Ok(None);
        Self::from(OUR_LANGUAGE, ours).expect("a test reads the texts that the program brings")
    }
}

impl Templates {
    /// Reads the files of a language in a directory; those that are not there are ours, if we speak it.
    ///
    /// # Errors
    /// In words for whoever wrote them.
    pub(crate) fn read(directory: Option<&Path>, language: &str) -> Result<Self, String> {
        let Some(directory) = directory else {
            return Self::from(language, |_| Ok(None));
        };
        let of_language = directory.join(language);
        let directory = if of_language.is_dir() {
            &of_language
        } else {
            directory
        };
        refuse_strangers(directory)?;
        Self::from(language, |name| read_file(&directory.join(name)))
    }

    fn from(
        language: &str,
        find: impl Fn(&str) -> Result<Option<String>, String>,
    ) -> Result<Self, String> {
        let mut texts = BTreeMap::new();
        for kind in KINDS {
            let file = |ending: &str, ours: &str| -> Result<(String, String), String> {
                let name = format!("{}.{ending}", kind.name);
                let text = match find(&name)? {
                    Some(text) => text,
                    None if language == OUR_LANGUAGE => ours.to_owned(),
                    None => {
                        return Err(format!(
                            "there is no {name} in the language {language}: put it into \
                             mail.templates, in a directory {language}"
                        ));
                    }
                };
                Ok((name, text))
            };
            let about = |name: &str, refusal: String| format!("{name}: {refusal}");
            let (plain_name, plain) = file("txt", kind.plain)?;
            let (html_name, html) = file("html", kind.html)?;
            let (subject, plain) =
                parse_plain(&plain).map_err(|refusal| about(&plain_name, refusal))?;
            let html = Template::parse(&html).map_err(|refusal| about(&html_name, refusal))?;
            subject
                .hold_against(kind.takes, &[])
                .map_err(|refusal| about(&plain_name, refusal))?;
            for (name, body) in [(&plain_name, &plain), (&html_name, &html)] {
                body.hold_against(kind.takes, kind.needs)
                    .map_err(|refusal| about(name, refusal))?;
            }
            let text = Text {
                subject,
                plain,
                html,
            };
            texts.insert(kind.name, text);
        }
        Ok(Self(texts))
    }

    /// What a message says with these values. `None`: it is none that is sent.
    pub(super) fn words(&self, message: &Message, values: &Values) -> Option<Words> {
        let text = self.0.get(file_of(message))?;
        Some(Words {
            subject: text.subject.fill(values),
            plain: text.plain.fill(values),
            html: text.html.fill_html(values),
        })
    }
}

/// The name of the files that a message is made from.
fn file_of(message: &Message) -> &'static str {
    match message {
        Message::PasswordChanged {
            by: EndedBy::CommandLine | EndedBy::Service,
        } => "password_set",
        // A wish for letters is among these, and there is no such file.
        other => other.kind(),
    }
}

fn parse_plain(text: &str) -> Result<(Template, Template), String> {
    let text = text.replace("\r\n", "\n");
    let how = "the first line must be `Subject: ` and the subject, the second one empty";
    let (head, body) = text.split_once("\n\n").ok_or(how)?;
    let subject = head.strip_prefix("Subject: ").ok_or(how)?.trim();
    if subject.is_empty() || subject.contains(char::is_control) {
        return Err(how.to_owned());
    }
    Ok((Template::parse(subject)?, Template::parse(body)?))
}

/// A file with a name that is not quite right would be passed over in silence.
fn refuse_strangers(directory: &Path) -> Result<(), String> {
    let unreadable = |error| format!("{} cannot be read: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let name = name.to_string_lossy();
        let stem = [".txt", ".html"]
            .iter()
            .find_map(|ending| name.strip_suffix(ending));
        if stem.is_some_and(|stem| KINDS.iter().all(|kind| kind.name != stem)) {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
            let known = known.join(", ");
            return Err(format!(
                "no mail is made from {name}: the names are {known}, each with .txt and .html"
            ));
        }
    }
    Ok(())
}

fn read_file(file: &Path) -> Result<Option<String>, String> {
    let unreadable = |error| format!("{} cannot be read: {error}", file.display());
    match fs::metadata(file) {
        Ok(found) if found.len() > LONGEST => {
            return Err(format!("{} is longer than {LONGEST} bytes", file.display()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    }
    fs::read_to_string(file).map(Some).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use countersign_core::user::UserId;

    use super::*;

    fn values() -> Values {
        Values {
            username: "ana".to_owned(),
            time: "noon".to_owned(),
            service: "https://auth.example.org".to_owned(),
            ..Values::default()
        }
    }

    fn changed_by(by: EndedBy) -> Message {
        Message::PasswordChanged { by }
    }

    #[test]
    fn who_changed_it_decides_what_is_said() {
        let templates = Templates::default();
        let words = |by| templates.words(&changed_by(by), &values()).unwrap();
        let by_user = words(EndedBy::User(UserId(1)));
        let by_command = words(EndedBy::CommandLine);
        assert_ne!(by_user, by_command);
        for words in [by_user, by_command] {
            for text in [&words.plain, &words.html] {
                assert!(text.contains("ana") && text.contains("noon"), "{text}");
                assert!(text.contains("https://auth.example.org"), "{text}");
                assert!(!text.contains("{{"), "{text}");
            }
        }
    }

    #[test]
    fn files_stand_in_for_ours() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write(
            "password_set.txt",
            "Subject: Für {{username}}\r\n\r\nHallo\r\n",
        );
        let words = |templates: &Templates| {
            let words = templates.words(&changed_by(EndedBy::CommandLine), &values());
            words.unwrap()
        };
        let theirs = words(&Templates::read(Some(directory.path()), "en").unwrap());
        assert_eq!((&*theirs.subject, &*theirs.plain), ("Für ana", "Hallo\n"));
        assert_eq!(theirs.html, words(&Templates::default()).html);
    }

    #[test]
    fn files_that_cannot_be_are_refused_by_name() {
        for (name, text, refusal) in [
            (
                "password_set.txt",
                "Hello",
                "password_set.txt: the first line",
            ),
            (
                "password_set.txt",
                "Subject: a\nBcc: b\n\nHello",
                "password_set.txt: the first line",
            ),
            (
                "password_set.txt",
                "Subject: \n\nHello",
                "password_set.txt: the first line",
            ),
            (
                "password_set.html",
                "{{nobody}}",
                "password_set.html: there is no {{nobody}}",
            ),
            (
                "pasword_set.txt",
                "Subject: a\n\nHello",
                "no mail is made from pasword_set.txt",
            ),
            ("password_set.html", &"a".repeat(70_000), "is longer than"),
            (
                "reset_password.html",
                "Hello",
                "reset_password.html: there must be a {{link}}",
            ),
            (
                "password_set.html",
                "{{link}}",
                "password_set.html: there is no {{link}} in this mail",
            ),
            (
                "register.html",
                "Hello {{username}}, {{link}}",
                "register.html: there is no {{username}} in this mail",
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(name), text).unwrap();
            let said = Templates::read(Some(directory.path()), "en").unwrap_err();
            assert!(said.contains(refusal), "{said}");
        }
        assert!(Templates::read(Some(Path::new("/nonexistent")), "en").is_err());
    }

    #[test]
    fn another_language_is_a_directory_with_every_text() {
        let place = tempfile::tempdir().unwrap();
        let said = Templates::read(Some(place.path()), "de").unwrap_err();
        assert!(
            said.contains("password_changed.txt in the language de"),
            "{said}"
        );
        assert!(Templates::read(None, "de").is_err());
        let directory = place.path().join("de");
        fs::create_dir(&directory).unwrap();
        for kind in KINDS {
            let link = if kind.needs.is_empty() {
                ""
            } else {
                "{{link}}"
            };
            let plain = format!("Subject: Betreff {}\n\nHallo {link}\n", kind.name);
            fs::write(directory.join(format!("{}.txt", kind.name)), plain).unwrap();
            fs::write(directory.join(format!("{}.html", kind.name)), link).unwrap();
        }
        let templates = Templates::read(Some(place.path()), "de").unwrap();
        let words = templates.words(&Message::PasswordReset, &values()).unwrap();
        assert_eq!(words.subject, "Betreff password_reset");
    }

    #[test]
    fn a_wish_for_letters_is_no_letter() {
        for message in [Message::ResetAsked, Message::VerificationAsked] {
            assert_eq!(Templates::default().words(&message, &values()), None);
        }
    }
}
