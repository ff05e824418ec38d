//! Countersign's stores.
//!
//! [`SqliteStore`] keeps everything in one SQLite file, for a service on one machine.
//! [`PostgresStore`] keeps it in a PostgreSQL database, for as many nodes as are needed. Both
//! implement [`Store`](countersign_core::store::Store) and pass the suite that every store passes.
//!
//! ```no_run
//! use countersign_sql::{SqliteOptions, SqliteStore};
//!
//! # fn main() -> Result<(), countersign_core::error::StoreError> {
//! let store = SqliteStore::open(&SqliteOptions::new("countersign.db"))?;
//! # Ok(())
//! # }
//! ```

mod moving;
mod postgres;
mod site;
mod sqlite;
mod user_table;
mod versions;
mod words;

pub use moving::{LeftBehind, MoveError, Moved, MovedTable, UnfitValue, move_to_postgres, reopen};
pub use postgres::{AddressError, PostgresOptions, PostgresStore};
pub use sqlite::{SqliteOptions, SqliteStore};
pub use user_table::{NameError, TableFacts, UserColumn, UserTable};
pub use versions::{Migrations, SchemaVersions};
