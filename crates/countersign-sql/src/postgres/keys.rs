//! Transitions and reads of signing keys.

use countersign_core::audit::Trail;
use countersign_core::error::StoreError;
use countersign_core::store::{Change, SealedSigningKey};
use tokio_postgres::types::Type;

use super::audit::{left, write_trail};
use super::changes::told;
use super::failure::Failure;
use super::link::Link;
use super::readers::Readers;
use super::rows::{self, signing_key_columns};
use super::writer::Done;

const ALL: &str = concat!(
    "SELECT ",
    signing_key_columns!(),
    " FROM countersign_signing_key ORDER BY number DESC"
);

pub(super) async fn all(readers: &Readers) -> Result<Vec<SealedSigningKey>, StoreError> {
    readers.read(ALL, &[], rows::signing_key).await
}

/// Replaces the whole ring: it is a handful of rows, a few times a year.
pub(super) async fn swap(
    link: &Link,
    seen: &[SealedSigningKey],
    new: &[SealedSigningKey],
    trail: &Trail,
) -> Result<Done<Vec<SealedSigningKey>>, Failure> {
    // Of those who swap at once one goes first; who only reads need not wait.
    link.begin_with(
        "LOCK TABLE countersign_signing_key IN SHARE ROW EXCLUSIVE MODE",
        &[],
    )
    .await?;
    let standing = standing(link).await?;
    if standing != seen || seen == new {
        link.roll_back().await?;
        return Ok(Done::quietly(standing));
    }
    link.query("DELETE FROM countersign_signing_key", &[])
        .await?;
    let insert = "INSERT INTO countersign_signing_key
             (kid, algorithm, state, sealed, created_at, state_since)
         VALUES ($1, $2, $3, $4, $5, $6)";
    // The newest comes first in the ring, and has the greatest number in the table.
    for key in new.iter().rev() {
        link.query(
            insert,
            &[
                (&key.kid, Type::TEXT),
                (&key.algorithm.name(), Type::TEXT),
                (&key.state.code(), Type::TEXT),
                (&key.sealed, Type::BYTEA),
                (&key.created_at.as_millisecond(), Type::INT8),
                (&key.state_since.as_millisecond(), Type::INT8),
            ],
        )
        .await?;
    }
    let outcome = self::standing(link).await?;
    let tell = concat!(
        "WITH ",
        told!("VALUES ('keys_changed')"),
        ", ",
        left!("$2", "VALUES (NULL::bigint)"),
        " SELECT 1"
    );
    let trail = write_trail(trail);
    link.commit_with(tell, &[(&link.origin, Type::INT8), (&trail, Type::TEXT)])
        .await?;
    Ok(Done {
        outcome,
        changes: vec![Change::KeysChanged],
    })
}

async fn standing(link: &Link) -> Result<Vec<SealedSigningKey>, Failure> {
    let rows = link.query(ALL, &[]).await?;
    rows.iter().map(rows::signing_key).collect()
}
