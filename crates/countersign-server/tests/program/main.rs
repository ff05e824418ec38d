//! The real program, run as people and service managers run it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says where it stopped"
)]

mod first_start;
mod harness;
mod help;
mod listening;
mod logs;
mod nodes;
mod reference;
mod settings;
mod stopping;
mod superuser;
mod tls;
mod users;
