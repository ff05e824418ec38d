//! What is particular to a Django site whose tables these are: its refresh tokens, taken over, and its
//! groups and permissions.

use countersign_core::error::StoreError;
use countersign_core::session::{EndReason, EndedBy, SessionEnd};
use countersign_core::store::{Powers, TakeOver, TakeOverOutcome};
use countersign_core::user::UserId;
use tokio_postgres::types::Type;

use super::audit::{left, left_of_ends, write_trail};
use super::changes::{said_ended, told};
use super::failure::Failure;
use super::link::Link;
use super::readers::Readers;
use super::rows::{self, ended_columns};
use super::statements::Statements;
use super::writer::Done;
use super::{accounts, cut_off, sessions};
use crate::site::{BLACKLIST_TABLES, Power, collect_powers, no_power_tables, power_tables};

/// Records the session that a legacy token is exchanged for, if there is none.
pub(super) async fn take_over(
    link: &Link,
    sql: &Statements,
    takeover: &TakeOver,
) -> Result<Done<TakeOverOutcome>, Failure> {
    let session = &takeover.session;
    let found = accounts::begin(link, sql, session.user_id).await?;
    let refusal = match &found {
        None => Some(TakeOverOutcome::NoSuchUser),
        Some(found) if session.end.is_none() && !found.user.is_active => {
            Some(TakeOverOutcome::Inactive)
        }
        Some(_) if is_revoked(link, takeover.token_id.as_deref()).await? => {
            Some(TakeOverOutcome::Revoked)
        }
        Some(_) if session.end.is_none() && cut_off::refuses(link, session).await? => {
            Some(TakeOverOutcome::CutOff)
        }
        Some(_) => None,
    };
    let (Some(found), None) = (found, &refusal) else {
        link.roll_back().await?;
        return Ok(Done::quietly(
            refusal.unwrap_or(TakeOverOutcome::NoSuchUser),
        ));
    };
    let user = found.user;

    let record = concat!(
        "WITH opened AS (
             INSERT INTO countersign_session (id, user_id, generation, opened_at, rotated_at,
                 remember, address, user_agent, ended_at, end_reason, ended_by)
             VALUES ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (id) DO NOTHING
             RETURNING id),
         surplus AS (
             SELECT id FROM countersign_session
             WHERE user_id = $3 AND ended_at IS NULL AND id <> $2
             ORDER BY rotated_at DESC, id DESC
             OFFSET coalesce($13 - 1, 0) LIMIT CASE WHEN $13 IS NULL THEN 0 END),
         ended AS (
             UPDATE countersign_session
             SET ended_at = greatest($6, rotated_at), end_reason = $14, ended_by = $15
             FROM surplus, opened WHERE countersign_session.id = surplus.id AND ended_at IS NULL
             RETURNING ",
        ended_columns!(),
        "), ",
        told!(said_ended!()),
        ", ",
        left!("$16", "SELECT NULL::bigint FROM opened"),
        ", ",
        left_of_ends!("$16"),
        " SELECT ended.* FROM opened LEFT JOIN ended ON true"
    );
    let end = session.end;
    let opened = link
        .commit_with(
            record,
            &[
                (&link.origin, Type::INT8),
                (&session.id.0, Type::UUID),
                (&user.id.0, Type::INT8),
                (&i64::from(session.generation.0), Type::INT8),
                (&session.opened_at.as_millisecond(), Type::INT8),
                (&session.rotated_at.as_millisecond(), Type::INT8),
                (&session.remember, Type::BOOL),
                (
                    &session.address.map(|address| address.to_string()),
                    Type::TEXT,
                ),
                (&session.user_agent, Type::TEXT),
                (&end.map(|end| end.at.as_millisecond()), Type::INT8),
                (&end.map(|end| end.reason.code()), Type::TEXT),
                (
                    &end.map(|SessionEnd { by, .. }| rows::ended_by(by)),
                    Type::TEXT,
                ),
                (&takeover.most.map(|most| i64::from(most.get())), Type::INT8),
                (&EndReason::TooManySessions.code(), Type::TEXT),
                (&rows::ended_by(EndedBy::User(user.id)), Type::TEXT),
                (&write_trail(&takeover.trail), Type::TEXT),
            ],
        )
        .await?;
    if opened.is_empty() {
        return Ok(Done::quietly(TakeOverOutcome::Used));
    }
    let Done {
        outcome: ended,
        changes,
    } = sessions::all_ended(rows::all_ended(&opened)?);
    Ok(Done {
        outcome: TakeOverOutcome::TakenOver { user, ended },
        changes,
    })
}

/// Whether simplejwt's blacklist has a token. A site without the tables has none.
async fn is_revoked(link: &Link, token_id: Option<&str>) -> Result<bool, Failure> {
    // No text in PostgreSQL has a NUL.
    let Some(token_id) = token_id.filter(|id| !id.contains('\0')) else {
        return Ok(false);
    };
    let tables = BLACKLIST_TABLES.as_slice();
    let found = link
        .query(HAS_TABLES, &[(&tables, Type::TEXT_ARRAY)])
        .await?;
    if found.is_empty() {
        return Ok(false);
    }
    let sql = "SELECT 1 FROM token_blacklist_outstandingtoken AS outstanding
             JOIN token_blacklist_blacklistedtoken AS blacklisted
                 ON blacklisted.token_id = outstanding.id
         WHERE outstanding.jti = $1 LIMIT 1";
    let revoked = link.query(sql, &[(&token_id, Type::TEXT)]).await?;
    Ok(!revoked.is_empty())
}

pub(super) async fn powers(
    readers: &Readers,
    sql: &Statements,
    user: UserId,
    most: u32,
) -> Result<Powers, StoreError> {
    let parameters = [
        (&user.0 as _, Type::INT8),
        (&(i64::from(most) + 1) as _, Type::INT8),
    ];
    let read = readers
        .read(&sql.powers, &parameters, |row| {
            Ok((
                Power::from_number(row.try_get(0)?),
                row.try_get::<_, String>(1)?,
            ))
        })
        .await;
    match read {
        Ok(rows) => Ok(collect_powers(rows)),
        Err(error) => {
            let tables = power_tables(&sql.users);
            let tables = tables.as_slice();
            let found = readers
                .query(HAS_TABLES, &[(&tables, Type::TEXT_ARRAY)])
                .await;
            let is_lacking = found.is_ok_and(|found| found.is_empty());
            Err(if is_lacking {
                no_power_tables(&sql.users)
            } else {
                error
            })
        }
    }
}

/// One row if there are all of the tables, as statements find them.
const HAS_TABLES: &str = "SELECT 1 WHERE NOT EXISTS (
         SELECT 1 FROM unnest($1) AS wanted (name) WHERE to_regclass(wanted.name) IS NULL)";
