//! The outbox: mail that was kept with what it tells of.

use countersign_core::audit::Trail;
use countersign_core::error::StoreError;
use countersign_core::mail::{ClaimedMail, Mail, MailClaim, MailOutcome, MailWaiting};
use tokio_postgres::types::Type;

use super::audit;
use super::failure::Failure;
use super::link::Link;
use super::readers::Readers;
use super::rows::{self, claimed_mail_columns};
use super::writer::Done;
use crate::words::{self, readable_messages};

/// Keeps a mail, if there is one, in the transaction that was begun.
pub(super) async fn queue(link: &Link, mail: Option<&Mail>) -> Result<(), Failure> {
    let Some(mail) = mail else {
        return Ok(());
    };
    // A transition may be tried again that had been committed.
    let sql = "INSERT INTO countersign_outbox
             (id, recipient, username, message, queued_at, due_at, attempts)
         VALUES ($1, $2, $3, $4, $5, $5, 0) ON CONFLICT DO NOTHING";
    link.query(
        sql,
        &[
            (&mail.id.0, Type::UUID),
            (&mail.recipient, Type::TEXT),
            (&mail.username, Type::TEXT),
            (&words::write_message(&mail.message), Type::TEXT),
            (&mail.queued_at.as_millisecond(), Type::INT8),
        ],
    )
    .await?;
    Ok(())
}

/// Keeps a mail in a transaction of its own, and what it leaves in the audit log.
pub(super) async fn queue_alone(
    link: &Link,
    mail: &Mail,
    trail: &Trail,
) -> Result<Done<()>, Failure> {
    link.begin_with("SELECT 1", &[]).await?;
    queue(link, Some(mail)).await?;
    audit::leave(link, trail).await?;
    link.commit().await?;
    Ok(Done::quietly(()))
}

/// What another is claiming at the same time is passed over, not waited for.
pub(super) async fn claim(
    link: &Link,
    claim: &MailClaim,
) -> Result<Done<Vec<ClaimedMail>>, Failure> {
    let sql = concat!(
        "WITH due AS MATERIALIZED (
             SELECT id, due_at AS was_due_at FROM countersign_outbox
             WHERE due_at <= $1 AND ",
        readable_messages!(),
        "
             ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED),
         claimed AS (
             UPDATE countersign_outbox SET due_at = $2, attempts = attempts + 1
             FROM due WHERE countersign_outbox.id = due.id
             RETURNING ",
        claimed_mail_columns!(),
        ", was_due_at)
         SELECT * FROM claimed ORDER BY was_due_at, id"
    );
    let claimed = link
        .query(
            sql,
            &[
                (&claim.now.as_millisecond(), Type::INT8),
                (&claim.until.as_millisecond(), Type::INT8),
                (&i64::from(claim.limit), Type::INT8),
            ],
        )
        .await?;
    let claimed = claimed.iter().map(rows::claimed_mail);
    Ok(Done::quietly(claimed.collect::<Result<_, _>>()?))
}

pub(super) async fn settle(
    link: &Link,
    claimed: &ClaimedMail,
    outcome: MailOutcome,
) -> Result<Done<bool>, Failure> {
    let due_at = match outcome {
        MailOutcome::Done => None,
        MailOutcome::Later(due_at) => Some(due_at.as_millisecond()),
    };
    let sql = "WITH done AS (
             DELETE FROM countersign_outbox
             WHERE id = $1 AND due_at = $2 AND attempts = $3 AND $4::bigint IS NULL
             RETURNING 1),
         later AS (
             UPDATE countersign_outbox SET due_at = $4
             WHERE id = $1 AND due_at = $2 AND attempts = $3 AND $4::bigint IS NOT NULL
             RETURNING 1)
         SELECT 1 FROM done UNION ALL SELECT 1 FROM later";
    let settled = link
        .query(
            sql,
            &[
                (&claimed.mail.id.0, Type::UUID),
                (&claimed.until.as_millisecond(), Type::INT8),
                (&i64::from(claimed.attempts), Type::INT8),
                (&due_at, Type::INT8),
            ],
        )
        .await?;
    Ok(Done::quietly(!settled.is_empty()))
}

pub(super) async fn count(readers: &Readers) -> Result<MailWaiting, StoreError> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE attempts > 0)
         FROM (SELECT attempts FROM countersign_outbox LIMIT 100000) AS waiting";
    let waiting = readers.read_one(sql, &[], rows::mail_waiting).await?;
    Ok(waiting.unwrap_or_default())
}
