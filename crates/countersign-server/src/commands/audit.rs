//! `audit`: what happened, listed and followed.

use std::io::{self, Write as _};
use std::time::Duration;

use countersign_core::audit::{AuditEntry, AuditPosition, AuditQuery, Event, Kept, RecordedEntry};
use countersign_core::auth::Auth;
use countersign_core::clock::{Clock as _, SystemClock};
use countersign_core::session::EndedBy;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::cli::{Audit, ListAudit};
use crate::config::{Settings, suggest};
use crate::failure::Failure;
use crate::opening::{self, IfMissing};
use crate::output::{self, Safe};
use crate::signals::StopSignals;

use super::session::{Usernames, by_whom};

/// How many entries are read at a time.
const PAGE: u32 = 500;

/// How often it is looked for new ones.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) async fn run(settings: &Settings, command: Audit) -> Result<(), Failure> {
    let auth = opening::open(settings, IfMissing::Refuse).await?;
    match command {
        Audit::List(options) => list(&auth, options).await,
        Audit::Tail { json } => tail(&auth, json).await,
    }
}

/// Refuses a name that no entry can have, and says which may have been meant.
fn check_event(name: &str) -> Result<(), Failure> {
    let kept = Event::NAMES
        .iter()
        .filter(|(_, kept)| *kept != Kept::Nothing);
    let names: Vec<_> = kept.map(|(name, _)| *name).collect();
    if names.contains(&name) {
        return Ok(());
    }
    let hint = suggest::nearest_word(name, &names).map_or_else(
        || format!("there are {}", names.join(", ")),
        |meant| format!("did you mean {meant}?"),
    );
    let refusal = format!("{} is no event of the audit log; {hint}", Safe(name));
    Err(Failure::WrongUse(refusal))
}

async fn list(auth: &Auth, options: ListAudit) -> Result<(), Failure> {
    if let Some(event) = &options.event {
        check_event(event)?;
    }
    let user = match &options.user {
        Some(username) => Some(user_number(auth, username).await?),
        None => None,
    };
    let session = options.session.as_deref().map(|text| {
        let no_session = || format!("{} is no session's id", Safe(text));
        text.parse().map_err(|_| Failure::WrongUse(no_session()))
    });
    let now = SystemClock.now();
    let instant = |text: &Option<String>| {
        let read = text.as_deref().map(|text| read_instant(text, now));
        read.transpose().map_err(Failure::WrongUse)
    };
    let mut query = AuditQuery {
        user,
        session: session.transpose()?,
        event: options.event,
        since: instant(&options.since)?,
        until: instant(&options.until)?,
        after: None,
        limit: PAGE,
    };
    let mut names = Usernames::default();
    let (mut listed, mut left, mut any) = (Vec::new(), options.limit, false);
    while left > 0 {
        query.limit = left.min(PAGE);
        let page = auth.list_audit(&query).await?;
        let Some(last) = page.last() else { break };
        query.after = Some((last.entry.at, last.number));
        left -= query.limit.min(left);
        any = true;
        for recorded in page {
            let name = name_of(auth, &mut names, &recorded.entry).await?;
            if options.json {
                listed.push(to_json(&recorded, name.as_deref()));
            } else {
                output::line(in_words(&recorded.entry, name.as_deref()));
            }
        }
    }
    if options.json {
        output::json(&Value::Array(listed));
    } else if !any {
        output::note("There are no such entries.");
    }
    Ok(())
}

/// Shows new entries as they come, until the reader has gone or a signal says so.
async fn tail(auth: &Auth, as_json: bool) -> Result<(), Failure> {
    let mut stop = StopSignals::listen()
        .map_err(|error| Failure::Failed(format!("signals cannot be received: {error}")))?;
    let mut names = Usernames::default();
    let mut position = auth.audit_end().await?;
    output::note("Following the audit log. Interrupt to stop.");
    loop {
        tokio::select! {
            shown = show_next(auth, &mut names, &mut position, as_json) => {
                if shown? == Shown::ToNobody {
                    return Ok(());
                }
            }
            _ = stop.next() => return Ok(()),
        }
    }
}

/// Whether anybody reads what is shown.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    ToSomebody,
    ToNobody,
}

async fn show_next(
    auth: &Auth,
    names: &mut Usernames,
    position: &mut AuditPosition,
    as_json: bool,
) -> Result<Shown, Failure> {
    let next = auth.follow_audit(*position, PAGE).await?;
    if next.is_empty() {
        tokio::time::sleep(INTERVAL).await;
    }
    for (reached, recorded) in next {
        let name = name_of(auth, names, &recorded.entry).await?;
        let line = if as_json {
            to_json(&recorded, name.as_deref()).to_string()
        } else {
            in_words(&recorded.entry, name.as_deref())
        };
        if writeln!(io::stdout().lock(), "{line}").is_err() {
            return Ok(Shown::ToNobody);
        }
        *position = reached;
    }
    Ok(Shown::ToSomebody)
}

async fn name_of(
    auth: &Auth,
    names: &mut Usernames,
    entry: &AuditEntry,
) -> Result<Option<String>, Failure> {
    let Some(user) = entry.user else {
        return Ok(None);
    };
    Ok(names.of(auth, user).await?.map(str::to_owned))
}

/// The number of a user by name or, of one who has been deleted, as it stands.
async fn user_number(auth: &Auth, text: &str) -> Result<countersign_core::user::UserId, Failure> {
    match (auth.find_user(text).await, text.parse()) {
        (Ok(user), _) => Ok(user.id),
        (Err(countersign_core::error::AuthError::NoSuchUser), Ok(number)) => {
            Ok(countersign_core::user::UserId(number))
        }
        (Err(error), _) => Err(error.into()),
    }
}

/// `2h` ago, the beginning of `2026-11-24` in UTC, or `2026-11-24T10:00:00Z`.
fn read_instant(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return now
            .checked_sub(ago)
            .map_err(|_| format!("{} ago is before the calendar begins", Safe(text)));
    }
    if let Ok(instant) = text.parse() {
        return Ok(instant);
    }
    let day = text.parse::<Date>().ok();
    day.and_then(|day| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok())
        .ok_or_else(|| {
            format!(
                "{} is no time: write how long ago, like 2h, or a day or instant, like 2026-11-24 or \
                 2026-11-24T10:00:00Z",
                Safe(text)
            )
        })
}

/// One line, whatever clients sent.
fn in_words(entry: &AuditEntry, username: Option<&str>) -> String {
    let mut line = format!("{:.3}  {:<23}", entry.at, Safe(&entry.event).to_string());
    let mut say = |text: String| {
        line.push_str("  ");
        line.push_str(&text);
    };
    match (entry.user, username) {
        (Some(_), Some(name)) => say(Safe(name).to_string()),
        (Some(id), None) => say(format!("user {id} (deleted)")),
        (None, _) => say("-".to_owned()),
    }
    for (name, value) in &entry.details {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        say(format!("{}={}", Safe(name), Safe(value)));
    }
    if entry.count > 1 {
        say(format!("{} times", entry.count));
    }
    if let Some(session) = entry.session {
        say(format!("session {session}"));
    }
    match entry.by {
        Some(EndedBy::User(id)) if entry.user == Some(id) => {}
        Some(by) => say(format!("by {}", by_whom(by))),
        None => {}
    }
    if let Some(address) = entry.caller.address {
        say(format!("from {address}"));
    }
    if let Some(request) = &entry.caller.request_id {
        say(format!("request {}", Safe(request)));
    }
    // Last and quoted: what a client calls itself must not look like the fields before.
    if let Some(user_agent) = &entry.caller.user_agent {
        let quoted = user_agent.replace('\\', "\\\\").replace('"', "\\\"");
        say(format!("agent=\"{}\"", Safe(quoted)));
    }
    line
}

fn to_json(recorded: &RecordedEntry, username: Option<&str>) -> Value {
    let RecordedEntry { number, entry } = recorded;
    json!({
        "number": number,
        "at": entry.at.to_string(),
        "event": entry.event,
        "user_id": entry.user,
        "username": username,
        "session": entry.session,
        "by": entry.by.map(|by| match by {
            EndedBy::User(id) => json!({"user_id": id}),
            EndedBy::CommandLine => json!("command_line"),
            EndedBy::Service => json!("service"),
        }),
        "ip": entry.caller.address,
        "user_agent": entry.caller.user_agent,
        "request_id": entry.caller.request_id,
        "details": entry.details,
        "count": entry.count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_instant_is_how_long_ago_or_a_day_or_written_out() {
        for (text, expected) in [
            ("2h", "2026-11-24T08:00:00Z"),
            ("1d", "2026-11-23T10:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T01:02:03Z", "2026-11-20T01:02:03Z"),
            ("2026-11-20T01:02:03+01:00", "2026-11-20T00:02:03Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(read_instant(text, now()), Ok(expected), "{text}");
        }
        for text in ["yesterday", "", "99999999999y", "\u{1b}[2J"] {
            let refusal = read_instant(text, now()).unwrap_err();
            assert!(!refusal.contains('\u{1b}'), "{refusal}");
        }
    }

    #[test]
    fn nothing_that_a_client_sent_breaks_the_line_or_moves_the_cursor() {
        let hostile = "a\n2026-11-24T10:00:00Z  login_succeeded\r\u{1b}[2J\u{202e}";
        let entry = AuditEntry {
            at: now(),
            event: hostile.to_owned(),
            user: None,
            session: None,
            by: None,
            caller: countersign_core::audit::Caller {
                address: None,
                user_agent: Some(hostile.to_owned()),
                request_id: Some(hostile.to_owned()),
            },
            details: serde_json::Map::from_iter([(hostile.to_owned(), hostile.into())]),
            count: 1,
        };
        let line = in_words(&entry, None);
        let mut imitating = entry.clone();
        imitating.caller.user_agent = Some("x\"  by the command line\\".to_owned());
        let imitation = in_words(&imitating, None);
        assert!(
            imitation.ends_with(r#"  agent="x\"  by the command line\\""#),
            "{imitation}"
        );
        assert!(!line.contains(['\n', '\r', '\u{1b}', '\u{202e}']), "{line}");
        let recorded = RecordedEntry { number: 1, entry };
        let line = to_json(&recorded, Some(hostile)).to_string();
        assert!(!line.contains(['\n', '\r', '\u{1b}']), "{line}");
    }
}
