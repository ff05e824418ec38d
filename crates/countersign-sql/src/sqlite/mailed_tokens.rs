//! Transitions and reads of mailed tokens, and of the addresses that they prove.

use countersign_core::mail::{ClaimedMail, MailAnswer, MailOutcome};
use countersign_core::mailed_token::{MOST_MAILED_TOKENS, MailedToken, MailedTokenId, StoredToken};
use countersign_core::session::EndReason;
use countersign_core::store::{
    Change, EmailOutcome, EmailProof, IssueToken, PasswordReset, ResetOutcome,
};
use countersign_core::user::{Credentials, Email, UserId};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::rows::{self, mailed_token_columns};
use super::statements::Statements;
use super::writer::Transition;
use super::{audit, mail, registrations, sessions, users};

/// Keeps a token, and of too many the newest.
fn keep(connection: &Connection, token: &MailedToken) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO countersign_mailed_token
                 (id, purpose, user_id, email, binding, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            bytes(&token.id),
            token.purpose.code(),
            token.user.0,
            token.email,
            token.binding.0,
            token.created_at.as_millisecond(),
            token.expires_at.as_millisecond(),
        ])?;
    // The names begin with the time.
    connection
        .prepare_cached(
            "DELETE FROM countersign_mailed_token WHERE id IN (
                 SELECT id FROM countersign_mailed_token
                 WHERE user_id = ?1 AND purpose = ?2 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
        )?
        .execute(params![
            token.user.0,
            token.purpose.code(),
            MOST_MAILED_TOKENS
        ])?;
    Ok(())
}

pub(super) fn answer_mail(
    connection: &Connection,
    claimed: &ClaimedMail,
    answers: &[MailAnswer],
) -> Result<bool, Failure> {
    if !mail::settle(connection, claimed, MailOutcome::Done)? {
        return Ok(false);
    }
    for answer in answers {
        if let Some(token) = &answer.token {
            keep(connection, token)?;
        }
        mail::queue(connection, Some(&answer.mail))?;
    }
    Ok(true)
}

pub(super) fn issue(connection: &Connection, issue: &IssueToken) -> Result<bool, Failure> {
    if !sessions::is_live(connection, issue.session, issue.token.user)? {
        return Ok(false);
    }
    keep(connection, &issue.token)?;
    mail::queue(connection, issue.mail.as_ref())?;
    audit::record(connection, &issue.trail.entries)?;
    Ok(true)
}

pub(super) fn find(
    connection: &Connection,
    sql: &Statements,
    id: MailedTokenId,
) -> Result<Option<StoredToken>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        mailed_token_columns!(),
        " FROM countersign_mailed_token WHERE id = ?1"
    ))?;
    let token = rows::one(statement.query([bytes(&id)])?, rows::mailed_token)?;
    let Some(token) = token else {
        let found = registrations::find(connection, id)?;
        return Ok(found.map(StoredToken::OfRegistration));
    };
    let user = users::credentials_by_id(connection, sql, token.user)?;
    Ok(user.map(|user| StoredToken::OfUser(token, user)))
}

pub(super) fn reset_password(
    transition: &mut Transition<'_>,
    sql: &Statements,
    reset: &PasswordReset,
) -> Result<ResetOutcome, Failure> {
    let connection = transition.connection;
    let found = users::credentials_by_id(connection, sql, reset.user)?;
    if !is_as_it_was(found.as_ref(), &reset.email, &reset.before)
        || !use_up(connection, reset.token)?
    {
        return Ok(ResetOutcome::Dead);
    }
    users::write_password(connection, sql, reset.user, &reset.new)?;
    let was_proven = found.is_some_and(|found| found.user.email_verified);
    // Somebody else may have proven it: the password is this user's all the same.
    let proven = !was_proven && !is_others(connection, sql, &reset.email, reset.user)?;
    audit::record(connection, &reset.trail.entries)?;
    if proven {
        prove(connection, &reset.email, reset.user, reset.ending.at)?;
        audit::record(connection, &reset.proof.entries)?;
    }
    let end = reset.ending.because(EndReason::PasswordChanged);
    let ended = sessions::end_all(transition, reset.user, None, end, &reset.trail)?;
    mail::queue(transition.connection, reset.mail.as_ref())?;
    transition.tell(Change::UserChanged(reset.user))?;
    Ok(ResetOutcome::Reset { ended, proven })
}

pub(super) fn verify_email(
    transition: &mut Transition<'_>,
    sql: &Statements,
    proof: &EmailProof,
) -> Result<EmailOutcome, Failure> {
    let connection = transition.connection;
    let found = users::credentials_by_id(connection, sql, proof.user)?;
    if !is_as_it_was(found.as_ref(), &proof.from, &proof.before) || !is_there(connection, proof)? {
        return Ok(EmailOutcome::Dead);
    }
    if is_others(connection, sql, &proof.to, proof.user)? {
        return Ok(EmailOutcome::Taken);
    }
    if proof.from != proof.to && !users::write_email(connection, sql, proof.user, &proof.to)? {
        return Ok(EmailOutcome::Taken);
    }
    use_up(connection, proof.token)?;
    prove(connection, &proof.to, proof.user, proof.at)?;
    mail::queue(connection, proof.mail.as_ref())?;
    audit::record(connection, &proof.trail.entries)?;
    transition.tell(Change::UserChanged(proof.user))?;
    Ok(EmailOutcome::Proven)
}

/// Whether an account is as it was when its token was found genuine.
fn is_as_it_was(
    found: Option<&Credentials>,
    email: &str,
    password: &countersign_core::password::EncodedPassword,
) -> bool {
    found.is_some_and(|found| {
        found.user.is_active && found.user.email == email && found.password == *password
    })
}

fn is_there(connection: &Connection, proof: &EmailProof) -> Result<bool, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM countersign_mailed_token WHERE id = ?1")?;
    Ok(statement.exists([bytes(&proof.token)])?)
}

fn use_up(connection: &Connection, id: MailedTokenId) -> Result<bool, Failure> {
    let mut statement =
        connection.prepare_cached("DELETE FROM countersign_mailed_token WHERE id = ?1")?;
    Ok(statement.execute([bytes(&id)])? == 1)
}

/// Whether somebody else has proven an address, and still has it.
pub(super) fn is_others(
    connection: &Connection,
    sql: &Statements,
    email: &str,
    user: UserId,
) -> Result<bool, Failure> {
    let owner = users::verified(connection, sql, &Email::fold(email))?;
    Ok(owner.is_some_and(|owner| owner.user.id != user))
}

/// Notes that a user has proven an address, which nobody else has.
pub(super) fn prove(
    connection: &Connection,
    email: &str,
    user: UserId,
    at: Timestamp,
) -> Result<(), Failure> {
    let folded = Email::fold(email);
    // Whoever had proven it before has another by now.
    connection
        .prepare_cached("DELETE FROM countersign_email WHERE folded = ?1 OR user_id = ?2")?
        .execute(params![folded, user.0])?;
    connection
        .prepare_cached(
            "INSERT INTO countersign_email (user_id, address, folded, verified_at)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![user.0, email, folded, at.as_millisecond()])?;
    Ok(())
}

/// Forgets what was mailed to a user, and what the user has proven.
pub(super) fn forget(connection: &Connection, user: UserId) -> Result<(), Failure> {
    for sql in [
        "DELETE FROM countersign_mailed_token WHERE user_id = ?1",
        "DELETE FROM countersign_email WHERE user_id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([user.0])?;
    }
    Ok(())
}

pub(super) fn sweep(connection: &Connection, now: Timestamp, most: u32) -> Result<u32, Failure> {
    let mut removed = 0;
    for sql in [
        "DELETE FROM countersign_mailed_token WHERE id IN (
             SELECT id FROM countersign_mailed_token WHERE expires_at <= ?1 LIMIT ?2)",
        "DELETE FROM countersign_registration WHERE id IN (
             SELECT id FROM countersign_registration WHERE expires_at <= ?1 LIMIT ?2)",
    ] {
        let left = most.saturating_sub(removed);
        let gone = connection
            .prepare_cached(sql)?
            .execute(params![now.as_millisecond(), left])?;
        removed += u32::try_from(gone).unwrap_or(left);
    }
    Ok(removed)
}

pub(super) fn bytes(id: &MailedTokenId) -> &[u8] {
    id.0.as_bytes()
}
