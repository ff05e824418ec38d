//! Up to when the refresh tokens that a Django site issued to a user are refused.
//!
//! Both ask for a transaction that has locked the account: so no token is exchanged between the end of all
//! sessions and the note of it.

use countersign_core::session::Session;
use countersign_core::user::UserId;
use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::failure::Failure;
use super::link::Link;

/// Refuses what was issued until `at`.
pub(super) async fn note(link: &Link, user: UserId, at: Timestamp) -> Result<(), Failure> {
    let sql = "INSERT INTO countersign_cut_off AS known (user_id, at) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET at = greatest(known.at, excluded.at)";
    let parameters = [
        (&user.0 as _, Type::INT8),
        (&at.as_millisecond() as _, Type::INT8),
    ];
    link.query(sql, &parameters).await?;
    Ok(())
}

/// Whether a token came before the cut-off, and was not used before. It was issued when the session to be
/// says that it opened.
pub(super) async fn refuses(link: &Link, session: &Session) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM countersign_cut_off
         WHERE user_id = $1 AND at >= $2
             AND NOT EXISTS (SELECT 1 FROM countersign_session WHERE id = $3)";
    let parameters = [
        (&session.user_id.0 as _, Type::INT8),
        (&session.opened_at.as_millisecond() as _, Type::INT8),
        (&session.id.0 as _, Type::UUID),
    ];
    Ok(!link.query(sql, &parameters).await?.is_empty())
}
