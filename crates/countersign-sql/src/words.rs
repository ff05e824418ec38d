//! Words that stand in every database alike.

use std::time::Duration;

use countersign_core::mail::Message;
use countersign_core::session::EndedBy;
use countersign_core::user::UserId;
use serde_json::{Map, Value};

/// `user:5`, `command_line` or `service`.
pub(crate) fn write_ended_by(by: EndedBy) -> String {
    match by {
        EndedBy::User(id) => format!("user:{id}"),
        EndedBy::CommandLine => "command_line".to_owned(),
        EndedBy::Service => "service".to_owned(),
    }
}

pub(crate) fn read_ended_by(text: &str) -> Option<EndedBy> {
    match text {
        "command_line" => Some(EndedBy::CommandLine),
        "service" => Some(EndedBy::Service),
        _ => text
            .strip_prefix("user:")?
            .parse()
            .ok()
            .map(UserId)
            .map(EndedBy::User),
    }
}

/// `password_changed` and by whom.
pub(crate) fn write_message(message: Message) -> String {
    match message {
        Message::PasswordChanged { by } => format!("{} {}", message.kind(), write_ended_by(by)),
    }
}

/// Messages that [`read_message`] can read, as a pattern for LIKE: what only a later version of this program
/// can read waits for it, and keeps nothing else from being delivered.
macro_rules! readable_messages {
    () => {
        "'password\\_changed %' ESCAPE '\\'"
    };
}
pub(crate) use readable_messages;

pub(crate) fn read_message(text: &str) -> Option<Message> {
    let (kind, by) = text.split_once(' ')?;
    let by = read_ended_by(by)?;
    let message = Message::PasswordChanged { by };
    (kind == message.kind()).then_some(message)
}

/// An object in JSON.
pub(crate) fn write_details(details: &Map<String, Value>) -> String {
    serde_json::to_string(details).expect("an object of values is written as it is")
}

pub(crate) fn read_details(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

/// The conditions that apply, for a statement's WHERE.
pub(crate) fn all_of<const N: usize>(conditions: [(bool, &'static str); N]) -> String {
    let applying = conditions.into_iter().filter(|(applies, _)| *applies);
    let applying: Vec<_> = applying.map(|(_, condition)| condition).collect();
    if applying.is_empty() {
        "true".to_owned()
    } else {
        applying.join(" AND ")
    }
}

/// Short enough to be added to any time there is.
pub(crate) fn milliseconds(duration: Duration) -> i64 {
    const CENTURIES: i64 = i64::MAX / 4;
    i64::try_from(duration.as_millis()).map_or(CENTURIES, |exact| exact.min(CENTURIES))
}

/// No field of a user that is searched is longer, in bytes: 254 characters of an e-mail address.
const LONGEST_SEARCH: usize = 254 * 4;

/// The LIKE pattern, with `\` as its escape, of texts that contain `search`. `None`: there can be
/// none. SQLite reads a pattern up to its first NUL only and refuses very long ones, and no text in
/// PostgreSQL has a NUL.
pub(crate) fn containing(search: &str) -> Option<String> {
    if search.len() > LONGEST_SEARCH || search.contains('\0') {
        return None;
    }
    let mut pattern = String::with_capacity(search.len() + 2);
    pattern.push('%');
    for character in search.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    Some(pattern)
}

/// The tables of Django's own that refer to users, by the name of the users table.
pub(crate) fn djangos_tables(users: &str) -> [String; 3] {
    [
        format!("{users}_groups"),
        format!("{users}_user_permissions"),
        "django_admin_log".to_owned(),
    ]
}
