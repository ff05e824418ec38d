//! The side that everything moves away from.

use countersign_core::store::SealedSigningKey;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _};
use uuid::Uuid;

use super::datetime;
use super::failure::Failure;
use super::file::{self, Attachment, DatabaseFile, Role};
use super::{SqliteOptions, keys, moved};
use crate::moving::{Kind, LeftBehind, Row, STAYING, TABLES, Table, UnfitValue, Value};

/// A database that nobody else writes to while this lasts. What is read of it is all of one moment.
pub(crate) struct Source {
    attachment: Attachment,
}

impl Source {
    /// Opens a database that exists, and locks it against writing.
    pub(crate) fn open(options: &SqliteOptions) -> Result<Self, Failure> {
        let path = file::absolute(&options.path)?;
        let attachment = DatabaseFile::new(path, options.timeout).attach(Role::Writer)?;
        attachment.connection.execute_batch("BEGIN IMMEDIATE")?;
        // Again, now that nobody else can mark it.
        moved::refuse(&attachment.connection)?;
        Ok(Self { attachment })
    }

    fn connection(&self) -> &Connection {
        &self.attachment.connection
    }

    /// The signing keys, sealed as they are.
    pub(crate) fn signing_keys(&self) -> Result<Vec<SealedSigningKey>, Failure> {
        keys::all(self.connection())
    }

    /// Reads every row of a table, in the order of the keys: as it is, or what about it cannot be.
    /// Goes on for as long as it is asked to.
    pub(crate) fn read(
        &self,
        table: &'static Table,
        mut each: impl FnMut(Result<Row, UnfitValue>) -> bool,
    ) -> Result<(), Failure> {
        let mut statement = self.connection().prepare(&table.select())?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if !each(read_row(row, table)?) {
                break;
            }
        }
        Ok(())
    }

    /// The greatest number that was given to a row of the table, also to one that has been deleted.
    pub(crate) fn greatest_number(&self, table: &Table) -> Result<i64, Failure> {
        let key = table.columns[0].name;
        let standing = format!("SELECT coalesce(max({key}), 0) FROM {}", table.name);
        let standing: i64 = self
            .connection()
            .query_row(&standing, [], |row| row.get(0))?;
        // Where a table has no AUTOINCREMENT there may be no such table at all.
        let given = self
            .connection()
            .prepare("SELECT seq FROM sqlite_sequence WHERE name = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([table.name], |row| row.get::<_, i64>(0))
                    .optional()
            })
            .ok()
            .flatten();
        Ok(standing.max(given.unwrap_or(0)))
    }

    /// When the database was made, in milliseconds since 1970.
    pub(crate) fn created_at(&self) -> Result<i64, Failure> {
        let created_at = "SELECT created_at FROM countersign_meta";
        Ok(self
            .connection()
            .query_row(created_at, [], |row| row.get(0))?)
    }

    /// What is not carried: tables of others that hold something, and columns that others have added
    /// to those that move.
    pub(crate) fn left_behind(&self) -> Result<Vec<LeftBehind>, Failure> {
        let mut left = Vec::new();
        let names = "SELECT name FROM sqlite_schema
             WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
        for name in self.texts(names, [])? {
            if let Some(table) = TABLES.iter().find(|table| table.name == name) {
                let columns = "SELECT name FROM pragma_table_info(?1)";
                for column in self.texts(columns, [table.name])? {
                    if table.columns.iter().all(|known| known.name != column) {
                        let what = format!("{name}.{column}");
                        left.push(LeftBehind { what, rows: None });
                    }
                }
            } else if !STAYING.contains(&name.as_str()) {
                let quoted = name.replace('"', "\"\"");
                let count = format!("SELECT count(*) FROM \"{quoted}\"");
                // That of an extension that is not loaded cannot be counted.
                let rows = self
                    .connection()
                    .query_row(&count, [], |row| row.get::<_, i64>(0))
                    .ok()
                    .and_then(|rows| u64::try_from(rows).ok());
                if rows != Some(0) {
                    left.push(LeftBehind { what: name, rows });
                }
            }
        }
        Ok(left)
    }

    fn texts(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<String>, Failure> {
        let mut statement = self.connection().prepare(sql)?;
        let texts = statement.query_map(parameters, |row| row.get(0))?;
        Ok(texts.collect::<Result<_, _>>()?)
    }

    /// Makes it known that everything has moved, which ends the lock and goes on for good.
    pub(crate) fn close(&self, target: &str) -> Result<(), Failure> {
        moved::mark(self.connection(), target)?;
        self.connection().execute_batch("COMMIT")?;
        if !self.attachment.is_in_place() {
            return Err(file::gone().into());
        }
        Ok(())
    }
}

/// Lets a database be used again. Gives where everything had gone, if it had.
pub(super) fn reopen(options: &SqliteOptions) -> Result<Option<String>, Failure> {
    let path = file::absolute(&options.path)?;
    let connection = file::connect(&path, Role::Writer, options.timeout)?;
    // Without a COMMIT the transaction ends with the connection.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let target = moved::unmark(&connection)?;
    connection.execute_batch("COMMIT")?;
    Ok(target)
}

fn read_row(
    row: &rusqlite::Row<'_>,
    table: &'static Table,
) -> Result<Result<Row, UnfitValue>, Failure> {
    let mut values = Vec::with_capacity(table.columns.len());
    for (index, column) in table.columns.iter().enumerate() {
        match read_value(row.get_ref(index)?, column.kind) {
            Ok(value) => values.push(value),
            Err(why) => {
                return Ok(Err(UnfitValue {
                    table: table.name,
                    row: shown_key(row.get_ref(0)?),
                    column: column.name,
                    why: why.to_owned(),
                }));
            }
        }
    }
    Ok(Ok(values))
}

/// SQLite keeps any kind of value in any column.
fn read_value(value: ValueRef<'_>, kind: Kind) -> Result<Value, &'static str> {
    match (kind, value) {
        (_, ValueRef::Null) => Ok(Value::Absent),
        (Kind::Number, ValueRef::Integer(number)) => Ok(Value::Number(number)),
        (Kind::Truth, ValueRef::Integer(number @ (0 | 1))) => Ok(Value::Truth(number == 1)),
        (Kind::Text, ValueRef::Text(bytes)) => match str::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err("is no UTF-8"),
        },
        (Kind::Bytes, ValueRef::Blob(bytes)) => Ok(Value::Bytes(bytes.to_owned())),
        (Kind::Id, ValueRef::Blob(bytes)) => Uuid::from_slice(bytes)
            .map(Value::Id)
            .map_err(|_| "is no session's id"),
        (Kind::Date, ValueRef::Text(bytes)) => str::from_utf8(bytes)
            .ok()
            .and_then(datetime::read)
            .map(Value::Date)
            .ok_or("is no date and time as Django writes them"),
        (Kind::Number, _) => Err("is no whole number"),
        (Kind::Truth, _) => Err("is neither true nor false"),
        (Kind::Text, _) => Err("is no text"),
        (Kind::Bytes, _) => Err("is no bytes"),
        (Kind::Id, _) => Err("is no session's id"),
        (Kind::Date, _) => Err("is no date and time as Django writes them"),
    }
}

/// A row's key for people, as the command line names users and sessions.
fn shown_key(key: ValueRef<'_>) -> String {
    match key {
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Blob(bytes) => Uuid::from_slice(bytes)
            .map_or_else(|_| "of an unreadable id".to_owned(), |id| id.to_string()),
        _ => "of an unreadable id".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sqlite::SqliteStore;

    /// Whoever adds a table or a column decides whether it moves.
    #[test]
    fn every_column_of_ours_moves_or_stays_on_purpose() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(directory.path().join("countersign.db"));
        SqliteStore::migrate(&options).unwrap();
        let source = Source::open(&options).unwrap();
        let sql = "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'";
        let there: BTreeSet<_> = source.texts(sql, []).unwrap().into_iter().collect();
        let moving = TABLES.iter().flat_map(|table| {
            let columns = table.columns.iter();
            columns.map(|column| format!("{}.{}", table.name, column.name))
        });
        let is_staying = |name: &&String| {
            STAYING
                .iter()
                .any(|table| name.starts_with(&format!("{table}.")))
        };
        let staying = there.iter().filter(is_staying).cloned();
        assert_eq!(moving.chain(staying).collect::<BTreeSet<_>>(), there);
    }

    #[test]
    fn what_cannot_be_in_a_column_is_told() {
        for (value, kind) in [
            (ValueRef::Text(b"1"), Kind::Number),
            (ValueRef::Real(1.0), Kind::Number),
            (ValueRef::Integer(2), Kind::Truth),
            (ValueRef::Text(b"\xff"), Kind::Text),
            (ValueRef::Blob(b"ana"), Kind::Text),
            (ValueRef::Text(b"sealed"), Kind::Bytes),
            (ValueRef::Blob(b"fifteen bytes.."), Kind::Id),
            (ValueRef::Text(b"sixteen bytes..."), Kind::Id),
            (ValueRef::Text(b"yesterday"), Kind::Date),
            (ValueRef::Integer(0), Kind::Date),
        ] {
            assert!(read_value(value, kind).is_err(), "{value:?} as {kind:?}");
        }
    }
}
