//! Transitions of throttling's counters.
//!
//! Counters are locked in the order of their keys, so that of attempts that share some none waits for one
//! that waits for it. An attempt is decided about under these locks, and by the arithmetic that every
//! store uses: two round trips, and for what must wait a single read.

use std::collections::HashMap;

use countersign_core::audit::Trail;
use countersign_core::error::StoreError;
use countersign_core::throttle::{
    AttemptDecision, AttemptOutcome, Counter, Refund, Reservation, ThrottleKey, decide,
};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::audit::{left, write_trail};
use super::failure::Failure;
use super::link::Link;
use super::readers::Readers;
use super::rows;
use super::writer::Done;

/// How long an attempt would have to wait by the counters as they stand, if it would: then nothing is
/// written or locked.
pub(super) async fn refuse(
    readers: &Readers,
    reservations: &[Reservation],
    now: Timestamp,
) -> Result<Option<AttemptOutcome>, StoreError> {
    let sql = "SELECT key, drained_at, last_at FROM countersign_throttle WHERE key = ANY($1)";
    let keys = keys(reservations);
    let rows = readers.query(sql, &[(&keys, Type::BYTEA_ARRAY)]).await?;
    let standing = standing(&rows)?;
    match decide(reservations, |key| standing.get(&key).copied(), now) {
        AttemptDecision::Wait(wait) => Ok(Some(AttemptOutcome::Wait(wait))),
        AttemptDecision::Reserve(..) => Ok(None),
    }
}

pub(super) async fn reserve(
    link: &Link,
    reservations: &[Reservation],
    now: Timestamp,
) -> Result<Done<AttemptOutcome>, Failure> {
    // What does not exist cannot be locked, so it is made: a counter of long ago, which counts nothing.
    let lock = "INSERT INTO countersign_throttle AS known (key, drained_at, last_at)
         SELECT key, 0, 0 FROM unnest($1) AS wanted (key) ORDER BY key
         ON CONFLICT (key) DO UPDATE SET last_at = known.last_at
         RETURNING key, drained_at, last_at";
    let keys = keys(reservations);
    let rows = link.begin_with(lock, &[(&keys, Type::BYTEA_ARRAY)]).await?;
    let standing = standing(&rows)?;
    let decision = decide(reservations, |key| standing.get(&key).copied(), now);
    let (counters, refunds) = match decision {
        AttemptDecision::Reserve(counters, refunds) => (counters, refunds),
        AttemptDecision::Wait(wait) => {
            link.roll_back().await?;
            return Ok(Done::quietly(AttemptOutcome::Wait(wait)));
        }
    };
    commit(link, &counters, &[]).await?;
    Ok(Done::quietly(AttemptOutcome::Reserved(refunds)))
}

pub(super) async fn refund(
    link: &Link,
    refunds: &[Refund],
    now: Timestamp,
) -> Result<Done<()>, Failure> {
    let lock = "SELECT key, drained_at, last_at FROM countersign_throttle
         WHERE key = ANY($1) ORDER BY key FOR UPDATE";
    let keys: Vec<&[u8]> = refunds.iter().map(|refund| &refund.key.0[..]).collect();
    let rows = link.begin_with(lock, &[(&keys, Type::BYTEA_ARRAY)]).await?;
    let standing = standing(&rows)?;
    let (mut kept, mut drained) = (Vec::new(), Vec::new());
    for Refund { key, taken } in refunds {
        let Some(counter) = standing.get(key) else {
            continue;
        };
        match taken.give_back(*counter, now) {
            Some(left) => kept.push((*key, left)),
            None => drained.push(&key.0[..]),
        }
    }
    commit(link, &kept, &drained).await?;
    Ok(Done::quietly(()))
}

/// Writes these counters and removes those, and ends the transaction that has locked them.
async fn commit(
    link: &Link,
    counters: &[(ThrottleKey, Counter)],
    drained: &[&[u8]],
) -> Result<(), Failure> {
    let sql = "WITH removed AS (DELETE FROM countersign_throttle WHERE key = ANY($4))
         UPDATE countersign_throttle SET drained_at = new.drained_at, last_at = new.last_at
         FROM unnest($1, $2, $3) AS new (key, drained_at, last_at)
         WHERE countersign_throttle.key = new.key";
    let column = |read: fn(&Counter) -> Timestamp| -> Vec<i64> {
        let instants = counters.iter().map(|(_, counter)| read(counter));
        instants.map(Timestamp::as_millisecond).collect()
    };
    let keys: Vec<&[u8]> = counters.iter().map(|(key, _)| &key.0[..]).collect();
    link.commit_with(
        sql,
        &[
            (&keys, Type::BYTEA_ARRAY),
            (&column(|counter| counter.drained_at), Type::INT8_ARRAY),
            (&column(|counter| counter.last_at), Type::INT8_ARRAY),
            (&drained, Type::BYTEA_ARRAY),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn forget(
    link: &Link,
    keys: &[ThrottleKey],
    trail: &Trail,
) -> Result<Done<()>, Failure> {
    let sql = concat!(
        "WITH ",
        left!("$2", "VALUES (NULL::bigint)"),
        " DELETE FROM countersign_throttle WHERE key IN (
             SELECT key FROM countersign_throttle WHERE key = ANY($1) ORDER BY key FOR UPDATE)"
    );
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key.0[..]).collect();
    link.query(
        sql,
        &[
            (&keys, Type::BYTEA_ARRAY),
            (&write_trail(trail), Type::TEXT),
        ],
    )
    .await?;
    Ok(Done::quietly(()))
}

pub(super) async fn sweep(link: &Link, now: Timestamp, most: u32) -> Result<Done<u32>, Failure> {
    // One that somebody has locked is in use.
    let sql = "WITH removed AS (
             DELETE FROM countersign_throttle WHERE key IN (
                 SELECT key FROM countersign_throttle WHERE drained_at <= $1
                 LIMIT $2 FOR UPDATE SKIP LOCKED)
             RETURNING 1)
         SELECT count(*) FROM removed";
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

fn keys(reservations: &[Reservation]) -> Vec<&[u8]> {
    let keys = reservations
        .iter()
        .map(|reservation| &reservation.key.0[..]);
    keys.collect()
}

fn standing(rows: &[Row]) -> Result<HashMap<ThrottleKey, Counter>, Failure> {
    rows.iter().map(rows::counter).collect()
}
