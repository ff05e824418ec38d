//! Countersign's stores.
//!
//! [`SqliteStore`] keeps everything in one SQLite file, for a service on one machine. It implements
//! [`Store`](countersign_core::store::Store) and passes the suite that every store passes.
//!
//! ```no_run
//! use countersign_sql::{SqliteOptions, SqliteStore};
//!
//! # fn main() -> Result<(), countersign_core::error::StoreError> {
//! let store = SqliteStore::open(&SqliteOptions::new("countersign.db"))?;
//! # Ok(())
//! # }
//! ```

mod sqlite;

pub use sqlite::{Migrations, SchemaVersions, SqliteOptions, SqliteStore};
