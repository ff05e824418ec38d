//! Transitions and reads of mailed tokens, and of the addresses that they prove.

use countersign_core::error::StoreError;
use countersign_core::mail::{ClaimedMail, MailAnswer};
use countersign_core::mailed_token::{MOST_MAILED_TOKENS, MailedToken, MailedTokenId, StoredToken};
use countersign_core::password::EncodedPassword;
use countersign_core::session::EndReason;
use countersign_core::store::{
    Change, EmailOutcome, EmailProof, IssueToken, PasswordReset, ResetOutcome,
};
use countersign_core::user::{Credentials, Email, UserId};
use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::accounts::{self, Changing};
use super::changes::told;
use super::failure::Failure;
use super::link::Link;
use super::readers::Readers;
use super::rows::{self, mailed_token_columns};
use super::statements::Statements;
use super::writer::Done;
use super::{audit, mail, registrations, users};

/// Keeps a token, and of too many the newest, in the transaction that was begun.
async fn keep(link: &Link, token: &MailedToken) -> Result<(), Failure> {
    // A transition may be tried again that had been committed.
    let insert = "INSERT INTO countersign_mailed_token
             (id, purpose, user_id, email, binding, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    link.query(
        insert,
        &[
            (&token.id.0, Type::UUID),
            (&token.purpose.code(), Type::TEXT),
            (&token.user.0, Type::INT8),
            (&token.email, Type::TEXT),
            (&&token.binding.0[..], Type::BYTEA),
            (&token.created_at.as_millisecond(), Type::INT8),
            (&token.expires_at.as_millisecond(), Type::INT8),
        ],
    )
    .await?;
    // The names begin with the time.
    let trim = "DELETE FROM countersign_mailed_token WHERE id IN (
             SELECT id FROM countersign_mailed_token
             WHERE user_id = $1 AND purpose = $2 ORDER BY id DESC OFFSET $3)";
    link.query(
        trim,
        &[
            (&token.user.0, Type::INT8),
            (&token.purpose.code(), Type::TEXT),
            (&i64::from(MOST_MAILED_TOKENS), Type::INT8),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn answer_mail(
    link: &Link,
    claimed: &ClaimedMail,
    answers: &[MailAnswer],
) -> Result<Done<bool>, Failure> {
    let take = "DELETE FROM countersign_outbox
         WHERE id = $1 AND due_at = $2 AND attempts = $3 RETURNING 1";
    let taken = link
        .begin_with(
            take,
            &[
                (&claimed.mail.id.0, Type::UUID),
                (&claimed.until.as_millisecond(), Type::INT8),
                (&i64::from(claimed.attempts), Type::INT8),
            ],
        )
        .await?;
    if taken.is_empty() {
        link.roll_back().await?;
        return Ok(Done::quietly(false));
    }
    for answer in answers {
        if let Some(token) = &answer.token {
            keep(link, token).await?;
        }
        mail::queue(link, Some(&answer.mail)).await?;
    }
    link.commit().await?;
    Ok(Done::quietly(true))
}

pub(super) async fn issue(link: &Link, issue: &IssueToken) -> Result<Done<bool>, Failure> {
    let lock = "SELECT 1 FROM countersign_session
         WHERE id = $1 AND user_id = $2 AND ended_at IS NULL FOR NO KEY UPDATE";
    let alive = link
        .begin_with(
            lock,
            &[
                (&issue.session.0, Type::UUID),
                (&issue.token.user.0, Type::INT8),
            ],
        )
        .await?;
    if alive.is_empty() {
        link.roll_back().await?;
        return Ok(Done::quietly(false));
    }
    keep(link, &issue.token).await?;
    mail::queue(link, issue.mail.as_ref()).await?;
    audit::leave(link, &issue.trail).await?;
    link.commit().await?;
    Ok(Done::quietly(true))
}

pub(super) async fn find(
    readers: &Readers,
    sql: &Statements,
    id: MailedTokenId,
) -> Result<Option<StoredToken>, StoreError> {
    let select = concat!(
        "SELECT ",
        mailed_token_columns!(),
        " FROM countersign_mailed_token WHERE id = $1"
    );
    let token = readers
        .read_one(select, &[(&id.0, Type::UUID)], rows::mailed_token)
        .await?;
    let Some(token) = token else {
        let found = registrations::find(readers, id).await?;
        return Ok(found.map(StoredToken::OfRegistration));
    };
    let user = users::credentials_by_id(readers, sql, token.user).await?;
    Ok(user.map(|user| StoredToken::OfUser(token, user)))
}

pub(super) async fn reset_password(
    link: &Link,
    sql: &Statements,
    reset: &PasswordReset,
) -> Result<Done<ResetOutcome>, Failure> {
    let found = accounts::begin(link, sql, reset.user).await?;
    if !is_as_it_was(found.as_ref(), &reset.email, &reset.before)
        || !use_up(link, reset.token).await?
    {
        link.roll_back().await?;
        return Ok(Done::quietly(ResetOutcome::Dead));
    }
    let was_proven = found.is_some_and(|found| found.user.email_verified);
    // Somebody else may have proven the address: the password is this user's all the same.
    let proven = !was_proven && prove(link, sql, &reset.email, reset.user, reset.ending.at).await?;
    if proven {
        audit::leave(link, &reset.proof).await?;
    }
    mail::queue(link, reset.mail.as_ref()).await?;
    let changing = Changing {
        password: Some(&reset.new),
        reason: Some(EndReason::PasswordChanged),
        ..Changing::default()
    };
    let (user, ending) = (reset.user, reset.ending);
    let Done {
        outcome: ended,
        changes,
    } = changing
        .commit(link, sql, user, ending, &reset.trail)
        .await?;
    Ok(Done {
        outcome: ResetOutcome::Reset { ended, proven },
        changes,
    })
}

pub(super) async fn verify_email(
    link: &Link,
    sql: &Statements,
    proof: &EmailProof,
) -> Result<Done<EmailOutcome>, Failure> {
    let found = accounts::begin(link, sql, proof.user).await?;
    let outcome = if !is_as_it_was(found.as_ref(), &proof.from, &proof.before)
        || !use_up(link, proof.token).await?
    {
        EmailOutcome::Dead
    } else if !prove(link, sql, &proof.to, proof.user, proof.at).await?
        || (proof.from != proof.to && !users::write_email(link, sql, proof.user, &proof.to).await?)
    {
        EmailOutcome::Taken
    } else {
        EmailOutcome::Proven
    };
    if outcome != EmailOutcome::Proven {
        link.roll_back().await?;
        return Ok(Done::quietly(outcome));
    }
    mail::queue(link, proof.mail.as_ref()).await?;
    audit::leave(link, &proof.trail).await?;
    commit_user_changed(link, proof.user).await?;
    Ok(Done {
        outcome,
        changes: vec![Change::UserChanged(proof.user)],
    })
}

/// Ends a transaction that has changed a user, and tells of it.
async fn commit_user_changed(link: &Link, user: UserId) -> Result<(), Failure> {
    let tell = concat!("WITH ", told!("SELECT 'user_changed ' || $2"), " SELECT 1");
    link.commit_with(tell, &[(&link.origin, Type::INT8), (&user.0, Type::INT8)])
        .await?;
    Ok(())
}

/// Whether an account is as it was when its token was found genuine.
fn is_as_it_was(found: Option<&Credentials>, email: &str, password: &EncodedPassword) -> bool {
    found.is_some_and(|found| {
        found.user.is_active && found.user.email == email && found.password == *password
    })
}

async fn use_up(link: &Link, id: MailedTokenId) -> Result<bool, Failure> {
    let sql = "DELETE FROM countersign_mailed_token WHERE id = $1 RETURNING 1";
    Ok(!link.query(sql, &[(&id.0, Type::UUID)]).await?.is_empty())
}

/// Notes that a user has proven an address. False: somebody else has, and still has it.
///
/// The row of the address is locked first, so that of two who prove it at once the second sees the first.
pub(super) async fn prove(
    link: &Link,
    sql: &Statements,
    email: &str,
    user: UserId,
    at: Timestamp,
) -> Result<bool, Failure> {
    let folded = Email::fold(email);
    let lock = "SELECT 1 FROM countersign_email WHERE folded = $1 FOR UPDATE";
    link.query(lock, &[(&folded, Type::TEXT)]).await?;
    let owner = link.query(&sql.verified, &[(&folded, Type::TEXT)]).await?;
    let owner = owner.first().map(rows::credentials).transpose()?;
    if owner.is_some_and(|owner| owner.user.id != user) {
        return Ok(false);
    }
    // Whoever had proven it before has another by now.
    let forget = "DELETE FROM countersign_email WHERE folded = $1 OR user_id = $2";
    link.query(forget, &[(&folded, Type::TEXT), (&user.0, Type::INT8)])
        .await?;
    let insert = "INSERT INTO countersign_email (user_id, address, folded, verified_at)
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING 1";
    let noted = link
        .query(
            insert,
            &[
                (&user.0, Type::INT8),
                (&email, Type::TEXT),
                (&folded, Type::TEXT),
                (&at.as_millisecond(), Type::INT8),
            ],
        )
        .await?;
    Ok(!noted.is_empty())
}

/// Forgets what was mailed to a user, and what the user has proven.
pub(super) async fn forget(link: &Link, user: UserId) -> Result<(), Failure> {
    for sql in [
        "DELETE FROM countersign_mailed_token WHERE user_id = $1",
        "DELETE FROM countersign_email WHERE user_id = $1",
    ] {
        link.query(sql, &[(&user.0, Type::INT8)]).await?;
    }
    Ok(())
}

pub(super) async fn sweep(link: &Link, now: Timestamp, most: u32) -> Result<Done<u32>, Failure> {
    let sql = "WITH tokens AS (
             DELETE FROM countersign_mailed_token WHERE id IN (
                 SELECT id FROM countersign_mailed_token WHERE expires_at <= $1
                 LIMIT $2 FOR UPDATE SKIP LOCKED)
             RETURNING 1),
         registrations AS (
             DELETE FROM countersign_registration WHERE id IN (
                 SELECT id FROM countersign_registration WHERE expires_at <= $1
                 LIMIT greatest(0, $2 - (SELECT count(*) FROM tokens)) FOR UPDATE SKIP LOCKED)
             RETURNING 1)
         SELECT (SELECT count(*) FROM tokens) + (SELECT count(*) FROM registrations)";
    let removed = link
        .query(
            sql,
            &[
                (&now.as_millisecond(), Type::INT8),
                (&i64::from(most), Type::INT8),
            ],
        )
        .await?;
    let removed: i64 = match removed.first() {
        Some(row) => row.try_get(0)?,
        None => 0,
    };
    Ok(Done::quietly(u32::try_from(removed).unwrap_or(most)))
}
