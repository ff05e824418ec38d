//! The outbox: mail that was kept with what it tells of.

use countersign_core::mail::{ClaimedMail, Mail, MailClaim, MailOutcome, MailWaiting};
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::rows::{self, claimed_mail_columns};
use crate::words::{self, readable_messages};

/// Keeps a mail, if there is one, in the transaction that the connection is in.
pub(super) fn queue(connection: &Connection, mail: Option<&Mail>) -> Result<(), Failure> {
    let Some(mail) = mail else {
        return Ok(());
    };
    connection
        .prepare_cached(
            "INSERT INTO countersign_outbox
                 (id, recipient, username, message, queued_at, due_at, attempts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, 0) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            mail.id.0.as_bytes(),
            mail.recipient,
            mail.username,
            words::write_message(&mail.message),
            mail.queued_at.as_millisecond(),
        ])?;
    Ok(())
}

pub(super) fn claim(
    connection: &Connection,
    claim: &MailClaim,
) -> Result<Vec<ClaimedMail>, Failure> {
    let mut due = connection.prepare_cached(concat!(
        "SELECT ",
        claimed_mail_columns!(),
        " FROM countersign_outbox WHERE due_at <= ?1 AND ",
        readable_messages!(),
        " ORDER BY due_at, id LIMIT ?2"
    ))?;
    let due = due.query(params![claim.now.as_millisecond(), claim.limit])?;
    let mut claimed = rows::all(due, rows::claimed_mail)?;
    let mut note = connection
        .prepare_cached("UPDATE countersign_outbox SET due_at = ?2, attempts = ?3 WHERE id = ?1")?;
    for claimed in &mut claimed {
        claimed.until = claim.until;
        claimed.attempts = claimed.attempts.saturating_add(1);
        note.execute(params![
            claimed.mail.id.0.as_bytes(),
            claimed.until.as_millisecond(),
            claimed.attempts
        ])?;
    }
    Ok(claimed)
}

pub(super) fn settle(
    connection: &Connection,
    claimed: &ClaimedMail,
    outcome: MailOutcome,
) -> Result<bool, Failure> {
    let (id, until) = (claimed.mail.id.0, claimed.until.as_millisecond());
    let settled = match outcome {
        MailOutcome::Done => connection
            .prepare_cached(
                "DELETE FROM countersign_outbox WHERE id = ?1 AND due_at = ?2 AND attempts = ?3",
            )?
            .execute(params![id.as_bytes(), until, claimed.attempts])?,
        MailOutcome::Later(due_at) => connection
            .prepare_cached(
                "UPDATE countersign_outbox SET due_at = ?4
                 WHERE id = ?1 AND due_at = ?2 AND attempts = ?3",
            )?
            .execute(params![
                id.as_bytes(),
                until,
                claimed.attempts,
                due_at.as_millisecond()
            ])?,
    };
    Ok(settled == 1)
}

pub(super) fn count(connection: &Connection) -> Result<MailWaiting, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*), count(*) FILTER (WHERE attempts > 0)
         FROM (SELECT attempts FROM countersign_outbox LIMIT 100000)",
    )?;
    let waiting = rows::one(statement.query([])?, rows::mail_waiting)?;
    Ok(waiting.unwrap_or_default())
}
