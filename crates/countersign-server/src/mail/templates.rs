//! What mails say: the texts that the program brings, and those of an operator in their place.
//!
//! A mail has two files, `.txt` and `.html`. The first line of the text is `Subject: ` and the subject,
//! the second is empty. Another language is another directory.

use std::fs;
use std::path::Path;

use countersign_core::mail::Message;
use countersign_core::session::EndedBy;

use super::template::{Template, Values};

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

/// What all mails say.
#[derive(Debug, Clone)]
pub(crate) struct Templates {
    password_changed: Text,
    password_set: Text,
}

/// The files that the program brings.
const OURS: [(&str, &str); 4] = [
    (
        "password_changed.txt",
        include_str!("templates/password_changed.txt"),
    ),
    (
        "password_changed.html",
        include_str!("templates/password_changed.html"),
    ),
    (
        "password_set.txt",
        include_str!("templates/password_set.txt"),
    ),
    (
        "password_set.html",
        include_str!("templates/password_set.html"),
    ),
];

/// Nobody reads a longer mail.
const LONGEST: u64 = 64 * 1024;

impl Default for Templates {
    fn default() -> Self {
        let ours = |_: &str| Ok(None);
        Self::from(ours).expect("a test reads the texts that the program brings")
    }
}

impl Templates {
    /// Reads the files in a directory; those that are not there are ours.
    ///
    /// # Errors
    /// In words for whoever wrote them.
    pub(crate) fn read(directory: &Path) -> Result<Self, String> {
        refuse_strangers(directory)?;
        Self::from(|name| read_file(&directory.join(name)))
    }

    fn from(find: impl Fn(&str) -> Result<Option<String>, String>) -> Result<Self, String> {
        let text = |name: &str| -> Result<Text, String> {
            let (plain_name, html_name) = (format!("{name}.txt"), format!("{name}.html"));
            let about = |name: &str, refusal: String| format!("{name}: {refusal}");
            let plain = find(&plain_name)?.unwrap_or_else(|| ours(&plain_name));
            let html = find(&html_name)?.unwrap_or_else(|| ours(&html_name));
            let (subject, plain) =
                parse_plain(&plain).map_err(|refusal| about(&plain_name, refusal))?;
            let html = Template::parse(&html).map_err(|refusal| about(&html_name, refusal))?;
            Ok(Text {
                subject,
                plain,
                html,
            })
        };
        Ok(Self {
            password_changed: text("password_changed")?,
            password_set: text("password_set")?,
        })
    }

    /// What a message says with these values.
    pub(super) fn words(&self, message: &Message, values: &Values) -> Words {
        let text = match message {
            Message::PasswordChanged {
                by: EndedBy::User(_),
            } => &self.password_changed,
            Message::PasswordChanged {
                by: EndedBy::CommandLine | EndedBy::Service,
            } => &self.password_set,
        };
        Words {
            subject: text.subject.fill(values),
            plain: text.plain.fill(values),
            html: text.html.fill_html(values),
        }
    }
}

fn ours(name: &str) -> String {
    let found = OURS.iter().find(|(own, _)| *own == name);
    found.map_or_else(String::new, |(_, text)| (*text).to_owned())
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
        let is_text = [".txt", ".html"]
            .iter()
            .any(|ending| name.ends_with(ending));
        if is_text && !OURS.iter().any(|(own, _)| *own == name) {
            let known = OURS.map(|(name, _)| name).join(", ");
            return Err(format!(
                "no mail is made from {name}: the names are {known}"
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
        }
    }

    fn changed_by(by: EndedBy) -> Message {
        Message::PasswordChanged { by }
    }

    #[test]
    fn who_changed_it_decides_what_is_said() {
        let templates = Templates::default();
        let by_user = templates.words(&changed_by(EndedBy::User(UserId(1))), &values());
        let by_command = templates.words(&changed_by(EndedBy::CommandLine), &values());
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
        let templates = Templates::read(directory.path()).unwrap();
        let words = templates.words(&changed_by(EndedBy::CommandLine), &values());
        assert_eq!((&*words.subject, &*words.plain), ("Für ana", "Hallo\n"));
        let own = Templates::default().words(&changed_by(EndedBy::CommandLine), &values());
        assert_eq!(words.html, own.html);
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
        ] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(name), text).unwrap();
            let said = Templates::read(directory.path()).unwrap_err();
            assert!(said.contains(refusal), "{said}");
        }
        assert!(Templates::read(Path::new("/nonexistent")).is_err());
    }
}
