//! The store in PostgreSQL, on throw-away servers.
//!
//! Plain `cargo test` lists these as ignored: they want PostgreSQL's server programs, and two of them
//! PgBouncer.

mod contract;
mod harness;
mod moving;
mod names;
mod nodes;
mod pooler;
mod privacy;
mod schema;
mod server;
mod site;
mod trouble;
mod user_models;
