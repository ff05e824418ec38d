//! The tables, and how a database of an older version becomes one of this.
//!
//! All pending migrations run in one transaction under a lock of its own: of several nodes that start
//! together one migrates and the others find it done, and one that is killed half-way leaves the
//! database as it was.

use countersign_core::error::StoreError;
use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::failure::Failure;
use super::link::Link;
use super::readers::Readers;
use super::statements::Statements;
use super::writer::Done;
use crate::user_table::UserTable;
use crate::versions::SchemaVersions;

/// The migrations in order. The first makes schema version 1.
const MIGRATIONS: [&str; 8] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_session_ends.sql"),
    include_str!("migrations/0003_throttle.sql"),
    include_str!("migrations/0004_outbox.sql"),
    include_str!("migrations/0005_cut_off.sql"),
    include_str!("migrations/0006_mailed_tokens.sql"),
    include_str!("migrations/0007_audit.sql"),
    include_str!("migrations/0008_names.sql"),
];

/// The version that this program needs.
const WANTED: u32 = {
    assert!(MIGRATIONS.len() < 1_000, "a schema version fits in 32 bits");
    #[expect(clippy::cast_possible_truncation, reason = "asserted one line above")]
    let wanted = MIGRATIONS.len() as u32;
    wanted
};

/// Not part of a migration: it must be there before the first one can be noted.
const META_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS countersign_meta (
        singleton integer NOT NULL PRIMARY KEY CHECK (singleton = 1),
        schema_version bigint NOT NULL,
        created_at bigint NOT NULL, -- milliseconds since 1970
        checked_at bigint NOT NULL  -- the last time that readiness was asked for
    );
    INSERT INTO countersign_meta (singleton, schema_version, created_at, checked_at)
        VALUES (1, 0, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 0)
        ON CONFLICT DO NOTHING;
";

/// Django's table, made where there is none.
const AUTH_USER: &str = include_str!("migrations/auth_user.sql");

/// Held by the one who migrates: `countersign` in digits, as few as fit.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'436f756e74657273'::bigint)";

const VERSION: &str = "SELECT schema_version FROM countersign_meta";

/// The version of a database, which is not changed.
pub(super) async fn versions(link: &Link) -> Result<SchemaVersions, Failure> {
    // Not to_regclass: it answers from a memory that may be older than the lock just waited for.
    let has_meta = link
        .query_once(
            "SELECT 1 FROM pg_class WHERE relname = 'countersign_meta' AND pg_table_is_visible(oid)",
            &[],
        )
        .await?;
    let current = if has_meta.is_empty() {
        None
    } else {
        let rows = link.query_once(VERSION, &[]).await?;
        rows.first().map(|row| row.try_get(0)).transpose()?
    };
    read_version(current.unwrap_or(0))
}

fn read_version(current: i64) -> Result<SchemaVersions, Failure> {
    Ok(SchemaVersions {
        current: u32::try_from(current)
            .map_err(|_| Failure::corrupt(format!("schema version {current}")))?,
        wanted: WANTED,
    })
}

/// Refuses a database that is not of the version that this program needs, or that answers before
/// anything is durable.
pub(super) async fn require(link: &Link) -> Result<(), Failure> {
    refuse(versions(link).await?.mismatch())?;
    let settings = link
        .query_once(
            "SELECT current_setting('synchronous_commit'), current_setting('fsync')",
            &[],
        )
        .await?;
    let Some(row) = settings.first() else {
        return Ok(());
    };
    let (commit, disk): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    if commit == "off" {
        return Err(Failure::unavailable(
            "the database answers before anything is on disk (synchronous_commit = off): a power \
             cut could undo a logout; run `ALTER ROLE CURRENT_USER SET synchronous_commit = on`",
        ));
    }
    if disk == "off" {
        tracing::warn!("the database runs with fsync = off: a power cut can destroy it");
    }
    Ok(())
}

fn refuse(why: Option<String>) -> Result<(), Failure> {
    match why {
        Some(why) => Err(Failure::unavailable(why)),
        None => Ok(()),
    }
}

/// Brings a database to the version that this program needs. Gives the versions it had and has.
pub(super) async fn migrate(link: &Link, users: &UserTable) -> Result<SchemaVersions, Failure> {
    let before = versions(link).await?;
    refuse(before.too_new())?;
    if !before.is_pending() {
        return Ok(before);
    }
    link.begin_with(LOCK, &[]).await?;
    // Without a COMMIT the transaction ends with the connection, at the latest.
    let migrated = migrate_locked(link, users).await;
    match migrated {
        Ok(_) => link.commit().await?,
        Err(_) => link.roll_back().await?,
    }
    migrated
}

async fn migrate_locked(link: &Link, users: &UserTable) -> Result<SchemaVersions, Failure> {
    // Again, now that nobody else can change it.
    let before = versions(link).await?;
    refuse(before.too_new())?;
    if !before.is_pending() {
        return Ok(before);
    }
    // An index of a great table takes its time.
    link.run("SET LOCAL statement_timeout = 0").await?;
    link.run(META_TABLE).await?;
    if before.current == 0 && users.is_djangos() {
        link.run(AUTH_USER).await?;
    }
    for migration in MIGRATIONS.iter().skip(before.current as usize) {
        link.run(migration).await?;
    }
    Statements::read(link, users).await?;
    link.query_once(
        "UPDATE countersign_meta SET schema_version = $1",
        &[(&i64::from(WANTED), Type::INT8)],
    )
    .await?;
    Ok(before)
}

/// Takes the turn of doing upkeep, unless another node has it. One that ends implausibly late was
/// taken by a clock that has been set back since. Whoever has it removes the changes that every node
/// has looked at long since.
pub(super) async fn take_upkeep_turn(
    link: &Link,
    now: Timestamp,
    until: Timestamp,
) -> Result<Done<bool>, Failure> {
    let sql = "WITH taken AS (
             UPDATE countersign_meta SET upkeep_until = $2
             WHERE upkeep_until <= $1 OR upkeep_until > $2
             RETURNING 1),
         pruned AS (
             DELETE FROM countersign_change WHERE id IN (
                 SELECT id FROM countersign_change
                 WHERE at < now() - interval '1 hour' AND EXISTS (SELECT 1 FROM taken)
                 ORDER BY id LIMIT 20000))
         SELECT 1 FROM taken";
    let taken = link
        .query(
            sql,
            &[
                (&now.as_millisecond(), Type::INT8),
                (&until.as_millisecond(), Type::INT8),
            ],
        )
        .await?;
    Ok(Done::quietly(!taken.is_empty()))
}

/// Reads for the sake of reading.
pub(super) async fn check(readers: &Readers) -> Result<(), StoreError> {
    let version = readers
        .read_one(VERSION, &[], |row| read_version(row.try_get(0)?))
        .await?;
    match version {
        Some(versions) => Ok(refuse(versions.mismatch())?),
        None => Err(StoreError::Corrupt("countersign_meta is empty".to_owned())),
    }
}

/// Writes for the sake of writing.
pub(super) async fn note_check(link: &Link) -> Result<Done<()>, Failure> {
    let sql = "UPDATE countersign_meta
         SET checked_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
         RETURNING 1";
    link.query(sql, &[]).await?;
    Ok(Done::quietly(()))
}
