//! `session`: who is signed in where, why sessions ended, and ending them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use countersign_core::auth::Auth;
use countersign_core::error::AuthError;
use countersign_core::session::{EndedBy, SessionId};
use countersign_core::store::SessionQuery;
use countersign_core::user::UserId;
use serde_json::{Value, json};

use crate::cli::{EndSession, Session};
use crate::config::Settings;
use crate::failure::Failure;
use crate::opening::{self, IfMissing};
use crate::output::{self, Safe};

/// A session, as the rooms below know it.
type Stored = countersign_core::session::Session;

/// How many sessions are read at a time.
const PAGE: u32 = 500;

pub(super) async fn run(settings: &Settings, command: Session) -> Result<(), Failure> {
    let auth = opening::open(settings, IfMissing::Refuse).await?;
    match command {
        Session::List {
            username,
            all,
            json,
        } => {
            let user = match username {
                Some(username) => Some(auth.find_user(&username).await?.id),
                None => None,
            };
            list(&auth, user, !all, json).await
        }
        Session::End(which) => end(&auth, which).await,
    }
}

async fn list(auth: &Auth, user: Option<UserId>, live: bool, as_json: bool) -> Result<(), Failure> {
    let mut names = Usernames::default();
    let mut listed = Vec::new();
    let mut pages = Pages::of(user, live);
    let mut any = false;
    while let Some(page) = pages.next(auth).await? {
        any = true;
        for session in page {
            let name = names.of(auth, session.user_id).await?;
            if as_json {
                listed.push(to_json(&session, name));
            } else {
                show(&session, name);
            }
        }
    }
    if as_json {
        output::json(&Value::Array(listed));
    } else if !any {
        output::note("There are no such sessions.");
    }
    Ok(())
}

async fn end(auth: &Auth, which: EndSession) -> Result<(), Failure> {
    let by = EndedBy::CommandLine;
    if let Some(username) = which.user {
        let user = auth.find_user(&username).await?;
        let ended = auth.revoke_sessions_of(user.id, by).await?.len();
        let sessions = counted(ended);
        output::line(format_args!(
            "{sessions} of {} ended.",
            Safe(&user.username)
        ));
        return Ok(());
    }
    if which.everybody {
        let mut ended = 0;
        let mut pages = Pages::of(None, true);
        while let Some(page) = pages.next(auth).await? {
            for session in page {
                ended += usize::from(revoke(auth, session.id).await?);
            }
        }
        output::line(format_args!("{} ended.", counted(ended)));
        return Ok(());
    }
    // Read before anything is ended: a slip of the pen ends nothing.
    let mut ids = Vec::new();
    for text in &which.ids {
        let id: SessionId = text.parse().map_err(|_| no_such_session(text))?;
        ids.push(id);
    }
    for id in ids {
        let ended = match auth.revoke_session(id, by).await {
            Ok(ended) => ended,
            Err(AuthError::NoSuchSession) => return Err(no_such_session(&id.to_string())),
            Err(error) => return Err(error.into()),
        };
        let what = if ended { "ended" } else { "had ended before" };
        output::line(format_args!("{id} {what}."));
    }
    Ok(())
}

fn counted(sessions: usize) -> String {
    match sessions {
        1 => "1 session".to_owned(),
        more => format!("{more} sessions"),
    }
}

/// Ends a session that was alive when it was listed; false if it is not any more.
async fn revoke(auth: &Auth, id: SessionId) -> Result<bool, Failure> {
    match auth.revoke_session(id, EndedBy::CommandLine).await {
        Err(AuthError::NoSuchSession) => Ok(false),
        other => Ok(other?),
    }
}

fn no_such_session(id: &str) -> Failure {
    Failure::Failed(format!(
        "there is no session {}: `countersign session list` names them",
        Safe(id)
    ))
}

/// Sessions, a page at a time.
struct Pages {
    query: SessionQuery,
}

impl Pages {
    fn of(user: Option<UserId>, live: bool) -> Self {
        Self {
            query: SessionQuery {
                user,
                live,
                after: None,
                limit: PAGE,
            },
        }
    }

    async fn next(&mut self, auth: &Auth) -> Result<Option<Vec<Stored>>, Failure> {
        let page = auth.find_sessions(&self.query).await?;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        self.query.after = Some(last.id);
        Ok(Some(page))
    }
}

/// Names of users, each looked up once.
#[derive(Default)]
pub(super) struct Usernames(HashMap<UserId, Option<String>>);

impl Usernames {
    pub(super) async fn of(&mut self, auth: &Auth, id: UserId) -> Result<Option<&str>, Failure> {
        let name = match self.0.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let user = auth.find_user_by_id(id).await?;
                unknown.insert(user.map(|user| user.username))
            }
        };
        Ok(name.as_deref())
    }
}

fn show(session: &Stored, username: Option<&str>) {
    let address = session.address.map(|address| address.to_string());
    let line = format!(
        "{}  {}  opened {}  last seen {}  {}  {}",
        session.id,
        Safe(username.unwrap_or("(deleted)")),
        session.opened_at,
        session.rotated_at,
        address.as_deref().unwrap_or("-"),
        Safe(session.user_agent.as_deref().unwrap_or("-")),
    );
    output::line(line.trim_end());
    if let Some(end) = session.end {
        output::line(format_args!(
            "    ended {}  {}  by {}",
            end.at,
            end.reason,
            by_whom(end.by)
        ));
    }
}

pub(super) fn by_whom(by: EndedBy) -> String {
    match by {
        EndedBy::User(id) => format!("user {id}"),
        EndedBy::CommandLine => "the command line".to_owned(),
        EndedBy::Service => "the service".to_owned(),
    }
}

fn to_json(session: &Stored, username: Option<&str>) -> Value {
    let end = session.end.map(|end| {
        json!({
            "reason": end.reason.code(),
            "at": end.at.to_string(),
            "by": match end.by {
                EndedBy::User(id) => json!({"user_id": id}),
                EndedBy::CommandLine => json!("command_line"),
                EndedBy::Service => json!("service"),
            },
        })
    });
    json!({
        "id": session.id,
        "user_id": session.user_id,
        "username": username,
        "generation": session.generation,
        "created_at": session.opened_at.to_string(),
        "last_seen_at": session.rotated_at.to_string(),
        "ip": session.address.map(|address| address.to_string()),
        "user_agent": session.user_agent,
        "end": end,
    })
}
