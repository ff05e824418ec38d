//! What is particular to a Django site whose tables these are: its refresh tokens, taken over, and its
//! groups and permissions.

use countersign_core::session::{EndReason, EndedBy};
use countersign_core::store::{EndedAt, Powers, TakeOver, TakeOverOutcome};
use countersign_core::user::UserId;
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::statements::Statements;
use super::writer::Transition;
use super::{audit, cut_off, sessions, users};
use crate::site::{BLACKLIST_TABLES, Power, collect_powers, no_power_tables, power_tables};

/// Records the session that a legacy token is exchanged for, if there is none.
pub(super) fn take_over(
    transition: &mut Transition<'_>,
    sql: &Statements,
    takeover: &TakeOver,
) -> Result<TakeOverOutcome, Failure> {
    let connection = transition.connection;
    let session = &takeover.session;
    let Some(user) = users::find(connection, sql, session.user_id)? else {
        return Ok(TakeOverOutcome::NoSuchUser);
    };
    if session.end.is_none() && !user.is_active {
        return Ok(TakeOverOutcome::Inactive);
    }
    if let Some(token_id) = &takeover.token_id
        && is_revoked(connection, token_id)?
    {
        return Ok(TakeOverOutcome::Revoked);
    }
    if sessions::find(connection, sql, session.id)?.is_some() {
        return Ok(TakeOverOutcome::Used);
    }
    if session.end.is_none() && cut_off::refuses(connection, session)? {
        return Ok(TakeOverOutcome::CutOff);
    }
    let mut ended = Vec::new();
    if let Some(most) = takeover.most {
        let ending = EndedAt {
            at: session.rotated_at,
            by: EndedBy::User(user.id),
        };
        let end = ending.because(EndReason::TooManySessions);
        ended = sessions::make_room(transition, session, most, end, &takeover.trail)?;
    }
    sessions::insert(transition.connection, session)?;
    audit::record(transition.connection, &takeover.trail.entries)?;
    Ok(TakeOverOutcome::TakenOver { user, ended })
}

/// Whether simplejwt's blacklist has a token. A site without the tables has none.
fn is_revoked(connection: &Connection, token_id: &str) -> Result<bool, Failure> {
    if !has_tables(connection, &BLACKLIST_TABLES)? {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM token_blacklist_outstandingtoken AS outstanding
             JOIN token_blacklist_blacklistedtoken AS blacklisted
                 ON blacklisted.token_id = outstanding.id
         WHERE outstanding.jti = ?1",
    )?;
    Ok(statement.exists([token_id])?)
}

pub(super) fn powers(
    connection: &Connection,
    sql: &Statements,
    user: UserId,
    most: u32,
) -> Result<Powers, Failure> {
    let statement = connection.prepare_cached(&sql.powers);
    if statement.is_err() && !has_tables(connection, &power_tables(&sql.users))? {
        return Err(no_power_tables(&sql.users).into());
    }
    let mut statement = statement?;
    let rows = statement.query_map(params![user.0, i64::from(most) + 1], |row| {
        Ok((Power::from_number(row.get(0)?), row.get(1)?))
    })?;
    Ok(collect_powers(rows.collect::<Result<Vec<_>, _>>()?))
}

fn has_tables(connection: &Connection, names: &[impl AsRef<str>]) -> Result<bool, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
    for name in names {
        if !statement.exists([name.as_ref()])? {
            return Ok(false);
        }
    }
    Ok(true)
}
