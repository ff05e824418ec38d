//! The side that everything moves to.

use std::collections::HashMap;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use countersign_core::error::StoreError;
use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::failure::Failure;
use super::instant::Instant;
use super::link::Link;
use super::{PostgresOptions, schema};
use crate::moving::{Digest, Kind, Limit, Row, Summary, TABLES, Table, Value};

/// A database in which nothing is kept until [`commit`](Self::commit), and to which nobody else
/// writes until then.
pub(crate) struct Target {
    link: Link,
}

impl Target {
    /// Makes the tables if there are none, and begins. `Err` of the tables' rows: it is not empty.
    pub(crate) async fn open(
        options: &PostgresOptions,
    ) -> Result<Result<Self, &'static Table>, Failure> {
        let link = options.connect().await?;
        schema::migrate(&link, &options.users).await?;
        schema::require(&link).await?;
        drop(link);
        let link = options.clone().timeout(LONGEST_SILENCE).connect().await?;
        let lock_timeout = options.timeout.as_millis();
        let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        link.run(&format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED;
             SET LOCAL lock_timeout = {lock_timeout};
             SET LOCAL statement_timeout = 0;
             SET LOCAL idle_in_transaction_session_timeout = 0;
             LOCK TABLE {}, countersign_meta IN EXCLUSIVE MODE",
            tables.join(", ")
        ))
        .await?;
        let target = Self { link };
        for table in &TABLES {
            let any = format!("SELECT 1 FROM {} LIMIT 1", table.name);
            if !target.link.query_once(&any, &[]).await?.is_empty() {
                return Ok(Err(table));
            }
        }
        Ok(Ok(target))
    }

    /// What the columns of a table can hold, in their order.
    pub(crate) async fn limits(&self, table: &Table) -> Result<Vec<Limit>, Failure> {
        let sql = "SELECT attname::text, atttypid = 'int4'::regtype,
                 CASE WHEN atttypmod > 4 THEN atttypmod - 4 END, attnotnull
             FROM pg_attribute
             WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
        let rows = self
            .link
            .query_once(sql, &[(&table.name, Type::TEXT)])
            .await?;
        let mut limits = HashMap::new();
        for row in rows {
            let name: String = row.try_get(0)?;
            let characters: Option<i32> = row.try_get(2)?;
            let limit = Limit {
                characters: characters.and_then(|most| usize::try_from(most).ok()),
                is_narrow: row.try_get(1)?,
                is_required: row.try_get(3)?,
            };
            limits.insert(name, limit);
        }
        let limit_of = |column: &str| {
            limits.get(column).copied().ok_or_else(|| {
                Failure::corrupt(format!("the table {} has no column {column}", table.name))
            })
        };
        table
            .columns
            .iter()
            .map(|column| limit_of(column.name))
            .collect()
    }

    /// Writes rows as they come, until no more do.
    pub(crate) async fn write(
        &self,
        table: &Table,
        mut batches: mpsc::Receiver<Vec<Row>>,
    ) -> Result<(), Failure> {
        let types = self.link.column_types(&table.select()).await?;
        let copy = format!(
            "COPY {} ({}) FROM STDIN BINARY",
            table.name,
            table.column_list()
        );
        let mut writer = pin!(BinaryCopyInWriter::new(
            self.link.copy_in(&copy).await?,
            &types
        ));
        while let Some(batch) = batches.recv().await {
            for row in &batch {
                writer.as_mut().write_raw(row).await?;
            }
        }
        writer.as_mut().finish().await?;
        Ok(())
    }

    /// Reads back what was written.
    pub(crate) async fn summary(&self, table: &Table) -> Result<Summary, Failure> {
        let mut rows = pin!(self.link.stream(&table.select()).await?);
        let mut digest = Digest::new();
        while let Some(row) = rows.try_next().await? {
            digest.add(&read_row(&row, table)?);
        }
        Ok(digest.finish())
    }

    /// Sees to it that no number up to this is given to a row of the table.
    pub(crate) async fn pass_number(&self, table: &Table, greatest: i64) -> Result<(), Failure> {
        if greatest < 1 {
            return Ok(());
        }
        let key = table.columns[0].name;
        let sql = "SELECT setval(sequence, $3) FROM pg_get_serial_sequence($1, $2) AS sequence
             WHERE sequence IS NOT NULL";
        let passed = self
            .link
            .query_once(
                sql,
                &[
                    (&table.name, Type::TEXT),
                    (&key, Type::TEXT),
                    (&greatest, Type::INT8),
                ],
            )
            .await?;
        if passed.is_empty() {
            return Err(Failure::corrupt(format!(
                "{}.{key} has no sequence, from which new rows would take their numbers",
                table.name
            )));
        }
        Ok(())
    }

    /// Carries over when the database was made, and has the names of all users noted anew.
    pub(crate) async fn set_created_at(&self, milliseconds: i64) -> Result<(), Failure> {
        self.link.run("DELETE FROM countersign_name").await?;
        let sql = "UPDATE countersign_meta SET created_at = $1, names_noted_to = 0 RETURNING 1";
        self.link
            .query_once(sql, &[(&milliseconds, Type::INT8)])
            .await?;
        Ok(())
    }

    /// Makes all of it stand.
    pub(crate) async fn commit(self) -> Result<(), Uncommitted> {
        self.link.commit().await.map_err(|failure| Uncommitted {
            may_stand: failure.leaves_unknown(),
            error: failure.into(),
        })?;
        // Or the planner knows nothing of a full table until it is looked at by itself.
        for table in &TABLES {
            let analyzed = self.link.run(&format!("ANALYZE {}", table.name)).await;
            if let Err(error) = analyzed {
                tracing::warn!(%error, "ANALYZE failed; autovacuum will see to it");
            }
        }
        Ok(())
    }
}

/// Why the commit was not answered as it should be.
pub(crate) struct Uncommitted {
    pub(crate) error: StoreError,
    /// Whether it may have been made nevertheless.
    pub(crate) may_stand: bool,
}

/// Longer than it takes to write what is on its way, and shorter than anybody waits for a server that
/// is gone.
const LONGEST_SILENCE: Duration = Duration::from_mins(10);

fn read_row(row: &tokio_postgres::Row, table: &Table) -> Result<Row, Failure> {
    let mut values = Vec::with_capacity(table.columns.len());
    for (index, column) in table.columns.iter().enumerate() {
        let value = match column.kind {
            Kind::Number if *row.columns()[index].type_() == Type::INT4 => {
                read(row, index, |number: i32| Value::Number(number.into()))?
            }
            Kind::Number => read(row, index, Value::Number)?,
            Kind::Truth => read(row, index, Value::Truth)?,
            Kind::Text => read(row, index, Value::Text)?,
            Kind::Bytes => read(row, index, Value::Bytes)?,
            Kind::Id => read(row, index, Value::Id)?,
            Kind::Date => read(row, index, |instant: Instant| Value::Date(instant.0))?,
        };
        values.push(value);
    }
    Ok(values)
}

fn read<'row, T: FromSql<'row>>(
    row: &'row tokio_postgres::Row,
    index: usize,
    value: impl FnOnce(T) -> Value,
) -> Result<Value, Failure> {
    let read: Option<T> = row.try_get(index)?;
    Ok(read.map_or(Value::Absent, value))
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Absent => Ok(IsNull::Yes),
            Self::Number(number) if *kind == Type::INT4 => {
                i32::try_from(*number)?.to_sql_checked(kind, out)
            }
            Self::Number(number) => number.to_sql_checked(kind, out),
            Self::Truth(truth) => truth.to_sql_checked(kind, out),
            Self::Text(text) => text.to_sql_checked(kind, out),
            Self::Bytes(bytes) => bytes.to_sql_checked(kind, out),
            Self::Id(id) => id.to_sql_checked(kind, out),
            Self::Date(date) => Instant(*date).to_sql_checked(kind, out),
        }
    }

    /// Each value asks for itself.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
