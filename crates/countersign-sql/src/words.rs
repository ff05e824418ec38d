//! Words that stand in every database alike.

use std::time::Duration;

use countersign_core::mail::Message;
use countersign_core::mailed_token::MailedTokenId;
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

/// The kind of a message and, after a space, what belongs to it: `password_changed user:5`.
pub(crate) fn write_message(message: &Message) -> String {
    let kind = message.kind();
    match message {
        Message::PasswordChanged { by } => format!("{kind} {}", write_ended_by(*by)),
        Message::EmailChanged { to } => format!("{kind} {to}"),
        Message::ResetPassword { token: id }
        | Message::VerifyEmail { token: id }
        | Message::ChangeEmail { token: id }
        | Message::Register { registration: id } => format!("{kind} {id}"),
        Message::PasswordReset
        | Message::AddressTaken
        | Message::ResetAsked
        | Message::VerificationAsked => format!("{kind} -"),
    }
}

/// Messages that [`read_message`] can read, as a condition on the column `message`: what only a later version
/// of this program can read waits for it, and keeps nothing else from being delivered.
macro_rules! readable_messages {
    () => {
        readable_messages!(
            "password\\_changed" "password\\_reset" "email\\_changed" "reset\\_password"
            "verify\\_email" "change\\_email" "register" "address\\_taken" "reset\\_asked"
            "verification\\_asked"
        )
    };
    ($first:literal $($kind:literal)*) => {
        concat!(
            "(message LIKE '", $first, " %' ESCAPE '\\'",
            $(" OR message LIKE '", $kind, " %' ESCAPE '\\'",)*
            ")"
        )
    };
}
pub(crate) use readable_messages;

pub(crate) fn read_message(text: &str) -> Option<Message> {
    let (kind, rest) = text.split_once(' ')?;
    let id = || rest.parse().ok().map(MailedTokenId);
    let message = match kind {
        "password_changed" => Message::PasswordChanged {
            by: read_ended_by(rest)?,
        },
        "password_reset" => Message::PasswordReset,
        "email_changed" => Message::EmailChanged {
            to: rest.to_owned(),
        },
        "reset_password" => Message::ResetPassword { token: id()? },
        "verify_email" => Message::VerifyEmail { token: id()? },
        "change_email" => Message::ChangeEmail { token: id()? },
        "register" => Message::Register {
            registration: id()?,
        },
        "address_taken" => Message::AddressTaken,
        "reset_asked" => Message::ResetAsked,
        "verification_asked" => Message::VerificationAsked,
        _ => return None,
    };
    // What belongs to it must be there, and what does not must not.
    (write_message(&message) == text).then_some(message)
}

/// Why somebody is not given an address.
pub(crate) const EMAIL_USED: &str =
    "another user has this e-mail address, and the table lets no two have the same";
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
