//! From one SQLite file to PostgreSQL, with everybody who is signed in.
//!
//! The file is locked against writing while this lasts, so that nothing is changed behind its back.
//! Every value is looked at before the first is written; everything is written in one transaction, and
//! read back and compared before its commit ([`digest`]).
//!
//! The file is closed, for good, *before* that commit. Whoever dies in between leaves users that nobody
//! can use until `countersign migrate --reopen`, and never two databases that both go on.

mod digest;
mod tables;

use std::fmt::{self, Write as _};
use std::mem;

use countersign_core::error::StoreError;
use countersign_core::store::SealedSigningKey;
use futures_util::future;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task;

pub(crate) use self::digest::{Digest, Summary};
pub(crate) use self::tables::{Kind, Limit, Row, STAYING, TABLES, Table, Value};
use crate::postgres::{PostgresOptions, Target, Uncommitted};
use crate::sqlite::{self, Source, SqliteOptions};

/// Rows that are handed over at once.
const BATCH: usize = 1_000;

/// Batches that are on their way: what there is in memory of a database, whatever its size.
const BATCHES: usize = 4;

/// Values that are told before only their number is.
const MOST_TOLD: usize = 20;

/// What has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// Every table that moved.
    pub tables: Vec<MovedTable>,
    /// What did not.
    pub left_behind: Vec<LeftBehind>,
}

/// A table that has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MovedTable {
    /// Its name.
    pub name: &'static str,
    /// What its rows are called, for people.
    pub called: &'static str,
    /// How many rows there are.
    pub rows: u64,
    /// The SHA-256 of them in hexadecimal digits, the same on both sides.
    pub sha256: String,
}

/// Something of the old database that is not carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftBehind {
    /// A table, or a column as `table.column`.
    pub what: String,
    /// How many rows a table has, if they can be counted.
    pub rows: Option<u64>,
}

/// A value that the target cannot keep as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnfitValue {
    /// Where it stands.
    pub table: &'static str,
    /// The row's key.
    pub row: String,
    /// The column.
    pub column: &'static str,
    /// What about it cannot be. Does not quote it.
    pub why: String,
}

impl fmt::Display for UnfitValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            row,
            column,
            why,
        } = self;
        write!(formatter, "{table} {row}: {column} {why}")
    }
}

/// Why nothing has moved.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum MoveError {
    /// There is somebody else in the target.
    #[error(
        "{target} is not empty: it has {called} already, and they would be mixed up. Name a database \
         without any; one that was only tried out can be made again with PostgreSQL's dropdb and createdb"
    )]
    NotEmpty {
        /// The target.
        target: String,
        /// Of what it has some.
        called: &'static str,
    },
    /// Users stand in the table of a site's own user model, which is the site's to move.
    #[error(
        "users stand in {0}, the table of the site's own user model, and only auth_user is moved: carry \
         that table over by Django's own means, and let people sign in again"
    )]
    OwnUserModel(String),
    /// Nobody could open the signing keys where they went.
    #[error(
        "the signing keys in {0} do not open with this root secret, so nothing was moved: give the \
         secret that the service there uses, in COUNTERSIGN_SECRET or in the file of \
         secrets.root_file; the one before it, if it was replaced, in secrets.previous"
    )]
    WrongRootSecret(String),
    /// The target cannot keep what there is.
    #[error("{}", tell_unfit(.values, *.count))]
    Unfit {
        /// The first of them.
        values: Vec<UnfitValue>,
        /// How many there are.
        count: u64,
    },
    /// What was read back is not what was written.
    #[error(
        "what was read back of {0} is not what was written, so nothing was kept: does a trigger or a \
         rule in the target change rows?"
    )]
    Differs(&'static str),
    /// The answer to the commit was lost.
    #[error(
        "whether everything has moved is not known, because the answer to the last step was lost ({0}). \
         If the target has the users now, it has all: go on with it. If it has none, run `countersign \
         migrate --reopen` on the old database, and move again"
    )]
    InDoubt(String),
    /// A database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn tell_unfit(values: &[UnfitValue], count: u64) -> String {
    let mut told = format!(
        "nothing was moved, because PostgreSQL cannot keep {count} of the values as they stand; change \
         these first:"
    );
    for value in values {
        let _a_string_takes_all = write!(told, "\n  {value}");
    }
    let untold = count - values.len() as u64;
    if untold > 0 {
        let _a_string_takes_all = write!(told, "\n  and {untold} more");
    }
    told
}

/// Moves users, sessions and signing keys into an empty PostgreSQL database, and closes the SQLite
/// file: from then on it can be read, and neither be written to nor be opened by a service, until
/// [`reopen`].
///
/// Until it is done the file can be read and not be written to. The target's tables are made if there
/// are none. Nothing of the change feed moves: whoever follows it reads everything at its start.
///
/// `keys_open` says whether the signing keys open under the root secret that goes along: it is asked
/// before the target is touched.
///
/// # Errors
/// [`MoveError`]. Nothing has moved then, and it can be tried again, except after
/// [`MoveError::InDoubt`].
pub async fn move_to_postgres(
    from: &SqliteOptions,
    to: &PostgresOptions,
    keys_open: impl FnOnce(&[SealedSigningKey]) -> bool,
) -> Result<Moved, MoveError> {
    if let Some(users) = [&from.users, &to.users]
        .into_iter()
        .find(|users| !users.is_djangos_own())
    {
        return Err(MoveError::OwnUserModel(users.name().to_owned()));
    }
    let mut source = Source::open(from)?;
    if !keys_open(&source.signing_keys()?) {
        return Err(MoveError::WrongRootSecret(from.path.display().to_string()));
    }
    let target = match Target::open(to).await? {
        Ok(target) => target,
        Err(table) => {
            return Err(MoveError::NotEmpty {
                target: to.to_string(),
                called: table.called,
            });
        }
    };
    let mut unfit = Unfit::default();
    let mut tables = Vec::new();
    for table in &TABLES {
        let limits = target.limits(table).await?;
        let summary;
        (source, (summary, unfit)) = apart(source, move |source| {
            let summary = look(source, table, &limits, &mut unfit)?;
            Ok((summary, unfit))
        })
        .await?;
        tables.push((table, summary));
    }
    unfit.refuse()?;

    for (table, summary) in &tables {
        source = copy(source, &target, table).await?;
        if target.summary(table).await? != *summary {
            return Err(MoveError::Differs(table.name));
        }
    }
    let (source, (greatest, created_at, left_behind)) = apart(source, |source| {
        let numbered = TABLES.iter().filter(|table| table.is_numbered);
        let greatest = numbered
            .map(|table| Ok((table, source.greatest_number(table)?)))
            .collect::<Result<Vec<_>, MoveError>>()?;
        Ok((greatest, source.created_at()?, source.left_behind()?))
    })
    .await?;
    for (table, number) in greatest {
        target.pass_number(table, number).await?;
    }
    target.set_created_at(created_at).await?;
    finish(source, target, from, to).await?;
    let tables = tables.into_iter().map(|(table, summary)| MovedTable {
        name: table.name,
        called: table.called,
        rows: summary.rows,
        sha256: summary.sha256,
    });
    Ok(Moved {
        tables: tables.collect(),
        left_behind,
    })
}

/// Lets a SQLite file be used again whose users and sessions had moved: as it was then, without what has
/// changed since where they went. Gives where that was; `None` if they had not moved.
///
/// # Errors
/// [`StoreError`] if the file is not there, or cannot be written to.
pub fn reopen(options: &SqliteOptions) -> Result<Option<String>, StoreError> {
    sqlite::reopen(options)
}

/// Closes the file, then commits.
async fn finish(
    source: Source,
    target: Target,
    from: &SqliteOptions,
    to: &PostgresOptions,
) -> Result<(), MoveError> {
    let name = to.to_string();
    apart(source, move |source| Ok(source.close(&name)?)).await?;
    match target.commit().await {
        Ok(()) => Ok(()),
        Err(Uncommitted {
            error,
            may_stand: true,
        }) => Err(MoveError::InDoubt(error.to_string())),
        Err(Uncommitted { error, .. }) => {
            reopen(from)?;
            Err(error.into())
        }
    }
}

/// Looks at every value of a table, and says what there is.
fn look(
    source: &Source,
    table: &'static Table,
    limits: &[Limit],
    unfit: &mut Unfit,
) -> Result<Summary, MoveError> {
    let mut digest = Digest::new();
    source.read(table, |row| {
        match row {
            Ok(row) => {
                for ((value, limit), column) in row.iter().zip(limits).zip(table.columns) {
                    if let Some(why) = limit.refusal(value) {
                        unfit.add(UnfitValue {
                            table: table.name,
                            row: row[0].to_string(),
                            column: column.name,
                            why,
                        });
                    }
                }
                digest.add(&row);
            }
            Err(value) => unfit.add(value),
        }
        true
    })?;
    Ok(digest.finish())
}

/// Reads a table on one side while the other writes it.
async fn copy(source: Source, target: &Target, table: &'static Table) -> Result<Source, MoveError> {
    let (sender, batches) = mpsc::channel(BATCHES);
    let reading = apart(source, move |source| {
        let mut batch = Vec::with_capacity(BATCH);
        // The other side may have given up; it says why.
        let hand_over = |batch: &mut Vec<Row>| sender.blocking_send(mem::take(batch)).is_ok();
        source.read(table, |row| {
            // What is unfit was found by looking, in the same moment of the database.
            batch.extend(row);
            batch.len() < BATCH || hand_over(&mut batch)
        })?;
        hand_over(&mut batch);
        Ok(())
    });
    let (read, written) = future::join(reading, target.write(table, batches)).await;
    written?;
    Ok(read?.0)
}

/// Works with the file on a thread that may wait for the disk.
async fn apart<T: Send + 'static>(
    source: Source,
    work: impl FnOnce(&Source) -> Result<T, MoveError> + Send + 'static,
) -> Result<(Source, T), MoveError> {
    let working = task::spawn_blocking(move || {
        let done = work(&source)?;
        Ok((source, done))
    });
    working.await.unwrap_or_else(|_| {
        let why = "reading the old database was given up half-way".to_owned();
        Err(StoreError::Unavailable(why).into())
    })
}

/// What the target cannot keep.
#[derive(Default)]
struct Unfit {
    values: Vec<UnfitValue>,
    count: u64,
}

impl Unfit {
    fn add(&mut self, value: UnfitValue) {
        self.count += 1;
        if self.values.len() < MOST_TOLD {
            self.values.push(value);
        }
    }

    fn refuse(self) -> Result<(), MoveError> {
        let Self { values, count } = self;
        if count == 0 {
            return Ok(());
        }
        Err(MoveError::Unfit { values, count })
    }
}
