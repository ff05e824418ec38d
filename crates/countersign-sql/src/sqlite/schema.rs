//! The tables, and how a database of an older version becomes one of this.
//!
//! All pending migrations run in one transaction that holds the write lock: of several processes
//! that start together one migrates and the others find it done, and one that is killed half-way
//! leaves the database as it was.

use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::failure::Failure;
use super::moved;
use super::statements::Statements;
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
pub(super) const WANTED: u32 = {
    assert!(MIGRATIONS.len() < 1_000, "a schema version fits in 32 bits");
    #[expect(clippy::cast_possible_truncation, reason = "asserted one line above")]
    let wanted = MIGRATIONS.len() as u32;
    wanted
};

/// Not part of a migration: it must be there before the first one can be noted.
const META_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS countersign_meta (
        singleton INTEGER NOT NULL PRIMARY KEY CHECK (singleton = 1),
        schema_version INTEGER NOT NULL,
        created_at INTEGER NOT NULL, -- milliseconds since 1970
        checked_at INTEGER NOT NULL  -- the last time that readiness was asked for
    );
    INSERT INTO countersign_meta (singleton, schema_version, created_at, checked_at)
        VALUES (1, 0, unixepoch('subsec') * 1000, 0)
        ON CONFLICT DO NOTHING;
";

/// Django's table, made where there is none.
const AUTH_USER: &str = include_str!("migrations/auth_user.sql");

/// The version of a database, which is not changed.
pub(super) fn versions(connection: &Connection) -> Result<SchemaVersions, Failure> {
    let has_meta = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'countersign_meta'";
    let current: Option<i64> = if connection.prepare(has_meta)?.exists([])? {
        let version = "SELECT schema_version FROM countersign_meta";
        connection
            .query_row(version, [], |row| row.get(0))
            .optional()?
    } else {
        None
    };
    let current = current.unwrap_or(0);
    let current = u32::try_from(current)
        .map_err(|_| Failure::corrupt(format!("schema version {current}")))?;
    Ok(SchemaVersions {
        current,
        wanted: WANTED,
    })
}

/// Refuses a database that is not of the version that this program needs, or whose users have moved.
pub(super) fn require(connection: &Connection) -> Result<(), Failure> {
    match versions(connection)?.mismatch() {
        Some(why) => Err(Failure::unavailable(why)),
        None => moved::refuse(connection),
    }
}

/// Brings a database to the version that this program needs, unless its users have moved. Gives the
/// version it had.
pub(super) fn migrate(
    connection: &Connection,
    users: &UserTable,
    timeout: Duration,
) -> Result<u32, Failure> {
    let versions = versions(connection)?;
    refuse_newer(versions)?;
    moved::refuse(connection)?;
    let current = versions.current;
    keep_write_ahead_log(connection, timeout)?;
    if current == WANTED {
        return Ok(current);
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    // Without a COMMIT the transaction ends with the connection, at the latest.
    let migrated = migrate_locked(connection, users);
    connection.execute_batch(if migrated.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    })?;
    migrated
}

fn migrate_locked(connection: &Connection, users: &UserTable) -> Result<u32, Failure> {
    // Again, now that nobody else can change it.
    let versions = versions(connection)?;
    refuse_newer(versions)?;
    moved::refuse(connection)?;
    let current = versions.current;
    connection.execute_batch(META_TABLE)?;
    if current == 0 && users.is_djangos() {
        connection.execute_batch(AUTH_USER)?;
    }
    for migration in MIGRATIONS.iter().skip(current as usize) {
        connection.execute_batch(migration)?;
    }
    Statements::read(connection, users)?;
    connection.execute("UPDATE countersign_meta SET schema_version = ?1", [WANTED])?;
    Ok(current)
}

/// Takes the turn of doing upkeep, unless another process has it. One that ends implausibly late was
/// taken by a clock that has been set back since.
pub(super) fn take_upkeep_turn(
    connection: &Connection,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached(
        "UPDATE countersign_meta SET upkeep_until = ?2
         WHERE upkeep_until <= ?1 OR upkeep_until > ?2",
    )?;
    let taken = statement.execute([now.as_millisecond(), until.as_millisecond()])?;
    Ok(taken == 1)
}

/// Writes for the sake of writing.
pub(super) fn note_check(connection: &Connection) -> Result<(), Failure> {
    connection
        .prepare_cached("UPDATE countersign_meta SET checked_at = unixepoch('subsec') * 1000")?
        .execute([])?;
    Ok(())
}

fn refuse_newer(versions: SchemaVersions) -> Result<(), Failure> {
    match versions.too_new() {
        Some(why) => Err(Failure::unavailable(why)),
        None => Ok(()),
    }
}

/// Switches the database to its write-ahead log, which it remembers.
///
/// SQLite does not wait for other connections here, however long its busy timeout.
pub(super) fn keep_write_ahead_log(
    connection: &Connection,
    timeout: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        let switched = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| {
                row.get::<_, String>(0)
            })
            .map_err(Failure::from);
        match switched {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let why = format!("SQLite keeps to journal mode `{mode}`, and WAL is needed");
                return Err(Failure::unavailable(why));
            }
            Err(failure) if failure.is_busy() && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(failure) => return Err(failure),
        }
    }
}
