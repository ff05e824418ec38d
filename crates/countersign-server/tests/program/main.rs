//! The real program, run as people and service managers run it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says where it stopped"
)]

mod accounts;
mod audit;
mod chance;
mod connections;
mod crash;
mod demo;
mod django;
mod doctor;
mod first_start;
mod harness;
mod help;
mod keys;
mod listening;
mod logs;
mod mail;
mod moving;
mod nodes;
#[cfg(target_os = "linux")]
mod power_cut;
mod races;
mod reference;
mod resource_server;
mod sessions;
mod settings;
mod stopping;
mod storage;
mod superuser;
mod throttling;
mod tls;
mod users;
