//! Transitions of throttling's counters.

use countersign_core::audit::Trail;
use countersign_core::throttle::{
    AttemptDecision, AttemptOutcome, Counter, Refund, Reservation, ThrottleKey, decide,
};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::{audit, rows};

/// How long an attempt would have to wait by the counters as they stand, if it would: then nothing is
/// written, and whoever floods us costs a read.
pub(super) fn refuse(
    connection: &Connection,
    reservations: &[Reservation],
    now: Timestamp,
) -> Result<Option<AttemptOutcome>, Failure> {
    let standing = standing(connection, reservations.iter().map(|one| one.key))?;
    match decide(reservations, find_in(&standing), now) {
        AttemptDecision::Wait(wait) => Ok(Some(AttemptOutcome::Wait(wait))),
        AttemptDecision::Reserve(..) => Ok(None),
    }
}

pub(super) fn reserve(
    connection: &Connection,
    reservations: &[Reservation],
    now: Timestamp,
) -> Result<AttemptOutcome, Failure> {
    let standing = standing(connection, reservations.iter().map(|one| one.key))?;
    match decide(reservations, find_in(&standing), now) {
        AttemptDecision::Wait(wait) => Ok(AttemptOutcome::Wait(wait)),
        AttemptDecision::Reserve(counters, refunds) => {
            for (key, counter) in counters {
                put(connection, key, counter)?;
            }
            Ok(AttemptOutcome::Reserved(refunds))
        }
    }
}

pub(super) fn refund(
    connection: &Connection,
    refunds: &[Refund],
    now: Timestamp,
) -> Result<(), Failure> {
    let mut remove =
        connection.prepare_cached("DELETE FROM countersign_throttle WHERE key = ?1")?;
    for (key, counter) in standing(connection, refunds.iter().map(|one| one.key))? {
        let taken = refunds.iter().find(|refund| refund.key == key);
        match taken.and_then(|refund| refund.taken.give_back(counter, now)) {
            Some(left) => put(connection, key, left)?,
            None => drop(remove.execute([key.0])?),
        }
    }
    Ok(())
}

pub(super) fn forget(
    connection: &Connection,
    keys: &[ThrottleKey],
    trail: &Trail,
) -> Result<(), Failure> {
    let mut remove =
        connection.prepare_cached("DELETE FROM countersign_throttle WHERE key = ?1")?;
    for key in keys {
        remove.execute([key.0])?;
    }
    audit::record(connection, &trail.entries)
}

pub(super) fn sweep(connection: &Connection, now: Timestamp, most: u32) -> Result<u32, Failure> {
    let mut remove = connection.prepare_cached(
        "DELETE FROM countersign_throttle WHERE key IN (
             SELECT key FROM countersign_throttle WHERE drained_at <= ?1 LIMIT ?2)",
    )?;
    let removed = remove.execute(params![now.as_millisecond(), most])?;
    Ok(u32::try_from(removed).unwrap_or(u32::MAX))
}

fn standing(
    connection: &Connection,
    keys: impl Iterator<Item = ThrottleKey>,
) -> Result<Vec<(ThrottleKey, Counter)>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT drained_at, last_at FROM countersign_throttle WHERE key = ?1")?;
    let mut standing = Vec::new();
    for key in keys {
        let counter = rows::one(statement.query([key.0])?, rows::counter)?;
        standing.extend(counter.map(|counter| (key, counter)));
    }
    Ok(standing)
}

fn find_in(standing: &[(ThrottleKey, Counter)]) -> impl Fn(ThrottleKey) -> Option<Counter> {
    |wanted| {
        let found = standing.iter().find(|(key, _)| *key == wanted);
        found.map(|(_, counter)| *counter)
    }
}

fn put(connection: &Connection, key: ThrottleKey, counter: Counter) -> Result<(), Failure> {
    let mut put = connection.prepare_cached(
        "INSERT INTO countersign_throttle (key, drained_at, last_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET drained_at = ?2, last_at = ?3",
    )?;
    put.execute(params![
        key.0,
        counter.drained_at.as_millisecond(),
        counter.last_at.as_millisecond()
    ])?;
    Ok(())
}
